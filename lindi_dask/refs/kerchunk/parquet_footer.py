"""The footer and the headers of pages of a parquet file, checked before a library unpacks it. Pure.

A page can stand for more bytes than the footer says, and pyarrow (26.0) ends the process when it is asked for some
broken parts of a footer. The format: https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple, TypeAlias

__all__ = ["LIST", "STRUCT", "Members", "pages_fault", "read_footer", "rows_fault"]

_MAX_NBYTES: Final = 2**30  # of a file, packed and unpacked
_MAX_FOOTER_NBYTES, _MAX_HEADER_NBYTES, _MAX_PAGES = 2**22, 2**16, 100_000  # of a record file and its pages
# All but DELTA_BYTE_ARRAY, where a page of some bytes can stand for terabytes, and DELTA_LENGTH_BYTE_ARRAY, which
# pyarrow does not read into a dictionary
_ENCODINGS: Final = frozenset((0, 2, 3, 4, 5, 8, 9))
_BOOLS, _I32, _I64, _BYTES, LIST, STRUCT = frozenset((1, 2)), 5, 6, 8, 9, 12  # thrift's types
Members: TypeAlias = "dict[tuple[int, int], Any]"  # of a thrift struct, by number and type


def read_footer(content: bytes) -> Members:
    """Return the footer of a parquet file.

    Raises
    ------
    ValueError, LookupError, TypeError
        If it makes no sense.
    """
    length = int.from_bytes(content[-8:-4], "little")
    if content[-4:] != b"PAR1" or length + 8 > len(content):
        raise ValueError("not all of it is there")
    if len(content) > _MAX_NBYTES or length > _MAX_FOOTER_NBYTES:
        raise ValueError(f"it is larger than {_MAX_NBYTES >> 20} MiB, or its footer than {_MAX_FOOTER_NBYTES >> 20}")
    return _struct(content[-8 - length : -8], 0)[0]


def rows_fault(footer: Members, rows: int, size: int) -> str | None:
    """Return what is wrong with the number of rows, which must be from `rows` to `size`, or None."""
    count, counts = footer[3, _I64], [group[3, _I64] for group in footer[4, LIST]]
    if count != size and not rows <= count <= size:
        return f"it has {count:,} rows instead of {size:,} (`record_size`)"
    if min(counts, default=0) < 0 or sum(counts) != count:
        return "its row groups have other numbers of rows than it says"
    return None


def pages_fault(footer: Members, content: bytes) -> str | None:
    """Return what is wrong with the pages of a file, or None; they may not unpack to more than 1 GiB together.

    Raises
    ------
    ValueError, LookupError, TypeError
        If the header of a page makes no sense.
    """
    count, nbytes = 0, 0
    for column in (column[3, STRUCT] for group in footer[4, LIST] for column in group[1, LIST]):
        at, dictionary = column[9, _I64], column.get((11, _I64), 0)
        at = dictionary if 0 < dictionary < at else at
        stop = at + column[7, _I64]
        if not 0 < at <= stop <= len(content):
            return "a column lies outside the file"
        while at < stop:
            page = _page(content[at : at + _MAX_HEADER_NBYTES])
            at += page.header + page.packed
            count, nbytes = count + 1, nbytes + page.unpacked
            if page.encoding not in _ENCODINGS:
                return f"a page has the encoding {page.encoding}, which is not read here"
            if page.packed < 0 or page.unpacked < 0 or at > stop:
                return "a page lies outside its column"
            if count > _MAX_PAGES or nbytes > _MAX_NBYTES:
                return f"it unpacks to more than {_MAX_NBYTES >> 20} MiB, or has more than {_MAX_PAGES:,} pages"
    return None


class _Page(NamedTuple):
    header: int  # bytes
    packed: int  # bytes
    unpacked: int  # bytes
    encoding: int


def _page(content: bytes) -> _Page:
    """Return what the header of a page says; LookupError or ValueError if it is none."""
    fields, header = _struct(content, 0)
    part, member = {0: (5, 2), 2: (7, 2), 3: (8, 4)}[fields[1, _I32]]  # data, dictionary, data of version 2
    return _Page(header, fields[3, _I32], fields[2, _I32], fields[part, STRUCT][member, _I32])


def _struct(content: bytes, at: int, depth: int = 0) -> tuple[Members, int]:
    """Return the members of a thrift struct in the compact protocol, and where it ends.

    https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
    """
    fields: Members = {}
    number = 0
    while (byte := content[at]) != 0:
        before, step = number, byte >> 4
        number, at = (number + step, at + 1) if step else _integer(content, at + 1)
        if number <= before:  # of a member that comes twice, pyarrow might take the other one
            raise ValueError("a member of a thrift struct comes twice")
        kind = byte & 0x0F
        fields[number, kind], at = (kind == 1, at) if kind in _BOOLS else _value(content, at, kind, depth)
    return fields, at + 1


def _value(content: bytes, at: int, kind: int, depth: int) -> tuple[Any, int]:
    if kind in _BOOLS or kind == 3:  # of a list; in a struct, a bool has no byte
        return content[at], at + 1
    if kind in {4, _I32, _I64}:
        return _integer(content, at)
    if kind == _BYTES:
        length, at = _varint(content, at)
        return content[at : at + length], at + length
    if kind == STRUCT and depth < 8:
        return _struct(content, at, depth + 1)
    if kind == LIST and depth < 8:
        kind, count, at = content[at] & 0x0F, content[at] >> 4, at + 1
        if count == 15:
            count, at = _varint(content, at)
        values = []
        for _ in range(count):
            value, at = _value(content, at, kind, depth + 1)
            values.append(value)
        return values, at
    raise ValueError(f"a thrift struct holds the type {kind}")


def _integer(content: bytes, at: int) -> tuple[int, int]:
    value, at = _varint(content, at)
    return (value >> 1) ^ -(value & 1), at


def _varint(content: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = content[at + shift // 7]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at + shift // 7 + 1
    raise ValueError("a number of a thrift struct is too long")
