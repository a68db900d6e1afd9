"""An Icechunk repository in a folder, as an output: its main branch gets all of it by one commit.

Objects are made in the job's folder, as for an output that is a folder, and put into the repository at the end. Its
keys are those of Zarr alone, so the manifest goes into the commit's metadata.
"""

from __future__ import annotations

import base64
import importlib
import importlib.util
import os
import threading
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

from lindi_dask.conversion.encoding import each
from lindi_dask.conversion.manifest import MANIFEST, unpacked_manifest
from lindi_dask.errors import ConfigurationError, JobConflict, TargetError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zarr.abc.store import Store

__all__ = ["Repository", "commit_folder", "is_repository", "repository_folder", "repository_of"]

_PREFIX: Final = "icechunk:"
_BRANCH: Final = "main"


def is_repository(location: str) -> bool:
    """Return whether a location is an Icechunk repository's."""
    return location.startswith(_PREFIX)


def repository_folder(location: str) -> Path:
    """Return the folder of `icechunk:FOLDER`."""
    return Path(location.removeprefix(_PREFIX)).absolute()


@cache
def _icechunk() -> Any:  # noqa: ANN401 - its two major versions have other types
    if importlib.util.find_spec("icechunk") is None:
        raise ConfigurationError('An Icechunk repository needs icechunk: pip install "lindi-dask[icechunk]"')
    icechunk = importlib.import_module("icechunk")
    if "ICECHUNK_LOG" not in os.environ:
        icechunk.set_logs_filter("error")  # version 1 prints to standard output that folders are for one writer
    return icechunk


@lru_cache(maxsize=8)
def repository_of(location: str) -> Repository:
    """Return this process's repository at `icechunk:FOLDER`."""
    return Repository(repository_folder(location))


class Repository:
    """What the newest commit of the main branch has. Thread-safe.

    Parameters
    ----------
    folder
        Of the repository, which need not be there yet.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._opened: Any = None
        self._seen: tuple[str, Any] | None = None

    def open(self, *, create: bool = False) -> Any:  # noqa: ANN401 - icechunk's repository
        """Return the repository; None if there is none, and none is to be made.

        Raises
        ------
        JobConflict
            If something else is in the folder.
        """
        icechunk = _icechunk()
        with self._lock:
            if self._opened is None and (create or self.folder.exists()):
                storage = icechunk.local_filesystem_storage(str(self.folder))
                if icechunk.Repository.exists(storage):
                    self._opened = icechunk.Repository.open(storage)
                elif self.folder.exists() and not (self.folder.is_dir() and _is_bare(self.folder)):
                    raise JobConflict(f"{self.folder} is no Icechunk repository: name another output.")
                elif create:
                    self._opened = icechunk.Repository.create(storage)
            return self._opened

    def store(self) -> Store | None:
        """Return the newest commit's objects as a store; None if there is no repository."""
        opened = self.open()
        if opened is None:
            return None
        newest = opened.lookup_branch(_BRANCH)
        if self._seen is None or self._seen[0] != newest:
            self._seen = newest, opened.readonly_session(snapshot_id=newest).store
        store: Store = self._seen[1]
        return store

    @property
    def is_empty(self) -> bool:
        """Whether nothing was committed yet."""
        store = self.store()
        return store is None or sync(store.is_empty(""))

    def read(self, key: str) -> bytes | None:
        """Return an object, or the manifest of the newest commit that has one.

        Raises
        ------
        TargetError
            If it can't be read.
        """
        if key.rpartition("/")[2] == MANIFEST:
            return self._manifest()
        store = self.store()
        return None if store is None else _object(store, key)

    def _manifest(self) -> bytes | None:
        opened = self.open()
        for commit in () if opened is None else opened.ancestry(branch=_BRANCH):
            if MANIFEST in commit.metadata:
                return base64.b64decode(commit.metadata[MANIFEST])
        return None

    def sizes(self) -> Iterator[tuple[str, int]]:
        """Yield the manifest's name and size, if there is one: no other file is looked for by listing."""
        manifest = self._manifest()
        if manifest is not None:
            yield MANIFEST, len(manifest)


def _is_bare(folder: Path) -> bool:
    """Return whether a folder has no files: icechunk makes some folders when it looks whether a repository is there."""
    return not any(path.is_file() for path in folder.rglob("*"))


def _object(store: Store, key: str) -> bytes | None:
    """Return an object of a session, or None if there is none."""
    failure = None
    found = None
    try:
        if sync(store.exists(key)):
            found = sync(store.get(key, default_buffer_prototype()))
    except (_icechunk().IcechunkError, OSError) as error:
        failure = f"{key} can't be read from the repository ({type(error).__name__})."
    if failure is not None:
        raise TargetError(failure, is_final=False)
    return None if found is None else found.to_bytes()


def commit_folder(folder: Path, location: str) -> None:
    """Put all files of a folder into a repository, read them back, and commit what is new, if anything is.

    Parameters
    ----------
    folder
        Of an output that is done, or of its documents, its manifest and those objects that were made anew.
    location
        Of the repository; it is made if it isn't there. One that another plan was committed to is left alone.

    Raises
    ------
    JobConflict
        If the repository holds anything else, or gets another commit meanwhile.
    TargetError
        If it can't be written, or something else is read back.
    """
    icechunk = _icechunk()
    repository = repository_of(location)
    opened = repository.open(create=True)
    files = [path for path in folder.rglob("*") if path.is_file()]
    manifest = next(path.read_bytes() for path in files if path.name == MANIFEST)
    plan, stored = unpacked_manifest(manifest)
    left_out: list[str] = []
    if not repository.is_empty:
        if _fingerprint_of(repository) != plan.fingerprint:
            raise JobConflict(f"{repository.folder} has got other commits while the job ran. Name another output.")
        left_out = [plan.arrays[number].place_key(at) for (number, at), one in stored.items() if one.nbytes is None]
    session = opened.writable_session(_BRANCH)
    documents = sorted((path for path in files if path.name == "zarr.json"), key=lambda path: len(path.parts))
    others = [path for path in files if path.name not in {"zarr.json", MANIFEST}]

    def put(path: Path) -> bool:
        """Put an object that is not there; return whether that was so."""
        return _put(session.store, path.relative_to(folder).as_posix(), path.read_bytes())

    failure: Exception | None = None
    try:
        changed = [put(path) for path in documents] + list(each(put, others))  # a chunk wants its array
        changed += list(each(lambda key: _remove(session.store, key), left_out))
        if any(changed):
            message = f"Convert {plan.tasks:,} objects of {len(plan.arrays):,} arrays"
            session.commit(message, {MANIFEST: base64.b64encode(manifest).decode()})
    except icechunk.ConflictError:
        failure = JobConflict(f"{repository.folder} got another commit meanwhile. Resume the job.")
    except (icechunk.IcechunkError, OSError) as error:
        reason = f"{repository.folder} can't be written ({type(error).__name__}). Make room, or mend the permissions."
        failure = TargetError(reason, is_final=True)
    if failure is not None:
        raise failure


def _fingerprint_of(repository: Repository) -> str | None:
    """Return that of the plan that a repository was written by."""
    manifest = repository.read(MANIFEST)
    return None if manifest is None else unpacked_manifest(manifest)[0].fingerprint


def _put(store: Store, key: str, data: bytes) -> bool:
    try:
        if _object(store, key) == data:
            return False
    except TargetError:
        pass  # it is damaged: it gets another one
    sync(store.set(key, default_buffer_prototype().buffer.from_bytes(data)))
    if _object(store, key) != data:
        raise TargetError(f"{key} is not what was written, as it is read back from the repository.", is_final=True)
    return True


def _remove(store: Store, key: str) -> bool:
    """Remove an object; return whether there was one."""
    is_there = sync(store.exists(key))
    if is_there:
        sync(store.delete(key))
    return is_there
