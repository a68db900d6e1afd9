"""Values that a reference file holds itself. Pure."""

from __future__ import annotations

import base64
import contextlib
import json
import struct
import zlib
from typing import Any

import numcodecs.blosc

from lindi_dask.errors import InvalidReferences

__all__ = ["inline_bytes", "item_text", "items_of", "json_items", "json_text"]

_MAX_ITEMS = 2**21  # values: as objects of Python they take some hundred times the room that they have in JSON


def inline_bytes(key: str, value: str | dict[str, Any], *, limit: int) -> bytes:
    """Return the bytes that an entry stands for.

    Parameters
    ----------
    key
        Of the entry, for the error.
    value
        Text, `base64:` and text, or an object, which stands for its JSON.
    limit
        Bytes, at most.

    Raises
    ------
    InvalidReferences
        If it is larger, or not what it says.
    """
    if isinstance(value, dict):
        return json.dumps(value).encode()
    coded, data = value.startswith("base64:"), None
    if len(value) > limit * (2 if coded else 1):
        raise _invalid(key, f"it is larger than {limit >> 20} MiB")
    with contextlib.suppress(ValueError):  # base64's errors and UTF-8's are of this kind
        data = base64.b64decode(value.removeprefix("base64:"), validate=True) if coded else value.encode()
    if data is None:
        what = "what follows 'base64:' is not base64" if coded else "it is not text: it holds half a character"
        raise _invalid(key, what)
    if len(data) > limit:
        raise _invalid(key, f"it is larger than {limit >> 20} MiB")
    return data


def json_items(data: bytes | bytearray, compressor: dict[str, Any], *, limit: int) -> list[Any]:
    """Return the elements of a chunk of numcodecs' JSON filter, one after the other.

    Parameters
    ----------
    data
        The encoded chunk.
    compressor
        That was used on it (`{"id": "blosc", ...}`), or {}.
    limit
        Bytes of JSON, at most.

    Raises
    ------
    ValueError
        If it can't be decoded.
    """
    return items_of(json_text(data, compressor, limit=limit))


def json_text(data: bytes | bytearray, compressor: dict[str, Any], *, limit: int) -> bytes:
    """Return a chunk of numcodecs' JSON filter without its compression; parameters and errors as of `json_items`."""
    encoded = bytes(data)
    match compressor.get("id"):
        case None if len(encoded) <= limit:
            return encoded
        case "blosc":
            nbytes, _, held = struct.unpack_from("<III", encoded, 4) if len(encoded) >= 16 else (0, 0, 0)
            if held == len(encoded) and nbytes <= limit:
                with contextlib.suppress(RuntimeError):
                    decoded: bytes = numcodecs.blosc.decompress(encoded)
                    return decoded
        case "zlib" | "gzip":
            inflater = zlib.decompressobj(wbits=47)
            with contextlib.suppress(zlib.error):
                text = inflater.decompress(encoded, max(limit, 1))  # 0 would be no limit
                if inflater.eof:
                    return text
    raise ValueError("its compression can't be undone, or not within the limit")


def items_of(text: bytes) -> list[Any]:
    """Return the elements of a decoded chunk of numcodecs' JSON filter; `ValueError` if it is none."""
    if sum(map(text.count, (b",", b"[", b"{"))) > _MAX_ITEMS:
        raise ValueError(f"it has more than {_MAX_ITEMS:,} values")
    items: list[Any]
    try:
        *items, _, shape = json.loads(text)
    except (RecursionError, TypeError):  # too deep, or a number
        items, shape = [], None
    if not isinstance(shape, list):
        raise ValueError("it is not what numcodecs' JSON filter writes")  # noqa: TRY004 - a value of the file
    for _ in shape[1:]:
        items = [item for row in items if isinstance(row, list) for item in row]
    return items


def item_text(item: object) -> str:
    """Return what an element of LINDI's JSON is as text: a string, or the path that an object reference points at.

    Raises
    ------
    ValueError
        If it is neither, nor null.
    """
    match item:
        case str():
            return item
        case {"_REFERENCE": {"path": str(path)}}:
            return path
        case None:
            return ""
        case _:
            raise ValueError(f"it holds {type(item).__name__} where text was expected")


def _invalid(key: str, reason: str) -> InvalidReferences:
    message = f"The entry {key!r} is not valid: {reason}. Mend it, or make the references anew."
    return InvalidReferences(message, key=key, reason=reason)
