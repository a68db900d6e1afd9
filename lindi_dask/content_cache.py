"""Reference files that were downloaded, kept so that they are not sent again while they are the same."""

from __future__ import annotations

import hashlib
import logging
import struct
import zlib
from typing import TYPE_CHECKING, Final

from lindi_dask.errors import InvalidReferences
from lindi_dask.private_files import read_private, write_private
from lindi_dask.secrecy import holds_secret
from lindi_dask.transport import Downloaded, decompressed

if TYPE_CHECKING:
    from pathlib import Path

    from lindi_dask.types import Asset

__all__ = ["CONTENT_MAGIC", "CONTENT_SUFFIX", "ContentCache"]

_log = logging.getLogger(__name__)

CONTENT_MAGIC: Final = b"\x89LDRF1\r\n"
"""how the files begin"""

CONTENT_SUFFIX: Final = ".lindi-refs"
"""how their names end"""

_MAX_NBYTES: Final = 2**30  # of a reference file, unpacked
_MAX_ETAG: Final = 1024  # characters
_PREFIX: Final = struct.Struct("<8sIH")  # magic, CRC-32 of what follows, bytes of the ETag


class ContentCache:
    """A folder of downloaded files by the assets that they are, for this user only.

    Whatever goes wrong with the folder costs a download only.

    Parameters
    ----------
    folder
        Made when the first file is written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, asset: Asset) -> Downloaded | None:
        """Return what was downloaded last, if that is known to be whole."""
        held = read_private(self._path(asset))
        if held is None or len(held) < _PREFIX.size:
            return None
        magic, checksum, length = _PREFIX.unpack_from(held)
        rest = memoryview(held)[_PREFIX.size :]
        if magic != CONTENT_MAGIC or zlib.crc32(rest) != checksum:
            return None
        return Downloaded(bytes(rest[length:]), bytes(rest[:length]).decode("latin-1"))

    def put(self, asset: Asset, found: Downloaded) -> None:
        """Keep a file, unless it holds presigned URLs, or has no ETag by which to ask whether it is still the same."""
        if found.etag is None or len(found.etag) > _MAX_ETAG:
            return
        try:
            if holds_secret(decompressed(found.content, _MAX_NBYTES)):
                return
        except InvalidReferences:
            return  # what it is will be said where it is parsed
        rest = found.etag.encode("latin-1", "replace") + found.content
        prefix = _PREFIX.pack(CONTENT_MAGIC, zlib.crc32(rest), len(found.etag))
        try:
            write_private(self._path(asset), [prefix, rest])
        except OSError as error:
            _log.info("a reference file can't be kept in %s (%s)", self._folder, error.strerror)

    def _path(self, asset: Asset) -> Path:
        where = asset.id if asset.instance is None else f"{asset.instance.api_url}/{asset.id}"
        return self._folder / f"{hashlib.sha256(where.encode()).hexdigest()[:32]}{CONTENT_SUFFIX}"
