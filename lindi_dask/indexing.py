"""HDF5 files, wherever they lie -> `References`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lindi_dask import process
from lindi_dask.archive import file_of, find_asset, is_address, offer_keys, parse_address
from lindi_dask.errors import SourceMismatch
from lindi_dask.factory import concurrency_of, policy_of
from lindi_dask.finding import is_url
from lindi_dask.hdf5_files import Hdf5Files, check_h5py
from lindi_dask.refs import Source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from lindi_dask.archive import UrlPolicy
    from lindi_dask.hdf5.chunk_tree import ChunkColumns
    from lindi_dask.refs import References
    from lindi_dask.types import AssetInfo

__all__ = ["Share", "index", "index_asset", "share_of_asset"]


def index(
    source: str | os.PathLike[str],
    *,
    url: str | None = None,
    instances: Mapping[str, str] | None = None,
    allow: Iterable[str] | None = None,
    concurrency: int | None = None,
    api_keys: Mapping[str, Callable[[], str | None]] | None = None,
) -> References:
    """Make references to the chunks of an HDF5 (NWB) file.

    Only the file's metadata are read. Small datasets, text, references to objects and what no codec of Zarr's decodes
    are held by the references themselves. What Zarr has nothing for is listed in `References.unreadable` with the
    reason; attributes that have no form are left out and logged. Links into other files are kept, and not followed.

    Parameters
    ----------
    source
        Path, https URL or DANDI asset URL of the file, or its address, `dandi://dandi/000123@draft/sub-1/sub-1.nwb`; an
        embargoed asset is read with the key of its archive.
    url
        Where readers will find the same bytes. If not given: `source`, of an address the URL of the asset; of a local
        file its absolute path, which may be read only where it is allowed (`allow`).
    instances, allow, concurrency, api_keys
        As for `StoreFactory`; of no meaning for a local file.

    Returns
    -------
    lindi_dask.References
        To be saved (`.save("session.lindi.json")`), or to be opened as they are: `open_array(index(...), path)`. They
        carry the file's size, of an asset its ETag too, and the address, if it was given.

    Raises
    ------
    RefsUnreachable
        If there is no such file here.
    SourceMismatch
        If it is not an HDF5 file, or a damaged one; if it is not as large as its archive says.
    InvalidReferences
        If chunks of the file overlap in part, or its groups lie in each other more than 100 levels deep.
    ConfigurationError
        Without h5py; if an option makes no sense; if an address is not that of one asset.
    AssetNotFound, DandisetNotFound
        If nothing is at an address, or an asset of many files (Zarr).
    AccessError, UnavailableError
        If the file can't be read.
    """
    check_h5py("To index HDF5 files")
    from lindi_dask.hdf5.local import index_hdf5, index_remote  # noqa: PLC0415 - h5py is an extra

    policy = policy_of(instances, allow)
    offer_keys(policy.instances, api_keys or {})
    location = os.fspath(source)
    info = None
    if is_address(location):
        info = file_of(find_asset(parse_address(location, policy.instances), process.archives()))
        location = info.url
    elif not is_url(location):
        return index_hdf5(location, url or str(Path(location).resolve()))
    if info is not None and url in {None, location}:
        return index_asset(info, policy, concurrency_of(concurrency))
    with Hdf5Files(policy, None, concurrency_of(concurrency)).open(location) as file:
        if info is not None:
            _check_size(info, file.size)
        if url is not None and url != location:  # another host's tags are its own
            return index_remote(file, Source(url, size=file.size))
        return index_remote(file, Source(location, size=file.size, etag=file.etag))


@dataclass(frozen=True, slots=True)
class Share:
    """Where the chunks of some of an asset's datasets lie."""

    size: int
    """bytes of the file that they were found in"""
    etag: str | None
    """of that file"""
    columns: dict[str, ChunkColumns]
    """by the paths of the datasets"""


def index_asset(info: AssetInfo, policy: UrlPolicy, concurrency: int, shares: Sequence[Share] = ()) -> References:
    """Make references to the chunks of an asset that its archive listed; errors are those of `index`.

    Parameters
    ----------
    info
        What the archive tells of it.
    policy
        What may be read.
    concurrency
        Requests at a time.
    shares
        What `share_of_asset` found of it, if anything: read here is the rest.
    """
    from lindi_dask.hdf5.local import index_remote  # noqa: PLC0415 - h5py is an extra

    with Hdf5Files(policy, None, concurrency).open(info.url) as file:
        _check_size(info, file.size)
        if any((share.size, share.etag) != (file.size, file.etag) for share in shares):
            raise SourceMismatch(f"{info.address} was replaced while it was indexed. Index it again.")
        known = {path: columns for share in shares for path, columns in share.columns.items()}
        return index_remote(file, Source(info.url, size=file.size, etag=file.etag, address=info.address), known)


def share_of_asset(info: AssetInfo, policy: UrlPolicy, concurrency: int, share: int, shares: int) -> Share:
    """Find the chunks of one share of an asset's largest datasets, out of so many; errors are those of `index`."""
    from lindi_dask.hdf5.local import share_of_remote  # noqa: PLC0415 - likewise

    with Hdf5Files(policy, None, concurrency).open(info.url) as file:
        return Share(file.size, file.etag, share_of_remote(file, share, shares))


def _check_size(info: AssetInfo, size: int) -> None:
    if info.size != size:
        raise SourceMismatch(
            f"{info.address} has {info.size:,} bytes as its archive says, but {size:,} where they are stored. "
            "Is it just being replaced? Index it again; if that doesn't help, tell its owner."
        )
