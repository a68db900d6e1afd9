"""What users call: references as a store, a group, a dask array."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import dask.array as da
import zarr
from dask.base import tokenize

from lindi_dask.blocks import blocks_of, warn_of_cuts
from lindi_dask.errors import ConfigurationError, RefsError
from lindi_dask.expanding import with_links
from lindi_dask.factory import StoreFactory
from lindi_dask.lazy import LazyArray
from lindi_dask.listing import near

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Mapping

    from lindi_dask.refs import References
    from lindi_dask.store import LindiStore

    Refs = str | os.PathLike[str] | dict[str, Any] | References | StoreFactory

__all__ = ["open_array", "open_group", "open_store"]


def open_store(
    refs: Refs,
    *,
    instances: Mapping[str, str] | None = None,
    allow: Iterable[str] | None = None,
    concurrency: int | None = None,
    cache: str | os.PathLike[str] | Literal[False] | None = None,
    cache_limit: int | str | None = None,
    api_keys: Mapping[str, Callable[[], str | None]] | None = None,
    expand: bool = False,
) -> LindiStore:
    """Return references as a read-only Zarr v3 store, for `da.from_zarr`, `zarr.open_group`, `xr.open_zarr`.

    Parameters
    ----------
    refs
        As for `StoreFactory`, or one.
    instances, allow, concurrency, cache, cache_limit, api_keys
        As for `StoreFactory`.
    expand
        Whether to do what `expand` does, if LINDI left out chunks of arrays: at the first opening on a machine, and
        kept in its index cache. On other machines, workers get them by `distribute`.

    Raises
    ------
    RefsError
        If the references can't be had, or break their format.
    ConfigurationError
        If an option makes no sense.
    LindiError
        As `expand`, if that is due.
    """
    store = factory_of(
        refs,
        instances=instances,
        allow=allow,
        concurrency=concurrency,
        cache=cache,
        cache_limit=cache_limit,
        api_keys=api_keys,
        expand=expand,
    )()
    store.references  # noqa: B018 - loads them: a broken file is an error here, not at the first block
    return store


def factory_of(refs: Refs, *, expand: bool = False, **options: Any) -> StoreFactory:  # noqa: ANN401 - each its own
    """Return the recipe of references; other options are those of `StoreFactory`, None where they are not given."""
    factory = refs if isinstance(refs, StoreFactory) else StoreFactory(refs, **options)
    if factory is refs and any(option is not None for option in options.values()):
        raise ConfigurationError("options belong to the StoreFactory: pass them where it is made.")
    if not expand:
        return factory
    return with_links(factory, refs if isinstance(refs, dict) else None)


def open_group(
    refs: Refs,
    path: str = "",
    *,
    instances: Mapping[str, str] | None = None,
    allow: Iterable[str] | None = None,
    concurrency: int | None = None,
    cache: str | os.PathLike[str] | Literal[False] | None = None,
    cache_limit: int | str | None = None,
    api_keys: Mapping[str, Callable[[], str | None]] | None = None,
    expand: bool = False,
) -> zarr.Group:
    """Return references, or the group at `path` in them, as a read-only `zarr.Group`.

    Parameters and errors are those of `open_store`; a path that isn't a group is a `RefsError`.
    """
    store = open_store(
        refs,
        instances=instances,
        allow=allow,
        concurrency=concurrency,
        cache=cache,
        cache_limit=cache_limit,
        api_keys=api_keys,
        expand=expand,
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
    api_keys: Mapping[str, Callable[[], str | None]] | None = None,
    expand: bool = False,
) -> da.Array:
    """Return the array at `path` as a dask array.

    Each block is one task that reads its chunks at once; a task that is released, or interrupted by Ctrl-C, gives up
    what it has not read yet. Keys depend on the references' content, the path and the blocks only, so they are the same
    in each run and on each machine.

    Parameters
    ----------
    refs
        As for `StoreFactory`, or one.
    path
        Of the array, such as `acquisition/ElectricalSeries/data`.
    chunks
        The blocks: `"auto"` (whole chunks, up to dask's `array.chunk-size`), `{0: "64 MiB"}` (about that much along the
        first dimension, whole chunks, and all of the other dimensions), `{"time": "64 MiB"}` likewise by name (the
        array's own names; `time` is the first dimension of an NWB time series), or anything that dask takes: of blocks
        that cut chunks a `dask.array.PerformanceWarning` warns.
    instances, allow, concurrency, cache, cache_limit, api_keys, expand
        As for `open_store`.

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
        refs,
        instances=instances,
        allow=allow,
        concurrency=concurrency,
        cache=cache,
        cache_limit=cache_limit,
        api_keys=api_keys,
        expand=expand,
    )
    path = path.strip("/")
    _check_node(store, path, "array")
    array = zarr.open_array(store, path=path, mode="r", zarr_format=3)
    blocks = blocks_of(array, chunks)
    warn_of_cuts(array, blocks, stacklevel=2)
    name = f"lindi-{tokenize(store, store.real_path(path), blocks)}"
    return da.from_array(LazyArray(array), blocks, name=name, inline_array=True)


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
