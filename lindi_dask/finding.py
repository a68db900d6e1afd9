"""What lies at a path or URL: a reference file, a bundle, a folder of references, an HDF5 file; or what a dict is.

Formats are recognised by content. What a place holds is looked at once, where a `StoreFactory` is made; the
fingerprint of that travels with it, and is what every process has to find again.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from lindi_dask.errors import InvalidReferences, LindiError, PermissionDenied, RefsUnreachable
from lindi_dask.hdf5_files import index_of, is_hdf5, local_fingerprint, remote_fingerprint, remote_index_of
from lindi_dask.refs import (
    References,
    is_tar,
    parse_json,
    parse_kerchunk_parquet,
    read_tar,
    relative_path,
)
from lindi_dask.refs.bundle.members import checked
from lindi_dask.remote import RemoteBytes
from lindi_dask.transport import decompressed
from lindi_dask.types import BundleFile, LocalFile, LocalFolder, RemoteFolder

if TYPE_CHECKING:
    from collections.abc import Callable

    from lindi_dask.index_cache import IndexCache
    from lindi_dask.refs import Content, Tar
    from lindi_dask.remote import RemoteFiles
    from lindi_dask.types import Asset, Base, ByteRange

__all__ = ["MAX_NBYTES", "REMEDY", "Form", "Found", "find", "find_dict", "is_url"]

Form = Literal["json", "tar", "parquet", "zarrshadow", "hdf5"]
"""how references are written"""

MAX_NBYTES: Final = 2**30
"""of a reference file"""

_COMPRESSED = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd")  # gzip, zstd
_FOLDERS: Final[dict[str, Form]] = {"lindi.json": "json", ".zmetadata": "parquet", "refs.json": "zarrshadow"}
"""what a folder of references has, by its form"""

_START = 1032  # bytes by which forms are told apart
_TAIL = 4096  # bytes: more than the footer of a parquet file, which has the sizes and extremes of its columns
REMEDY: Final = (
    "Workers read the reference file themselves: save it to a path that they reach under the same name "
    "(a shared file system) and pass that path, or call lindi_dask.distribute(client), which sends it to them"
)
"""for references that can't be had where they are needed"""


@dataclass(frozen=True, slots=True)
class Found:
    """What lies at a place."""

    fingerprint: str
    """hexadecimal digest of the content"""
    base: Base
    """where relative references start from"""
    parse: Callable[[], References]
    """reads it; blocks"""
    is_held: bool = False
    """whether `parse` takes what was looked at, and does not look anew"""
    form: Form = "json"
    """how it is written; of an HDF5 file `parse` makes references, which takes so long that they are worth keeping"""


def find(location: str, remote: RemoteFiles, cache: IndexCache | None) -> Found:
    """Look at what lies at a path or URL, without reading all of it if that can be helped.

    Parameters
    ----------
    location
        Absolute path, or https URL.
    remote
        Reads URLs.
    cache
        Remembers fingerprints of local files.

    Raises
    ------
    RefsUnreachable, InvalidReferences
        If there is nothing, or nothing that can be references.
    LindiError
        Of a URL that can't be read.
    """
    if is_url(location):
        return _find_remote(location, remote)
    path = Path(location)
    failure: LindiError | None = None
    try:
        return _find_folder(path) if path.is_dir() else _find_file(path, cache)
    except OSError as error:  # never passed on: zarr takes a FileNotFoundError for a missing chunk
        failure = RefsUnreachable(
            f"The reference file {path} can't be read here ({error.strerror}). {REMEDY}.", fingerprint=""
        )
    raise failure


def find_dict(refs: dict[str, Any]) -> Found:
    """Take references given as a dict; the order of their keys does not matter.

    Raises
    ------
    InvalidReferences
        If the dict holds what JSON can't.
    """
    text, entries = None, refs.get("refs")
    try:
        if isinstance(entries, dict) and not all(isinstance(key, str) for key in entries):
            raise TypeError("keys of refs must be text")  # noqa: TRY301 - as json does for others
        text = json.dumps(refs, sort_keys=True, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        reason = f"the dict is not JSON ({error})"
    if text is None:
        raise InvalidReferences(f"These are not references: {reason}.", key=None, reason=reason)
    fingerprint = _fingerprint(text)
    return Found(fingerprint, None, partial(parse_json, text, fingerprint, name="This dict"))


def is_url(location: str) -> bool:
    """Return whether a location is a URL, and not a path."""
    return location.startswith(("https://", "http://"))


# Local


def _find_file(path: Path, cache: IndexCache | None) -> Found:
    status = path.stat()
    if not os.path.isfile(path):  # noqa: PTH113 - of what was just looked at
        raise _not_references(str(path), "it is not a regular file")
    with path.open("rb") as file:
        start = file.read(_START)
    if is_tar(start):
        return _find_tar(_LocalBytes(path, status.st_size), str(path), LocalFile(str(path)))
    base = LocalFolder(str(path.parent))
    if is_hdf5(start):
        made_of = local_fingerprint(path, status)
        return Found(made_of, base, partial(index_of, path, made_of), is_held=True, form="hdf5")
    if status.st_size > MAX_NBYTES:
        raise _not_references(str(path), f"it is larger than {MAX_NBYTES >> 20} MiB")
    fingerprint = None if cache is None else cache.remembered_fingerprint(path, status)
    if fingerprint is None:
        fingerprint = _fingerprint(_mapped(path))
        if cache is not None:
            cache.remember(path, status, fingerprint)
    return Found(fingerprint, base, partial(_parse_file, path, fingerprint))


def _parse_file(path: Path, fingerprint: str) -> References:
    failure = None
    try:
        content = _mapped(path)
    except OSError as error:
        failure = RefsUnreachable(
            f"The reference file {path} can't be read here any more ({error.strerror}).", fingerprint=fingerprint
        )
    if failure is not None:
        raise failure
    return _parse(content, fingerprint, str(path), partial(_beside, path.parent))


def _parse(
    content: Content, fingerprint: str, name: str, read: Callable[[str], bytes | None] | None = None
) -> References:
    if content[:4].startswith(_COMPRESSED):
        content = decompressed(content[:], MAX_NBYTES)
    return parse_json(content, fingerprint, name=name, read=read)


def _find_folder(path: Path) -> Found:
    kind = next((name for name in _FOLDERS if (path / name).is_file()), None)
    if kind is None:
        raise _not_references(str(path), f"it is a folder without {', '.join(_FOLDERS)}")
    document = (path / kind).read_bytes()
    base, beside = LocalFolder(str(path)), partial(_beside, path)
    if kind == ".zmetadata":
        fingerprint = _fingerprint(document + _parquet_state(path))
        return Found(fingerprint, base, partial(_parse_parquet, document, fingerprint, beside), form="parquet")
    state = _parquet_state(path / "index", suffix="") if kind == "refs.json" else b""
    fingerprint = _fingerprint(document + state)
    parse = partial(_parse, document, fingerprint, str(path / kind), beside)
    return Found(fingerprint, base, parse, form=_FOLDERS[kind])


def _parse_parquet(document: bytes, fingerprint: str, read: Callable[[str], bytes | None]) -> References:
    return parse_kerchunk_parquet(document, fingerprint, read)


def _parquet_state(path: Path, suffix: str = ".parq") -> bytes:
    """Return what tells whether one of many files in a folder changed: names, sizes and ends of all."""
    state = []
    for folder, folders, names in os.walk(path):
        folders.sort()
        for name in sorted(name for name in names if name.endswith(suffix)):
            with Path(folder, name).open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(size - _TAIL, 0))
                relative = os.path.relpath(Path(folder, name), path)
                state.append(f"\n{relative} {size} {hashlib.sha256(file.read()).hexdigest()}".encode())
    return b"".join(state)


def _beside(folder: Path, name: str) -> bytes | None:
    """Return the content of a file below a folder; None if there is none."""
    relative = relative_path(name)
    path = folder / (relative or "")
    failure: LindiError
    try:
        if relative is None or not path.resolve().is_relative_to(folder.resolve()):
            raise _not_references(name, "it lies outside of the references' folder")
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        failure = RefsUnreachable(f"{path} can't be read here ({error.strerror}).", fingerprint="")
    raise failure


def _mapped(path: Path) -> bytes | mmap.mmap:
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            return b""
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


class _LocalBytes:
    """A local file as a `ReadAt`."""

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        self.size = size

    def read(self, offset: int, length: int) -> bytes:
        failure: LindiError
        try:
            with self._path.open("rb") as file:
                file.seek(offset)
                data = file.read(length)
            failure = _not_references(str(self._path), "it ends too early")
        except OSError as error:
            data = b""
            failure = RefsUnreachable(f"{self._path} can't be read here ({error.strerror}).", fingerprint="")
        if len(data) != length:
            raise failure
        return data


# Bundles in one file


def _find_tar(file: _LocalBytes | RemoteBytes, name: str, itself: Asset | LocalFile) -> Found:
    tar = read_tar(file)
    places = "".join(f"\n{member} {tar.members[member]}" for member in sorted(tar.members))
    fingerprint = _fingerprint(tar.document + places.encode())
    is_held = not isinstance(itself, LocalFile)
    return Found(fingerprint, BundleFile(itself), partial(_parse_tar, tar, file, fingerprint, name), is_held, "tar")


def _parse_tar(tar: Tar, file: _LocalBytes | RemoteBytes, fingerprint: str, name: str) -> References:
    name = f"lindi.json in {name}"
    if isinstance(file, RemoteBytes):
        references = parse_json(tar.document, fingerprint, name=name, relocate=tar.locate)
        return checked(references, tar, file.read_many)

    def locate(url: str) -> ByteRange | None:
        place = tar.locate(url)
        if place is not None:
            tar.verify(relative_path(url) or "", file)
        return place

    return parse_json(tar.document, fingerprint, name=name, relocate=locate)


# Remote


def _find_remote(url: str, remote: RemoteFiles) -> Found:
    asset = remote.asset(url)
    name = str(asset)
    folder = RemoteFolder(url.partition("?")[0].rpartition("/")[0]) if asset.instance is None else None
    if url.endswith("/") and asset.instance is None:
        return _find_remote_folder(url, remote)
    content = remote.known_content(asset)
    if content is None:
        found = remote.start(asset, _START)
        if is_tar(found.content):
            return _find_tar(remote.read_at(asset, found.size), name, asset)
        if is_hdf5(found.content):
            fingerprint = remote_fingerprint(asset, found)
            parse = partial(remote_index_of, url, remote.policy, found, fingerprint)
            return Found(fingerprint, folder, parse, is_held=True, form="hdf5")
        content = remote.content(asset)
    fingerprint = _fingerprint(content)
    beside = None if folder is None else partial(remote.beside, folder)
    return Found(fingerprint, folder, partial(_parse, content, fingerprint, name, beside), is_held=True)


def _find_remote_folder(url: str, remote: RemoteFiles) -> Found:
    folder = RemoteFolder(url)
    read = partial(remote.beside, folder)
    denied: PermissionDenied | None = None
    for kind in _FOLDERS:
        document = None
        try:
            document = read(kind)
        except PermissionDenied as error:  # S3's answer for what is not there, too, in a bucket that may not be listed
            denied = error
        if document is None:
            continue
        fingerprint = _fingerprint(document)
        if kind == ".zmetadata":
            parse = partial(_parse_parquet, document, fingerprint, read)
        else:
            parse = partial(_parse, document, fingerprint, f"{url}{kind}", read)
        return Found(fingerprint, folder, parse, is_held=True, form=_FOLDERS[kind])
    if denied is not None:
        raise denied.fresh()
    raise _not_references(url, f"below it there is none of {', '.join(_FOLDERS)}")


def _fingerprint(content: bytes | mmap.mmap) -> str:
    return hashlib.sha256(content).hexdigest()[:32]


def _not_references(name: str, reason: str) -> InvalidReferences:
    return InvalidReferences(f"{name} is not a reference file: {reason}.", key=None, reason=reason)
