"""What the elements of a Zarr v3 array are: data type, fill value, codec to bytes, as any zarr reads them. Pure.

Sources: https://zarr-specs.readthedocs.io/en/latest/v3/data-types/index.html;
https://github.com/zarr-developers/zarr-extensions, "data-types".
"""

from __future__ import annotations

import base64
import math
import re
from typing import Any, Final

import numpy as np

from lindi_dask.refs.dialect.v2_kinds import MAX_ITEM_NBYTES, NUMERIC, Kind, UntranslatableError, json_float

__all__ = ["NUMBERS", "check_members", "named", "v3_kind"]

NUMBERS: Final = frozenset(NUMERIC.values())
"""names of the data types that are plain numbers"""

_FIELD_TYPES: Final = NUMBERS | {"fixed_length_utf32", "null_terminated_bytes"}
_COMPOUNDS: Final = frozenset(("struct", "structured"))
_MAX_DEPTH: Final = 16  # compounds within each other
_HEXADECIMAL = re.compile(r"0x[0-9A-Fa-f]+")


def v3_kind(data_type: object, fill_value: object) -> Kind:
    """Return what the elements of a v3 array are.

    Parameters
    ----------
    data_type, fill_value
        Of its `zarr.json`.

    Raises
    ------
    UntranslatableError
        If they can't be read, with the reason.
    """
    name, configuration = named(data_type, "data type")
    check_members(name, configuration, {"fields", "length_bytes"}, what="data type")
    if name in NUMBERS and not configuration:
        return _number(name, fill_value)
    if name == "string" and not configuration:
        return Kind("string", "str", {"name": "vlen-utf8"}, _text_fill(fill_value), None)
    if name == "variable_length_bytes" and not configuration:
        return Kind(name, "bytes", {"name": "vlen-bytes"}, _base64_fill(fill_value, None), None)
    size = configuration.get("length_bytes")
    if set(configuration) == {"length_bytes"} and type(size) is int and 0 < size <= MAX_ITEM_NBYTES:
        plain = {"name": name, "configuration": {"length_bytes": size}}
        if name == "null_terminated_bytes":
            return Kind(plain, f"S{size}", {"name": "bytes"}, _base64_fill(fill_value, size), size)
        if name == "fixed_length_utf32" and size % 4 == 0:
            text = _text_fill(fill_value)
            if 4 * len(text) > size:
                raise UntranslatableError(f"its fill value {fill_value!r} is longer than {size // 4} characters")
            return Kind(plain, "str", _little(), text, size, "little")
    if name in _COMPOUNDS and set(configuration) == {"fields"}:
        return _compound(configuration["fields"], fill_value)
    raise UntranslatableError(f"its data type {data_type!r} is not known")


def named(value: object, what: str) -> tuple[str, dict[str, Any]]:
    """Return name and configuration of an extension: an object, or only a name.

    Parameters
    ----------
    value
        Of the document.
    what
        For the error.
    """
    if isinstance(value, str):
        return value, {}
    members = value if isinstance(value, dict) else {}
    name, configuration = members.get("name"), members.get("configuration")
    configuration = {} if configuration is None else configuration
    if not isinstance(name, str) or not isinstance(configuration, dict):
        raise UntranslatableError(f"its {what} {value!r} has no name or no configuration")
    return name, configuration


def check_members(name: str, configuration: dict[str, Any], known: set[str], *, what: str) -> None:
    """Refuse members of an extension's configuration that are not known: they may change what its data mean."""
    unknown = set(configuration) - known
    if unknown:
        raise UntranslatableError(f"its {what} {name!r} has {sorted(map(str, unknown))}, which is not known")


def _little() -> dict[str, Any]:
    return {"name": "bytes", "configuration": {"endian": "little"}}


def _number(name: str, fill_value: object) -> Kind:
    size = np.dtype(name).itemsize
    endian = "little" if size > 1 else None
    return Kind(name, name, _little() if endian else {"name": "bytes"}, _number_fill(fill_value, name), size, endian)


def _number_fill(value: Any, name: str) -> Any:  # noqa: ANN401 - JSON in, JSON out
    bits = 8 * np.dtype(name).itemsize
    if name.startswith("complex"):
        if isinstance(value, list) and len(value) == 2:
            return [_number_fill(part, f"float{bits // 2}") for part in value]
    elif name.startswith("float"):
        if value in ("NaN", "Infinity", "-Infinity"):
            return value
        if isinstance(value, str) and _HEXADECIMAL.fullmatch(value) and len(value) == 2 + bits // 4:
            return value
        if isinstance(value, float) or (type(value) is int and abs(value) < 2**1023):
            with np.errstate(over="ignore"):
                overflows = math.isfinite(value) and not np.isfinite(np.dtype(name).type(value))
            if not overflows:
                return json_float(float(value))
    elif name == "bool":
        if isinstance(value, bool):
            return value
    elif (type(value) is int or (isinstance(value, float) and value.is_integer())) and (
        np.iinfo(name).min <= value <= np.iinfo(name).max
    ):
        return int(value)
    raise UntranslatableError(f"its fill value {value!r} is not one of {name}")


def _text_fill(value: object) -> str:
    if isinstance(value, str) and not any("\ud800" <= character <= "\udfff" for character in value):
        return value
    raise UntranslatableError(f"its fill value {value!r} is not text")


def _base64_fill(value: object, size: int | None) -> str:
    data = _unbase64(value)
    if data is None or (size is not None and len(data) > size):
        limit = "" if size is None else f" of up to {size} bytes"
        raise UntranslatableError(f"its fill value {value!r} is not a text{limit} in base64")
    return base64.b64encode(data).decode("ascii")


def _unbase64(value: object) -> bytes | None:
    try:
        return base64.b64decode(value, validate=True) if isinstance(value, str) else None
    except ValueError:
        return None


def _compound(fields: object, fill_value: object, depth: int = 0) -> Kind:
    """Packed records, in the form that zarr 3.1.6 knows: `structured`, with pairs and a fill value in base64."""
    kinds: dict[str, Kind] = {}
    fills = fill_value if isinstance(fill_value, dict) else {}
    for field in fields if isinstance(fields, list) else []:
        match field:
            case [str(name), data_type] | {"name": str(name), "data_type": data_type} if name and name not in kinds:
                kinds[name] = _field(name, data_type, fills, depth)
            case _:
                raise UntranslatableError(f"its compound field {field!r} can't be read")
    size = sum(kind.itemsize or 0 for kind in kinds.values())
    if not kinds or size > MAX_ITEM_NBYTES:
        raise UntranslatableError(f"its compound type of {len(kinds)} fields and {size} bytes can't be read")
    if isinstance(fill_value, dict) and set(fill_value) <= set(kinds):
        filled = b"".join(map(_packed, kinds.values()))
    else:
        filled = _unbase64(fill_value) or b""
    if len(filled) != size:
        raise UntranslatableError(f"its fill value {fill_value!r} is not a record of {size} bytes")
    pairs = [[name, kind.data_type] for name, kind in kinds.items()]
    data_type = {"name": "structured", "configuration": {"fields": pairs}}
    return Kind(data_type, "", _little(), base64.b64encode(filled).decode("ascii"), size, "little")


def _field(name: str, data_type: object, fills: dict[str, Any], depth: int) -> Kind:
    """Return what a field is; where the fill value has nothing for it, zeros."""
    type_name, configuration = named(data_type, "compound field")
    if type_name in _COMPOUNDS:
        if depth > _MAX_DEPTH or set(configuration) != {"fields"}:
            raise UntranslatableError(f"its compound field {name!r} is nested too deeply, or has no fields")
        return _compound(configuration["fields"], fills.get(name, {}), depth + 1)
    if type_name not in _FIELD_TYPES:
        raise UntranslatableError(f"its compound field {name!r} has the data type {data_type!r}, which can't be read")
    zero: Any = "" if type_name not in NUMBERS else False if type_name == "bool" else 0
    return v3_kind(data_type, fills.get(name, [0, 0] if type_name.startswith("complex") else zero))


def _packed(kind: Kind) -> bytes:
    """Return the bytes of a field's fill value, little-endian."""
    fill, size = kind.fill_value, kind.itemsize or 0
    if not kind.name:
        return base64.b64decode(fill)
    if isinstance(kind.data_type, dict):
        data = fill.encode("utf-32-le") if kind.endian else base64.b64decode(fill)
        return bytes(data.ljust(size, b"\0"))
    if isinstance(fill, list):
        return b"".join(_packed(_number(f"float{4 * size}", part)) for part in fill)
    if isinstance(fill, str) and fill.startswith("0x"):
        return bytes.fromhex(fill[2:])[::-1]
    number = float(fill) if isinstance(fill, str) else fill
    return np.array(number, np.dtype(kind.data_type).newbyteorder("<")).tobytes()
