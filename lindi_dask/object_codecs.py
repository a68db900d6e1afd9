"""zarr codecs for what LINDI keeps as JSON or in fixed width: text, object references, compounds. They only decode.

Both are codecs from bytes to bytes, since zarr takes none but its own for text. `lindi-dask.text` stands behind
`vlen-utf8`, and has numcodecs' JSON filter (`json2`) or numpy's fixed-width text (`<U10`) in its stead; an object
reference becomes the path that it points at. `lindi-dask.records` stands behind `bytes`, and has JSON rows for packed
records.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numcodecs.vlen import VLenUTF8
from zarr.abc.codec import BytesBytesCodec
from zarr.registry import register_codec

from lindi_dask.refs.inline import item_text

if TYPE_CHECKING:
    from typing import Self

    from numpy.typing import NDArray
    from zarr.core.array_spec import ArraySpec
    from zarr.core.buffer import Buffer

__all__ = ["RecordsCodec", "TextCodec", "register"]

_MAX_SEPARATORS = (
    2**21
)  # of JSON, besides those of its elements: what has more of them is no text, and fills the memory
_FIXED = re.compile(r"[<>|]U[1-9][0-9]{0,5}")


class _DecodeOnly(BytesBytesCodec):
    """What both codecs share."""

    is_fixed_size = False

    def evolve_from_array_spec(self, array_spec: ArraySpec) -> Self:  # noqa: ARG002 - zarr's signature
        """Return the codec; it is the same for all arrays."""
        return self

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: ArraySpec) -> int:
        """Raise: the size depends on the content."""
        raise NotImplementedError("text has no fixed size")

    async def _decode_single(self, chunk_data: Buffer, chunk_spec: ArraySpec) -> Buffer:
        return self._decode_sync(chunk_data, chunk_spec)

    def _decode_sync(self, chunk_data: Buffer, chunk_spec: ArraySpec) -> Buffer:
        plain = self.decoded(chunk_data.to_bytes(), chunk_spec.shape, chunk_spec.dtype.to_native_dtype())
        return chunk_spec.prototype.buffer.from_bytes(plain)

    async def _encode_single(self, chunk_data: Buffer, chunk_spec: ArraySpec) -> Buffer | None:
        return self._encode_sync(chunk_data, chunk_spec)

    def _encode_sync(self, chunk_data: Buffer, chunk_spec: ArraySpec) -> Buffer | None:
        raise NotImplementedError("references are never written through zarr")

    def decoded(self, data: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
        """Return a chunk in the plain form.

        Parameters
        ----------
        data
            Encoded.
        shape, dtype
            Of the chunk.

        Raises
        ------
        ValueError
            If the data are not a chunk of that shape and type.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class TextCodec(_DecodeOnly):
    """Text as LINDI keeps it; `form` is "json2" or numpy's type of fixed width."""

    form: str

    def __post_init__(self) -> None:
        if self.form != "json2" and not _FIXED.fullmatch(self.form):
            raise ValueError(f"lindi-dask.text has no form {self.form!r}")

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Return the codec that a document describes."""
        return cls(form=str(data["configuration"]["form"]))

    def to_dict(self) -> dict[str, Any]:
        """Return the codec's part of a document."""
        return {"name": "lindi-dask.text", "configuration": {"form": self.form}}

    def decoded(self, data: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:  # noqa: ARG002 - text has one type
        """Return a chunk of text as `vlen-utf8` has it."""
        if self.form == "json2":
            texts = [item_text(item) for item in _elements(data, shape)]
        else:
            texts = np.frombuffer(data, self.form).tolist()
            if len(texts) != math.prod(shape):
                raise ValueError(f"it has {len(texts)} elements where {math.prod(shape)} were expected")
        held = np.empty(len(texts), object)
        held[:] = texts
        encoded: bytes = VLenUTF8().encode(held)
        return bytes(encoded)


@dataclass(frozen=True)
class RecordsCodec(_DecodeOnly):
    """Compounds as LINDI keeps them: JSON with a list an element."""

    references: tuple[str, ...] = ()

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Return the codec that a document describes."""
        return cls(references=tuple(data.get("configuration", {}).get("references", ())))

    def to_dict(self) -> dict[str, Any]:
        """Return the codec's part of a document."""
        return {"name": "lindi-dask.records", "configuration": {"references": list(self.references)}}

    def decoded(self, data: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
        """Return a chunk of records, packed."""
        fields = dtype.names or ()
        rows = _elements(data, shape)
        if not all(isinstance(row, list) and len(row) == len(fields) for row in rows):
            raise ValueError(f"its rows are not lists of {len(fields)} values")
        out = np.zeros(len(rows), dtype)
        for i, name in enumerate(fields):
            out[name] = _column([row[i] for row in rows], dtype[name], name)
        return out.tobytes()


def register() -> None:
    """Make the codecs known to zarr."""
    register_codec("lindi-dask.text", TextCodec)
    register_codec("lindi-dask.records", RecordsCodec)


def _elements(data: bytes, shape: tuple[int, ...]) -> list[Any]:
    """Return the elements of what numcodecs' JSON filter wrote: nested lists, numpy's type of objects, the shape."""
    reason = "it is not what numcodecs' JSON filter writes"
    if sum(map(data.count, (b",", b"[", b"{"))) > _MAX_SEPARATORS + 64 * math.prod(shape):
        raise ValueError("it has far more values than its elements need")
    rows: list[Any]
    try:
        *rows, dtype, stored = json.loads(data)
    except (ValueError, TypeError, RecursionError) as error:
        reason = f"it is not JSON ({error})"
        rows, dtype, stored = [], None, None
    if dtype != "|O" or not isinstance(stored, list) or not all(type(extent) is int for extent in stored):
        raise ValueError(reason)
    elements = _flat(rows, tuple(stored))
    if len(elements) != math.prod(shape):
        raise ValueError(f"it has {len(elements)} elements where {math.prod(shape)} were expected")
    return elements


def _flat(rows: list[Any], shape: tuple[int, ...]) -> list[Any]:
    """Return the elements of nested lists of exactly this shape, in C order."""
    items = rows if shape else [*rows]
    for axis, extent in enumerate(shape or (1,)):
        expected = math.prod(shape[: axis + 1]) if shape else extent
        if axis:
            if not all(isinstance(row, list) and len(row) == extent for row in items):
                raise ValueError(f"its rows are not lists of {extent}")
            items = [item for row in items for item in row]
        if len(items) != expected:
            raise ValueError(f"it has {len(items)} elements where {expected} were expected")
    return items


def _column(values: list[Any], dtype: np.dtype[Any], name: str) -> NDArray[Any]:
    if dtype.kind == "U":
        texts = [item_text(value) for value in values]
        chars = dtype.itemsize // 4
        if any(len(text) > chars for text in texts):
            raise ValueError(f"a text of its field {name!r} has more than {chars} characters")
        return np.array(texts, dtype)
    special = {"NaN": np.nan, "Infinity": np.inf, "-Infinity": -np.inf}
    numbers = [special.get(value, value) if isinstance(value, str) else value for value in values]
    if not all(isinstance(value, bool | int | float) for value in numbers):
        raise ValueError(f"its field {name!r} holds what are not numbers")
    found = np.array(numbers)
    with np.errstate(over="ignore"):
        column = np.array(numbers, dtype)
    fits = np.isfinite(column) | ~np.isfinite(found.astype(float)) if dtype.kind in "fc" else column == found
    if not fits.all():
        raise ValueError(f"a number of its field {name!r} does not fit {dtype}")
    return column
