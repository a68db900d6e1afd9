"""The times of samples that were taken at a fixed rate, as an index that holds three numbers, not the times."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
from xarray import IndexSelResult, Variable
from xarray.core.coordinate_transform import CoordinateTransform
from xarray.core.indexes import CoordinateTransformIndex, PandasIndex
from xarray.core.indexing import CoordinateTransformIndexingAdapter, ExplicitIndexer, OuterIndexer

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray
    from xarray import Index

__all__ = ["SampledTimes", "TimeIndex"]

_COMPARED = 2**20  # times at once


class SampledTimes(CoordinateTransform):
    """From positions along an axis to the times of samples: `start + number / rate`, in numpy's float64.

    Parameters
    ----------
    start
        Time of the sample with the number 0, in seconds.
    rate
        Samples a second.
    size
        How many samples lie along the axis.
    first, step
        The number of the first one, and how much the next one's number is larger (negative: smaller).
    name, dim
        Of the coordinate, and of its dimension.
    """

    def __init__(
        self,
        start: float,
        rate: float,
        size: int,
        *,
        first: int = 0,
        step: int = 1,
        name: Hashable = "time",
        dim: str = "time",
    ) -> None:
        super().__init__((name,), {dim: size}, np.dtype(np.float64))
        self.start, self.rate = float(start), float(rate)
        self.first, self.step = first, step

    @property
    def name(self) -> Hashable:
        """Of the coordinate."""
        return self.coord_names[0]

    @property
    def dim(self) -> str:
        """The dimension."""
        return self.dims[0]

    @property
    def size(self) -> int:
        """How many samples lie along the axis."""
        return self.dim_size[self.dim]

    def times(self, positions: Any) -> NDArray[np.float64]:  # noqa: ANN401 - whatever numpy takes for whole numbers
        """Return the times at some positions, in seconds."""
        numbers = self.first + self.step * np.asarray(positions, np.int64)
        return np.asarray(self.start + numbers / self.rate, np.float64)

    def part(self, positions: range) -> Self:
        """Return the samples at some positions."""
        return type(self)(
            self.start,
            self.rate,
            len(positions),
            first=self.first + self.step * positions.start,
            step=self.step * positions.step if len(positions) > 1 else 1,  # which pandas takes for increasing
            name=self.name,
            dim=self.dim,
        )

    def before(self, labels: NDArray[np.float64], *, through: bool) -> NDArray[np.int64]:
        """Return how many samples come before each time, in the order of the axis; `through`: and at it.

        By bisection of the times themselves: an estimate by the rate would be one off now and then.
        """
        compare: Any = np.less_equal if through else np.less
        if self.step < 0:
            compare = np.greater_equal if through else np.greater
        low, high = np.zeros(labels.shape, np.int64), np.full(labels.shape, self.size, np.int64)
        while (active := low < high).any():
            middle = (low + high) // 2
            comes_before = compare(self.times(middle), labels)
            low = np.where(active & comes_before, middle + 1, low)
            high = np.where(active & ~comes_before, middle, high)
        return low

    def forward(self, dim_positions: dict[str, Any]) -> dict[Hashable, Any]:
        """Return the times at positions, by the coordinate's name."""
        return {self.name: self.times(dim_positions[self.dim])}

    def reverse(self, coord_labels: dict[Hashable, Any]) -> dict[str, Any]:
        """Return the positions of times, not rounded."""
        numbers = (np.asarray(coord_labels[self.name]) - self.start) * self.rate
        return {self.dim: (numbers - self.first) / self.step}

    def equals(self, other: CoordinateTransform, **_: Any) -> bool:  # noqa: ANN401 - xarray's options
        """Return whether all times are the same."""
        if not isinstance(other, SampledTimes) or (self.dim, self.size) != (other.dim, other.size):
            return False
        if self.grid == other.grid and (self.first, self.step) == (other.first, other.step):
            return True
        for first in range(0, self.size, _COMPARED):
            positions = np.arange(first, min(first + _COMPARED, self.size))
            if not np.array_equal(self.times(positions), other.times(positions)):
                return False
        return True

    @property
    def grid(self) -> tuple[float, float]:
        """What numbers become times by: start, in seconds, and samples a second."""
        return self.start, self.rate

    def shares_grid(self, other: SampledTimes) -> bool:
        """Return whether both are runs of the same samples, one after the other."""
        return self.grid == other.grid and self.step == other.step == 1 and self.dim == other.dim


class _Times(CoordinateTransformIndexingAdapter):
    """Times that are made when they are asked for. xarray's own give one of dask's the shape of many."""

    def __getitem__(self, indexer: ExplicitIndexer) -> NDArray[np.float64]:
        self._check_and_raise_if_non_basic_indexer(indexer)
        return self._oindex_get(OuterIndexer(indexer.tuple))

    def _oindex_get(self, indexer: OuterIndexer) -> NDArray[np.float64]:
        found: NDArray[np.float64] = super()._oindex_get(indexer)
        single = tuple(axis for axis, one in enumerate(indexer.tuple) if isinstance(one, int | np.integer))
        return found.squeeze(single) if single else found


class TimeIndex(CoordinateTransformIndex):
    """Selects by time as pandas does (slices hold both their ends) without making the times.

    It stays one through `isel` and `sel` with slices, through `concat` of parts that follow each other, and through
    alignment with other parts of the same samples. Else the times that are left are made, for a pandas index.

    Parameters
    ----------
    transform
        The samples.
    """

    transform: SampledTimes

    def __init__(self, transform: SampledTimes) -> None:
        super().__init__(transform)

    @property
    def _dim(self) -> str:
        return self.transform.dim

    def _pandas(self, times: NDArray[np.float64] | None = None) -> PandasIndex:
        """Return a pandas index of some times; None: of all."""
        times = self.transform.times(np.arange(self.transform.size)) if times is None else times
        return PandasIndex(pd.Index(times, name=self.transform.name), self._dim, times.dtype)

    def create_variables(self, variables: Mapping[Any, Variable] | None = None) -> dict[Any, Variable]:
        """Return the coordinate, by name; what is told of it, and the blocks that dask is to take, are kept."""
        created = {
            name: Variable(one.dims, _Times(self.transform, name), one.attrs)
            for name, one in super().create_variables(variables).items()
        }
        if variables is not None and self.transform.name in variables:
            created[self.transform.name].encoding = dict(variables[self.transform.name].encoding)
        return created

    def to_pandas_index(self) -> pd.Index:
        """Return all times as a pandas index."""
        return self._pandas().index

    def isel(self, indexers: Mapping[Any, Any]) -> Index | None:
        """Return the index at some positions; None for a single one, and for those of another shape."""
        wanted = indexers[self._dim]
        if isinstance(wanted, slice):
            return type(self)(self.transform.part(range(self.transform.size)[wanted]))
        if isinstance(wanted, Variable):
            if wanted.dims != (self._dim,):
                return None
            wanted = wanted.values
        positions = np.asarray(wanted)
        if positions.ndim != 1:
            return None
        if positions.dtype.kind == "b":
            positions = np.flatnonzero(positions)
        positions = np.where(positions < 0, positions + self.transform.size, positions)
        return self._pandas(self.transform.times(positions))

    def sel(self, labels: dict[Any, Any], method: str | None = None, tolerance: Any = None) -> IndexSelResult:  # noqa: ANN401 - as pandas takes it
        """Return the positions of times.

        Parameters
        ----------
        labels
            By name: a slice of seconds, closed at both ends; or times, exact unless there is a `method`.
        method, tolerance
            `"nearest"`, `"ffill"` or `"bfill"`, and how far off a time may be, in seconds; not for slices.

        Raises
        ------
        KeyError
            If there is no sample at such a time.
        """
        ((name, label),) = labels.items()
        if isinstance(label, slice):
            if method is not None or tolerance is not None:
                raise NotImplementedError("A slice of times takes neither method nor tolerance: leave them out.")
            return IndexSelResult({self._dim: self._slice(label)})
        values = np.asarray(getattr(label, "values", label))
        # All that pandas can answer with lies next to the labels: it is asked about an index of these
        near = self._neighbours(values) if values.dtype.kind in "iuf" else np.empty(0, np.int64)
        result = self._pandas(self.transform.times(near)).sel({name: label}, method=method, tolerance=tolerance)
        found = result.dim_indexers[self._dim]
        return result if values.dtype.kind == "b" else IndexSelResult({self._dim: _mapped(found, near)})

    def _slice(self, label: slice) -> slice:
        step = 1 if label.step is None else label.step
        first, last = (label.start, label.stop) if step > 0 else (label.stop, label.start)
        start = 0 if first is None else int(self.transform.before(np.asarray(float(first)), through=False))
        stop = (
            self.transform.size if last is None else int(self.transform.before(np.asarray(float(last)), through=True))
        )
        if start >= stop:
            return slice(0, 0)
        return slice(start, stop, step) if step > 0 else slice(stop - 1, start - 1 if start else None, step)

    def _neighbours(self, labels: NDArray[Any]) -> NDArray[np.int64]:
        if not self.transform.size:
            return np.empty(0, np.int64)
        times = np.unique(labels.astype(np.float64))
        at, behind = (self.transform.before(times, through=through) for through in (False, True))
        ends = np.array([0, self.transform.size - 1])  # which say in what direction the times go
        return np.unique(np.clip(np.concatenate([at - 1, at, behind, ends]), *ends))

    def join(self, other: Index, how: str = "inner") -> Index:  # type: ignore[override] # what is left may need a pandas one
        """Return the times of both, or those of either (`"outer"`)."""
        if isinstance(other, TimeIndex) and self.transform.shares_grid(other.transform):
            one, two = self.transform, other.transform
            edges = (max, min) if how == "inner" else (min, max)
            first = edges[0](one.first, two.first)
            stop = edges[1](one.first + one.size, two.first + two.size)
            if how == "inner" or max(one.first, two.first) <= min(one.first + one.size, two.first + two.size):
                shift = first - one.first
                return type(self)(one.part(range(shift, max(stop - one.first, shift))))
        joined = PandasIndex(other.to_pandas_index(), self._dim, np.dtype(np.float64))
        return self._pandas().join(joined, how=how)

    def reindex_like(self, other: Index, method: str | None = None, tolerance: Any = None) -> dict[Hashable, Any]:  # noqa: ANN401 - as pandas takes it
        """Return the position here of each of another index's times; -1 where there is none."""
        like = PandasIndex(other.to_pandas_index(), self._dim, np.dtype(np.float64))
        return self._pandas().reindex_like(like, method=method, tolerance=tolerance)

    @classmethod
    def concat(  # type: ignore[override] # likewise
        cls, indexes: Sequence[TimeIndex], dim: Hashable, positions: Iterable[Iterable[int]] | None = None
    ) -> Index:
        """Return the index of parts one after the other."""
        first = indexes[0].transform
        follows = all(
            one.transform.shares_grid(two.transform) and one.transform.first + one.transform.size == two.transform.first
            for one, two in itertools.pairwise(indexes)
        )
        if follows and positions is None and first.dim == dim:
            return cls(first.part(range(sum(index.transform.size for index in indexes))))
        return PandasIndex.concat([index._pandas() for index in indexes], dim, positions)  # noqa: SLF001 - of its own class

    def _repr_inline_(self, max_width: int) -> str:
        text = repr(self)
        return text if len(text) <= max_width else "TimeIndex"

    def __repr__(self) -> str:
        transform = self.transform
        if not transform.size:
            return f"TimeIndex(empty, {transform.rate:g} Hz)"
        first, last = transform.times([0, transform.size - 1])
        return f"TimeIndex({first:g} to {last:g} s, {transform.rate / abs(transform.step):g} Hz)"


def _mapped(found: Any, near: NDArray[np.int64]) -> Any:  # noqa: ANN401 - xarray's own union
    """Return positions in an index of neighbours as positions in the whole one."""
    if isinstance(found, slice):  # several samples at the same time
        return slice(int(near[found.start]), int(near[found.stop - 1]) + 1)
    if hasattr(found, "dims"):
        return found.copy(data=near[found.values])
    at = near[found]
    return int(at) if at.ndim == 0 else at
