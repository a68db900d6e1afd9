"""Where a conversion writes: a folder, or a bucket of an object store."""

from __future__ import annotations

import errno
import os
import uuid
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import obstore
from obstore.exceptions import BaseError, NotFoundError, PermissionDeniedError, UnauthenticatedError
from obstore.store import S3Store

from lindi_dask.conversion.repository import is_repository, repository_of
from lindi_dask.errors import ConfigurationError, TargetError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = [
    "PART",
    "FolderTarget",
    "ObjectTarget",
    "Readable",
    "Target",
    "is_remote",
    "object_store",
    "readable",
    "target_of",
]

PART: Final = ".lindi-part"
"""suffix of files that are being written"""

_FINAL: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS}


class Readable(Protocol):
    """Objects by key. Thread-safe."""

    def read(self, key: str) -> bytes | None:
        """Return an object, or None if there is none."""
        ...

    def sizes(self) -> Iterator[tuple[str, int]]:
        """Yield the key and the bytes of each object."""
        ...


class Target(Readable, Protocol):
    """Objects that can be written."""

    def write(self, key: str, parts: Sequence[bytes]) -> int:
        """Write an object, all of it or nothing, and return its bytes."""
        ...

    def holds(self, key: str, parts: Sequence[bytes]) -> bool:
        """Read an object back, and return whether it is exactly this."""
        ...

    def remove(self, key: str) -> None:
        """Remove an object, if it is there."""
        ...


def is_remote(location: str) -> bool:
    """Return whether a location is one of an object store."""
    return location.startswith("s3://")


def readable(location: str) -> Readable:
    """Return what was published at a location: as `target_of`, or of an Icechunk repository."""
    return repository_of(location) if is_repository(location) else target_of(location)


@lru_cache(maxsize=8)
def target_of(location: str) -> Target:
    """Return this process's target for a folder, or for `s3://bucket/prefix`.

    For an object store, address and credentials are what the environment of this process says (`AWS_...`): they are
    never part of the location.
    """
    return ObjectTarget(location) if is_remote(location) else FolderTarget(Path(location))


class FolderTarget:
    """Files of a folder, which has to be there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, key: str, parts: Sequence[bytes]) -> int:
        """Write a file under another name, flush it to the disk, and rename it."""
        path = self._folder / key
        part = path.with_name(f".{uuid.uuid4().hex}{PART}")
        failure = None
        try:
            if not path.parent.is_dir():
                if not self._folder.is_dir():
                    raise ConfigurationError(
                        f"{self._folder} is not there for this process: workers have to reach the output's folder "
                        "under the same path, as on a shared file system."
                    )
                path.parent.mkdir(parents=True, exist_ok=True)
            with part.open("xb") as file:
                file.writelines(parts)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except OSError as error:
            failure = _of_os(error, path)
        if failure is not None:
            part.unlink(missing_ok=True)
            raise failure
        return sum(map(len, parts))

    def read(self, key: str) -> bytes | None:
        """Return a file's content."""
        path = self._folder / key
        try:
            return path.read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        except OSError as error:
            failure = _of_os(error, path)
        raise failure

    def holds(self, key: str, parts: Sequence[bytes]) -> bool:
        """Read a file part by part."""
        path = self._folder / key
        try:
            with path.open("rb") as file:
                return all(file.read(len(part)) == part for part in parts) and not file.read(1)
        except FileNotFoundError:
            return False
        except OSError as error:
            failure = _of_os(error, path)
        raise failure

    def remove(self, key: str) -> None:
        """Remove a file."""
        (self._folder / key).unlink(missing_ok=True)

    def sizes(self) -> Iterator[tuple[str, int]]:
        """Yield the path, from the folder, and the size of each file."""
        for folder, _, names in os.walk(self._folder):
            for name in names:
                path = Path(folder) / name
                yield path.relative_to(self._folder).as_posix(), path.stat().st_size


class ObjectTarget:
    """Objects below a prefix of a bucket."""

    def __init__(self, location: str) -> None:
        self._location = location.rstrip("/")
        self._store = object_store(self._location)

    def write(self, key: str, parts: Sequence[bytes]) -> int:
        """Put an object; the store shows it when all of it is there."""
        data = b"".join(parts)
        failure = None
        try:
            obstore.put(self._store, key, data)
        except (BaseError, OSError) as error:
            failure = self._failure(error, key)
        if failure is not None:
            raise failure
        return len(data)

    def read(self, key: str) -> bytes | None:
        """Get an object."""
        try:
            return bytes(obstore.get(self._store, key).bytes())
        except (FileNotFoundError, NotFoundError):
            return None
        except (BaseError, OSError) as error:
            failure = self._failure(error, key)
        raise failure

    def holds(self, key: str, parts: Sequence[bytes]) -> bool:
        """Get an object again."""
        return self.read(key) == b"".join(parts)

    def remove(self, key: str) -> None:
        """Delete an object."""
        failure = None
        try:
            obstore.delete(self._store, key)
        except (FileNotFoundError, NotFoundError):
            return
        except (BaseError, OSError) as error:
            failure = self._failure(error, key)
        if failure is not None:
            raise failure

    def sizes(self) -> Iterator[tuple[str, int]]:
        """List the objects."""
        failure = None
        try:
            for page in obstore.list(self._store):
                yield from ((found["path"], found["size"]) for found in page)
        except (BaseError, OSError) as error:
            failure = self._failure(error, "")
        if failure is not None:
            raise failure

    def _failure(self, error: BaseException, key: str) -> TargetError:
        # Messages of the library hold addresses, and what the server sent
        is_final = isinstance(error, PermissionDeniedError | UnauthenticatedError)
        remedy = (
            "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of somebody who may write there, on all workers"
            if is_final
            else "Try again later"
        )
        message = f"{self._location}/{key} can't be reached ({type(error).__name__}). {remedy}."
        return TargetError(message, is_final=is_final)


def object_store(location: str) -> S3Store:
    """Return obstore's store for `s3://bucket/prefix`: address and credentials are what the environment says."""
    return S3Store.from_url(location)


def _of_os(error: OSError, path: Path) -> TargetError:
    is_final = error.errno in _FINAL
    remedy = "Make room, or mend the permissions" if is_final else "Try again"
    return TargetError(f"{path} can't be written or read ({error.strerror}). {remedy}.", is_final=is_final)
