"""An index whose labels are read when they are first needed: timestamps, ids of a table's rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
from xarray import Index, IndexSelResult, Variable
from xarray.core.indexes import PandasIndex

from lindi_dask.errors import InvalidSession

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping, Sequence

__all__ = ["LoadedIndex"]


class LoadedIndex(Index):
    """A pandas index of a coordinate that is still in its file. Positions, slices of them too, need no labels.

    Parameters
    ----------
    variable
        The coordinate, of one dimension.
    name
        Its name.
    path
        Of its array, for messages.
    increasing
        Whether labels that go backwards, or are NaN, are an error.
    held
        The labels, if they are here already.
    """

    def __init__(
        self,
        variable: Variable,
        name: Hashable,
        path: str,
        *,
        increasing: bool = False,
        held: PandasIndex | None = None,
    ) -> None:
        self._variable, self._name, self._path, self._increasing = variable, name, path, increasing
        self._held = held

    def _of(self, held: PandasIndex) -> Self:
        """Return an index of labels that are here."""
        (variable,) = held.create_variables().values()
        return type(self)(variable, held.index.name, self._path, increasing=self._increasing, held=held)

    def pandas(self) -> PandasIndex:
        """Return the index of the labels; read at the first call."""
        if self._held is None:
            values = self._variable.values
            if self._increasing:
                self._check(values)
            self._held = PandasIndex(pd.Index(values, name=self._name), self._variable.dims[0], values.dtype)
        return self._held

    def _check(self, values: Any) -> None:  # noqa: ANN401 - numbers of any type
        backwards = np.flatnonzero(~(np.diff(values) >= 0))
        nan = np.flatnonzero(np.isnan(values))
        if len(nan) or len(backwards):
            reason = f"is NaN at {nan[0]}" if len(nan) else f"goes backwards after {backwards[0]}"
            raise InvalidSession(
                f"/{self._path} {reason}, so nothing can be selected by it. Select by position: "
                f".isel({self._variable.dims[0]}=...); its values are in .{self._name}.",
                path=self._path,
                reason=reason,
            )

    def create_variables(self, variables: Mapping[Any, Variable] | None = None) -> dict[Any, Variable]:
        """Return the coordinate, by name; its attributes are those of the variable that is given."""
        if self._held is not None:
            return self._held.create_variables(variables)
        variable = self._variable.copy(deep=False)
        if variables is not None and self._name in variables:
            variable.attrs = dict(variables[self._name].attrs)
        return {self._name: variable}

    def to_pandas_index(self) -> pd.Index:
        """Return the labels."""
        return self.pandas().index

    def isel(self, indexers: Mapping[Any, Any]) -> Index | None:
        """Return the index at some positions; None for a single one, and for those of another shape."""
        dim = self._variable.dims[0]
        wanted = indexers[dim]
        if self._held is None and isinstance(wanted, slice) and (wanted.step is None or wanted.step > 0):
            part = self._variable.isel({dim: wanted})
            return type(self)(part, self._name, self._path, increasing=self._increasing)
        if not isinstance(wanted, slice) and np.ndim(getattr(wanted, "values", wanted)) != 1:
            return None
        part_held = self.pandas().isel({dim: wanted})
        return None if part_held is None else self._of(part_held)

    def sel(self, labels: dict[Any, Any], method: str | None = None, tolerance: Any = None) -> IndexSelResult:  # noqa: ANN401 - as pandas takes it
        """Return the positions of labels, as pandas finds them.

        Raises
        ------
        InvalidSession
            If the labels are timestamps that go backwards or hold NaN.
        """
        return self.pandas().sel(labels, method=method, tolerance=tolerance)

    def equals(self, other: Index, **_: Any) -> bool:  # noqa: ANN401 - xarray's options
        """Return whether the labels are the same."""
        if not isinstance(other, LoadedIndex):
            return False
        # Copies of one index need no labels to be compared: trees are made of them
        return self._variable is other._variable or self.pandas().equals(other.pandas())  # noqa: SLF001 - its own class

    def join(self, other: Self, how: str = "inner") -> Self:
        """Return the labels of both, or those of either (`"outer"`)."""
        return self._of(self.pandas().join(other.pandas(), how=how))

    def reindex_like(self, other: Self, method: str | None = None, tolerance: Any = None) -> dict[Hashable, Any]:  # noqa: ANN401 - as pandas takes it
        """Return the position here of each of another index's labels; -1 where there is none."""
        return self.pandas().reindex_like(other.pandas(), method=method, tolerance=tolerance)

    @classmethod
    def concat(  # type: ignore[override]
        cls, indexes: Sequence[LoadedIndex], dim: Hashable, positions: Iterable[Iterable[int]] | None = None
    ) -> Index:
        """Return the index of parts one after the other."""
        return PandasIndex.concat([index.pandas() for index in indexes], dim, positions)

    def rename(self, name_dict: Mapping[Any, Hashable], dims_dict: Mapping[Any, Hashable]) -> Self:
        """Return the index under another name, along a dimension of another one."""
        dim = self._variable.dims[0]
        name, new_dim = name_dict.get(self._name, self._name), dims_dict.get(dim, dim)
        variable = Variable((new_dim,), self._variable._data, self._variable.attrs, self._variable.encoding)  # noqa: SLF001 - .data would read it
        held = None if self._held is None else self._held.rename(name_dict, dims_dict)  # type: ignore[no-untyped-call]
        return type(self)(variable, name, self._path, increasing=self._increasing, held=held)

    def __repr__(self) -> str:
        return f"LoadedIndex({self._path!r}, {'read' if self._held is not None else 'not read yet'})"
