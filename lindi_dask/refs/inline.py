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

__all__ = ["inline_bytes", "json_items"]


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
    text = _inflated(bytes(data), compressor.get("id"), limit)
    items: list[Any]
    try:
        *items, _, shape = json.loads(text)
    except RecursionError:
        items, shape = [], None
    if not isinstance(shape, list):
        raise ValueError("it is not what numcodecs' JSON filter writes")  # noqa: TRY004 - a value of the file
    for _ in shape[1:]:
        items = [item for row in items if isinstance(row, list) for item in row]
    return items


def _inflated(data: bytes, compressor: str | None, limit: int) -> bytes:
    match compressor:
        case None:
            return data
        case "blosc":
            nbytes, _, held = struct.unpack_from("<III", data, 4) if len(data) >= 16 else (0, 0, 0)
            if held != len(data) or nbytes > limit:
                raise ValueError("its Blosc frame is not whole, or too large")
            try:
                decoded: bytes = numcodecs.blosc.decompress(data)
            except RuntimeError:
                decoded = b""
            return decoded
        case "zlib" | "gzip":
            try:
                return zlib.decompressobj(wbits=47).decompress(data, limit)
            except zlib.error:
                return b""
        case _:
            return b""


def _invalid(key: str, reason: str) -> InvalidReferences:
    return InvalidReferences(f"The entry {key!r} is not valid: {reason}.", key=key, reason=reason)
