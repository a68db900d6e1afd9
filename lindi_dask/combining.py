"""Several reference files of one recording, or of several sessions -> one `References`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr

from lindi_dask.arrays import factory_of
from lindi_dask.errors import ConfigurationError
from lindi_dask.factory import StoreFactory
from lindi_dask.refs import References, Source, SourceTable, relative_path
from lindi_dask.refs.combine.along import concatenated
from lindi_dask.refs.combine.groups import grouped
from lindi_dask.refs.combine.parts import Part
from lindi_dask.types import LocalFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    from lindi_dask.archive import UrlPolicy
    from lindi_dask.arrays import Refs
    from lindi_dask.types import Base

__all__ = ["combine"]


def combine(
    refs: Iterable[Refs] | Mapping[str, Refs],
    *,
    along: str = "time",
    drop: Iterable[str] = (),
    instances: Mapping[str, str] | None = None,
    allow: Iterable[str] | None = None,
    concurrency: int | None = None,
    api_keys: Mapping[str, Callable[[], str | None]] | None = None,
    expand: bool = False,
) -> References:
    """Combine references into one virtual store: parts of one recording into a longer one, or sessions as groups.

    No chunk is read, moved or copied; only values that have to be compared, and small arrays that the result holds
    itself, are looked at. Most often they are in the references.

    Parameters
    ----------
    refs
        A list: parts of one recording in the order of time, which are concatenated. What lies along the dimension has
        to agree in all else, and what does not lie along it has to be the same; of texts that describe a file the first
        is kept, and the difference is logged. A mapping: whatever they are, each becomes the group of its name. In
        both, a file that parts share has to have one size and ETag.
        Each is one of what `StoreFactory` takes, or a `StoreFactory`.
    along
        Of a list: the dimension. `time` is also the first dimension of the time series of NWB.
    drop
        Of a list: paths of groups, arrays and links that are left out.
    instances, allow, concurrency, api_keys
        As for `StoreFactory`.
    expand
        As for `open_store`: what LINDI left out of the parts would be left out of the whole.

    Returns
    -------
    lindi_dask.References
        To be saved (`.save("recording.lindi.json")`), or to be opened as they are. Relative URLs are made absolute:
        local files are read where their folder is allowed (`allow`).

    Raises
    ------
    PartsDisagree
        If parts can't be concatenated, or say different things of one file. It names the array or group, the part and
        both values.
    RefsError
        If references can't be had, or break their format.
    ConfigurationError
        If an option makes no sense.
    AccessError, UnavailableError
        If values that have to be known can't be read.
    """
    given = dict(refs) if isinstance(refs, Mapping) else dict(enumerate(_listed(refs), 1))
    options: Any = {"instances": instances, "allow": allow, "concurrency": concurrency, "api_keys": api_keys}
    if isinstance(refs, Mapping) and not all(isinstance(name, str) for name in given):
        raise ConfigurationError("refs: the names of groups must be text.")
    if not given:
        raise ConfigurationError("refs: there is nothing to combine.")
    parts = []
    for name, one in given.items():
        factory = factory_of(one, expand=expand, **({} if isinstance(one, StoreFactory) else options))
        file = "" if isinstance(one, dict | References) else f" ({factory.name})"
        parts.append(_part(name if isinstance(name, str) else f"part {name}{file}", factory))
    if isinstance(refs, Mapping):
        if drop:
            raise ConfigurationError("drop: only what is concatenated can be left out; groups keep all.")
        return grouped(parts)
    return concatenated(parts, along=along, drop=drop)


def _listed(refs: Any) -> list[Any]:  # noqa: ANN401 - whatever was passed
    if isinstance(refs, str | References | StoreFactory) or not hasattr(refs, "__iter__"):
        raise ConfigurationError("refs: pass a list of references, which are concatenated, or a dict of them, by name.")
    return list(refs)


def _part(name: str, factory: StoreFactory) -> Part:
    references, base = factory.load()

    def values(path: str) -> NDArray[Any]:
        store = factory()
        store.check_readable(path)
        return np.asarray(zarr.open_array(store, path=path, mode="r", zarr_format=3)[...])

    return Part(name, _absolute(references, factory.policy, base), values)


def _absolute(references: References, policy: UrlPolicy, base: Base) -> References:
    """Return references whose URLs mean the same wherever they stand."""
    sources = references.all_sources()
    moved = [source if source.data is not None else _moved(source, policy, base) for source in sources]
    return replace(references, sources=SourceTable(tuple(moved)))


def _moved(source: Source, policy: UrlPolicy, base: Base) -> Source:
    if source.url and (source.url.startswith("/") or relative_path(source.url) is None):
        return source
    place = policy.target(source, base).asset
    return replace(source, url=place.path if isinstance(place, LocalFile) else place.url)
