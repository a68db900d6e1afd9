"""References from where they were found -> `References`, or the error that says why not, and what to do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lindi_dask.errors import RefsChanged, RefsUnreachable
from lindi_dask.finding import REMEDY, find, is_url
from lindi_dask.types import BundleFile, LocalFile, LocalFolder, RemoteFolder

if TYPE_CHECKING:
    from lindi_dask.finding import Found
    from lindi_dask.index_cache import IndexCache
    from lindi_dask.refs import References
    from lindi_dask.remote import RemoteFiles
    from lindi_dask.types import Base

__all__ = ["base_of", "load", "unreachable"]


def load(
    location: str,
    fingerprint: str,
    remote: RemoteFiles,
    cache: IndexCache | None,
    found: Found | None = None,
    *,
    keep: bool = False,
) -> tuple[References, Base]:
    """Return the references at a path or URL, which must have this fingerprint, and where relative ones start from.

    An index of the same fingerprint serves as well, wherever the file is.

    Parameters
    ----------
    location, remote, cache
        As for `find`.
    fingerprint
        Of the references.
    found
        What `find` returned in this process; used in place of another look, if it `is_held`.
    keep
        Whether to keep them in the cache even if there are few chunks.

    Raises
    ------
    RefsUnreachable
        If there is nothing here.
    RefsChanged
        If it has another fingerprint.
    InvalidReferences
        If it breaks its format.
    """

    def parse() -> References:
        here = found if found is not None and found.is_held else find(location, remote, cache)
        if here.fingerprint != fingerprint:
            name = location.partition("?")[0] if is_url(location) else location
            raise RefsChanged(
                f"The reference file {name} here is not the one that this store was made from: it was changed "
                f"since, or this worker has another file under that name. Open it again. {REMEDY}.",
                expected=fingerprint,
                found=here.fingerprint,
            )
        return here.parse()

    references = parse() if cache is None else cache.get(fingerprint, parse, always=keep)
    return references, base_of(location, remote, references)


def unreachable(fingerprint: str) -> RefsUnreachable:
    """Return the error for references that were given as a dict to another process."""
    return RefsUnreachable(
        "The references of this store were given as a dict in another process, and are not known in this one. "
        f"{REMEDY}.",
        fingerprint=fingerprint,
    )


def base_of(location: str, remote: RemoteFiles, references: References) -> Base:
    """Return where relative references at a path or URL start from; those of a tar, by the source "", are of itself."""
    in_bundle = any(references.sources[i].url == "" for i in range(1, len(references.sources)))
    if not is_url(location):
        path = Path(location)
        if in_bundle:
            return BundleFile(LocalFile(str(path)))
        return LocalFolder(str(path if path.is_dir() else path.parent))
    asset = remote.asset(location)
    if in_bundle:
        return BundleFile(asset)
    return RemoteFolder(location.partition("?")[0].rpartition("/")[0]) if asset.instance is None else None
