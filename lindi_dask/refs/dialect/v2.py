"""From Zarr v2 metadata, as LINDI and kerchunk write them, to the one internal dialect: Zarr v3. Pure.

The convention is that of hdmf-zarr (0.14 and later) for NWB: text is `string` with `_DTYPE`, compounds are `structured`
with `_REFERENCE_FIELDS`, soft links are `_LINKS` of the group that they lie in. What can't be translated is listed, so
that the file's tree is whole, with the reason why it can't be read.

Sources: https://zarr-specs.readthedocs.io/en/latest/v2/v2.0.html, .../v3/core/index.html; numcodecs' own v3 names
(`numcodecs.zlib`) as zarr-python registers them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from lindi_dask.refs.dialect.v2_codecs import v3_codecs
from lindi_dask.refs.dialect.v2_kinds import NUMERIC, Kind, UntranslatableError, compound_kind, v2_kind

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "ONLY_LINKED",
    "ArrayPlan",
    "array_document",
    "group_document",
    "link_target",
    "plain_attributes",
    "with_objects",
]

ONLY_LINKED: Final = (
    "its chunks are not in this file but only a link to the dataset that holds them (LINDI leaves out arrays of more "
    "than 1,000 chunks). Open it with expand=True, or write them in by `lindi-dask expand`"
)
"""why LINDI's external array links can't be read"""

_MAX_CHUNK_NBYTES = 2**31  # zarr-python's codecs take no more


@dataclass(frozen=True, slots=True)
class ArrayPlan:
    """An array in the internal dialect."""

    document: dict[str, Any]
    """its `zarr.json`"""
    grid: tuple[int, ...]
    """chunks along each dimension"""
    separator: str
    """between the numbers of a chunk's key in the reference file"""
    prefix: str
    """in front of the numbers of a chunk's key there: "c" for Zarr v3's own form, else nothing"""
    raw_nbytes: int | None
    """bytes of each chunk of an uncompressed array; None for others"""
    tail_nbytes: int | None
    """bytes of the last chunk without padding, of an uncompressed array split along its first dimension only"""
    deflated: int | None
    """bytes of each chunk before deflate, the last codec, packed it; None for others"""
    unreadable: str | None
    """why the array can't be read, or None"""
    may_end_early: bool = False
    """whether any chunk may stop where the array ends (Zarr v3 references), not only the last"""
    compressor: dict[str, Any] | None = None
    """v2's compressor, of an array of JSON whose content says what its elements are (`with_objects`); {} for none"""


def group_document(attributes: dict[str, Any]) -> dict[str, Any]:
    """Return the `zarr.json` of a group."""
    return {"zarr_format": 3, "node_type": "group", "attributes": attributes}


def link_target(attributes: dict[str, Any]) -> str | None:
    """Return the path that a LINDI soft link points at, or None for a group that isn't one."""
    link = attributes.get("_SOFT_LINK")
    return str(link.get("path", "")) if isinstance(link, dict) else None


def plain_attributes(attributes: dict[str, Any], *, lindi: bool) -> dict[str, Any]:
    """Return attributes as NWB-Zarr has them.

    Parameters
    ----------
    attributes
        Of a `.zattrs`.
    lindi
        Whether it is in LINDI's form, which has "NaN", "Infinity" and "-Infinity" for numbers that JSON lacks.
    """
    return {
        name: _plain(value, lindi=lindi)
        for name, value in attributes.items()
        if value is not None and name not in {"_SCALAR", "_COMPOUND_DTYPE", "_SOFT_LINK"}
    }


def _plain(value: Any, *, lindi: bool) -> Any:  # noqa: ANN401 - JSON in, JSON out
    match value:
        case "NaN" | "Infinity" | "-Infinity" if lindi:
            return float(value)
        case {"_REFERENCE": {"path": str(path)}}:
            return {"_REFERENCE": {"source": ".", "path": path}}
        case list():
            return [_plain(item, lindi=lindi) for item in value]
        case _:
            return value


def array_document(zarray: dict[str, Any], attributes: dict[str, Any], *, lindi: bool = False) -> ArrayPlan:
    """Translate one array.

    Parameters
    ----------
    zarray
        Its `.zarray`.
    attributes
        Its `.zattrs`, or {}.
    lindi
        As for `plain_attributes`.

    Raises
    ------
    ValueError
        If shape or chunks make no sense, so that the array can't even be listed, or a filter would run code.
    """
    shape, chunks = _extents(zarray, "shape"), _extents(zarray, "chunks")
    if len(shape) == len(chunks):  # an empty array's chunks may be empty too, which v3 does not have
        chunks = tuple(chunk or int(extent == 0) for chunk, extent in zip(chunks, shape, strict=True))
    if len(shape) != len(chunks) or 0 in chunks:
        raise ValueError(f"shape {list(shape)} and chunks {list(chunks)} do not fit together")
    grid = tuple(-(-extent // chunk) for extent, chunk in zip(shape, chunks, strict=True))
    if math.prod(grid) >= 2**63:
        raise ValueError(f"a grid of {list(grid)} chunks is too large")
    _refuse_pickle(zarray)
    if attributes.get("_SCALAR") is True and shape == chunks == (1,):
        shape = chunks = grid = ()
    kind, unreadable = None, None
    try:
        kind = _kind(zarray, attributes)
        _check_size(kind, chunks)
        codecs = v3_codecs(zarray, kind, ndim=len(shape))
    except UntranslatableError as reason:
        unreadable = str(reason)
        kind, codecs = None, [{"name": "vlen-utf8"}]
    document: dict[str, Any] = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": "string" if kind is None else kind.data_type,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunks)}},
        "chunk_key_encoding": {"name": "v2", "configuration": {"separator": "."}},
        "fill_value": "" if kind is None else kind.fill_value,
        "codecs": codecs,
        "attributes": _array_attributes(attributes, kind, zarray.get("dtype"), lindi=lindi),
    }
    dimensions = attributes.get("_ARRAY_DIMENSIONS")
    if (
        isinstance(dimensions, list)
        and len(dimensions) == len(shape)
        and all(isinstance(name, str) for name in dimensions)
    ):
        document["dimension_names"] = dimensions
    nbytes = None if kind is None or kind.itemsize is None else kind.itemsize * math.prod(chunks)
    raw = nbytes if _is_raw(zarray) else None
    return ArrayPlan(
        document=document,
        grid=grid,
        separator="/" if zarray.get("dimension_separator") == "/" else ".",
        prefix="",
        raw_nbytes=raw,
        tail_nbytes=None if raw is None else _tail_nbytes(shape, chunks, raw, order=zarray.get("order", "C")),
        deflated=nbytes if kind is not None and _is_deflated(zarray) else None,
        unreadable=unreadable,
        compressor=_json_compressor(zarray, kind),
    )


def with_objects(plan: ArrayPlan, items: Sequence[Any], fields: object) -> ArrayPlan:
    """Return the plan of an array of JSON, made exact by what the array holds.

    Parameters
    ----------
    plan
        With a `compressor`.
    items
        All elements of the array: texts, `{"_REFERENCE": ...}` objects, or lists with an item a field.
    fields
        `_COMPOUND_DTYPE`, or None.

    Raises
    ------
    UntranslatableError
        If its texts are too long for records.
    """
    attributes = dict(plan.document["attributes"])
    if not isinstance(fields, list):
        if any(isinstance(item, dict) and "_REFERENCE" in item for item in items):
            attributes["_DTYPE"] = "object_reference"
        return replace(plan, document={**plan.document, "attributes": attributes})
    widths = {
        name: max((len(field_text(row[i])) for row in items if isinstance(row, list) and i < len(row)), default=1)
        for i, (name, _) in enumerate(fields)
    }
    kind = compound_kind([(name, dtype) for name, dtype in fields], widths)
    _check_size(kind, tuple(plan.document["chunk_grid"]["configuration"]["chunk_shape"]))
    document = {**plan.document, "data_type": kind.data_type, "fill_value": kind.fill_value}
    return replace(plan, document=document)


def field_text(value: object) -> str:
    """Return what an item of LINDI's JSON is as text: a string, or the path that an object reference points at."""
    match value:
        case {"_REFERENCE": {"path": str(path)}}:
            return path
        case str():
            return value
        case None:
            return ""
        case _:
            return str(value)


def _array_attributes(attributes: dict[str, Any], kind: Kind | None, dtype: object, *, lindi: bool) -> dict[str, Any]:
    plain = plain_attributes(attributes, lindi=lindi)
    plain.pop("_ARRAY_DIMENSIONS", None)
    # hdmf-zarr wants to know the type of an array that can't be read, too
    name = NUMERIC.get(str(dtype)[1:], "str") if kind is None else kind.name
    if name:
        plain.setdefault("_DTYPE", name)
    if kind is not None and kind.references:
        plain["_REFERENCE_FIELDS"] = list(kind.references)
    return plain


def _kind(zarray: dict[str, Any], attributes: dict[str, Any]) -> Kind:
    if "_EXTERNAL_ARRAY_LINK" in attributes:
        raise UntranslatableError(ONLY_LINKED)
    if zarray.get("zarr_format", 2) != 2:
        raise UntranslatableError(f"its zarr_format is {zarray['zarr_format']!r}, and not 2")
    return v2_kind(zarray, attributes)


def _check_size(kind: Kind, chunks: tuple[int, ...]) -> None:
    if (kind.itemsize or kind.decoded_itemsize) * math.prod(chunks) >= _MAX_CHUNK_NBYTES:
        raise UntranslatableError(f"its chunks of {list(chunks)} elements are larger than 2 GiB")


def _refuse_pickle(zarray: dict[str, Any]) -> None:
    filters = zarray.get("filters")
    steps = [*(filters if isinstance(filters, list) else []), zarray.get("compressor")]
    if any(isinstance(step, dict) and step.get("id") == "pickle" for step in steps):
        raise ValueError("the filter 'pickle' runs whatever code the file holds, and is never used")


def _json_compressor(zarray: dict[str, Any], kind: Kind | None) -> dict[str, Any] | None:
    if kind is None or kind.object_codec != "json2" or len(zarray.get("filters") or []) != 1:
        return None
    return zarray.get("compressor") or {}


def _extents(zarray: dict[str, Any], field: str) -> tuple[int, ...]:
    value = zarray.get(field)
    if not isinstance(value, list) or not all(type(n) is int and 0 <= n < 2**63 for n in value):
        raise ValueError(f"{field} {value!r} is not a list of natural numbers")
    return tuple(value)


def _is_raw(zarray: dict[str, Any]) -> bool:
    return not zarray.get("filters") and not zarray.get("compressor")


def _tail_nbytes(shape: tuple[int, ...], chunks: tuple[int, ...], raw_nbytes: int, *, order: str) -> int | None:
    """Bytes that a contiguous dataset, which LINDI splits along its first dimension, has left for its last chunk."""
    if not shape or order != "C" or shape[1:] != chunks[1:] or shape[0] % chunks[0] == 0:
        return None
    return raw_nbytes // chunks[0] * (shape[0] % chunks[0])


def _is_deflated(zarray: dict[str, Any]) -> bool:
    """Whether what deflate packed is as large as a chunk, so that a stream too short for it can be told at once."""
    filters = zarray.get("filters") or []
    names = [*(step.get("id") for step in filters), (zarray.get("compressor") or {}).get("id")]
    known = [name for name in names if name is not None]
    return known[-1:] in (["zlib"], ["gzip"]) and set(known[:-1]) <= {"shuffle", "fletcher32"}
