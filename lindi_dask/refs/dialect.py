"""From Zarr v2 metadata, as LINDI and kerchunk write them, to the one internal dialect: Zarr v3. Pure.

Numeric arrays are translated. Others are listed, so that the file's tree is whole, with the reason why they
can't be read.

Sources: https://zarr-specs.readthedocs.io/en/latest/v2/v2.0.html, .../v3/core/index.html; numcodecs' own v3 names
(`numcodecs.zlib`) as zarr-python registers them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["ArrayPlan", "array_document", "group_document", "link_target"]

_DTYPES = {
    "b1": "bool",
    **{f"i{n}": f"int{8 * n}" for n in (1, 2, 4, 8)},
    **{f"u{n}": f"uint{8 * n}" for n in (1, 2, 4, 8)},
    **{f"f{n}": f"float{8 * n}" for n in (2, 4, 8)},
    **{f"c{n}": f"complex{8 * n}" for n in (8, 16)},
}
_BYTES_CODECS = frozenset(
    (
        "adler32",
        "bz2",
        "crc32",
        "crc32c",
        "fletcher32",
        "gzip",
        "jenkins_lookup3",
        "lz4",
        "lzma",
        "shuffle",
        "zlib",
    )
)
_ARRAY_CODECS = frozenset(("astype", "bitround", "delta", "fixedscaleoffset", "packbits", "quantize"))
_TYPES_OF = {"astype": ("decode_dtype", "encode_dtype")}  # of a filter's two sides; others call them dtype and astype
_BLOSC_SHUFFLE = {0: "noshuffle", 1: "shuffle", 2: "bitshuffle"}
_BLOSC_COMPRESSORS = frozenset(("blosclz", "lz4", "lz4hc", "snappy", "zlib", "zstd"))


class _Untranslatable(Exception):
    """Why an array can't be read; becomes `ArrayPlan.unreadable`."""


@dataclass(frozen=True, slots=True)
class ArrayPlan:
    """An array in the internal dialect."""

    document: dict[str, Any]
    """its `zarr.json`"""
    grid: tuple[int, ...]
    """chunks along each dimension"""
    separator: str
    """between the numbers of a chunk's key in the reference file"""
    raw_nbytes: int | None
    """bytes of each chunk of an uncompressed array; None for others"""
    tail_nbytes: int | None
    """bytes of the last chunk without padding, of an uncompressed array split along its first dimension only"""
    unreadable: str | None
    """why the array can't be read, or None"""


def group_document(attributes: dict[str, Any]) -> dict[str, Any]:
    """Return the `zarr.json` of a group."""
    return {"zarr_format": 3, "node_type": "group", "attributes": attributes}


def link_target(attributes: dict[str, Any]) -> str | None:
    """Return the path that a LINDI soft link points at, or None for a group that is one."""
    link = attributes.get("_SOFT_LINK")
    return str(link.get("path", "?")) if isinstance(link, dict) else None


def array_document(zarray: dict[str, Any], attributes: dict[str, Any]) -> ArrayPlan:
    """Translate one array.

    Parameters
    ----------
    zarray
        Its `.zarray`.
    attributes
        Its `.zattrs`, or {}.

    Raises
    ------
    ValueError
        If shape or chunks make no sense, so that the array can't even be listed.
    """
    shape, chunks = _extents(zarray, "shape"), _extents(zarray, "chunks")
    if len(shape) != len(chunks) or 0 in chunks:
        raise ValueError(f"shape {list(shape)} and chunks {list(chunks)} do not fit together")
    grid = tuple(-(-extent // chunk) for extent, chunk in zip(shape, chunks, strict=True))
    if math.prod(grid) >= 2**63:
        raise ValueError(f"a grid of {list(grid)} chunks is too large")
    scalar = attributes.get("_SCALAR") is True and shape == (1,)
    if scalar:
        shape = chunks = grid = ()
    unreadable = None
    try:
        kind = _kind(zarray, attributes)
        codecs = _codecs(zarray, kind, ndim=len(shape))
    except _Untranslatable as reason:
        unreadable = str(reason)
        kind, codecs = None, [{"name": "vlen-utf8"}]
    document: dict[str, Any] = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": "string" if kind is None else kind.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunks)}},
        "chunk_key_encoding": {"name": "v2", "configuration": {"separator": "."}},
        "fill_value": "" if kind is None else kind.fill_value,
        "codecs": codecs,
        "attributes": {k: v for k, v in attributes.items() if k not in {"_ARRAY_DIMENSIONS", "_SCALAR"}},
    }
    dimensions = attributes.get("_ARRAY_DIMENSIONS")
    if (
        isinstance(dimensions, list)
        and len(dimensions) == len(shape)
        and all(isinstance(name, str) for name in dimensions)
    ):
        document["dimension_names"] = dimensions
    raw = kind.itemsize * math.prod(chunks) if kind is not None and _is_raw(zarray) else None
    return ArrayPlan(
        document=document,
        grid=grid,
        separator="/" if zarray.get("dimension_separator") == "/" else ".",
        raw_nbytes=raw,
        tail_nbytes=None if raw is None else _tail_nbytes(shape, chunks, raw, order=zarray.get("order", "C")),
        unreadable=unreadable,
    )


@dataclass(frozen=True, slots=True)
class _Kind:
    """A numeric data type."""

    name: str
    itemsize: int
    endian: str | None
    fill_value: Any


def _kind(zarray: dict[str, Any], attributes: dict[str, Any]) -> _Kind:
    if "_EXTERNAL_ARRAY_LINK" in attributes:
        raise _Untranslatable(
            "its chunks are not in this file but only a link to the dataset that holds them (LINDI leaves "
            "out arrays of more than 1,000 chunks). Write the references anew with all chunks: in LINDI, "
            "num_dataset_chunks_threshold=None"
        )
    dtype = zarray.get("dtype")
    if "_COMPOUND_DTYPE" in attributes or isinstance(dtype, list):
        raise _Untranslatable("compound data types can't be read yet")
    if not isinstance(dtype, str) or dtype[:1] not in set("<>|="):
        raise _Untranslatable(f"its data type {dtype!r} is not one of Zarr v2")
    name = _DTYPES.get(dtype[1:])
    if name is None:
        raise _Untranslatable(f"its data type {dtype!r} can't be read yet: it is not numeric")
    itemsize = int(dtype[2:])
    endian = None if itemsize == 1 else ("big" if dtype[0] == ">" else "little")
    return _Kind(name, itemsize, endian, _fill_value(zarray.get("fill_value"), name))


def _fill_value(value: Any, name: str) -> Any:  # noqa: ANN401 - JSON in, JSON out
    if name.startswith("complex"):
        parts = [0, 0] if value is None else value
        if not (isinstance(parts, list) and len(parts) == 2):
            raise _Untranslatable(f"its fill value {value!r} is not a pair")
        return [_fill_value(part, "float64") for part in parts]
    if value is None:
        value = 0
    if name.startswith("float"):
        if value in ("NaN", "Infinity", "-Infinity"):
            return value
        if isinstance(value, float) or (type(value) is int and abs(value) < 2**1023):
            return _json_float(float(value))
    elif isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        if name == "bool" and value in (0, 1):
            return bool(value)
        if name != "bool" and np.iinfo(name).min <= value <= np.iinfo(name).max:
            return int(value)
    raise _Untranslatable(f"its fill value {value!r} is not a {name}")


def _json_float(value: float) -> float | str:
    if math.isnan(value):
        return "NaN"
    return value if math.isfinite(value) else ("Infinity" if value > 0 else "-Infinity")


def _codecs(zarray: dict[str, Any], kind: _Kind, *, ndim: int) -> list[dict[str, Any]]:
    """In the order of encoding: array to array, then array to bytes, then bytes to bytes."""
    steps = _steps(zarray)
    names = [step["id"] for step in steps]
    split = next((i for i, name in enumerate(names) if name not in _ARRAY_CODECS), len(names))
    if any(name in _ARRAY_CODECS for name in names[split:]):
        raise _Untranslatable(f"its filters {names} have one for arrays behind one for bytes")
    _check_array_codecs(steps[:split], kind)
    to_bytes: dict[str, Any] = {"name": "bytes"}
    if kind.endian is not None:
        to_bytes["configuration"] = {"endian": kind.endian}
    transpose: list[dict[str, Any]] = []
    order = zarray.get("order", "C")
    if order not in ("C", "F"):
        raise _Untranslatable(f"its order {order!r} is neither C nor F")
    if order == "F" and ndim > 1:
        if split:
            raise _Untranslatable(f"its order F with the filters {names[:split]} can't be read yet")
        transpose = [{"name": "transpose", "configuration": {"order": list(range(ndim))[::-1]}}]
    encoded = [_codec(step, kind) for step in steps]
    return [*encoded[:split], *transpose, to_bytes, *encoded[split:]]


def _check_array_codecs(steps: list[dict[str, Any]], kind: _Kind) -> None:
    """Refuse filters that a v3 pipeline would read other values with than numcodecs alone did, or none.

    v3 converts between the codecs' types where v2 looked at the same bytes anew; of big-endian ones it makes what
    the version of zarr likes.
    """
    held = kind.name
    for step in steps:
        if step["id"] == "bitround" or (step["id"] == "packbits" and held == "bool"):
            types = []
        else:
            types = [str(step.get(field)) for field in _TYPES_OF.get(step["id"], ("dtype", "astype"))]
        if kind.endian == "big" or any(dtype[:1] == ">" for dtype in types):
            raise _Untranslatable(f"its filter {step['id']!r} of big-endian numbers can't be read yet")
        names = [_DTYPES.get(dtype[1:]) for dtype in types] or [held]
        changes = names[0] != names[-1]
        if names[0] != held or None in names or (changes and (step["id"] == "quantize" or kind.endian is None)):
            raise _Untranslatable(f"its filter {step['id']!r} from {held} by {' and '.join(types)} can't be read yet")
        held = names[-1] or held


def _steps(zarray: dict[str, Any]) -> list[dict[str, Any]]:
    filters, compressor = zarray.get("filters") or [], zarray.get("compressor")
    if not isinstance(filters, list):
        raise _Untranslatable(f"its filters {filters!r} are no list")
    steps = [*filters, *([compressor] if compressor else [])]
    for step in steps:
        if not isinstance(step, dict) or not isinstance(step.get("id"), str):
            raise _Untranslatable(f"its filter {step!r} has no id")
    return steps


def _codec(step: dict[str, Any], kind: _Kind) -> dict[str, Any]:
    name = step["id"]
    configuration = {key: value for key, value in step.items() if key != "id"}
    if name == "blosc":
        shuffle, cname = _whole(configuration, "shuffle", 1), configuration.get("cname", "lz4")
        if not isinstance(cname, str) or cname not in _BLOSC_COMPRESSORS:
            raise _Untranslatable(f"its compressor {cname!r} is not one of Blosc's")
        if shuffle == -1:  # numcodecs' AUTOSHUFFLE
            shuffle = 2 if kind.itemsize == 1 else 1
        configuration = {
            "cname": cname,
            "clevel": _whole(configuration, "clevel", 5),
            "shuffle": _BLOSC_SHUFFLE.get(shuffle, "shuffle"),
            "typesize": kind.itemsize,
            "blocksize": _whole(configuration, "blocksize", 0),
        }
        return {"name": "blosc", "configuration": configuration}
    if name == "zstd":
        configuration = {
            "level": min(_whole(configuration, "level", 0), 22),
            "checksum": bool(configuration.get("checksum")),
        }
        return {"name": "zstd", "configuration": configuration}
    if name == "shuffle":  # said outright: left out, numcodecs takes 4, and zarr the size of an item
        configuration["elementsize"] = _whole(configuration, "elementsize", 4)
    if name in _BYTES_CODECS or name in _ARRAY_CODECS:
        return {"name": f"numcodecs.{name}", "configuration": configuration}
    raise _Untranslatable(f"its filter {name!r} can't be read")


def _whole(configuration: dict[str, Any], field: str, default: int) -> int:
    value = configuration.get(field, default)
    if type(value) is not int:
        raise _Untranslatable(f"its codec's {field} {value!r} is not a whole number")
    return value


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
