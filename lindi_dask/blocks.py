"""dask's blocks over an array's chunks: whole chunks, unless the user wants others."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any

import dask
import numpy as np
from dask.array.core import PerformanceWarning, normalize_chunks
from dask.utils import parse_bytes

from lindi_dask.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import zarr

    Blocks = tuple[tuple[int, ...], ...]

__all__ = ["blocks_of", "warn_of_cuts"]

_MAX_BLOCKS = 10_000_000
_TEXT = np.dtype("V64")  # about as large as a text with what Python has around it
_SERIES = {"data", "timestamps"}  # of an NWB TimeSeries, whose first dimension is time


def blocks_of(array: zarr.Array[Any], chunks: Any) -> Blocks:  # noqa: ANN401 - dask's own union, and ours
    """Return the blocks of an array, by dimension.

    Parameters
    ----------
    array
        Its shape, chunks, data type and names of dimensions are looked at.
    chunks
        As of `open_array`.

    Raises
    ------
    ConfigurationError
        If a dimension is none of the array's, or there would be too many blocks.
    """
    if isinstance(chunks, dict):
        chunks = _by_axis(array, chunks)
    dtype = array.dtype if array.dtype.kind not in "OT" else _TEXT  # whose size dask can't tell
    sizes = chunks if isinstance(chunks, tuple | list) else (chunks,) * array.ndim
    _check_count(array, sizes, dtype)
    if len(sizes) == array.ndim and "auto" in sizes and all(size in ("auto", -1, None) for size in sizes):
        return _whole_chunks(array, sizes, dtype)
    blocks: Blocks = normalize_chunks(chunks, array.shape, dtype=dtype, previous_chunks=array.chunks)
    return blocks


def warn_of_cuts(array: zarr.Array[Any], blocks: Blocks, *, stacklevel: int) -> None:
    """Warn where blocks cut chunks: each process that has a part of one reads and decodes it whole."""
    if 0 in array.shape:
        return
    axes = list(zip(blocks, array.chunks, array.shape, strict=True))
    again = math.prod(_touched(sizes, chunk) / -(-extent // chunk) for sizes, chunk, extent in axes) - 1
    if again <= 0:
        return
    whole = tuple(min(max(max(sizes) // chunk, 1) * chunk, extent) for sizes, chunk, extent in axes)
    largest = tuple(max(sizes) for sizes in blocks)
    warnings.warn(
        f"/{array.path}: blocks of {largest} cut its chunks of {array.chunks}. Each process that has a part of a chunk "
        f"reads and decodes it whole, in all up to {_percent(again)} more. chunks={whole} would cut none.",
        PerformanceWarning,
        stacklevel=stacklevel + 1,
    )


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.095 else f"{100 * share:.2g} %"


def _touched(sizes: tuple[int, ...], chunk: int) -> int:
    """Return how many chunks the blocks along a dimension touch, those that are touched twice counted twice."""
    stops = np.cumsum([size for size in sizes if size], dtype=np.int64)
    starts = np.concatenate([[0], stops[:-1]])
    return int((-(-stops // chunk) - starts // chunk).sum())


def _check_count(array: zarr.Array[Any], sizes: Sequence[Any], dtype: np.dtype[Any]) -> None:
    """Raise where dask would list more blocks than any memory holds: it lists them all before anything is read."""
    count, in_bytes = 1, None
    for extent, size in zip(array.shape, sizes, strict=False):
        if isinstance(size, str):
            in_bytes = parse_bytes(dask.config.get("array.chunk-size") if size == "auto" else size)
        elif type(size) is int and size > 0:
            count *= -(-extent // size)
    if in_bytes is not None:
        free = math.prod(extent for extent, size in zip(array.shape, sizes, strict=False) if isinstance(size, str))
        count *= free * dtype.itemsize // max(in_bytes, math.prod(array.chunks) * dtype.itemsize)
    if count > _MAX_BLOCKS:
        raise ConfigurationError(
            f"/{array.path} has the shape {array.shape}: that would be some {count:,} blocks, which no graph can list. "
            "Pass larger chunks=, or read a part of it by open_group(...)[path][start:stop]."
        )


def _whole_chunks(array: zarr.Array[Any], sizes: Sequence[Any], dtype: np.dtype[Any]) -> tuple[tuple[int, ...], ...]:
    """Return blocks of whole chunks; dask is asked about the grid, as a million chunks one by one take it a second."""
    grid = tuple(-(-extent // chunk) for extent, chunk in zip(array.shape, array.chunks, strict=True))
    one_chunk = np.dtype(f"V{min(max(math.prod(array.chunks) * dtype.itemsize, 1), 2**31 - 1)}")
    blocks = []
    for counts, extent, chunk in zip(
        normalize_chunks(tuple(sizes), grid, dtype=one_chunk), array.shape, array.chunks, strict=True
    ):
        whole = [count * chunk for count in counts]
        blocks.append((*whole[:-1], extent - sum(whole[:-1])) if whole else ())
    return tuple(blocks)


def _names(array: zarr.Array[Any]) -> dict[Any, int]:
    """Return the dimensions that have names: the array's own; and NWB's, whose time series begin with time."""
    own = getattr(array.metadata, "dimension_names", None) or ()
    names = {name: axis for axis, name in enumerate(own) if name is not None}
    if not names and array.ndim and array.path.rpartition("/")[2] in _SERIES:
        names["time"] = 0
    return names


def _by_axis(array: zarr.Array[Any], chunks: dict[Any, Any]) -> tuple[Any, ...]:
    """Turn `{axis: size}` into a size for each axis; a size in bytes becomes rows, in whole chunks."""
    names = _names(array)
    chunks = {names.get(axis, axis): size for axis, size in chunks.items()}
    strange = next((axis for axis in chunks if type(axis) is not int or not -array.ndim <= axis < array.ndim), None)
    if strange is not None:
        known = f", called {', '.join(map(repr, names))}" if names else ", without names"
        raise ConfigurationError(
            f"chunks: {strange!r} is not a dimension of /{array.path}, which has {array.ndim}{known}."
        )
    sizes = dict.fromkeys(range(array.ndim), -1) | {axis % array.ndim: size for axis, size in chunks.items()}
    in_bytes = [axis for axis, size in sizes.items() if isinstance(size, str) and size != "auto"]
    if len(in_bytes) > 1:
        raise ConfigurationError("chunks: only one dimension can have a size in bytes.")
    for axis in in_bytes:
        others = math.prod(extent for i, extent in enumerate(array.shape) if i != axis)
        per_chunk = max(others * array.chunks[axis] * array.dtype.itemsize, 1)
        sizes[axis] = max(parse_bytes(sizes[axis]) // per_chunk, 1) * array.chunks[axis]
    return tuple(sizes[axis] for axis in range(array.ndim))
