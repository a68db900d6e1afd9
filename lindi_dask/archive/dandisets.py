"""What is in a dandiset, by the archive's API."""

from __future__ import annotations

import difflib
import re
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import parse_qsl

from lindi_dask.archive.addresses import is_version
from lindi_dask.archive.answers import read_document
from lindi_dask.archive.urls import is_asset_id, split_url
from lindi_dask.errors import (
    AccessError,
    ArchiveUnavailable,
    AssetNotFound,
    ConfigurationError,
    DandisetNotFound,
    UrlRefused,
)
from lindi_dask.types import Asset, AssetInfo

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lindi_dask.archive.addresses import Address
    from lindi_dask.archive.answers import Answer
    from lindi_dask.archive.asking import Archives
    from lindi_dask.archive.expiry import ArchiveClock
    from lindi_dask.types import Instance

    Json = dict[str, Any]

__all__ = ["asset_info", "file_of", "find_asset", "list_assets"]

_PAGE_SIZE: Final = 1000  # assets: the most that the server gives
_PAGE_SIZE_WITH_ETAGS: Final = 200  # each comes with all of its metadata
_MAX_PAGES: Final = 1000
_MAX_NBYTES: Final = 2**26  # of a page
_ATTEMPTS: Final = 3  # to list what somebody else changes meanwhile
_NEAR: Final = 3  # names that are told where there is none of the one asked for
_ETAG: Final = re.compile(r"[0-9a-f]{32}(?:-[1-9][0-9]{0,5})?")  # https://github.com/dandi/dandi-archive, AssetBlob


def list_assets(address: Address, archives: Archives, *, etags: bool = False) -> list[AssetInfo]:
    """Return what lies at an address, by path. Blocks.

    Parameters
    ----------
    address
        Of a dandiset, of one asset, or of those in a folder or of a pattern.
    archives
        Asks the archive.
    etags
        Whether to ask for the files' ETags: the archive then sends all metadata of each asset.

    Raises
    ------
    DandisetNotFound
        If there is no such dandiset, or no such version of it.
    AssetNotFound
        If nothing is there by that path or pattern; the message has names near it.
    AccessError
        If the archive does not show it to this user, or its answers are not those of such an archive.
    ArchiveUnavailable
        If it gave no answer, after all retries; or if the dandiset changes faster than it can be listed.
    """
    address = _with_version(address, archives)
    found = _settled(address, archives, etags=etags)
    meant = sorted((info for info in found if address.matches(info.path)), key=lambda info: info.path)
    if not meant and address.pattern:
        raise AssetNotFound(
            f"{address}: there is no asset of such a path. {_near(address, archives)}", asset=str(address)
        )
    return meant


def find_asset(address: Address, archives: Archives) -> AssetInfo:
    """Return the one asset at an address, with its ETag. Blocks; raises the errors of `list_assets`.

    Raises
    ------
    ConfigurationError
        If the address is not that of one asset.
    """
    if address.path is None:
        raise ConfigurationError(
            f"{address} is not the address of one asset, but of any number. Give the path of one; "
            f"`lindi-dask ls '{address}'` lists them."
        )
    return list_assets(address, archives, etags=True)[0]


def asset_info(asset: Asset, archives: Archives) -> AssetInfo:
    """Return what the archive tells of an asset, by its id. Blocks.

    Raises
    ------
    AccessError
        If the archive does not show it to this user; also if the asset was replaced.
    ArchiveUnavailable
        If it gave no answer, after all retries.
    """
    instance, name = asset.instance, str(asset)
    if instance is None:
        raise TypeError("no archive knows of a plain URL")

    def read(answer: Answer, _: ArchiveClock) -> Json:
        return read_document(answer, name, instance, asset=True)

    entry = archives.ask(instance, f"/assets/{asset.id}/info/", name, read, limit=_MAX_NBYTES)
    return _info(entry, instance, name)


def file_of(info: AssetInfo) -> AssetInfo:
    """Return an asset that is a file; `AssetNotFound` for a Zarr asset, which has no download."""
    if info.blob is None:
        name = info.address or str(info.asset)
        raise AssetNotFound(
            f"{name} is a Zarr asset: a folder of many files, not an HDF5 file that references could be made of. Zarr "
            "itself reads it, from the URL in its metadata on the archive.",
            asset=name,
        )
    return info


# Versions


def _with_version(address: Address, archives: Archives) -> Address:
    """Return an address with the version that is meant: as dandi-cli, the newest that is published, or the draft."""
    if address.version is not None:
        return address
    match _ask(archives, address, f"/dandisets/{address.dandiset}/"):
        case {"most_recent_published_version": None}:
            return replace(address, version="draft")
        case {"most_recent_published_version": {"version": str(newest)}} if is_version(newest):
            return replace(address, version=newest)
        case _:
            raise _unknown(str(address), address.instance)


def _lost(address: Address, archives: Archives, error: DandisetNotFound) -> DandisetNotFound:
    """Return the error for a version that is not there, or for a dandiset."""
    try:
        newest = _with_version(replace(address, version=None), archives).version
    except DandisetNotFound:
        return DandisetNotFound(
            f"{address}: the archive at {address.instance.api_url} has no dandiset {address.dandiset}.", name=error.name
        )
    return DandisetNotFound(
        f"{address}: dandiset {address.dandiset} has no version {address.version}. It has a draft"
        f"{'' if newest == 'draft' else f', and the last version that was published is {newest}'}.",
        name=error.name,
    )


# Pages


@dataclass(frozen=True, slots=True)
class _Listing:
    """Assets as the pages of one list had them."""

    assets: list[AssetInfo]
    pages: int
    is_counted: bool
    """whether they are as many as the archive counted when it gave the first page"""

    @property
    def names(self) -> set[tuple[str, str]]:
        """Paths and ids: any edit of an asset gives it another id."""
        return {(info.path, info.asset.id) for info in self.assets}


def _settled(address: Address, archives: Archives, *, etags: bool) -> list[AssetInfo]:
    """Return the assets that there are at one moment.

    Pages shift where assets come and go between the requests: when one of this page gets a name on a later one, the
    first of the next slips over the border, and the number of them stays as counted. So of more than one page, two
    listings have to name the same assets: each of those was there when the second began, and as many as it then counted
    are all. Of the two only one asks for metadata, whose pages are long and many.
    """
    earlier: _Listing | None = None
    for number in range(_ATTEMPTS + 1):
        metadata = etags and number % 2 == 0
        later = _listed(address, archives, metadata=metadata)
        is_of_one_moment = later.pages == 1 and metadata == etags
        if later.is_counted and (is_of_one_moment or (earlier is not None and earlier.names == later.names)):
            return later.assets if earlier is None or metadata == etags else earlier.assets
        earlier = later
    raise ArchiveUnavailable(
        f"{address}: the dandiset was changed each time that it was listed ({_ATTEMPTS} times). Try again later.",
        attempts=_ATTEMPTS,
    )


def _listed(address: Address, archives: Archives, *, metadata: bool) -> _Listing:
    query = {"order": "path", "page_size": str(_PAGE_SIZE_WITH_ETAGS if metadata else _PAGE_SIZE)}
    if address.server_glob is not None:
        query["glob"] = address.server_glob
    if metadata:
        query["metadata"] = "true"
    total, pages, given, found = None, 0, 0, dict[str, AssetInfo]()
    for page in _pages(address, archives, query):
        pages += 1
        if total is None:
            total = page.get("count")  # later pages don't say it
            if type(total) is not int:
                raise _unknown(str(address), address.instance)
        given += len(page["results"])
        if given > total:
            break
        for entry in page["results"]:
            info = _info(entry, address.instance, str(address))
            found[info.path] = replace(info, dandiset=address.dandiset, version=address.version)
    return _Listing(list(found.values()), pages, is_counted=total == given == len(found))


def _pages(address: Address, archives: Archives, query: dict[str, str]) -> Iterator[Json]:
    path = f"/dandisets/{address.dandiset}/versions/{address.version}/assets/"
    lost = None
    try:
        page = _ask(archives, address, path, query)
    except DandisetNotFound as error:
        lost = error
    if lost is not None:
        raise _lost(address, archives, lost)
    for _ in range(_MAX_PAGES):
        if not isinstance(page.get("results"), list):
            raise _unknown(str(address), address.instance)
        yield page
        if page.get("next") is None:
            return
        page = _ask(archives, address, path, _next_query(page["next"], address, path))
    raise AccessError(f"{address}: the archive lists more than {_MAX_PAGES:,} pages of assets. Ask for fewer.")


def _next_query(url: object, address: Address, path: str) -> dict[str, str]:
    """Return the query of the next page; the key goes with it, so the page must be one of the same list."""
    reason = None
    try:
        parts, due = split_url(str(url)), split_url(f"{address.instance.api_url}{path}")
        if (parts.origin, parts.path) != (due.origin, due.path):
            reason = f"it is not at {due.rebuilt}"
    except UrlRefused as refused:
        reason = refused.reason
    if reason is not None:
        raise UrlRefused(f"{address}: the archive's next page is not read: {reason}.", reason=reason)
    return dict(parse_qsl(parts.query, keep_blank_values=True))


def _ask(archives: Archives, address: Address, path: str, query: dict[str, str] | None = None) -> Json:
    read = partial(_document, address=address)
    return archives.ask(address.instance, path, str(address), read, query=query, limit=_MAX_NBYTES)


def _document(answer: Answer, _: ArchiveClock, *, address: Address) -> Json:
    return read_document(answer, str(address), address.instance)


# Entries


def _info(entry: object, instance: Instance, name: str) -> AssetInfo:
    """Return what an entry of a list, or an answer, says of an asset; the ETag only if its metadata are there."""
    match entry:
        case {"asset_id": str(id_), "path": str(path), "size": int(size), "modified": str(modified)} if path:
            found = cast("Json", entry)
        case _:
            raise _unknown(name, instance)
    blob, zarr, moment = found.get("blob"), found.get("zarr"), None
    with suppress(ValueError):
        moment = datetime.fromisoformat(modified)
    is_one = {type(blob), type(zarr)} == {str, type(None)}
    is_sized = type(size) is int and 0 <= size < 2**63
    if moment is None or moment.tzinfo is None or not (is_one and is_sized and is_asset_id(id_.lower())):
        raise _unknown(name, instance)
    etag = None
    match found.get("metadata"):
        case {"digest": {"dandi:dandi-etag": str(digest)}} if _ETAG.fullmatch(digest):
            etag = digest
    return AssetInfo(Asset(instance, id_.lower()), None, None, path, size, moment, blob, zarr, etag)


def _unknown(name: str, instance: Instance) -> AccessError:
    return AccessError(
        f"{name}: {instance.api_url} answered with something else than a dandiset, a list of assets or an asset. Is it "
        "the API of a DANDI archive?"
    )


def _near(address: Address, archives: Archives) -> str:
    """Return a sentence that has names near a path that nothing has, or some of those where a pattern looked."""
    folder = "".join(re.split(r"[*?\[]", address.pattern)[0].rpartition("/")[:2])
    shown: list[str] = []
    for inside in dict.fromkeys((folder, "")):
        query = {"order": "path", "page_size": str(_NEAR if address.path is None else _PAGE_SIZE), "path": inside}
        entries = next(_pages(address, archives, query))["results"]
        paths = [_info(entry, address.instance, str(address)).path for entry in entries]
        near = [] if address.path is None else _close(address.path, paths)
        if near:
            return f"Near it are: {', '.join(map(repr, near))}."
        shown = shown or paths[:_NEAR]
        if shown and address.path is None:
            break
    return f"There are, for example: {', '.join(map(repr, shown))}." if shown else "There are no assets at all."


def _close(path: str, paths: list[str]) -> list[str]:
    """Return which of some paths, and of the folders above them, are written nearly as one is."""
    above = [one[: slash.end()] for one in paths for slash in re.finditer("/", one)]
    return difflib.get_close_matches(path, dict.fromkeys([*paths, *above]), n=_NEAR)
