"""LINDI's bundles: a reference file, `lindi.json`, beside the blobs that it names as `./blobs/...`.

A `.lindi.d` is a folder (`paths.py` says which names in it a reference may mean). A `.lindi.tar` is a tar that
begins with `.tar_entry.json`; that says where `.tar_index.json` lies, and that where all members do. LINDI 0.4.6
(https://github.com/NeurodataWithoutBorders/lindi, `lindi/tar`) writes both with blanks behind them, to rewrite them in
place. What has outgrown its place is overwritten, renamed to `.trash/...`, taken out of the index and
written anew at the end: so no name is ever there twice, and `.trash/` holds no data.

The headers of the members are what is true, the index saves reading them. It can be wrong without anyone's intent: who
unpacks a bundle and packs it again keeps the old one, whose ranges then hold other members. So an index that
does not fit the file is left aside, and members that only the index vouches for are to be checked by `Tar.verify`.
"""

from __future__ import annotations

import contextlib
import json
import tarfile
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from lindi_dask.refs.bundle.tar_headers import BLOCK, invalid, is_header_of, member_path, padded, walk
from lindi_dask.refs.paths import relative_path
from lindi_dask.types import ByteRange

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from lindi_dask.refs.bundle.tar_headers import ReadAt

__all__ = ["Tar", "is_tar", "read_tar"]

_AHEAD: Final = 65536  # bytes of a small read: as quick as one header's, and with luck holds the next ones
_MAX_MEMBERS: Final = 1_000_000
_MAX_DOCUMENT: Final = 2**30  # bytes, blanks included

_ENTRY, _INDEX, _DOCUMENT, _TRASH = ".tar_entry.json", ".tar_index.json", "lindi.json", ".trash/"
_ENTRY_LENGTH: Final = 1024  # bytes of `.tar_entry.json`, always
_BLANKS: Final = b" \t\r\n"  # LINDI pads with spaces; these mean nothing around JSON


@dataclass(frozen=True, slots=True)
class Tar:
    """A `.lindi.tar`: its reference file, and where its members lie."""

    document: bytes
    """content of `lindi.json`, without the blanks behind it"""
    members: Mapping[str, ByteRange]
    """by name, without `./` in front: where the content lies in the tar. All regular files but LINDI's trash"""
    verified: bool
    """whether the header of every member was read. If not, `verify` a member before its bytes pass for data"""

    def locate(self, url: str) -> ByteRange | None:
        """Return where the member lies that a reference means; None if there is none, or the URL is absolute.

        Parameters
        ----------
        url
            As written in the reference: `./blobs/x`.

        Raises
        ------
        InvalidReferences
            If a relative reference leads out of the bundle; see `relative_path`.
        """
        path = relative_path(url)
        return None if path is None else self.members.get(path)

    def verify(self, name: str, file: ReadAt) -> None:
        """Check that a member lies where the index says: one read of 512 bytes, none for what is `verified`.

        Once a member is enough; the result is not kept here.

        Parameters
        ----------
        name
            As in `members`.
        file
            The tar.

        Raises
        ------
        InvalidReferences
            If there is no such member, or what stands there is the header of another one, or none.
        """
        place = self.members.get(name)
        if place is None:
            raise invalid(name, "there is no such member")
        if self.verified:
            return
        if not is_header_of(file.read(place.offset - BLOCK, BLOCK), name, place.length):
            raise invalid(name, "the bundle's index says that it lies where it does not")


def is_tar(start: bytes) -> bool:
    """Return whether a file that starts with these bytes (512 are enough) is a tar, whatever its name.

    JSON never is: each of the marks has a NUL.
    """
    return start[257:263] == b"ustar\0" or start[257:265] == b"ustar  \0" or start.startswith(f"{_ENTRY}\0".encode())


def read_tar(file: ReadAt, *, trust_index: bool = True) -> Tar:
    """Read the reference file of a `.lindi.tar`, and where its members lie.

    With LINDI's index, at most three reads, however many members there are; the members are then not `verified`.
    Without it, or where it does not fit the file, every header is read: a read a member, or one of 64 KiB
    for all headers in it.

    The index fits if its ranges lie inside the file, do not overlap and reach to the end of the tar, and if it
    and `lindi.json` have their own headers in front of them.

    Parameters
    ----------
    file
        The tar.
    trust_index
        False reads every header in any case, so that all is verified: for files where a read costs next to nothing.

    Raises
    ------
    InvalidReferences
        If it is no tar, is cut short, has no `lindi.json`, or one of its members could do harm: links,
        devices, names that lead out of the bundle, names that are there twice.
    LindiError
        What `file` raises.
    """
    ahead = _ReadAhead(file)
    tar = _by_index(ahead) if trust_index else None
    return _by_headers(ahead) if tar is None else tar


class _ReadAhead:
    """A `ReadAt` that holds what it last read, and reads more than it is asked for."""

    def __init__(self, file: ReadAt) -> None:
        self.size = file.size
        self._file = file
        self._start = 0
        self._held = b""

    def read(self, offset: int, length: int) -> bytes:
        if length > _AHEAD:
            return self._file.read(offset, length)
        if not self._start <= offset <= offset + length <= self._start + len(self._held):
            self._held = self._file.read(offset, min(_AHEAD, self.size - offset))
            self._start = offset
        return self._held[offset - self._start :][:length]


# By LINDI's index: None where it does not fit the file


@dataclass(frozen=True, slots=True)
class _Indexed:
    """A member as the index has it."""

    name: str
    header: int
    """bytes, from the start of the tar, of the one block in front of the content"""
    length: int
    """bytes of the content"""

    @property
    def place(self) -> ByteRange:
        return ByteRange(self.header + BLOCK, self.length)

    @property
    def end(self) -> int:
        """Where the next member's header may stand."""
        return padded(self.place.end)


def _by_index(file: ReadAt) -> Tar | None:
    entry = _Indexed(_ENTRY, 0, _ENTRY_LENGTH)
    pointer = _json(_content(file, entry))
    index = _indexed(pointer.get("index")) if isinstance(pointer, dict) else None
    if index is None or index.name != _INDEX:
        return None
    listing = _json(_content(file, index))
    files = listing.get("files") if isinstance(listing, dict) else None
    if not isinstance(files, list):
        return None
    if len(files) > _MAX_MEMBERS:
        raise invalid(None, f"it has more than {_MAX_MEMBERS:,} members")
    listed = [_indexed(item) for item in files]
    known = sorted((item for item in listed if item is not None), key=lambda item: item.header)
    if len(known) < len(files) or entry not in known or index not in known:
        return None
    if any(after.header < before.end for before, after in pairwise(known)) or not _ends(known[-1].end, file.size):
        return None
    members = _by_name((item.name, item.place) for item in known)
    lindi = next((item for item in known if item.name == _DOCUMENT), None)
    document = None if lindi is None else _content(file, lindi)
    return None if document is None else Tar(document, members, verified=False)


def _indexed(item: object) -> _Indexed | None:
    match item:
        case {"n": str(name), "o": int(header), "d": int(data), "s": int(length)}:
            numbers = type(header) is type(data) is type(length) is int  # bool is an int
            if numbers and header >= 0 and header % BLOCK == 0 and data == header + BLOCK and length >= 0:
                return _Indexed(name, header, length)
    return None


def _content(file: ReadAt, item: _Indexed) -> bytes | None:
    """Read a member with its header, at once; None if they don't match."""
    if item.place.end > file.size or item.length > _MAX_DOCUMENT:
        return None
    found = file.read(item.header, BLOCK + item.length)
    return found.rstrip(_BLANKS)[BLOCK:] if is_header_of(found[:BLOCK], item.name, item.length) else None


def _json(content: bytes | None) -> object:
    # A member has four commas and a bracket: what has far more of them is no index, and would fill the memory
    if content is not None and sum(map(content.count, (b"{", b"[", b","))) <= 8 * _MAX_MEMBERS:
        with contextlib.suppress(ValueError, RecursionError):
            return json.loads(content)
    return None


def _ends(end: int, size: int) -> bool:
    """Whether a tar of this size ends with two empty blocks from `end`, perhaps filled up to a whole record."""
    end += 2 * BLOCK
    return size in {end, -(-end // tarfile.RECORDSIZE) * tarfile.RECORDSIZE}


# By the headers of the members


def _by_headers(file: ReadAt) -> Tar:
    members = _by_name(walk(file, _MAX_MEMBERS))
    place = members.get(_DOCUMENT)
    if place is None:
        raise invalid(None, "it has no lindi.json at its top level")
    if place.length > _MAX_DOCUMENT:
        raise invalid(_DOCUMENT, f"it is larger than {_MAX_DOCUMENT >> 20} MiB")
    return Tar(file.read(place.offset, place.length).rstrip(_BLANKS), members, verified=True)


def _by_name(items: Iterable[tuple[str, ByteRange]]) -> dict[str, ByteRange]:
    members: dict[str, ByteRange] = {}
    for name, place in items:
        path = member_path(name)
        if path in members:
            raise invalid(name, "this name is there twice")
        if not path.startswith(_TRASH):
            members[path] = place
    return members
