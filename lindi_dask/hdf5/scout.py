"""The metadata of a remote file, read ahead level by level: h5py asks for them one after the other.

The format: https://support.hdfgroup.org/documentation/hdf5/latest/_f_m_t3.html. What is found here are hints: whatever
is odd, or of a kind that is not known here, h5py reads by itself when it comes there.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from lindi_dask.hdf5.fractal_heap import HEADER_NBYTES, linked_objects, read_heap
from lindi_dask.hdf5.layouts import Message, index_of, messages
from lindi_dask.hdf5.remote_file import BLOCK, SIGNATURE, chunk_tree_children
from lindi_dask.types import ByteRange

if TYPE_CHECKING:
    from collections.abc import Callable

    from lindi_dask.hdf5.remote_file import RemoteFile

    Step = tuple[int, Callable[["_File", int], list["Step"]]]
    """an address, and what is to be looked at there"""

__all__ = ["scout"]

_WHOLE: Final = 2**23  # bytes of a file that is read at once
_USER_BLOCK: Final = 2**16  # bytes in front of HDF5's own, at most, that are looked through
_STEPS: Final = 3_000_000
_LEVELS: Final = 1_000
_LONGEST: Final = 2**24  # bytes of a piece
_MOST: Final = 2**30  # bytes of all: hints may be a stranger's
_NOWHERE: Final = 2**64 - 1
_SMALL: Final = 2**16  # bytes of a dataset that the references will hold
_SPECULATIVE: Final = 512  # bytes of a header that HDF5 reads at least
_COLLECTION: Final = 4096  # bytes of a heap of texts, at least

_CONTIGUOUS, _CHUNKED = 1, 2
_BY_BLOCKS: Final = (3, 4, 5)  # indexes of chunks: fixed and extensible arrays, B-trees of version 2
_LISTS: Final = 9  # the class of types of any length: text is one
_OF_A_LIST = struct.Struct("<IQI")  # its length, the address of the heap that it lies in, its number there


def scout(file: RemoteFile) -> None:
    """Read what groups, datasets and attributes need, as far as it can be told from the file's bytes.

    Parameters
    ----------
    file
        Its first bytes are here.

    Raises
    ------
    LindiError
        If the file can't be read.
    """
    if file.size <= _WHOLE:
        file.bring([ByteRange(0, file.size)])
        return
    start = file.kept(0, _USER_BLOCK) or b""
    view = _File(file, max(start.find(SIGNATURE), 0), _STEPS)
    seen: set[int] = {_NOWHERE}
    steps: list[Step] = [(0, _superblock)]
    nbytes = 0
    for _ in range(_LEVELS):
        later: list[Step] = []
        missing: list[ByteRange] = []
        while steps and view.left > 0:
            address, look = steps.pop()
            view.left -= 1
            try:
                found = look(view, address)
            except _Missing as one:
                missing.append(one.range)
                later.append((address, look))
                continue
            except (struct.error, IndexError):  # it ends before its end: no hint
                continue
            new = {address: (address, look) for address, look in found if address not in seen}
            seen.update(new)
            steps.extend(new.values())
        nbytes += sum(max(one.length, BLOCK) for one in missing)
        if not later or view.left <= 0 or nbytes > _MOST:
            return
        file.bring(missing)
        steps = later


class _Missing(Exception):
    def __init__(self, one: ByteRange) -> None:
        super().__init__()
        self.range = one


@dataclass(slots=True)
class _File:
    file: RemoteFile
    base: int
    left: int
    """objects and messages that may still be looked at"""

    def read(self, offset: int, length: int) -> bytes:
        """Return bytes from the start of the file; none of what lies outside of it, or is too long to be metadata."""
        if offset >= self.file.size or length > _LONGEST:
            return b""
        data = self.file.kept(offset, length)
        if data is None:
            raise _Missing(ByteRange(offset, length))
        return data

    def at(self, address: int, length: int) -> bytes:
        """Return bytes at an address."""
        return self.read(self.base + address, length)


def _superblock(file: _File, address: int) -> list[Step]:
    start = file.at(address, 96)
    version, widths = start[8], start[13:15] if start[8] < 2 else start[9:11]
    if widths != b"\x08\x08":
        return []
    # Of versions 0 and 1: the address of the header in the root's entry, behind the address of its name
    at = {0: 64, 1: 68}.get(version, 36)
    return [(_number(start, at), _object)]


def _object(file: _File, address: int) -> list[Step]:
    """Look at the header of a group or dataset."""
    file.at(address, _SPECULATIVE)
    found: list[Step] = []
    is_list = False
    for kind, data in messages(file.read, file.base, address):
        file.left -= 1
        if file.left <= 0:
            return []
        match kind:
            case Message.DATATYPE:
                is_list = data[0] & 15 == _LISTS
            case Message.LINK:
                found += [(at, _object) for at in linked_objects(data)]
            case Message.LINK_INFO:
                found += _link_info(data)
            case Message.LAYOUT:
                found += _layout(data, is_list=is_list)
            case Message.ATTRIBUTE:
                found += _attribute(data)
            case Message.SYMBOL_TABLE:
                found += [(_number(data, 0), _group), (_number(data, 8), _names)]
    return found


def _group(file: _File, address: int) -> list[Step]:
    """Look at a node of the B-tree of a group."""
    node = file.at(address, 24 + 8 + 2 * 16 * 16)  # it has room for 2 K children, K = 16
    if node[:5] != b"TREE\0":
        return []
    level, used = node[5], int.from_bytes(node[6:8], "little")
    node = file.at(address, 32 + 16 * used)
    below = _group if level else _entries
    return [(_number(node, 32 + 16 * i), below) for i in range(used)]


def _entries(file: _File, address: int) -> list[Step]:
    """Look at a node of the entries of a group."""
    node = file.at(address, 8 + 2 * 4 * 40)  # it has room for 2 K entries, K = 4
    if node[:4] != b"SNOD":
        return []
    used = int.from_bytes(node[6:8], "little")
    node = file.at(address, 8 + 40 * used)
    # The second of an entry's numbers is the address of the object; that of a soft link is undefined
    return [(_number(node, 16 + 40 * i), _object) for i in range(used)]


def _names(file: _File, address: int) -> list[Step]:
    heap = file.at(address, _SPECULATIVE)
    if heap[:4] != b"HEAP":
        return []
    return [(_number(heap, 24), partial(_bytes, nbytes=_number(heap, 8)))]


def _link_info(data: bytes) -> list[Step]:
    """Look at where a large group of the newer kind has its links, and their names."""
    at = 2 + 8 * bool(data[1] & 1)
    return [(_number(data, at), _links), (_number(data, at + 8), _index_of_names)]


def _links(file: _File, address: int) -> list[Step]:
    heap = read_heap(file.at(address, HEADER_NBYTES))
    if heap is None:
        return []
    if heap.rows == 0:
        return [(heap.root, partial(_block_of_links, nbytes=heap.sizes[0], prefix=heap.prefix))]
    table = file.at(heap.root, heap.table_nbytes)
    checksum = 4 * bool(file.at(address, HEADER_NBYTES)[9] & 2)
    return [
        (at, partial(_block_of_links, nbytes=size, prefix=heap.prefix + checksum)) for at, size in heap.blocks(table)
    ]


def _block_of_links(file: _File, address: int, *, nbytes: int, prefix: int) -> list[Step]:
    block = file.at(address, nbytes)
    return [(at, _object) for at in linked_objects(block[prefix:])] if block[:4] == b"FHDB" else []


def _index_of_names(file: _File, address: int) -> list[Step]:
    header = file.at(address, 38)
    if header[:4] != b"BTHD":
        return []
    return [(_number(header, 16), partial(_bytes, nbytes=int.from_bytes(header[6:10], "little")))]


def _layout(data: bytes, *, is_list: bool) -> list[Step]:
    version, kind = data[0], data[1]
    if kind == _CONTIGUOUS and version in (3, 4):
        address, nbytes = _number(data, 2), _number(data, 10)
        if address == _NOWHERE or nbytes > _SMALL:
            return []
        return [(address, partial(_values, nbytes=nbytes, is_list=is_list))]
    if kind == _CHUNKED and version == 3:
        nbytes = 24 + 64 * 8 + 65 * (8 + 8 * data[2])
        return [(_number(data, 3), partial(_chunks, nbytes=nbytes))]
    index = index_of(data) if kind == _CHUNKED else None
    return [(index.address, _newer_chunks)] if index is not None and index.kind in _BY_BLOCKS else []


def _values(file: _File, address: int, *, nbytes: int, is_list: bool) -> list[Step]:
    data = file.at(address, nbytes)
    return _heaps(data) if is_list else []


def _chunks(file: _File, address: int, *, nbytes: int) -> list[Step]:
    """Look at the root of an index of chunks; the nodes below it are read when they are asked for."""
    children = chunk_tree_children(file.at(address, nbytes), file.base)
    if len(children) * nbytes > _SMALL:
        return []
    return [(child.offset - file.base, partial(_bytes, nbytes=nbytes)) for child in children]


def _newer_chunks(file: _File, address: int) -> list[Step]:
    """Look at the header of an index of the newer format, which names the block that its first chunks are in."""
    header = file.at(address, 72)
    at = {b"FAHD": 16, b"EAHD": 60, b"BTHD": 16}.get(header[:4])
    return [] if at is None else [(_number(header, at), partial(_bytes, nbytes=_SPECULATIVE))]


def _bytes(file: _File, address: int, *, nbytes: int) -> list[Step]:
    file.at(address, nbytes)
    return []


def _attribute(data: bytes) -> list[Step]:
    version = data[0]
    name, kind, space = struct.unpack_from("<HHH", data, 2)
    at = 8 + (version == 3)
    if version == 1:  # each of its parts fills eight bytes
        name, kind, space = (-(-n // 8) * 8 for n in (name, kind, space))
    if data[at + name] & 15 != _LISTS:
        return []
    return _heaps(data[at + name + kind + space :])


def _heaps(data: bytes) -> list[Step]:
    """Look at the heaps that lists lie in."""
    whole = len(data) // _OF_A_LIST.size * _OF_A_LIST.size
    heaps = {heap for length, heap, _ in _OF_A_LIST.iter_unpack(data[:whole]) if length}
    return [(heap, partial(_bytes, nbytes=_COLLECTION)) for heap in heaps]


def _number(data: bytes, at: int) -> int:
    return int(struct.unpack_from("<Q", data, at)[0])
