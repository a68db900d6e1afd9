"""Values that pass between rooms: frozen, slotted, without behaviour that does I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn, TypeAlias
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

__all__ = [
    "Asset",
    "AssetInfo",
    "Base",
    "BundleFile",
    "ByteRange",
    "CacheUsage",
    "DiskCache",
    "Instance",
    "Lease",
    "LocalFile",
    "LocalFolder",
    "RemoteFolder",
    "Target",
]


@dataclass(frozen=True, slots=True)
class ByteRange:
    """A run of bytes in a source file."""

    offset: int
    """bytes, from the start of the source file"""
    length: int
    """bytes"""

    @property
    def end(self) -> int:
        """First byte after the range, from the start of the source file."""
        return self.offset + self.length


@dataclass(frozen=True, slots=True)
class Instance:
    """A DANDI-like archive: where its API is and which environment variables hold its key."""

    name: str
    """lower case, as in dandi-cli"""
    api_url: str
    """with its path, without a trailing slash; https, or http on a loopback address"""
    key_variables: tuple[str, ...]
    """environment variables that may hold the API key, the first that is set wins"""

    @property
    def is_loopback(self) -> bool:
        """Whether the API is on this machine, reached by plain http."""
        return self.api_url.startswith("http://")


@dataclass(frozen=True, slots=True)
class Asset:
    """A file that an archive keeps; or, with no instance, a file behind a plain URL."""

    instance: Instance | None
    """None: `id` is a URL that needs no exchange"""
    id: str
    """the asset's UUID, lower case, or a URL"""
    allow: tuple[str, ...] = ()
    """of a plain URL: what else it may redirect to than https to public hosts, as in `UrlPolicy.allow`"""

    @property
    def url(self) -> str:
        """What references name it by: the API's download URL, which holds no secret; or the plain URL."""
        return self.id if self.instance is None else f"{self.instance.api_url}/assets/{self.id}/download/"

    def __str__(self) -> str:
        if self.instance is None:
            return without_query(self.id)
        return f"{self.instance.name}:{self.id}"

    def __repr__(self) -> str:
        return f"Asset({str(self)!r})"  # a plain URL may be a presigned one


@dataclass(frozen=True, slots=True)
class AssetInfo:
    """What an archive tells of one of its assets."""

    asset: Asset
    """its archive and its id; any edit of its metadata makes another asset of it, with another id"""
    dandiset: str | None
    """six digits; None: it was asked for by its id"""
    version: str | None
    """`draft` or a number, of the dandiset that it was found in; None: likewise"""
    path: str
    """in the dandiset"""
    size: int
    """bytes"""
    modified: datetime
    """when the archive last changed what it knows of it"""
    blob: str | None = None
    """the archive's id of the file's content: the same id, the same bytes; None: it is no file"""
    zarr: str | None = None
    """the archive's id of a Zarr asset's files; None: it is a file"""
    etag: str | None = None
    """entity tag of the file, without quotes; None: not asked for, or not known"""

    @property
    def url(self) -> str:
        """The API's download URL, which references name it by. It holds no secret."""
        return self.asset.url

    @property
    def address(self) -> str | None:
        """`dandi://INSTANCE/000123@VERSION/PATH`, by which it is found again when it was replaced.

        None: not known, or the path holds what no address can, a control character say.
        """
        if self.asset.instance is None or self.dandiset is None or not self.path.isprintable():
            return None
        path = re.sub(r"[%*?\[]", lambda found: f"%{ord(found[0]):02X}", self.path)  # they mean more in addresses
        return f"dandi://{self.asset.instance.name}/{self.dandiset}@{self.version}/{path}"


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file of this machine, or of a file system that it shares."""

    path: str
    """absolute; symbolic links in it are followed"""
    within: tuple[str, ...] = ()
    """folders (or files): the file must lie in one of them when it is opened, all links resolved; empty: it may lie
    anywhere, since the user named it"""

    def __str__(self) -> str:
        return self.path


@dataclass(frozen=True, slots=True)
class Target:
    """What one source of the references is read from, and what they claim of it."""

    asset: Asset | LocalFile
    etag: str | None = None
    """entity tag of the file when the references were made, with or without quotes; None: they don't say. Of a local
    file it is not looked at: none has one"""
    size: int | None = None
    """bytes of the file when the references were made; None: they don't say"""


@dataclass(frozen=True, slots=True)
class LocalFolder:
    """A reference file lies in a local folder, which its relative references stay in."""

    path: str
    """absolute"""


@dataclass(frozen=True, slots=True)
class RemoteFolder:
    """A reference file lies below a URL, and so do the files of its relative references."""

    url: str = field(repr=False)
    """of the folder; with or without the slash at its end, its query is not used"""


@dataclass(frozen=True, slots=True)
class BundleFile:
    """References lie in a file together with the bytes that they refer to: `""` stands for that file."""

    file: Asset | LocalFile


@dataclass(frozen=True, slots=True)
class DiskCache:
    """Where bytes that were fetched are kept for the next time."""

    folder: str
    """absolute; on a disk of the node, for one user"""
    limit: int
    """bytes of all its files, at most"""


@dataclass(frozen=True, slots=True)
class CacheUsage:
    """What a cache on disk takes up."""

    folder: Path
    files: int
    nbytes: int
    """bytes; of the disk cache in whole blocks of the disk"""


Base: TypeAlias = LocalFolder | RemoteFolder | BundleFile | None
"""where references lie; None: in a dict, which relative ones mean nothing in"""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to read one asset for a while: a presigned URL. A secret: it has no repr and does not pickle."""

    url: str = field(repr=False)
    """the presigned URL"""
    obtained_at: float
    """seconds, monotonic clock of this process"""
    expires_at: float
    """seconds, monotonic clock; infinite for a URL that does not expire. The earliest moment that the clocks allow"""
    dead_at: float
    """seconds, monotonic clock: the latest moment that the clocks allow, at least `expires_at`"""

    @property
    def lifetime_s(self) -> float:
        """Seconds from the exchange to the expiry."""
        return self.expires_at - self.obtained_at

    def __reduce__(self) -> NoReturn:
        raise TypeError("a lease is a secret of this process and is never pickled")


def without_query(url: str) -> str:
    """Return a URL that is safe to show: scheme, host, port and path, no query (which holds signatures), no user."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}"
