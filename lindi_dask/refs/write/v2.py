"""From the internal dialect back to Zarr v2 metadata, as LINDI and kerchunk have it: `dialect.py` in reverse. Pure.

What the two differ in: LINDI has no 0-d arrays (shape (1,) with `_SCALAR`), writes NaN and infinities of attributes as
text, and wants four members of a reference to an object (LINDI 0.4.6, `LindiH5pyReference`).
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from lindi_dask.refs.dialect.v2_kinds import NUMERIC, UntranslatableError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["JSON2", "RESERVED", "Codecs", "Form", "Refer", "V2Array", "codec_parts", "v2_array", "v2_attribute"]

Form: TypeAlias = Literal["lindi", "kerchunk"]
"""whose Zarr v2 it is"""

Refer: TypeAlias = "Callable[[str], dict[str, Any]]"
"""makes LINDI's object `{"_REFERENCE": ...}` of the path that it points at"""

JSON2: Final[dict[str, Any]] = {
    "id": "json2", "encoding": "utf-8", "allow_nan": True, "check_circular": True, "ensure_ascii": True,
    "indent": None, "separators": [",", ":"], "skipkeys": False, "sort_keys": True, "strict": True,
}  # fmt: skip
"""the filter that LINDI gives to arrays of strings, object references and compounds"""

RESERVED: Final = frozenset(("_COMPOUND_DTYPE", "_EXTERNAL_ARRAY_LINK", "_SCALAR", "_SOFT_LINK"))
"""attributes by which v2 readers take an array or group for something else"""

_SHORT: Final = {name: short for short, name in NUMERIC.items()}
_SPECIAL: Final = frozenset(("NaN", "Infinity", "-Infinity"))
_TO_BYTES: Final = frozenset(("bytes", "vlen-bytes", "vlen-utf8"))
_CHECKSUMS: Final = frozenset(("adler32", "crc32", "crc32c", "fletcher32", "jenkins_lookup3", "shuffle"))
_BLOSC_SHUFFLE: Final = {"noshuffle": 0, "shuffle": 1, "bitshuffle": 2}
_LINDI_PADS: Final = frozenset("fiu")


@dataclass(frozen=True, slots=True)
class V2Array:
    """An array in Zarr v2."""

    zarray: dict[str, Any]
    """its `.zarray`"""
    extra: dict[str, Any]
    """attributes that say of the array what `.zarray` can't"""
    dropped: frozenset[str]
    """attributes of the internal dialect that say what readers of v2 see anyway"""
    pads: bool
    """whether readers pad chunks that are shorter than uncompressed ones should be"""


@dataclass(frozen=True, slots=True)
class Codecs:
    """The codecs of an array, taken apart."""

    before: list[dict[str, Any]]
    """from arrays to arrays"""
    to_bytes: dict[str, Any]
    """from arrays to bytes"""
    form: dict[str, Any] | None
    """behind it, where LINDI has other bytes in its stead"""
    behind: list[dict[str, Any]]
    """from bytes to bytes"""

    @property
    def compressor(self) -> dict[str, Any] | None:
        """The one codec behind, as numcodecs has it: {} if there is none, None for more."""
        if len(self.behind) > 1:
            return None
        return _step(self.behind[0]) if self.behind else {}


def codec_parts(codecs: list[dict[str, Any]]) -> Codecs:
    """Take codecs apart.

    Raises
    ------
    UntranslatableError
        If one of Zarr v3 makes the bytes.
    """
    at = next((i for i, codec in enumerate(codecs) if codec["name"] in _TO_BYTES), None)
    if at is None:
        raise UntranslatableError(f"its codec {codecs[0]['name']!r} is one of Zarr v3 only")
    behind = codecs[at + 1 :]
    form = behind.pop(0) if behind and behind[0]["name"].startswith("lindi-dask.") else None
    return Codecs(codecs[:at], codecs[at], form, behind)


def v2_array(document: dict[str, Any], form: Form) -> V2Array:
    """Translate one array; its chunks stay what they are.

    Parameters
    ----------
    document
        Its `zarr.json`.
    form
        Whose v2.

    Raises
    ------
    UntranslatableError
        If that has no form in v2, with the reason.
    """
    attributes, codecs = document["attributes"], codec_parts(document["codecs"])
    dtype, objects = _dtype(document["data_type"], codecs)
    before, order = _order(codecs.before)
    steps = [_step(codec) for codec in (*before, *codecs.behind)]
    compressor = steps.pop() if codecs.behind and steps[-1]["id"] not in _CHECKSUMS else None
    filters = [*([objects] if objects else []), *steps]
    shape, chunks = document["shape"], document["chunk_grid"]["configuration"]["chunk_shape"]
    extra: dict[str, Any] = {}
    if form == "lindi" and not shape:
        shape, chunks, extra = [1], [1], {"_SCALAR": True}
    names = document.get("dimension_names")
    if names is not None and None not in names:
        extra["_ARRAY_DIMENSIONS"] = names
    dropped = {"_DTYPE"} if attributes.get("_DTYPE") == _plain_name(document["data_type"]) else set()
    if codecs.form is not None and codecs.form["name"] == "lindi-dask.records":
        extra["_COMPOUND_DTYPE"] = _lindi_fields(document["data_type"], codecs.form)
        dropped.add("_REFERENCE_FIELDS")
    if objects == JSON2 and attributes.get("_DTYPE") == "object_reference":
        dropped.add("_DTYPE")
    return V2Array(
        zarray={
            "zarr_format": 2,
            "shape": shape,
            "chunks": chunks,
            "dtype": dtype,
            "fill_value": _fill_value(document["fill_value"], dtype, document["data_type"], form),
            "order": order,
            "compressor": compressor,
            "filters": filters or None,
        },
        extra=extra,
        dropped=frozenset(dropped),
        pads=form == "lindi" and isinstance(dtype, str) and dtype[1] in _LINDI_PADS,
    )


def v2_attribute(value: Any, form: Form, refer: Refer) -> Any:  # noqa: ANN401 - JSON in, JSON out
    """Return the value of an attribute.

    Raises
    ------
    UntranslatableError
        If LINDI would take it for another one.
    """
    if form == "kerchunk":
        return value
    match value:
        case str() if value in _SPECIAL:
            raise UntranslatableError(f"it is the text {value!r}, which in LINDI's form is a number")
        case float() if not math.isfinite(value):
            return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
        case {"_REFERENCE": {"path": str(path), **members}}:
            if members.get("source", ".") != ".":
                raise UntranslatableError(f"it refers to the other file {members['source']!r}")
            return refer(path)
        case list():
            return [v2_attribute(item, form, refer) for item in value]
        case dict():
            return {name: v2_attribute(item, form, refer) for name, item in value.items()}
        case _:
            return value


# What the elements are


def _dtype(data_type: Any, codecs: Codecs) -> tuple[Any, dict[str, Any] | None]:  # noqa: ANN401 - as in JSON
    """Return the type in v2, and the filter that makes bytes of objects."""
    if codecs.form is not None:
        form = codecs.form["configuration"].get("form", "json2")
        return ("|O", JSON2) if form == "json2" else (form, None)
    to_bytes = codecs.to_bytes
    if to_bytes["name"] != "bytes":
        return "|O", {"id": to_bytes["name"]}
    match data_type:
        case {"name": "structured", "configuration": {"fields": fields}}:
            return [[name, _field(name, kind)] for name, kind in fields], None
        case {"name": "null_terminated_bytes", "configuration": {"length_bytes": size}}:
            return f"|S{size}", None
        case {"name": "fixed_length_utf32", "configuration": {"length_bytes": size}}:
            return f"{_sign(to_bytes)}U{size // 4}", None
        case str(name) if name in _SHORT:
            short = _SHORT[name]
            return f"{'|' if short[1:] == '1' else _sign(to_bytes)}{short}", None
    raise UntranslatableError(f"its data type {data_type!r} has no form in Zarr v2")


def _field(name: str, data_type: Any) -> Any:  # noqa: ANN401 - as in JSON
    match data_type:
        case {"name": "structured", "configuration": {"fields": fields}}:
            return [[inner, _field(inner, kind)] for inner, kind in fields]
        case {"name": "fixed_length_utf32", "configuration": {"length_bytes": size}}:
            return f"<U{size // 4}"
        case {"name": "null_terminated_bytes", "configuration": {"length_bytes": size}}:
            return f"|S{size}"
        case str() if data_type in _SHORT:
            short = _SHORT[data_type]
            return f"{'|' if short[1:] == '1' else '<'}{short}"
    raise UntranslatableError(f"the type of its field {name!r}, {data_type!r}, has no form in the v2 that we read")


def _sign(to_bytes: dict[str, Any]) -> str:
    return ">" if to_bytes.get("configuration", {}).get("endian") == "big" else "<"


def _lindi_fields(data_type: dict[str, Any], form: dict[str, Any]) -> list[list[str]]:
    references = form["configuration"]["references"]
    return [
        [name, kind if isinstance(kind, str) else "<REFERENCE>" if name in references else "object"]
        for name, kind in data_type["configuration"]["fields"]
    ]


def _plain_name(data_type: Any) -> str | None:  # noqa: ANN401 - as in JSON
    """Return what `_DTYPE` says of an array in any case."""
    match data_type:
        case "string" | {"name": "fixed_length_utf32"}:
            return "str"
        case "variable_length_bytes":
            return "bytes"
        case {"name": "null_terminated_bytes", "configuration": {"length_bytes": size}}:
            return f"S{size}"
        case str():
            return data_type
        case _:
            return None


def _fill_value(value: Any, dtype: Any, data_type: Any, form: Form) -> Any:  # noqa: ANN401 - JSON in, JSON out
    if dtype == "|O":
        if data_type == "string" and value:
            return value
        if value and data_type == "variable_length_bytes":
            raise UntranslatableError(f"its fill value {value!r} has no form in Zarr v2")
        return 0 if form == "lindi" else None  # as the two write it
    if isinstance(value, list):
        return [_fill_value(part, f"<f{int(dtype[2:]) // 2}", "", form) for part in value]
    if isinstance(value, str) and value.startswith("0x") and isinstance(dtype, str) and dtype[1] in "fc":
        found: float = struct.unpack({2: ">e", 4: ">f", 8: ">d"}[len(value) // 2 - 1], bytes.fromhex(value[2:]))[0]
        if math.isfinite(found):
            return found
        return "NaN" if math.isnan(found) else "Infinity" if found > 0 else "-Infinity"
    return value


# Codecs


def _order(codecs: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], str]:
    """Return the codecs for arrays without the transposition, and the order that it stands for."""
    orders = [codec["configuration"]["order"] for codec in codecs if codec["name"] == "transpose"]
    if not orders:
        return codecs, "C"
    if len(codecs) > 1 or orders[0] != list(range(len(orders[0])))[::-1]:
        raise UntranslatableError(f"its transposition {orders} has no form in Zarr v2")
    return [], "F"


def _step(codec: dict[str, Any]) -> dict[str, Any]:
    """Return a codec as numcodecs has it."""
    name, configuration = codec["name"], codec.get("configuration", {})
    match name:
        case "blosc":
            kept = {key: configuration[key] for key in ("cname", "clevel", "blocksize")}
            return {"id": "blosc", **kept, "shuffle": _BLOSC_SHUFFLE[configuration["shuffle"]]}
        case "zstd" | "gzip":
            return {"id": name, **configuration}
        case _ if name.startswith("numcodecs."):
            return {"id": name.removeprefix("numcodecs."), **configuration}
    raise UntranslatableError(f"its codec {name!r} is one of Zarr v3 only")
