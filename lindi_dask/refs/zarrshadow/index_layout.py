"""How a chunk index is stored: the `zarr.json` of a Zarr v3 array of the shape (*grid, 2). Pure."""

from __future__ import annotations

import contextlib
import json
import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from lindi_dask.errors import InvalidReferences
from lindi_dask.refs.zarrshadow.index_codecs import CODECS

__all__ = ["NOT_WRITTEN", "IndexLayout", "invalid_index", "parse_layout"]

NOT_WRITTEN: Final = 2**64 - 1
"""the offset and the length of a chunk that is not there"""

_MAX_DOCUMENT: Final = 2**20  # bytes
_MAX_CHUNK_NBYTES: Final = 2**26  # of an index's chunk, decoded; writers fill 1 MiB
_MAX_CHUNKS: Final = 65_536  # of an index
_MAX_DIMENSIONS: Final = 64  # of an index: numpy's bound


@dataclass(frozen=True, slots=True)
class IndexLayout:
    """How an index is stored."""

    grid: tuple[int, ...]
    """chunks of the index along each dimension of the array's grid; the last axis has one"""
    chunks: tuple[int, ...]
    """of the grid's places in each chunk of the index, along each dimension"""
    width: int
    """numbers along the last axis of a chunk, at least 2"""
    dtype: np.dtype[np.uint64]
    """in the order of bytes that is stored"""
    steps: tuple[str, ...]
    """codecs from bytes to bytes, in the order of encoding"""
    prefix: str
    """in front of the numbers of a chunk's key"""
    separator: str
    """between them"""

    def key(self, at: tuple[int, ...]) -> str:
        """Return the name, in the index's folder, of a chunk of the index."""
        return self.prefix + self.separator.join(map(str, (*at, 0)))

    @property
    def nbytes(self) -> int:
        """Bytes of a chunk, decoded."""
        return math.prod(self.chunks) * self.width * self.dtype.itemsize


def parse_layout(name: str, content: bytes, grid: tuple[int, ...]) -> IndexLayout:
    """Read the metadata of an index.

    Parameters
    ----------
    name
        Of the file, for errors.
    content
        Of the file.
    grid
        Chunks along each dimension of the array that the index is of.

    Raises
    ------
    InvalidReferences
        If it is not JSON, or not an index of this grid as it is defined in `chunk_indexes.py`.
    """
    document = None
    if len(content) <= _MAX_DOCUMENT:
        with contextlib.suppress(ValueError, RecursionError):
            document = json.loads(content)
    if not isinstance(document, dict):
        raise invalid_index(name, "it is not a JSON object of up to 1 MiB")
    shape, data_type = document.get("shape"), document.get("data_type")
    if (document.get("zarr_format"), document.get("node_type")) != (3, "array"):
        raise invalid_index(name, "it does not describe a Zarr v3 array")
    if not _is_extents(shape) or shape != [*grid, 2]:
        raise invalid_index(
            name, f"its shape {shape!r} is not {[*grid, 2]}: the array has a grid of {list(grid)} chunks"
        )
    if len(shape) > _MAX_DIMENSIONS:
        raise invalid_index(name, f"it has more than {_MAX_DIMENSIONS} dimensions")
    if data_type != "uint64" or document.get("fill_value") != NOT_WRITTEN:
        raise invalid_index(name, "its data type is not uint64 with 2**64 - 1 as the fill value")
    if document.get("storage_transformers"):
        raise invalid_index(name, "it has storage transformers")
    match document.get("chunk_grid"):
        case {"name": "regular", "configuration": {"chunk_shape": chunks}} if _is_extents(chunks):
            pass
        case other:
            raise invalid_index(name, f"its chunk grid {other!r} is not a regular one")
    if len(chunks) != len(shape) or 0 in chunks or chunks[-1] < 2:
        raise invalid_index(name, f"its chunks of {chunks} do not hold offset and length together")
    if 8 * math.prod(chunks) > _MAX_CHUNK_NBYTES:
        raise invalid_index(name, f"its chunks of {chunks} numbers are larger than {_MAX_CHUNK_NBYTES >> 20} MiB")
    rows = tuple(-(-extent // chunk) for extent, chunk in zip(grid, chunks[:-1], strict=True))
    if math.prod(rows) > _MAX_CHUNKS:
        raise invalid_index(name, f"it is split into {math.prod(rows):,} chunks, more than {_MAX_CHUNKS:,}")
    endian, steps = _codecs(name, document.get("codecs"))
    prefix, separator = _encoding(name, document.get("chunk_key_encoding"))
    return IndexLayout(rows, tuple(chunks[:-1]), chunks[-1], np.dtype(f"{endian}u8"), steps, prefix, separator)


def _is_extents(value: object) -> bool:
    return isinstance(value, list) and all(type(extent) is int and 0 <= extent < 2**63 for extent in value)


def _encoding(name: str, encoding: object) -> tuple[str, str]:
    match encoding:
        case {"name": "default", **rest}:
            prefix, separator = "c", "/"
        case {"name": "v2", **rest}:
            prefix, separator = "", "."
        case _:
            raise invalid_index(name, f"its chunk key encoding {encoding!r} is not known")
    configuration = rest.get("configuration")
    if isinstance(configuration, dict):
        separator = configuration.get("separator", separator)
    if separator not in ("/", "."):
        raise invalid_index(name, f"its chunk key encoding {encoding!r} is not known")
    return prefix + separator * bool(prefix), separator


def _codecs(name: str, codecs: object) -> tuple[str, tuple[str, ...]]:
    """Return numpy's sign for the order of bytes, and the names of the codecs behind."""
    match codecs:
        case [{"name": "bytes", "configuration": {"endian": "little" | "big" as endian}}, *behind]:
            pass
        case _:
            raise invalid_index(name, "its first codec is not 'bytes' with an order of bytes")
    names = [codec.get("name") if isinstance(codec, dict) else codec for codec in behind]
    steps = tuple(map(str, names))
    if not set(steps) <= CODECS or len(steps) - steps.count("crc32c") > 1 or len(steps) > 4:
        raise invalid_index(name, f"its codecs {names} are not at most one of blosc, gzip and zstd, and crc32c")
    return ("<" if endian == "little" else ">"), steps


def invalid_index(name: str, reason: str) -> InvalidReferences:
    """Return the error of an index, or of one of its files, that can't be used."""
    message = f"The chunk index {name!r} can't be used: {reason}. Write the references and their indexes anew."
    return InvalidReferences(message, key=name, reason=reason)
