"""Chunks of objects that a reference file holds itself, made anew for readers that don't know how they are kept. Pure.

kerchunk's readers (zarr-python 3 by fsspec) know no `json2`, and can't even list a group that has such an array; LINDI
knows references to objects in no other form.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numcodecs
import numpy as np

from lindi_dask.refs.dialect.v2_kinds import UntranslatableError
from lindi_dask.refs.inline import item_text, json_items
from lindi_dask.refs.write.v2 import codec_parts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    from lindi_dask.refs.write.v2 import Codecs, Form, Refer

    Recode: TypeAlias = Callable[[bytes], bytes]
    Recoded: TypeAlias = tuple[dict[str, Any], Recode]

__all__ = ["recoded"]

_MAX_INLINE: Final = 2**26  # bytes of one chunk
_NUMBERS: Final = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def recoded(document: dict[str, Any], form: Form, chunks: Iterable[bytes] | None, refer: Refer) -> Recoded | None:
    """Return the document of an array of objects that readers of a form know, and what makes its chunks.

    Parameters
    ----------
    document
        Its `zarr.json`.
    form
        Whose readers.
    chunks
        All of the array; None if some lie in other files.
    refer
        As in `write_v2`.

    Returns
    -------
    tuple or None
        None where the array is known as it is, or can't be made anew: then it stays what it is.

    Raises
    ------
    UntranslatableError
        If LINDI would read paths where the array has references, or could not read its compounds.
    """
    codecs = codec_parts(document["codecs"])
    if form == "lindi":
        return None if codecs.form is not None else _for_lindi(document, codecs, chunks, refer)
    if codecs.form is None or codecs.compressor is None or chunks is None:
        return None
    if codecs.form["name"] == "lindi-dask.records":
        found = _records(document, codecs.compressor)
    else:
        found = _texts(document, codecs.compressor) if codecs.form["configuration"]["form"] == "json2" else None
    return found if found is not None and _fits(found[1], chunks) else None


def _for_lindi(
    document: dict[str, Any], codecs: Codecs, chunks: Iterable[bytes] | None, refer: Refer
) -> Recoded | None:
    if isinstance(document["data_type"], dict) and document["data_type"]["name"] == "structured":
        what, found = "compounds", _json_records(document, refer)
    elif document["attributes"].get("_DTYPE") == "object_reference":
        what, found = "references to objects", _references(document, refer)
    else:
        return None
    if found is None or codecs.behind or chunks is None or not _fits(found[1], chunks):
        raise UntranslatableError(
            f"LINDI reads its {what} as JSON only, which can be made of plain ones that the reference file holds itself"
        )
    return found


def _fits(recode: Recode, chunks: Iterable[bytes]) -> bool:
    try:
        for chunk in chunks:
            recode(chunk)
    except ValueError:
        return False
    return True


def _texts(document: dict[str, Any], compressor: dict[str, Any]) -> Recoded:
    count = _count(document)

    def recode(data: bytes) -> bytes:
        texts = [item_text(item) for item in _items(data, compressor, count)]
        return bytes(numcodecs.VLenUTF8().encode(np.array(texts, dtype=object)))

    return {**document, "codecs": [{"name": "vlen-utf8"}]}, recode


def _records(document: dict[str, Any], compressor: dict[str, Any]) -> Recoded | None:
    fields = document["data_type"]["configuration"]["fields"]
    if not all(isinstance(kind, str) for _, kind in fields):
        return None  # text in compounds has no form that both zarr and we read
    count, dtype = _count(document), np.dtype([(name, np.dtype(kind).newbyteorder("<")) for name, kind in fields])

    def recode(data: bytes) -> bytes:
        rows = _items(data, compressor, count)
        if not all(isinstance(row, list) and len(row) == len(fields) for row in rows):
            raise ValueError("its rows have another number of fields")
        out = np.zeros(count, dtype)
        for i, (name, _) in enumerate(fields):
            out[name] = _column([row[i] for row in rows], dtype[name])
        return out.tobytes()

    codecs = [{"name": "bytes", "configuration": {"endian": "little"}}]
    return {**document, "codecs": codecs}, recode


def _references(document: dict[str, Any], refer: Refer) -> Recoded | None:
    if document["data_type"] != "string":
        return None
    count = _count(document)

    def recode(data: bytes) -> bytes:
        if len(data) < 4 + 4 * count or int.from_bytes(data[:4], "little") != count:  # numcodecs makes room for it
            raise ValueError(f"it does not have {count} elements")
        paths = numcodecs.VLenUTF8().decode(data).tolist()
        return _json2([_reference(path, refer) for path in paths], document)

    codecs = [{"name": "vlen-utf8"}, {"name": "lindi-dask.text", "configuration": {"form": "json2"}}]
    return {**document, "codecs": codecs}, recode


def _json_records(document: dict[str, Any], refer: Refer) -> Recoded | None:
    fields = document["data_type"]["configuration"]["fields"]
    types = [_json_type(kind) for _, kind in fields]
    if None in types:
        return None
    dtype = np.dtype([(name, kind) for (name, _), kind in zip(fields, types, strict=True)])
    references = document["attributes"].get("_REFERENCE_FIELDS", [])
    pointing = [name in references for name, _ in fields]

    def recode(data: bytes) -> bytes:
        rows = np.frombuffer(data, dtype, _count(document)).tolist()
        found = [
            [_reference(v, refer) if points else v for v, points in zip(row, pointing, strict=True)] for row in rows
        ]
        return _json2(found, document)

    configuration = {"references": [name for name, _ in fields if name in references]}
    codecs = [*document["codecs"], {"name": "lindi-dask.records", "configuration": configuration}]
    return {**document, "codecs": codecs}, recode


def _json_type(data_type: Any) -> str | None:  # noqa: ANN401 - as in JSON
    """Return numpy's type of a field that JSON can hold, or None."""
    match data_type:
        case str() if not data_type.startswith("complex"):
            return np.dtype(data_type).newbyteorder("<").str
        case {"name": "fixed_length_utf32", "configuration": {"length_bytes": size}}:
            return f"<U{size // 4}"
    return None


def _reference(path: str, refer: Refer) -> dict[str, Any] | None:
    return refer(path) if path else None


def _json2(items: list[Any], document: dict[str, Any]) -> bytes:
    """Return elements as numcodecs' JSON filter has them."""
    chunks = document["chunk_grid"]["configuration"]["chunk_shape"] or [1]
    held: Any = np.empty(len(items), dtype=object)
    held[:] = items
    return json.dumps([*held.reshape(chunks).tolist(), "|O", chunks], separators=(",", ":"), sort_keys=True).encode(
        "ascii"
    )


def _count(document: dict[str, Any]) -> int:
    return math.prod(document["chunk_grid"]["configuration"]["chunk_shape"])


def _items(data: bytes, compressor: dict[str, Any], count: int) -> list[Any]:
    items = json_items(data, compressor, limit=_MAX_INLINE)
    if len(items) != count:
        raise ValueError(f"it has {len(items)} elements where {count} were expected")
    return items


def _column(values: list[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    numbers = [_NUMBERS.get(value, value) if isinstance(value, str) else value for value in values]
    if not all(isinstance(value, bool | int | float) for value in numbers):
        raise ValueError("it holds what are not numbers")
    column, reason = np.zeros(0, dtype), "a number is too large"
    try:
        column = np.array(numbers, dtype)
        reason = "" if dtype.kind == "f" or column.tolist() == numbers else "a number does not fit"
    except OverflowError:
        pass
    if reason:
        raise ValueError(reason)
    return column
