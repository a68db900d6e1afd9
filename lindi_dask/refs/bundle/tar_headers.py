"""The members of a tar, by their headers.

Formats: https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html and GNU's long names, as `tarfile` writes
them. What could be read in two ways is refused, and so is all that is no file.
"""

from __future__ import annotations

import contextlib
import tarfile
from typing import TYPE_CHECKING, Final, Protocol

from lindi_dask.errors import InvalidReferences
from lindi_dask.refs.paths import MAX_NAME, path_fault
from lindi_dask.types import ByteRange

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["BLOCK", "ReadAt", "invalid", "is_header_of", "member_path", "padded", "walk"]

BLOCK: Final = tarfile.BLOCKSIZE
"""bytes of a header; content is filled up to a multiple of it"""

_MAX_EXTENSION: Final = 2**20  # bytes of a long name or of pax records

_REGULAR = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
_PAX = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)
_KINDS = {
    tarfile.DIRTYPE: "a folder with content",
    tarfile.LNKTYPE: "a hard link",
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.GNUTYPE_LONGLINK: "a link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
    tarfile.GNUTYPE_SPARSE: "a sparse file",
}


class ReadAt(Protocol):
    """A file of known size that is read in ranges."""

    @property
    def size(self) -> int:
        """Bytes of the file."""

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly `length` bytes from `offset`, which lie inside the file; raises `LindiError`s only."""


def walk(file: ReadAt, most: int) -> Iterator[tuple[str, ByteRange]]:
    """Yield each regular file's name, and where its content lies.

    Parameters
    ----------
    file
        The tar.
    most
        Headers that it may have.

    Raises
    ------
    InvalidReferences
        If it is cut short, has a member that is neither a file nor an empty folder, or more headers.
    LindiError
        What `file` raises.
    """
    at, extension = 0, dict[str, str]()
    for _ in range(most + 1):
        if at + BLOCK > file.size:
            raise invalid(None, "it is cut short, or is not a tar: its end mark is missing")
        block = file.read(at, BLOCK)
        if not any(block):
            break
        header = _header(block)
        if header is None:
            raise invalid(None, f"there is no tar header at byte {at}, where one should be")
        name = extension.get("path", header.name)
        is_file = header.type in _REGULAR
        length = int(extension["size"]) if is_file and "size" in extension else header.size
        place = ByteRange(at + BLOCK, length)
        if not 0 <= length <= file.size - place.offset:
            raise invalid(name, f"it should have {length} bytes, but the file ends before: it is cut short")
        at = padded(place.end)
        if header.type in {*_PAX, tarfile.GNUTYPE_LONGNAME, tarfile.XGLTYPE}:
            more = _extension(header, file, place)
            if more.keys() & extension.keys():
                raise invalid(name, "the member behind it has two long names or sizes")
            extension |= more
            continue
        extension = {}
        if is_file:
            yield name, place
        elif header.type != tarfile.DIRTYPE or length:
            raise invalid(name, f"it is {_KINDS.get(header.type, 'of an unknown kind')}, not a file")
        elif name.rstrip("/") != ".":
            member_path(name.rstrip("/"))
    else:
        raise invalid(None, f"it has more than {most:,} members")
    if extension:
        raise invalid(None, "it ends with a long name that belongs to no member")


def _extension(header: tarfile.TarInfo, file: ReadAt, place: ByteRange) -> dict[str, str]:
    """Return `path` and `size` for the next member, of those that its extension header has."""
    if place.length > _MAX_EXTENSION:
        raise invalid(header.name, f"its long name or pax records have more than {_MAX_EXTENSION >> 20} MiB")
    data = file.read(place.offset, place.length)
    if header.type == tarfile.GNUTYPE_LONGNAME:
        return {"path": data.rstrip(b"\0").decode("utf-8", "surrogateescape")}
    records = _pax_records(data)
    if records is None:
        raise invalid(header.name, "its pax records are broken")
    if any(key.startswith("GNU.sparse.") for key in records):
        raise invalid(header.name, "it is a sparse file")
    found = {key: value for key, value in records.items() if key in {"path", "size"}}
    if found and header.type == tarfile.XGLTYPE:
        raise invalid(header.name, "one name or size is given for all members")
    size = found.get("size", "0")
    if not (size.isascii() and size.isdecimal() and len(size) < 20):
        raise invalid(header.name, "the size in its pax records is not a number")
    return found


def _pax_records(data: bytes) -> dict[str, str] | None:
    """Parse lines of `length key=value`, the length that of the whole line; None if it is not that."""
    records, at = {}, 0
    while at < len(data):
        digits, _, _ = data[at : at + 10].partition(b" ")
        if not digits.isdigit():
            return None
        record = data[at : at + int(digits)]
        key, equals, value = record[len(digits) + 1 : -1].partition(b"=")
        if len(record) != int(digits) or not key or not equals or record[-1:] != b"\n":
            return None
        records[key.decode("utf-8", "surrogateescape")] = value.decode("utf-8", "surrogateescape")
        at += len(record)
    return records


def member_path(name: str) -> str:
    """Return the name of a member without `./` in front; InvalidReferences if it could do harm."""
    path = name.removeprefix("./")
    reason = path_fault(path)
    if reason is not None:
        raise invalid(name, reason)
    return path


def _header(block: bytes) -> tarfile.TarInfo | None:
    with contextlib.suppress(tarfile.HeaderError, ValueError):
        return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    return None


def is_header_of(block: bytes, name: str, length: int) -> bool:
    """Return whether a block is the header of this file, with so many bytes of content."""
    header = _header(block)
    return header is not None and (header.name, header.size) == (name, length) and header.type in _REGULAR


def padded(end: int) -> int:
    """Return where the next header may stand, after content that ends there."""
    return -(-end // BLOCK) * BLOCK


def invalid(key: str | None, reason: str) -> InvalidReferences:
    """Return the error of a bundle that can't be read, because of one of its members if `key` names it."""
    shown = None if key is None else key[:MAX_NAME]
    what = "This bundle can't be read" if shown is None else f"This bundle can't be read, because of {shown!r}"
    message = f"{what}: {reason}. Fetch it again, or have LINDI write it anew."
    return InvalidReferences(message, key=shown, reason=reason)
