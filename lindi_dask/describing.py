"""What references are of: a session's card, read from the references and, where they leave it out, from the files."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import zarr

from lindi_dask.archive import Resolver
from lindi_dask.errors import ArchiveUnavailable, AuthenticationError, LindiError
from lindi_dask.listing import list_rows
from lindi_dask.refs.kerchunk.parquet import RecordManifest
from lindi_dask.retry import RetryPolicy
from lindi_dask.session_card import Clock, Fact, SourceState, card_of, wanted
from lindi_dask.types import LocalFile, without_query

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lindi_dask.archive import UrlPolicy
    from lindi_dask.refs import References
    from lindi_dask.refs.references import Source
    from lindi_dask.session_card import SessionCard
    from lindi_dask.store import LindiStore, Recipe
    from lindi_dask.types import Asset, Base

__all__ = ["describe"]

_AT_ONCE: Final = 8  # values, and files, that are asked for at a time
_MOST_LISTED: Final = 8  # files; their archive is asked whether they may be read
_ASKING: Final = RetryPolicy(attempts=3, total_s=10.0, first_s=0.5, cap_s=4.0, retry_on=ArchiveUnavailable)


def describe(factory: Recipe, *, offline: bool = False, ask: bool = True, remote: bool = False) -> SessionCard:
    """Return the card of what references are of.

    What can't be read stands in the card with the reason, and takes nothing else down with it. Where the archive does
    not give a file, only what the references hold themselves is read.

    Parameters
    ----------
    factory
        Of the references: a `StoreFactory`.
    offline
        Whether to ask no archive, and to read only what the references or local files hold.
    ask
        Whether to ask archives who may read the files, which the card then says.
    remote
        Whether the references lie behind a URL: records of kerchunk's parquet, each a download, are then not counted.

    Raises
    ------
    RefsError
        If the references can't be had, or break their format.
    """
    store = factory()
    references, base = factory.load()
    rows = list_rows(references, measured=lambda manifest: not (remote and isinstance(manifest, RecordManifest)))
    facts, clocks = wanted(rows)
    files = list(_files(references))
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        shown = files[:_MOST_LISTED]
        states = list(pool.map(lambda source: _state(source, factory.policy, base, ask=ask and not offline), shown))
        if offline or any(state.reason is not None for state in states):
            here = _Here(references, factory.policy, base)
            facts = {name: path for name, path in facts.items() if here.has(path)}
            clocks = [path for path in clocks if here.has(path)]
        read_facts = pool.map(lambda item: _fact(store, *item), facts.items())
        read_clocks = pool.map(lambda path: (path, _clock(store, path)), clocks)
        return card_of(
            rows,
            _root_attributes(references),
            list(read_facts),
            {path: clock for path, clock in read_clocks if clock is not None},
            states,
            more_sources=len(files) - len(shown),
        )


def _root_attributes(references: References) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(references.metadata.get("zarr.json", b"{}"))
    return document.get("attributes") or {}


# Values


def _fact(store: LindiStore, name: str, path: str) -> Fact:
    try:
        values = np.ravel(np.asarray(_array(store, path)[...])).tolist()
    except LindiError as error:
        return Fact(name, (), str(error))
    return Fact(name, tuple(value if isinstance(value, str) else f"{value}" for value in values))


def _clock(store: LindiStore, path: str) -> Clock | None:
    """Return what a `starting_time` or the ends of `timestamps` are; None if they can't be read, or are no times."""
    try:
        array = _array(store, path)
        ends = np.asarray([array[...]] if not array.shape else [array[0], array[-1]], dtype=np.float64)
    except (LindiError, ValueError, TypeError):
        return None
    return Clock(float(ends[0]), float(ends[-1])) if np.isfinite(ends).all() else None


def _array(store: LindiStore, path: str) -> zarr.Array[Any]:
    return zarr.open_array(store, path=path, mode="r", zarr_format=3)


class _Here:
    """Which arrays can be read without a network."""

    def __init__(self, references: References, policy: UrlPolicy, base: Base) -> None:
        self._references = references
        self._policy, self._base = policy, base

    def has(self, path: str) -> bool:
        """Return whether all chunks of an array are in the references or in local files."""
        manifest = self._references.manifests[path]
        if isinstance(manifest, RecordManifest):
            return False
        numbers = np.unique(manifest.locate(manifest.present()).sources).tolist()
        return all(self._is_here(self._references.sources[number]) for number in numbers)

    def _is_here(self, source: Source) -> bool:
        if source.data is not None:
            return True
        try:
            return isinstance(self._policy.target(source, self._base).asset, LocalFile)
        except LindiError:
            return False


# Files


def _files(references: References) -> Iterator[Source]:
    sources = references.sources
    return (source for source in (sources[number] for number in range(len(sources))) if source.data is None)


def _state(source: Source, policy: UrlPolicy, base: Base, *, ask: bool) -> SourceState:
    try:
        asset = policy.target(source, base).asset
    except LindiError as error:
        return SourceState(_shown(source.url), "refused", str(error))
    if isinstance(asset, LocalFile):
        return SourceState(str(asset), "local file", None)
    if asset.instance is None:
        return SourceState(str(asset), "plain URL", None)
    return _asked(asset) if ask else SourceState(str(asset), "not asked", None)


def _asked(asset: Asset) -> SourceState:
    """Ask the archive whether an asset may be read: without a key, and if that doesn't do, with the user's."""
    try:
        Resolver(anonymous=True, retry=_ASKING).exchange(asset)
    except AuthenticationError:
        pass
    except LindiError as error:
        return SourceState(str(asset), "unknown", str(error))
    else:
        return SourceState(str(asset), "public", None)
    try:
        Resolver(retry=_ASKING).exchange(asset)
    except ArchiveUnavailable as error:
        return SourceState(str(asset), "embargoed", str(error))
    except LindiError as error:
        return SourceState(str(asset), "embargoed, closed to you", str(error))
    return SourceState(str(asset), "embargoed, open to your key", None)


def _shown(url: str) -> str:
    return without_query(url) if "://" in url else url.partition("?")[0]
