"""Arrays as xarray's backends have them: nothing is read before it is indexed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from xarray.backends import BackendArray
from xarray.core import indexing

from lindi_dask.errors import InvalidSession
from lindi_dask.lazy import LazyArray

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lindi_dask.factory import StoreFactory

__all__ = ["CountsArray", "PhysicalArray", "Scaling", "StoredArray"]


class StoredArray(BackendArray):
    """An array of the references. It pickles as their recipe and its path.

    Parameters
    ----------
    factory
        The recipe.
    path
        Of the array.
    shape, dtype
        Of what is read.
    """

    def __init__(self, factory: StoreFactory, path: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._factory, self._path = factory, path
        self.shape, self.dtype = shape, dtype

    @cached_property
    def _lazy(self) -> LazyArray:
        return LazyArray(self.zarr)

    @cached_property
    def zarr(self) -> zarr.Array[Any]:
        """The array itself; nothing of it is read."""
        store = self._factory()
        store.references  # noqa: B018 - loaded first: what is wrong with them is our error, not zarr's
        store.check_readable(self._path)
        return zarr.open_array(store, path=self._path, mode="r", zarr_format=3)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:  # noqa: ANN401 - numpy's union
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._read)

    def _read(self, key: tuple[Any, ...]) -> Any:  # noqa: ANN401 - as above
        key = tuple(int(one) if isinstance(one, np.integer) else one for one in key)
        is_basic = all(isinstance(one, slice | int) for one in key)
        values = self._lazy[key] if is_basic else self.zarr.oindex[key]
        return np.asarray(values, self.dtype) if self.dtype.kind == "O" else values

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._factory, self._path, self.shape, self.dtype)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._factory.name!r}, {self._path!r})"


@dataclass(frozen=True, slots=True)
class Scaling:
    """From stored numbers to physical ones: data x conversion x channel conversion + offset."""

    conversion: float
    offset: float
    channels: str | None = None
    """path of the array with a factor for each channel"""
    axis: int = 1
    """which dimension of the data is that of the channels"""


class PhysicalArray(StoredArray):
    """An array of numbers in their unit.

    Parameters
    ----------
    factory, path, shape
        As of `StoredArray`.
    dtype
        Of the physical numbers.
    scaling
        What is to be done to the stored ones.
    """

    def __init__(
        self, factory: StoreFactory, path: str, shape: tuple[int, ...], dtype: np.dtype[Any], scaling: Scaling
    ) -> None:
        super().__init__(factory, path, shape, dtype)
        self._scaling = scaling

    @cached_property
    def _factors(self) -> NDArray[np.float64] | None:
        if self._scaling.channels is None:
            return None
        values = zarr.open_array(self._factory(), path=self._scaling.channels, mode="r", zarr_format=3)[...]
        return np.asarray(values, np.float64)

    def _read(self, key: tuple[Any, ...]) -> Any:  # noqa: ANN401 - as above
        values = np.asarray(super()._read(key), self.dtype, copy=True)
        factor: Any = self._scaling.conversion
        if self._factors is not None:
            axis = self._scaling.axis
            factor = factor * self._factors[key[axis]]
            kept = sum(not isinstance(one, int | np.integer) for one in key[axis + 1 :])
            factor = np.reshape(factor, np.shape(factor) + (1,) * kept)
        values *= np.asarray(factor, self.dtype)
        if self._scaling.offset:
            values += self.dtype.type(self._scaling.offset)
        return values

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._factory, self._path, self.shape, self.dtype, self._scaling)


class CountsArray(StoredArray):
    """How many elements each row of a ragged column has, from the VectorIndex with each row's end."""

    def __init__(self, factory: StoreFactory, path: str, shape: tuple[int, ...]) -> None:
        super().__init__(factory, path, shape, np.dtype(np.int64))

    def _read(self, key: tuple[Any, ...]) -> Any:  # noqa: ANN401 - as above
        ends = np.asarray(super()._read((slice(None),)), np.int64)
        counts = np.diff(ends, prepend=0)
        if (counts < 0).any():
            row = int(np.flatnonzero(counts < 0)[0])
            reason = f"row {row} ends before it begins"
            raise InvalidSession(
                f"/{self._path}: {reason}, so the column can't be cut into rows. Its elements are all there, in order.",
                path=self._path,
                reason=reason,
            )
        return counts[key]

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._factory, self._path, self.shape)
