"""What users call: references as a store, a group, a dask array."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import dask
import dask.array as da
import numpy as np
import zarr
from dask.array.core import normalize_chunks
from dask.base import tokenize
from dask.utils import parse_bytes

from lindi_dask.errors import ConfigurationError, RefsError
from lindi_dask.factory import StoreFactory
from lindi_dask.listing import near

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping, Sequence

    from lindi_dask.store import LindiStore

    Refs = str | os.PathLike[str] | dict[str, Any] | StoreFactory

__all__ = ["open_array", "open_group", "open_store"]

_MAX_BLOCKS = 10_000_000
_TEXT = np.dtype("V64")  # about as large as a text with what Python has around it


def open_store(
    refs: Refs,
    *,
    instances: Mapping[str, str] | None = None,
    allow: Iterable[str] | None = None,
    concurrency: int | None = None,
    cache: str | os.PathLike[str] | Literal[False] | None = None,
    cache_limit: int | str | None = None,
) -> LindiStore:
    """Return references as a read-only Zarr v3 store, for `da.from_zarr`, `zarr.open_group`, `xr.open_zarr`.

    Parameters
    ----------
    refs
        As for `StoreFactory`, or one.
    instances, allow, concurrency, cache, cache_limit
        As for `StoreFactory`.

    Raises
    ------
    RefsError
        If the references can't be had, or break their format.
    ConfigurationError
        If an option makes no sense.
    """
    if isinstance(refs, StoreFactory):
        if any(option is not None for option in (instances, allow, concurrency, cache, cache_limit)):
            raise ConfigurationError("options belong to the StoreFactory: pass them where it is made.")
        factory = refs
    else:
        factory = StoreFactory(
            refs, instances=instances, allow=allow, concurrency=concurrency, cache=cache, cache_limit=cache_limit
        )
    store = factory()
    store.references  # noqa: B018 - loads them: a broken file is an error here, not at the first block
    return store


def open_group(
    refs: Refs,
    path: str = "",
    *,
    instances: Mapping[str, str] | None = None,
    allow: Iterable[str] | None = None,
    concurrency: int | None = None,
    cache: str | os.PathLike[str] | Literal[False] | None = None,
    cache_limit: int | str | None = None,
) -> zarr.Group:
    """Return references, or the group at `path` in them, as a read-only `zarr.Group`.

    Parameters and errors are those of `open_store`; a path that isn't a group is a `RefsError`.
    """
    store = open_store(
        refs, instances=instances, allow=allow, concurrency=concurrency, cache=cache, cache_limit=cache_limit
    )
    path = path.strip("/")
    _check_node(store, path, "group")
    # Consolidated metadata lack the soft links, which open as what they point at
    return zarr.open_group(store, path=path, mode="r", zarr_format=3, use_consolidated=False)


def open_array(
    refs: Refs,
    path: str,
    *,
    chunks: Any = "auto",  # noqa: ANN401 - dask's own union, and ours
    instances: Mapping[str, str] | None = None,
    allow: Iterable[str] | None = None,
    concurrency: int | None = None,
    cache: str | os.PathLike[str] | Literal[False] | None = None,
    cache_limit: int | str | None = None,
) -> da.Array:
    """Return the array at `path` as a dask array.

    Each block is one task that reads its chunks at once. Keys depend on the references' content, the path and
    the blocks only, so they are
    the same in each run and on each machine.

    Parameters
    ----------
    refs
        As for `StoreFactory`, or one.
    path
        Of the array, such as `acquisition/ElectricalSeries/data`.
    chunks
        The blocks: `"auto"` (whole chunks, up to dask's `array.chunk-size`), `{0: "64 MiB"}` (about that much
        along the first dimension,
        whole chunks, and all of the other dimensions), or anything that dask takes.
    instances, allow, concurrency, cache, cache_limit
        As for `StoreFactory`.

    Returns
    -------
    dask.array.Array
        Of the array's shape and data type.

    Raises
    ------
    RefsError
        If the references can't be had, break their format, have no such array, or list it as one that can't be read.
    """
    store = open_store(
        refs, instances=instances, allow=allow, concurrency=concurrency, cache=cache, cache_limit=cache_limit
    )
    path = path.strip("/")
    _check_node(store, path, "array")
    array = zarr.open_array(store, path=path, mode="r", zarr_format=3)
    blocks = _blocks(array, chunks)
    name = f"lindi-{tokenize(store, store.real_path(path), blocks)}"
    return da.from_array(array, blocks, name=name, inline_array=True)


def _check_node(store: LindiStore, path: str, kind: str) -> None:
    """Raise a clear error where zarr would say that nothing was found."""
    references = store.references
    store.check_readable(path)
    path = store.real_path(path)
    is_array = path in references.manifests
    exists = is_array or (f"{path}/zarr.json" if path else "zarr.json") in references.metadata
    if exists and is_array == (kind == "array"):
        return
    if exists:
        raise RefsError(
            f"{store}: /{path} is {'an array' if is_array else 'a group'}, not {'an' if kind == 'array' else 'a'} "
            f"{kind}."
        )
    known = sorted(references.manifests) if kind == "array" else sorted(_groups(store))
    raise RefsError(f"{store}: there is no {kind} /{path}. {near(path, known)}")


def _groups(store: LindiStore) -> set[str]:
    references = store.references
    paths = {key.removesuffix("zarr.json").rstrip("/") for key in references.metadata}
    return paths - set(references.manifests)


def _blocks(array: zarr.Array[Any], chunks: Any) -> tuple[tuple[int, ...], ...]:  # noqa: ANN401 - see open_array
    if isinstance(chunks, dict):
        chunks = _by_axis(array, chunks)
    dtype = array.dtype if array.dtype.kind not in "OT" else _TEXT  # whose size dask can't tell
    sizes = chunks if isinstance(chunks, tuple | list) else (chunks,) * array.ndim
    _check_count(array, sizes, dtype)
    if len(sizes) == array.ndim and "auto" in sizes and all(size in ("auto", -1, None) for size in sizes):
        return _whole_chunks(array, sizes, dtype)
    blocks: tuple[tuple[int, ...], ...] = normalize_chunks(
        chunks, array.shape, dtype=dtype, previous_chunks=array.chunks
    )
    return blocks


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


def _by_axis(array: zarr.Array[Any], chunks: dict[Any, Any]) -> tuple[Any, ...]:
    """Turn `{axis: size}` into a size for each axis; a size in bytes becomes rows, in whole chunks."""
    strange = next((axis for axis in chunks if type(axis) is not int or not -array.ndim <= axis < array.ndim), None)
    if strange is not None:
        raise ConfigurationError(f"chunks: {strange!r} is not a dimension of an array that has {array.ndim}.")
    sizes = dict.fromkeys(range(array.ndim), -1) | {axis % array.ndim: size for axis, size in chunks.items()}
    in_bytes = [axis for axis, size in sizes.items() if isinstance(size, str) and size != "auto"]
    if len(in_bytes) > 1:
        raise ConfigurationError("chunks: only one dimension can have a size in bytes.")
    for axis in in_bytes:
        others = math.prod(extent for i, extent in enumerate(array.shape) if i != axis)
        per_chunk = max(others * array.chunks[axis] * array.dtype.itemsize, 1)
        sizes[axis] = max(parse_bytes(sizes[axis]) // per_chunk, 1) * array.chunks[axis]
    return tuple(sizes[axis] for axis in range(array.ndim))
