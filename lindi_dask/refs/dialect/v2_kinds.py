"""What the elements of a Zarr v2 array are, in the internal dialect: data type, fill value, codec to bytes. Pure."""

from __future__ import annotations

import base64
import math
import re
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

__all__ = [
    "MAX_ITEM_NBYTES",
    "NUMERIC",
    "REFERENCE_CHARS",
    "Kind",
    "UntranslatableError",
    "compound_kind",
    "json_float",
    "shortened",
    "v2_kind",
]

NUMERIC: Final = {
    "b1": "bool",
    **{f"i{n}": f"int{8 * n}" for n in (1, 2, 4, 8)},
    **{f"u{n}": f"uint{8 * n}" for n in (1, 2, 4, 8)},
    **{f"f{n}": f"float{8 * n}" for n in (2, 4, 8)},
    **{f"c{n}": f"complex{8 * n}" for n in (8, 16)},
}
"""Zarr v2's numeric types, without byte order -> v3's"""

REFERENCE_CHARS: Final = 512
"""characters that a text field of a compound has where no data tell how many it needs (as in hdmf-zarr)"""

MAX_ITEM_NBYTES: Final = 2**20
"""bytes that an element of a type of one size may have in an uncompressed chunk"""

_MAX_DEPTH: Final = 16  # compounds within each other
_TEXT = re.compile(r"[<>|]U([1-9][0-9]{0,5})")
_BYTES = re.compile(r"\|S([1-9][0-9]{0,5})")
_OBJECT_CODECS = frozenset(("json2", "vlen-utf8", "vlen-bytes"))
_VLEN_UTF8: Final[dict[str, Any]] = {"name": "vlen-utf8"}
_LINDI_REFERENCE = "<REFERENCE>"


_SHOWN = 500  # characters of a reason: it may quote what the file has


class UntranslatableError(Exception):
    """Why an array can't be read; becomes `ArrayPlan.unreadable`."""

    def __init__(self, reason: str) -> None:
        super().__init__(shortened(reason))


def shortened(reason: str) -> str:
    """Return a reason that a message has room for."""
    return reason if len(reason) <= _SHOWN else f"{reason[: _SHOWN - 3]}..."


@dataclass(frozen=True, slots=True)
class Kind:
    """What the elements of an array are."""

    data_type: str | dict[str, Any]
    """as in `zarr.json`"""
    name: str
    """for the attribute `_DTYPE`: numpy's name, or "str"; "" for compounds"""
    to_bytes: dict[str, Any]
    """the codec from arrays to bytes"""
    form: dict[str, Any] | None = field(default=None, kw_only=True)
    """a codec behind it, from its bytes to those that LINDI has in their stead"""
    fill_value: Any
    """as in `zarr.json`"""
    itemsize: int | None
    """bytes of an element in an uncompressed chunk; None where they differ"""
    endian: str | None = None
    """"big" or "little"; None where it makes no difference"""
    object_codec: str | None = None
    """the v2 filter that `to_bytes` stands for"""
    references: tuple[str, ...] = ()
    """fields of a compound that are object references"""
    decoded_itemsize: int = 1
    """bytes that an element has at least when it is read"""

    @property
    def is_numeric(self) -> bool:
        """Whether the elements are plain numbers."""
        return isinstance(self.data_type, str) and self.data_type in NUMERIC.values()


def v2_kind(zarray: dict[str, Any], attributes: dict[str, Any]) -> Kind:
    """Return what the elements of a v2 array are.

    Raises
    ------
    UntranslatableError
        If they can't be read, with the reason.
    """
    dtype, fill_value = zarray.get("dtype"), zarray.get("fill_value")
    compound = attributes.get("_COMPOUND_DTYPE")
    if compound is not None:
        return compound_kind(_lindi_fields(compound))
    if isinstance(dtype, list):
        return _raw_compound(dtype, fill_value)
    if not isinstance(dtype, str) or dtype[:1] not in set("<>|="):
        raise UntranslatableError(f"its data type {dtype!r} is not one of Zarr v2")
    if dtype == "|O":
        return _object(zarray)
    if _TEXT.fullmatch(dtype):
        itemsize = np.dtype(dtype).itemsize
        return Kind("string", "str", _VLEN_UTF8, _text_fill(fill_value), itemsize, form=_text_form(dtype))
    if match := _BYTES.fullmatch(dtype):
        size = int(match[1])
        data_type = {"name": "null_terminated_bytes", "configuration": {"length_bytes": size}}
        return Kind(data_type, f"S{size}", {"name": "bytes"}, _bytes_fill(fill_value, size), size)
    name = NUMERIC.get(dtype[1:])
    if name is None:
        raise UntranslatableError(f"its data type {dtype!r} can't be read")
    itemsize = int(dtype[2:])
    endian = None if itemsize == 1 else ("big" if dtype[0] == ">" else "little")
    to_bytes = {"name": "bytes"} if endian is None else {"name": "bytes", "configuration": {"endian": endian}}
    return Kind(name, name, to_bytes, _fill_value(fill_value, name), itemsize, endian)


def compound_kind(fields: list[tuple[str, str]], widths: dict[str, int] | None = None) -> Kind:
    """Return the kind of a compound that LINDI keeps as JSON.

    Parameters
    ----------
    fields
        Name and numpy type of each; `<REFERENCE>` for object references.
    widths
        Characters that text and reference fields need, by name; `REFERENCE_CHARS` where not given.
    """
    types: list[list[Any]] = []
    numpy_fields: list[tuple[str, str]] = []
    for name, dtype in fields:
        if dtype in (_LINDI_REFERENCE, "object", "str"):
            chars = max((widths or {}).get(name, REFERENCE_CHARS), 1)
            types.append([name, {"name": "fixed_length_utf32", "configuration": {"length_bytes": 4 * chars}}])
            numpy_fields.append((name, f"<U{chars}"))
        else:
            types.append([name, dtype])
            numpy_fields.append((name, np.dtype(dtype).newbyteorder("<").str))
    references = tuple(name for name, dtype in fields if dtype == _LINDI_REFERENCE)
    itemsize = sum(np.dtype(dtype).itemsize for _, dtype in numpy_fields)
    if itemsize > MAX_ITEM_NBYTES:
        raise UntranslatableError(f"its records of {itemsize} bytes are larger than {MAX_ITEM_NBYTES}")
    return Kind(
        data_type={"name": "structured", "configuration": {"fields": types}},
        name="",
        to_bytes={"name": "bytes", "configuration": {"endian": "little"}},
        form={"name": "lindi-dask.records", "configuration": {"references": list(references)}},
        fill_value=base64.b64encode(bytes(itemsize)).decode("ascii"),
        itemsize=None,
        object_codec="json2",
        references=references,
        decoded_itemsize=itemsize,
    )


def _lindi_fields(compound: object) -> list[tuple[str, str]]:
    """Check `_COMPOUND_DTYPE`: a list of [name, numpy's name of a type]."""
    fields: list[tuple[str, str]] = []
    for entry in compound if isinstance(compound, list) else []:
        match entry:
            case [str(name), str(dtype)] if name and (dtype in (_LINDI_REFERENCE, "object") or _is_number(dtype)):
                fields.append((name, dtype))
            case _:
                raise UntranslatableError(f"its compound field {entry!r} can't be read")
    if not fields or len({name for name, _ in fields}) != len(fields):
        raise UntranslatableError(f"its compound type {compound!r} can't be read")
    return fields


def _is_number(dtype: str) -> bool:
    try:
        return np.dtype(dtype).name == dtype and np.dtype(dtype).name in NUMERIC.values()
    except TypeError:
        return False


def _raw_compound(dtype: list[Any], fill_value: object) -> Kind:
    """Return the kind of a v2 structured type: packed records."""
    types, itemsize = _raw_fields(dtype, 0)
    if itemsize > MAX_ITEM_NBYTES:
        raise UntranslatableError(f"its records of {itemsize} bytes are larger than {MAX_ITEM_NBYTES}")
    filled = bytes(itemsize)
    if isinstance(fill_value, str) and fill_value:
        try:
            filled = base64.b64decode(fill_value, validate=True)
        except ValueError:
            filled = b""
    elif fill_value not in (None, 0, ""):
        filled = b""
    if len(filled) != itemsize:
        raise UntranslatableError(f"its fill value {fill_value!r} is not a record of {itemsize} bytes")
    return Kind(
        data_type={"name": "structured", "configuration": {"fields": types}},
        name="",
        to_bytes={"name": "bytes", "configuration": {"endian": "little"}},
        fill_value=base64.b64encode(filled).decode("ascii"),
        itemsize=itemsize,
    )


def _raw_fields(dtype: list[Any], depth: int) -> tuple[list[list[Any]], int]:
    """Return the fields of a v2 structured type, and the bytes of all of them."""
    types: list[list[Any]] = []
    nbytes = 0
    for entry in dtype:
        match entry:
            case [str(name), str(form)] if name and NUMERIC.get(form[1:]) and form[0] in "<|":
                kind: str | dict[str, Any] = NUMERIC[form[1:]]
                size = np.dtype(form).itemsize
            case [str(name), str(form)] if name and (match := _BYTES.fullmatch(form)):
                size = int(match[1])
                kind = {"name": "null_terminated_bytes", "configuration": {"length_bytes": size}}
            case [str(name), str(form)] if name and _TEXT.fullmatch(form) and form[0] == "<":
                size = np.dtype(form).itemsize
                kind = {"name": "fixed_length_utf32", "configuration": {"length_bytes": size}}
            case [str(name), list(inner)] if name and depth < _MAX_DEPTH:
                fields, size = _raw_fields(inner, depth + 1)
                kind = {"name": "structured", "configuration": {"fields": fields}}
            case _:
                raise UntranslatableError(f"its compound field {entry!r} can't be read")
        types.append([name, kind])
        nbytes += size
    if not types or len({name for name, _ in types}) != len(types):
        raise UntranslatableError(f"its compound type {dtype!r} can't be read")
    return types, nbytes


def _object(zarray: dict[str, Any]) -> Kind:
    """Strings and object references, kept by a filter for objects."""
    filters = zarray.get("filters") or []
    names = [step.get("id") for step in filters if isinstance(step, dict)] if isinstance(filters, list) else []
    known = [name for name in names if name in _OBJECT_CODECS]
    if len(known) != 1 or names[0] != known[0]:
        raise UntranslatableError(f"its objects have the filters {names}, and not one that is known for objects first")
    fill_value = _text_fill(zarray.get("fill_value"))
    match known[0]:
        case "json2":
            form = _text_form("json2")
            return Kind("string", "str", _VLEN_UTF8, fill_value, None, object_codec="json2", form=form)
        case "vlen-utf8":
            return Kind("string", "str", _VLEN_UTF8, fill_value, None, object_codec="vlen-utf8")
        case name:
            to_bytes = {"name": "vlen-bytes"}
            return Kind("variable_length_bytes", "bytes", to_bytes, "", None, object_codec=name)


def _text_form(form: str) -> dict[str, Any]:
    return {"name": "lindi-dask.text", "configuration": {"form": form}}


def _text_fill(value: object) -> str:
    if value in (None, 0, ""):
        return ""
    if isinstance(value, str):
        return value
    raise UntranslatableError(f"its fill value {value!r} is not text")


def _bytes_fill(value: object, size: int) -> str:
    """v2 keeps it in base64, as v3 does."""
    if value in (None, 0, ""):
        return ""
    reason = not isinstance(value, str)
    if isinstance(value, str):
        try:
            reason = len(base64.b64decode(value, validate=True)) > size
        except ValueError:
            reason = True
    if reason:
        raise UntranslatableError(f"its fill value {value!r} is not a text of up to {size} bytes in base64")
    return str(value)


def _fill_value(value: Any, name: str) -> Any:  # noqa: ANN401 - JSON in, JSON out
    if name.startswith("complex"):
        parts = [0, 0] if value is None else value
        if not (isinstance(parts, list) and len(parts) == 2):
            raise UntranslatableError(f"its fill value {value!r} is not a pair")
        return [_fill_value(part, "float64") for part in parts]
    if value is None:
        value = 0
    if name.startswith("float"):
        if value in ("NaN", "Infinity", "-Infinity"):
            return value
        if isinstance(value, float) or (type(value) is int and abs(value) < 2**1023):
            return json_float(float(value))
    elif isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        if name == "bool" and value in (0, 1):
            return bool(value)
        if name != "bool" and np.iinfo(name).min <= value <= np.iinfo(name).max:
            return int(value)
    raise UntranslatableError(f"its fill value {value!r} is not a {name}")


def json_float(value: float) -> float | str:
    """Return a float as Zarr v3's documents have it."""
    if math.isnan(value):
        return "NaN"
    return value if math.isfinite(value) else ("Infinity" if value > 0 else "-Infinity")
