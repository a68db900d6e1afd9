"""How the chunks of what is written are encoded: the codecs of its documents, and the ones that run here."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import google_crc32c
import numcodecs.blosc
import numpy as np
import zstandard

from lindi_dask.decode import blosc_frame_nbytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    Json = dict[str, Any]
    Bytes = bytes | memoryview

__all__ = ["CRC32C", "ChunkCodec", "checksummed", "default_codecs", "native_codec", "sharding", "without_checksum"]

CRC32C: Final[Json] = {"name": "crc32c"}
_CRC_NBYTES: Final = 4
_SHUFFLES: Final = {"noshuffle": 0, "shuffle": 1, "bitshuffle": 2}
_ZSTD_LEVEL: Final = 5


def default_codecs(itemsize: int | None, *, is_text: bool) -> list[Json]:
    """Return the codecs that chunks get when nothing else is asked for; all end with a checksum.

    Parameters
    ----------
    itemsize
        Bytes of a number; None for text and compounds.
    is_text
        Whether elements are text.
    """
    if is_text:
        return [{"name": "vlen-utf8"}, _zstd(), CRC32C]
    if itemsize is None:
        return [_bytes(), _zstd(), CRC32C]
    blosc = {"typesize": itemsize, "cname": "zstd", "clevel": 5, "shuffle": "bitshuffle", "blocksize": 0}
    return [_bytes() if itemsize > 1 else {"name": "bytes"}, {"name": "blosc", "configuration": blosc}, CRC32C]


def _bytes() -> Json:
    return {"name": "bytes", "configuration": {"endian": "little"}}


def _zstd() -> Json:
    return {"name": "zstd", "configuration": {"level": _ZSTD_LEVEL, "checksum": False}}


def sharding(chunks: Sequence[int], codecs: Sequence[Json]) -> Json:
    """Return the codec that puts chunks, encoded by `codecs`, into a shard with its index at the end."""
    configuration = {
        "chunk_shape": list(chunks),
        "codecs": list(codecs),
        "index_codecs": [_bytes(), CRC32C],
        "index_location": "end",
    }
    return {"name": "sharding_indexed", "configuration": configuration}


def without_checksum(codecs: Sequence[Json]) -> list[Json]:
    """Return codecs without the checksum that ends them."""
    return [*codecs[:-1]] if codecs and codecs[-1]["name"] == CRC32C["name"] else [*codecs]


@dataclass(frozen=True, slots=True)
class ChunkCodec:
    """From a chunk's bytes, little-endian, to what is stored of it, and back. Thread-safe; releases the GIL."""

    compressor: Json | None
    """`blosc` or `zstd`, as in a document"""
    has_checksum: bool

    def encode(self, raw: memoryview) -> bytes:
        """Return what is stored of a chunk."""
        encoded = self._compressed(raw)
        return checksummed(encoded) if self.has_checksum else bytes(encoded)

    def decode(self, stored: Bytes, nbytes: int) -> Bytes:
        """Return a chunk of `nbytes`.

        Raises
        ------
        ValueError
            If its checksum does not hold, or it has another length; or what the library raises for damaged bytes.
        """
        view = memoryview(stored)
        if self.has_checksum:
            view = verified(view)
        raw = self._inflated(view, nbytes)
        if len(raw) != nbytes:
            raise ValueError(f"{len(raw)} bytes came out, but the chunk has {nbytes}")
        return raw

    def _compressed(self, raw: memoryview) -> Bytes:
        if self.compressor is None:
            return raw
        options = self.compressor["configuration"]
        if self.compressor["name"] == "zstd":
            level, check = options["level"], bool(options.get("checksum", False))
            return zstandard.ZstdCompressor(level=level, write_checksum=check).compress(raw)
        encoded: bytes = numcodecs.blosc.compress(
            raw,
            options["cname"].encode(),
            options["clevel"],
            _SHUFFLES[options["shuffle"]],
            options["blocksize"],
            typesize=options["typesize"],
        )
        return encoded

    def _inflated(self, view: memoryview, nbytes: int) -> Bytes:
        if self.compressor is None:
            return view
        if self.compressor["name"] == "zstd":
            return zstandard.ZstdDecompressor().decompress(view, max_output_size=nbytes)
        if blosc_frame_nbytes(view) != nbytes:
            raise ValueError(f"its Blosc frame does not hold {nbytes} bytes")
        decoded: bytes = numcodecs.blosc.decompress(view)
        return decoded


def checksummed(data: Bytes) -> bytes:
    """Return bytes with their CRC-32C behind them, as Zarr's codec `crc32c` does."""
    return b"".join((data, struct.pack("<I", _crc32c(data))))


def verified(data: memoryview) -> memoryview:
    """Return bytes without the CRC-32C behind them; `ValueError` if it does not hold."""
    if len(data) < _CRC_NBYTES:
        raise ValueError("it is too short for its checksum")
    held, checksum = data[:-_CRC_NBYTES], struct.unpack("<I", data[-_CRC_NBYTES:])[0]
    if _crc32c(held) != checksum:
        raise ValueError("its checksum does not hold")
    return held


def _crc32c(data: Bytes) -> int:
    return int(google_crc32c.value(np.frombuffer(data, np.uint8)))  # memoryviews it does not take


def native_codec(codecs: Sequence[Json]) -> ChunkCodec | None:
    """Return what encodes as the codecs of a document say, or None for those that are left to zarr."""
    to_bytes, *rest = codecs
    has_checksum = bool(rest) and rest[-1]["name"] == "crc32c"
    rest = without_checksum(rest)
    if to_bytes["name"] != "bytes" or to_bytes.get("configuration", {}).get("endian", "little") != "little":
        return None
    match rest:
        case []:
            return ChunkCodec(None, has_checksum)
        case [{"name": "blosc" | "zstd", "configuration": _} as compressor]:
            return ChunkCodec(compressor, has_checksum)
    return None
