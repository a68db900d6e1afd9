"""The bytes behind assets."""

import hashlib
import os
import time
import uuid
from pathlib import Path


class Blob:
    """Bytes in memory, as an S3 object."""

    key: str
    """UUID that names the object."""
    nbytes: int
    """Size, in bytes."""
    modified_s: float
    """Time of the last change: seconds, Unix time."""
    etag: str
    """Entity tag, in its quotes."""

    content_encoding: str | None = None
    """``Content-Encoding``, as it was given when the object was put; None: none. The bytes are what they are."""

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)
        self._describe(nbytes=len(data), modified_s=time.time(), etag=_md5(data))

    def _describe(self, *, nbytes: int, modified_s: float, etag: str) -> None:
        self.key = str(uuid.uuid4())
        self.nbytes = nbytes
        self.modified_s = modified_s
        self.etag = f'"{etag}"'

    def read(self, offset: int, nbytes: int) -> bytes:
        """`nbytes` bytes, from `offset` bytes after the start."""
        return bytes(self._data[offset : offset + nbytes])

    def close(self) -> None:
        """Let go of what holds the bytes. Call it when nothing reads any more."""
        self._data.release()


class FileBlob(Blob):
    """A local file, kept open, as an S3 object. It must not change while it is one."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._file = Path(path).open("rb")  # noqa: SIM115  # close() does
        stat = os.fstat(self._file.fileno())
        # S3's tag of an object that was put in parts is no digest of its bytes either; files here may be large
        etag = f"{_md5(f'{stat.st_size} {stat.st_mtime_ns}'.encode())}-1"
        self._describe(nbytes=stat.st_size, modified_s=stat.st_mtime, etag=etag)

    def read(self, offset: int, nbytes: int) -> bytes:  # noqa: D102
        data = os.pread(self._file.fileno(), nbytes, offset)
        if len(data) < nbytes:
            raise OSError(f"{self._file.name} became shorter after it was added to the archive")
        return data

    def close(self) -> None:  # noqa: D102
        self._file.close()


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()
