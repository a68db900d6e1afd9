"""Arrays of parts, one behind the other along a dimension. Pure.

Zarr has regular chunk grids, so that chunks of parts lie in one grid only where each part but the last is a whole
number of chunks long. Uncompressed data that lie in one piece, as HDF5's contiguous datasets do, can be cut anew; small
arrays are held by value.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from lindi_dask.refs.combine.parts import Chunks, disagreement
from lindi_dask.refs.dialect.v2_kinds import UntranslatableError, shortened
from lindi_dask.refs.dialect.v3_kinds import v3_kind
from lindi_dask.refs.documents import MAX_INLINE
from lindi_dask.refs.manifest import WHOLE, Locations

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from lindi_dask.refs.combine.parts import Tree
    from lindi_dask.refs.combine.whole import Whole
    from lindi_dask.refs.references import SourceTable

__all__ = ["add_concatenated", "chunk_shape", "is_small", "small_values"]

_MAX_READ: Final = 2**20  # bytes of an array in files that is read to be held, or compared
_TEXT: Final = 64  # bytes of an element of any length, about
_CUT: Final = 8 * 2**20  # bytes, at most, of chunks that are cut anew (as of contiguous datasets)
_LEAST: Final = 2**16  # bytes, at least, if there are many
_FEW: Final = 1000  # chunks


def add_concatenated(
    whole: Whole, path: str, axis: int, trees: Sequence[Tree], shifts: Sequence[float] | None = None
) -> None:
    """Add an array that is those of all parts, in their order.

    Parameters
    ----------
    whole
        What it is added to.
    path
        Of the array, in each part.
    axis
        Along which they follow each other.
    trees
        Of the parts.
    shifts
        What is added to the values of each part; None: nothing.

    Raises
    ------
    PartsDisagree
        If types, shapes, codecs or chunks don't fit. It names the part and both values.
    LindiError
        Of values that are read.
    """
    first = trees[0].nodes[path]
    for tree in trees[1:]:
        _check(path, axis, trees[0], tree)
    used = [tree for tree in trees if tree.nodes[path]["shape"][axis]] or [trees[0]]
    if shifts is not None and any(shifts):
        may_hold = first["data_type"] == "float64"
        fault = "too large to be held (over 1 MiB in a file, or 64 held)" if may_hold else "not float64"
        reason = f"{trees[-1].name} counts times from another moment than {trees[0].name}, and its timestamps can't be "
        misfit = _Misfit(trees[-1].name, f"{reason}shifted: they are {fault}")
    else:
        found = _in_one_grid(path, axis, used)
        if isinstance(found, _Misfit):
            found = _cut_anew(path, axis, used) or found
        if isinstance(found, _Made):
            node = {**found.node, "attributes": first["attributes"]}
            selection = used[0].selections.get(path)
            whole.add_array(path, node, found.chunks, padded=found.padded, selection=selection)
            return
        misfit, may_hold, shifts = found, True, [0] * len(trees)
    reason = misfit.reason
    if may_hold and all(is_small(tree, path, whole.sources) for tree in used):
        values = [_shifted(tree.values(path), shift) for tree, shift in zip(trees, shifts, strict=True)]
        try:
            whole.hold(path, first, np.concatenate(values, axis=axis))
        except UntranslatableError as error:
            reason = f"{reason}, and {error}"
        else:
            return
    raise disagreement(path, misfit.part, reason)


@dataclass(frozen=True, slots=True)
class _Misfit:
    """Why arrays don't fit."""

    part: str
    """name of the one that does not"""
    reason: str


@dataclass(frozen=True, slots=True)
class _Made:
    """An array in one grid."""

    node: dict[str, Any]
    chunks: Chunks
    padded: int | None
    """bytes of a chunk, where a short one is padded"""


def chunk_shape(node: dict[str, Any]) -> tuple[int, ...]:
    """Return the shape of an array's chunks."""
    return tuple(node["chunk_grid"]["configuration"]["chunk_shape"])


def is_small(tree: Tree, path: str, sources: SourceTable) -> bool:
    """Return whether an array may be read now: it has up to 64 MiB and is held by the references, or up to 1 MiB."""
    node = tree.nodes[path]
    nbytes: int = (_itemsize(node) or _TEXT) * math.prod(node["shape"])
    return nbytes <= (MAX_INLINE if tree.chunks[path].is_held(sources) else _MAX_READ)


def small_values(tree: Tree, path: str, sources: SourceTable) -> NDArray[Any]:
    """Return all elements of an array that has to be looked at.

    Raises
    ------
    PartsDisagree
        If it may not be read now.
    LindiError
        Of values that are read.
    """
    if not is_small(tree, path, sources):
        reason = f"with the shape {tree.nodes[path]['shape']} in {tree.name}, it is too large to be read"
        raise disagreement(path, tree.name, f"{reason} (over 1 MiB, or 64 held)")
    return np.asarray(tree.values(path))


def _itemsize(node: dict[str, Any]) -> int | None:
    """Return the bytes of an element; None where that depends on the element."""
    return v3_kind(node["data_type"], node["fill_value"]).itemsize


def _check(path: str, axis: int, one: Tree, other: Tree) -> None:
    """Raise for arrays that are not of one kind, however they are kept."""
    ours, theirs = one.nodes[path], other.nodes[path]
    for what in ("data_type", "dimension_names"):
        if ours.get(what) != theirs.get(what):
            reason = f"{other.name} has the {what} {theirs.get(what)!r}, but {one.name} has {ours.get(what)!r}"
            raise disagreement(path, other.name, reason)
    shapes = [list(node["shape"]) for node in (ours, theirs)]
    if [extent for i, extent in enumerate(shapes[0]) if i != axis] != [
        extent for i, extent in enumerate(shapes[1]) if i != axis
    ]:
        reason = f"{other.name} has the shape {shapes[1]}, but {one.name} has {shapes[0]}"
        raise disagreement(path, other.name, f"{reason}: only dimension {axis} may differ")


def _shifted(values: NDArray[Any], shift: float) -> NDArray[Any]:
    return values + shift if shift else values


# In one grid of chunks


def _in_one_grid(path: str, axis: int, trees: Sequence[Tree]) -> _Made | _Misfit:
    """Return the array of chunks as they are, or why that can't be."""
    node = trees[0].nodes[path]
    chunk = chunk_shape(node)
    for tree in trees[1:]:
        other = tree.nodes[path]
        for what, ours, theirs in (
            ("codecs", _without_levels(node["codecs"]), _without_levels(other["codecs"])),
            ("fill value", node["fill_value"], other["fill_value"]),
            ("chunks", list(chunk), list(chunk_shape(other))),
            ("selection", trees[0].selections.get(path), tree.selections.get(path)),
        ):
            if ours != theirs or str(ours) != str(theirs):  # 0 is not 0.0, nor False
                reason = f"{tree.name} has the {what} {theirs!r}, but {trees[0].name} has {ours!r}"
                return _Misfit(tree.name, shortened(reason))
    extents = [int(tree.nodes[path]["shape"][axis]) for tree in trees]
    for tree, extent in zip(trees[:-1], extents, strict=False):
        if extent % chunk[axis]:
            return _Misfit(
                tree.name,
                f"{tree.name} has {extent} elements along dimension {axis}, {extent % chunk[axis]} more than a whole "
                f"number of chunks of {chunk[axis]}, so that what follows can't be in one grid with it",
            )
    padded = {tree.padded.get(path) for tree in trees}
    if len(padded) > 1:
        whole = max(nbytes for nbytes in padded if nbytes is not None)
        for tree in trees:
            lengths = tree.chunks[path].locations.lengths
            wrong = lengths[(lengths != whole) & (lengths != WHOLE)]
            if path not in tree.padded and len(wrong):
                return _Misfit(tree.name, f"{tree.name} has a chunk of {wrong[0]} bytes, but one has {whole} there")
        padded = {whole}
    shape = [*node["shape"]]
    shape[axis] = sum(extents)
    grid = tuple(-(-extent // size) for extent, size in zip(shape, chunk, strict=True))
    if math.prod(grid) >= 2**63 or shape[axis] >= 2**63:
        return _Misfit(trees[-1].name, f"a grid of {list(grid)} chunks is too large")
    places, before = [], 0
    for tree, extent in zip(trees, extents, strict=True):
        places.append(_placed(tree.chunks[path], grid, axis, before // chunk[axis]))
        before += extent
    chunks = Chunks(grid, np.concatenate(places), Locations.joined([tree.chunks[path].locations for tree in trees]))
    return _Made({**node, "shape": shape}, chunks, padded.pop())


def _without_levels(codecs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return codecs without what only their writer needs."""
    return [
        {**codec, "configuration": {key: value for key, value in codec["configuration"].items() if key != "level"}}
        if "configuration" in codec
        else codec
        for codec in codecs
    ]


def _placed(chunks: Chunks, grid: tuple[int, ...], axis: int, first: int) -> NDArray[np.uint64]:
    """Return the places of chunks in a grid that is longer along `axis`, in which they begin at `first`."""
    inner = math.prod(grid[axis + 1 :])
    outer, rest = np.divmod(chunks.places, np.uint64(chunks.grid[axis] * inner or 1))
    return outer * np.uint64(grid[axis] * inner) + rest + np.uint64(first * inner)


# Cut anew


def _cut_anew(path: str, axis: int, trees: Sequence[Tree]) -> _Made | _Misfit | None:
    """Return the array of new chunks, where uncompressed data of each part lie in one piece; None if they don't."""
    node = trees[0].nodes[path]
    itemsize = _itemsize(node)
    kinds = [(tree.nodes[path]["codecs"], tree.nodes[path]["fill_value"], tree.selections.get(path)) for tree in trees]
    is_plain = [codec["name"] for codec in node["codecs"]] == ["bytes"] and path not in trees[0].selections
    if axis or itemsize is None or not is_plain or any(kind != kinds[0] for kind in kinds) or len(trees) < 2:
        return None
    inner = node["shape"][1:]
    row = itemsize * math.prod(inner)
    starts = [_start(tree, path, row) for tree in trees]
    extents = [int(tree.nodes[path]["shape"][0]) for tree in trees]
    if not row or None in starts:
        return None
    rows, total = _common_length(extents[:-1], row), sum(extents)
    if rows * row < _LEAST and total > rows * _FEW:
        return _Misfit(
            trees[0].name,
            f"Zarr has one length for all chunks, and the parts' numbers of rows, {extents}, leave none of "
            f"{_LEAST >> 10} KiB or more that divides all but the last",
        )
    places: list[NDArray[np.uint64]] = [np.zeros(0, np.uint64)]
    locations = [Locations.missing(0)]
    first = 0
    for start, extent in zip(starts, extents, strict=True):
        if start:
            steps = np.arange(-(-extent // rows), dtype=np.uint64)
            places.append(steps + np.uint64(first // rows))
            lengths = np.minimum(np.uint64(extent) - steps * np.uint64(rows), np.uint64(rows)) * np.uint64(row)
            offsets = np.uint64(start[1]) + steps * np.uint64(rows * row)
            locations.append(Locations(np.full(len(steps), start[0], np.uint32), offsets, lengths.astype(np.uint32)))
        first += extent
    grid = {"name": "regular", "configuration": {"chunk_shape": [rows, *inner]}}
    made = {**node, "shape": [total, *inner], "chunk_grid": grid}
    found = Chunks((-(-total // rows), *(1 for _ in inner)), np.concatenate(places), Locations.joined(locations))
    return _Made(made, found, rows * row)


def _common_length(extents: Sequence[int], row: int) -> int:
    """Return the largest number of rows, of `row` bytes, that a chunk may have and that divides all extents."""
    common = math.gcd(*extents)
    sizes = np.arange(1, min(common, max(1, _CUT // row)) + 1)
    return int(sizes[common % sizes == 0].max())


def _start(tree: Tree, path: str, row: int) -> tuple[int, ...] | None:
    """Return source and offset of data that lie in one piece, () if no chunk is listed; None if they don't."""
    node, chunks = tree.nodes[path], tree.chunks[path]
    shape, chunk, at = node["shape"], chunk_shape(node), chunks.locations
    count = math.prod(chunks.grid)
    if chunk[1:] != tuple(shape[1:]):
        return None
    if not len(chunks.places):
        return ()
    if len(chunks.places) != count or np.ptp(at.sources):
        return None
    steps = np.arange(count, dtype=np.uint64)
    rows = np.minimum(np.uint64(shape[0]) - steps * np.uint64(chunk[0]), np.uint64(chunk[0]))
    offsets = at.offsets[0] + steps * np.uint64(chunk[0] * row)
    full = np.uint64(chunk[0] * row)
    wrong = (at.offsets != offsets) | (at.lengths < rows * np.uint64(row)) | (at.lengths > full)
    if bool(wrong.any()):
        return None
    return int(at.sources[0]), int(at.offsets[0])
