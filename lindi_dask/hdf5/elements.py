"""HDF5's types -> what the elements are in the internal dialect, and how h5py is to read them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from h5py import h5t

from lindi_dask.refs.dialect.v2_kinds import MAX_ITEM_NBYTES, UntranslatableError

__all__ = ["Elements", "Role", "elements_of"]

Role: TypeAlias = Literal["number", "bytes", "text", "reference", "record", "array"]

_MAX_ARRAY: Final = 4096  # elements of an array in a compound: each becomes a field
_MAX_DEPTH: Final = 16  # types within each other
_FLOATS: Final = {
    "<": (h5t.IEEE_F16LE, h5t.IEEE_F32LE, h5t.IEEE_F64LE),
    ">": (h5t.IEEE_F16BE, h5t.IEEE_F32BE, h5t.IEEE_F64BE),
}
_BITFIELDS: Final = {
    h5t.STD_B8LE: "u1", h5t.STD_B16LE: "<u2", h5t.STD_B32LE: "<u4", h5t.STD_B64LE: "<u8",
    h5t.STD_B8BE: "u1", h5t.STD_B16BE: ">u2", h5t.STD_B32BE: ">u4", h5t.STD_B64BE: ">u8",
}  # fmt: skip
_SIZES: Final = (1, 2, 4, 8)
_CLASSES: Final = {h5t.OPAQUE: "opaque", h5t.TIME: "time", h5t.NO_CLASS: "unknown"}
_BOOLEAN: Final = {b"FALSE": 0, b"TRUE": 1}


@dataclass(frozen=True, slots=True)
class Elements:
    """What the elements of a dataset or of an attribute are."""

    role: Role
    dtype: np.dtype[Any]
    """that h5py reads them into: the file's order of bytes; objects for text, 8 bytes for a reference: the address of
    its object, from the file's base"""
    memory: h5t.TypeID
    """the same as HDF5 has it"""
    is_stored: bool
    """whether the bytes in the file are those of `dtype`, so that chunks can be referred to"""
    fields: tuple[tuple[str, Elements], ...] = ()
    """of a record; of an array the one that it has many of"""
    shape: tuple[int, ...] = ()
    """of an array"""

    @property
    def holds_objects(self) -> bool:
        """Whether there are text of any length, or references: what lies elsewhere in the file."""
        return self.role in ("text", "reference") or any(one.holds_objects for _, one in self.fields)


_TEXT: Final = Elements("text", np.dtype(object), h5t.PYTHON_OBJECT, is_stored=False)
_REFERENCE: Final = Elements("reference", np.dtype("<u8"), h5t.STD_REF_OBJ, is_stored=False)


def elements_of(found: h5t.TypeID, depth: int = 0) -> Elements:
    """Return what the elements of a type are.

    Parameters
    ----------
    found
        As the file has it.
    depth
        Types that it lies in.

    Raises
    ------
    UntranslatableError
        If Zarr has nothing for them, with the reason.
    """
    if depth > _MAX_DEPTH:
        raise UntranslatableError("its types are nested too deeply")
    kind = found.get_class()
    if kind in (h5t.INTEGER, h5t.ENUM, h5t.BITFIELD):
        return _whole(found, kind)
    if kind == h5t.FLOAT:
        return _float(found)
    if kind == h5t.STRING:
        return _string(found)
    if kind == h5t.REFERENCE:
        if not found.equal(h5t.STD_REF_OBJ):
            raise UntranslatableError("its elements are references to regions, which Zarr has nothing for")
        return _REFERENCE
    if kind == h5t.COMPOUND:
        return _complex(found) or _record(found, depth)
    if kind == h5t.ARRAY:
        return _array(found, depth)
    if kind == h5t.VLEN:
        raise UntranslatableError("its elements are lists of any length, which Zarr has nothing for")
    if (dtype := _dtype(found)) is not None and dtype.kind == "c":
        return Elements("number", dtype, h5t.py_create(dtype), is_stored=False)
    raise UntranslatableError(
        f"its elements are of HDF5's class {_CLASSES.get(kind, kind)!r}, which Zarr has nothing for"
    )


def _dtype(found: h5t.TypeID) -> np.dtype[Any] | None:
    try:
        dtype: np.dtype[Any] = np.dtype(found.dtype)
    except (TypeError, ValueError):
        return None
    return dtype


def _whole(found: h5t.TypeID, kind: int) -> Elements:
    """Whole numbers, and truth values, which are an enumeration in HDF5."""
    base, size = found, found.get_size()
    if kind == h5t.ENUM:
        members = {found.get_member_name(i): found.get_member_value(i) for i in range(min(found.get_nmembers(), 3))}
        if size == 1 and members == _BOOLEAN:
            return Elements("number", np.dtype(bool), found, is_stored=True)
        base = found.get_super()
    if size not in _SIZES:
        raise UntranslatableError(f"its whole numbers have {size} bytes, which Zarr has nothing for")
    if kind == h5t.BITFIELD:
        for known, name in _BITFIELDS.items():
            if found.equal(known):
                return Elements("number", np.dtype(name), found, is_stored=True)
        raise UntranslatableError("its elements are fields of some bits in more, which Zarr has nothing for")
    sign = "u" if base.get_sign() == h5t.SGN_NONE else "i"
    dtype = np.dtype(f"{'>' if base.get_order() == h5t.ORDER_BE else '<'}{sign}{size}")
    is_stored = base.get_offset() == 0 and base.get_precision() == 8 * size
    return Elements("number", dtype, found if is_stored else h5t.py_create(dtype), is_stored=is_stored)


def _float(found: h5t.TypeID) -> Elements:
    for sign, types in _FLOATS.items():
        for size, known in zip((2, 4, 8), types, strict=True):
            if found.equal(known):
                return Elements("number", np.dtype(f"{sign}f{size}"), known, is_stored=True)
    dtype = _dtype(found)
    if dtype is None or dtype.kind != "f" or dtype.itemsize not in (2, 4, 8):
        raise UntranslatableError(f"its floating-point numbers of {found.get_size()} bytes are not ones that Zarr has")
    return Elements("number", dtype, h5t.py_create(dtype), is_stored=False)


def _string(found: h5t.TypeID) -> Elements:
    if found.is_variable_str():
        return _TEXT
    memory = found.copy()
    memory.set_strpad(h5t.STR_NULLPAD)
    # What is behind a NUL, or spaces at the end, HDF5 drops from strings that are ended so
    is_stored = found.get_strpad() == h5t.STR_NULLPAD
    return Elements("bytes", np.dtype(f"S{found.get_size()}"), memory, is_stored=is_stored)


def _complex(found: h5t.TypeID) -> Elements | None:
    """Complex numbers, which are a compound of two in HDF5."""
    if found.get_nmembers() != 2 or (found.get_member_name(0), found.get_member_name(1)) != (b"r", b"i"):
        return None
    parts = [found.get_member_type(i) for i in range(2)]
    if any(part.get_class() != h5t.FLOAT for part in parts) or not parts[0].equal(parts[1]):
        return None
    part = _float(parts[0])
    size = part.dtype.itemsize
    if size == 2:
        return None
    is_packed = found.get_size() == 2 * size and found.get_member_offset(1) == size
    dtype = np.dtype(f"{'<' if part.dtype.newbyteorder('<') == part.dtype else '>'}c{2 * size}")
    return Elements("number", dtype, h5t.py_create(dtype), is_stored=part.is_stored and is_packed)


def _record(found: h5t.TypeID, depth: int) -> Elements:
    fields: list[tuple[str, Elements]] = []
    at, is_stored = 0, True
    for i in range(found.get_nmembers()):
        name = found.get_member_name(i).decode("utf-8", "replace")
        member = elements_of(found.get_member_type(i), depth + 1)
        is_stored &= member.is_stored and found.get_member_offset(i) == at and _is_little(member)
        at += member.dtype.itemsize
        fields.append((name, member))
    if at > MAX_ITEM_NBYTES:
        raise UntranslatableError(f"its records of {at} bytes are larger than {MAX_ITEM_NBYTES}")
    names = [name for name, _ in fields]
    if not names or "" in names or len(set(names)) != len(names):
        raise UntranslatableError(f"the names of its fields, {names!r}, can't be told apart")
    dtype = np.dtype([(name, member.dtype) for name, member in fields])
    memory, offset = h5t.create(h5t.COMPOUND, dtype.itemsize), 0
    for i, (_, member) in enumerate(fields):
        memory.insert(found.get_member_name(i), offset, member.memory)
        offset += member.dtype.itemsize
    return Elements("record", dtype, memory, is_stored and at == found.get_size(), tuple(fields))


def _array(found: h5t.TypeID, depth: int) -> Elements:
    one, shape = elements_of(found.get_super(), depth + 1), found.get_array_dims()
    if depth and int(np.prod(shape, dtype=float)) > _MAX_ARRAY:
        raise UntranslatableError(f"its fields have arrays of {list(shape)} elements, and may have {_MAX_ARRAY}")
    dtype = np.dtype((one.dtype, shape))
    return Elements("array", dtype, h5t.array_create(one.memory, shape), one.is_stored, (("", one),), shape)


def _is_little(one: Elements) -> bool:
    """Whether what a field holds is little-endian: zarr reads no other records."""
    return one.role in ("record", "array") or one.dtype.newbyteorder("<") == one.dtype
