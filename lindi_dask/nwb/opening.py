"""What all groups of a session are opened with: its tree, values known at opening, variables over its arrays."""

from __future__ import annotations

import math
import warnings
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Literal

import dask
import numpy as np
from dask.utils import parse_bytes
from xarray import Variable
from xarray.core.indexing import LazilyIndexedArray

from lindi_dask.blocks import blocks_of
from lindi_dask.errors import DataError, RefsError
from lindi_dask.nwb.early import EarlyValues
from lindi_dask.nwb.kinds import SERIES, TABLE, defined_types, is_known, lineage
from lindi_dask.nwb.stored import PhysicalArray, StoredArray
from lindi_dask.nwb.tree import Tree

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from lindi_dask.factory import StoreFactory
    from lindi_dask.nwb.stored import Scaling
    from lindi_dask.nwb.tree import ArrayNode

    Physical = bool | Literal["float32", "float64"]

__all__ = ["SESSION_TIMES", "NwbWarning", "Opening", "lazy", "preferred_blocks"]

SESSION_TIMES: Final = ("session_start_time", "timestamps_reference_time")
_UNTOLD: Final = ("namespace", "colnames")  # attributes that say nothing once a dataset is made


class NwbWarning(UserWarning):
    """Something of a session can't be used as NWB means it; the message names it, and what was left out."""


class Opening:
    """One opening of a session.

    Parameters
    ----------
    factory
        The recipe of its store.
    physical
        Whether data are to be in their unit, and in which type; True: float32 where that holds them.
    """

    def __init__(self, factory: StoreFactory, *, physical: Physical = True) -> None:
        self.factory, self.physical = factory, physical
        self.store = factory()
        self.tree = Tree(self.store.references)
        self.early = EarlyValues(self.store)
        self._times: dict[str, dict[str, str]] = {}
        self._defined: dict[str, dict[str, str]] = {}

    @cached_property
    def sessions(self) -> tuple[str, ...]:
        """Groups that are NWB files: the root, or those right below it, of sessions that were combined."""
        found = []
        for path in ("", *self.tree.groups("").values()):
            attributes = self.tree.attributes(path)
            if "nwb_version" in attributes or attributes.get("neurodata_type") == "NWBFile":
                found.append(path)
        return tuple(found)

    def session_of(self, path: str) -> str:
        """Return the path of the session that a group belongs to."""
        return next((one for one in self.sessions if not one or f"{path}/".startswith(f"{one}/")), "")

    def line(self, path: str) -> list[str]:
        """Return the type of a group and what it is made from; of unknown types, what they look like."""
        kind = self.tree.kind(path)
        line = lineage(kind, {} if is_known(kind) or not kind else self._types(self.session_of(path)))
        if SERIES not in line and TABLE not in line and kind:
            arrays = self.tree.arrays(path)
            if "data" in arrays and ("timestamps" in arrays or "starting_time" in arrays):
                line.append(SERIES)
            elif "id" in arrays and "colnames" in self.tree.attributes(path):
                line.append(TABLE)
        return line

    def _types(self, session: str) -> dict[str, str]:
        """Return types that a session's cached specifications define; read when the first unknown one is met."""
        if session in self._defined:
            return self._defined[session]
        specifications = self.tree.groups(session).get("specifications")
        nodes = [
            node
            for path in (() if specifications is None else self.tree.below(specifications))
            for node in self.tree.arrays(path).values()
            if node.size == 1 and node.dtype.kind == "O"
        ]
        self.early.fetch(nodes)
        defined: dict[str, str] = {}
        for node in nodes:
            value = self.value(node, "it was not looked at for types")
            try:
                defined |= {} if value is None else defined_types(str(value.item()))
            except ValueError:
                warn(f"/{node.path} is no specification (it is not JSON): it was not looked at for types.")
        self._defined[session] = defined
        return defined

    def session_times(self, path: str) -> dict[str, str]:
        """Return when the session of a group started, and what its times count from: ISO 8601."""
        session = self.session_of(path)
        if session in self._times:
            return self._times[session]
        arrays = self.tree.arrays(session)
        found = {}
        for name in SESSION_TIMES:
            node = arrays.get(name)
            value = None if node is None or node.size != 1 else self.value(node, "it is left out")
            if value is not None:
                found[name] = str(value.item())
        self._times[session] = found
        return found

    def value(self, node: ArrayNode, otherwise: str) -> NDArray[Any] | None:
        """Return all of a small array; None with a warning that ends with `otherwise` if it can't be read."""
        reason = ""
        try:
            return self.early.of(node)
        except (RefsError, DataError) as error:
            reason = str(error)
        warn(f"{reason} {otherwise[0].upper()}{otherwise[1:]}.")
        return None

    def attributes(self, path: str, *, timed: bool = False) -> dict[str, Any]:
        """Return what is told of a group: its attributes, where links lead; `timed`: when the session started."""
        attributes = {name: value for name, value in self.tree.attributes(path).items() if name not in _UNTOLD}
        for name, reason in self.tree.broken(path).items():
            warn(f"/{path}/{name} can't be read: {reason}. It is left out.")
        links = {name: f"/{target}" for name, target in self.tree.links(path).items()}
        started = {"session_start_time": self.session_times(path).get("session_start_time")} if timed else {}
        return {**{name: when for name, when in started.items() if when is not None}, **links, **attributes}

    def variable(
        self,
        node: ArrayNode,
        dims: Sequence[str],
        attributes: dict[str, Any] | None = None,
        scaling: Scaling | None = None,
    ) -> Variable:
        """Return an array as a variable; with `scaling` its values are physical ones."""
        array = StoredArray(self.factory, node.path, node.shape, node.dtype)
        if scaling is not None:
            array = PhysicalArray(self.factory, node.path, node.shape, self._physical_dtype(node.dtype), scaling)
        attributes = (
            {k: v for k, v in node.attributes.items() if k != "namespace"} if attributes is None else attributes
        )
        return lazy(array, dims, attributes, node)

    def _physical_dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        if isinstance(self.physical, str):
            return np.dtype(self.physical)
        if dtype.kind in "fc" and dtype.itemsize >= 4:
            return dtype.newbyteorder("=")
        return np.dtype(np.float32 if dtype.itemsize <= 2 else np.float64)


def lazy(array: StoredArray, dims: Sequence[str], attributes: dict[str, Any], node: ArrayNode) -> Variable:
    """Return an array that is read later as a variable, for dask in blocks of whole chunks."""
    variable = Variable(tuple(dims), LazilyIndexedArray(array), attributes)
    blocks = preferred_blocks(node.shape, node.chunks, array.dtype, node.path)
    variable.encoding = {"preferred_chunks": dict(zip(dims, blocks, strict=True))}
    return variable


def preferred_blocks(
    shape: tuple[int, ...], chunks: tuple[int, ...], dtype: np.dtype[Any], path: str
) -> tuple[int, ...]:
    """Return the size of the blocks that `open_array` takes by default, along each dimension."""
    itemsize = dtype.itemsize if dtype.kind != "O" else 64
    if math.prod(shape) * itemsize <= parse_bytes(dask.config.get("array.chunk-size")):
        return shape
    whole: Any = _Grid(shape, chunks, dtype, path)
    return tuple(sizes[0] if sizes else extent for sizes, extent in zip(blocks_of(whole, "auto"), shape, strict=True))


class _Grid:
    """What `blocks_of` looks at of an array."""

    def __init__(self, shape: tuple[int, ...], chunks: tuple[int, ...], dtype: np.dtype[Any], path: str) -> None:
        self.shape, self.chunks, self.dtype, self.path, self.ndim = shape, chunks, dtype, path, len(shape)


def warn(message: str) -> None:
    """Warn of what is left out."""
    warnings.warn(message, NwbWarning, stacklevel=2)
