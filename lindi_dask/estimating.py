"""`estimate`: what a dask or xarray computation will read, told from its graph."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import dask
import numpy as np
import zarr
from dask._task_spec import Alias, DataNode, GraphNode, NestedContainer, Task, TaskRef
from dask.array.core import getter, getter_inline, getter_nofancy
from xarray.backends import BackendArray
from xarray.core.indexing import LazilyIndexedArray

from lindi_dask import process
from lindi_dask.lazy import LazyArray
from lindi_dask.nwb.stored import StoredArray
from lindi_dask.refs import MISSING, WHOLE
from lindi_dask.store import LindiStore
from lindi_dask.transport import plan_ranges

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from lindi_dask.refs import Locations

    Scope = Mapping[Any, Any]

__all__ = ["Estimate", "estimate"]

_GETTERS: Final = (getter, getter_inline, getter_nofancy)
_OTHER: Final = object()  # what a task makes


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a computation will read of references, at most."""

    blocks: int
    """that read anything"""
    chunks: int
    """that are read, each counted once"""
    nbytes: int
    """of these chunks, as they are stored; those that the reference file holds itself are not counted"""
    repeated_nbytes: int
    """that are fetched again where blocks that share a chunk are read by different processes"""
    requests: int
    """for ranges of files, gone by what this process knows of the path to them; of local files as many reads"""
    unsized: int
    """chunks whose size the references do not say: not counted in `nbytes`"""


def estimate(computation: Any) -> Estimate:  # noqa: ANN401 - any collection of dask's
    """Return what a computation will read: no request is made, and nothing is read.

    Parameters
    ----------
    computation
        A dask array, an xarray object of such, or any other dask collection, over arrays of `open_array`, of
        `da.from_zarr(open_store(...))`, or of the engine `lindi`. What it does not need of them is not counted.

    Returns
    -------
    Estimate
        Upper bounds: chunks in the disk cache, or kept from other blocks, are not fetched.
    """
    (optimized,) = dask.optimize(computation)
    graph = dict(optimized.__dask_graph__())
    found = defaultdict[tuple[LindiStore, str], list["NDArray[np.uint64]"]](list)
    for array, selection in _reads(graph):
        store = array.store_path.store
        if isinstance(store, LindiStore):
            found[store, store.real_path(array.path)].append(_places(array, selection))
    blocks = chunks = nbytes = repeated = requests = unsized = 0
    for (store, path), of_blocks in found.items():
        for places in of_blocks:
            here = _stored(store, path, places)
            blocks += bool(len(here))
            requests += _requests(here)
            repeated += _nbytes(here)
        once = _stored(store, path, np.unique(np.concatenate(of_blocks)))
        chunks += len(once)
        nbytes += _nbytes(once)
        unsized += int((once.lengths == WHOLE).sum())
    return Estimate(blocks, chunks, nbytes, repeated - nbytes, requests, unsized)


# What a graph reads


def _reads(graph: Scope) -> Iterator[tuple[zarr.Array[Any], tuple[Any, ...]]]:
    """Yield the arrays that tasks index, and by what."""
    for node in graph.values():
        yield from _reads_of(node, graph)


def _reads_of(node: Any, scope: Scope) -> Iterator[tuple[zarr.Array[Any], tuple[Any, ...]]]:  # noqa: ANN401 - whatever dask has
    if not isinstance(node, Task):
        return
    if not isinstance(node, NestedContainer) and node.func in _GETTERS:
        array, selection = (_value(argument, scope) for argument in node.args[:2])
        found = _indexed(array, selection)
        if found is not None:
            yield found
    elif getattr(node.func, "__name__", "") == "_execute_subgraph":
        inner, _, names, *arguments = (_value(argument, scope) for argument in node.args)
        inside = {**scope, **inner, **dict(zip(names, (DataNode(None, one) for one in arguments), strict=False))}
        for task in inner.values():
            yield from _reads_of(task, inside)
    else:
        for argument in (*node.args, *(node.kwargs or {}).values()):
            yield from _reads_of(argument, scope)


def _value(node: Any, scope: Scope) -> Any:  # noqa: ANN401 - as above
    """Return what a node stands for, where that is known without computing."""
    match node:
        case DataNode():
            return node.value
        case Alias() | TaskRef():
            key = node.target if isinstance(node, Alias) else node.key
            return _value(scope[key], scope) if key in scope and scope[key] is not node else _OTHER
        case NestedContainer():
            return node.klass([_value(one, scope) for one in node.args])
        case GraphNode():
            return _OTHER
        case tuple() | list():
            return type(node)(_value(one, scope) for one in node)
    return node


def _indexed(array: Any, selection: Any) -> tuple[zarr.Array[Any], tuple[Any, ...]] | None:  # noqa: ANN401 - as above
    """Return what a task reads of one of our arrays; None if it does of another."""
    match array:
        case zarr.Array():
            return array, selection
        case LazyArray():
            return array.zarr, selection
    if not isinstance(_end_of(array), BackendArray):
        return None
    lazy = array[selection]  # xarray's wrappers put selections together, and read nothing yet
    while not isinstance(lazy, LazilyIndexedArray):
        lazy = lazy.array
    base = lazy.array
    found = base.zarr if isinstance(base, StoredArray) else getattr(base, "_array", None)
    return (found, lazy.key.tuple) if isinstance(found, zarr.Array) else None


def _end_of(array: Any) -> Any:  # noqa: ANN401 - as above
    """Return what xarray's wrappers are around."""
    while not isinstance(array, BackendArray) and hasattr(array, "array"):
        array = array.array
    return array


# What chunks that is


def _places(array: zarr.Array[Any], selection: tuple[Any, ...]) -> NDArray[np.uint64]:
    """Return the places in the grid of the chunks that a selection touches."""
    given = [one for one in selection if one is not None]
    if Ellipsis in given:
        at = given.index(Ellipsis)
        given[at : at + 1] = [slice(None)] * (array.ndim - len(given) + 1)
    given += [slice(None)] * (array.ndim - len(given))
    places = np.zeros(1, np.uint64)
    for one, extent, chunk in zip(given, array.shape, array.chunks, strict=True):
        places = np.add.outer(places * np.uint64(-(-extent // chunk)), _along(one, extent, chunk)).ravel()
    return places


def _along(selection: Any, extent: int, chunk: int) -> NDArray[np.uint64]:  # noqa: ANN401 - whatever numpy takes
    """Return which chunks of one dimension a selection touches."""
    if isinstance(selection, slice):
        start, stop, step = selection.indices(extent)
        if abs(step) >= chunk:
            numbers = np.arange(start, stop, step) // chunk
        else:
            chosen = range(start, stop, step)
            ends = sorted((chosen[0], chosen[-1])) if chosen else [0, -1]
            numbers = np.arange(ends[0] // chunk, ends[1] // chunk + 1)
    else:
        wanted = np.atleast_1d(np.asarray(selection))
        wanted = np.flatnonzero(wanted) if wanted.dtype == bool else np.where(wanted < 0, wanted + extent, wanted)
        numbers = np.unique(wanted // chunk)
    return numbers.astype(np.uint64)


def _stored(store: LindiStore, path: str, places: NDArray[np.uint64]) -> Locations:
    """Return where those of some chunks lie that are in files."""
    references = store.references
    locations = references.manifests[path].locate(places)
    held = [number for number in np.unique(locations.sources).tolist() if number != MISSING]
    held = [number for number in held if references.sources[number].data is not None]
    return locations[~np.isin(locations.sources, [*held, MISSING])]


def _nbytes(locations: Locations) -> int:
    return int(locations.lengths[locations.lengths != WHOLE].sum(dtype=np.int64))


def _requests(locations: Locations) -> int:
    sizes = process.request_sizes()
    planned = plan_ranges(locations, max_gap=sizes.max_gap, size=sizes.size) if len(locations) else []
    return sum(1 if one.stop is None else max(-(-(one.stop - one.start) // sizes.size), 1) for one in planned)
