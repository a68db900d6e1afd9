"""The codecs of Zarr v3 arrays, checked, and as every zarr that we read with takes them. Pure.

Sources: https://zarr-specs.readthedocs.io/en/latest/v3/codecs/index.html; numcodecs' own v3 names (`numcodecs.zlib`)
as zarr-python registers them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import numpy as np

from lindi_dask.refs.dialect.v2_codecs import BLOSC_SHUFFLE, v3_codecs
from lindi_dask.refs.dialect.v2_kinds import Kind, UntranslatableError
from lindi_dask.refs.dialect.v3_kinds import NUMBERS, check_members, named, v3_kind

__all__ = ["checked_codecs", "has_axes", "is_deflated", "refuse_pickle"]

_TO_BYTES: Final = frozenset(("bytes", "sharding_indexed", "vlen-bytes", "vlen-utf8"))
_SHUFFLES: Final = {name: number for number, name in BLOSC_SHUFFLE.items()}
_NUMCODECS: Final = "numcodecs."
_FILTER_TYPES: Final = {
    "astype": ("decode_dtype", "encode_dtype"),
    **dict.fromkeys(("delta", "fixedscaleoffset", "quantize"), ("dtype", "astype")),
}


def checked_codecs(codecs: object, kind: Kind, chunks: tuple[int, ...]) -> list[dict[str, Any]]:
    """Return codecs as every zarr that we read with takes them, in the order of encoding.

    Parameters
    ----------
    codecs
        Of a `zarr.json`, or of its shards.
    kind
        What the elements are.
    chunks
        Shape of a chunk: what the codecs encode at once.

    Raises
    ------
    UntranslatableError
        If one of them can't be read, with the reason.
    """
    if not isinstance(codecs, list):
        raise UntranslatableError(f"its codecs {codecs!r} are no list")
    steps = [named(codec, "codec") for codec in codecs]
    names = [name for name, _ in steps]
    middle = [i for i, name in enumerate(names) if name in _TO_BYTES]
    if len(middle) != 1:
        raise UntranslatableError(f"its codecs {names} have not one that makes bytes, of those that are known")
    at = middle[0]
    if names[at] == "sharding_indexed":
        if len(names) > 1:
            raise UntranslatableError(f"its codecs {names} have more beside shards, which can't be read yet")
        return [_sharding(*steps[0], kind, chunks)]
    kind = _to_bytes(*steps[at], kind)
    before = _array_codecs(steps[:at], kind, len(chunks))
    kind_behind = kind if all(codec["name"] == "transpose" for codec in before) else replace(kind, itemsize=None)
    return [*before, kind.to_bytes, *(_bytes_codec(*step, kind_behind) for step in steps[at + 1 :])]


def refuse_pickle(codecs: object) -> None:
    """Raise `ValueError` if the codec `pickle` is named anywhere, also inside of shards."""
    waiting = [codecs]
    while waiting:
        match waiting.pop():
            case "pickle" | "numcodecs.pickle":
                raise ValueError("the codec 'pickle' runs whatever code the file holds, and is never used")
            case list(items):
                waiting += items
            case dict(members):
                waiting += members.values()


def has_axes(codecs: object) -> bool:
    """Return whether a codec names dimensions, so that the array must keep those that it has."""
    listed = codecs if isinstance(codecs, list) else []
    return any(isinstance(codec, dict) and codec.get("name") in ("transpose", "sharding_indexed") for codec in listed)


def is_deflated(names: list[str]) -> bool:
    """Return whether what deflate packed is as large as a chunk, so that a stream too short for it is told at once."""
    *before, last = names
    kept = {"transpose", "bytes", "crc32c", "numcodecs.shuffle", "numcodecs.fletcher32"}
    return last in {"gzip", "numcodecs.gzip", "numcodecs.zlib"} and set(before) <= kept


def _to_bytes(name: str, configuration: dict[str, Any], kind: Kind) -> Kind:
    """Return the kind with the codec that makes its bytes."""
    if name != kind.to_bytes["name"] or set(configuration) - ({"endian"} if name == "bytes" else set()):
        raise UntranslatableError(f"its codec {name!r} with {configuration} does not suit the type of its elements")
    endian = configuration.get("endian")
    if endian not in (None, "little", "big"):
        raise UntranslatableError(f"its order of bytes {endian!r} is neither little nor big")
    if kind.endian is None:
        return kind
    if not kind.name:
        if endian == "big":  # zarr 3.1 would read them without swapping
            raise UntranslatableError("its compounds are big-endian, which can't be read yet")
        return kind
    if endian is None:
        raise UntranslatableError("its codec 'bytes' does not say the order of bytes")
    return replace(kind, to_bytes={"name": "bytes", "configuration": {"endian": endian}}, endian=endian)


def _array_codecs(steps: list[tuple[str, dict[str, Any]]], kind: Kind, ndim: int) -> list[dict[str, Any]]:
    """Codecs from arrays to arrays: transpositions, or numcodecs' filters of numbers."""
    if all(name == "transpose" for name, _ in steps):
        orders = [_order(configuration, ndim) for _, configuration in steps]
        return [
            {"name": "transpose", "configuration": {"order": order}} for order in orders if order != list(range(ndim))
        ]
    filters = [_filter(name, configuration) for name, configuration in steps]
    for step in filters:  # what they leave out, they take from the array
        if step["id"] in _FILTER_TYPES:
            decoded, encoded = _FILTER_TYPES[step["id"]]
            step[decoded] = _numpy_type(step.get(decoded) or kind.name)
            step[encoded] = _numpy_type(step.get(encoded) or (step[decoded] if encoded == "astype" else None))
    *found, last = v3_codecs({"filters": filters}, kind, ndim=ndim)
    if last != kind.to_bytes:
        raise UntranslatableError(f"its codecs {[name for name, _ in steps]} have one for bytes in front of 'bytes'")
    return found


def _numpy_type(name: object) -> object:
    """Return numpy's short name of a plain type ("<f8" for "float64"), or what was given."""
    return np.dtype(name).newbyteorder("<").str if isinstance(name, str) and name in NUMBERS else name


def _order(configuration: dict[str, Any], ndim: int) -> list[int]:
    order = configuration.get("order")
    if set(configuration) != {"order"} or not isinstance(order, list) or not all(type(axis) is int for axis in order):
        raise UntranslatableError(f"its transposition {configuration!r} is not a list of dimensions")
    if sorted(order) != list(range(ndim)):
        raise UntranslatableError(f"its transposition {order!r} is not one of {ndim} dimensions")
    return order


def _filter(name: str, configuration: dict[str, Any]) -> dict[str, Any]:
    """Return one of numcodecs' codecs in its own form."""
    if not name.startswith(_NUMCODECS):
        raise UntranslatableError(f"its codec {name!r} is not known, or not in this place")
    if "id" in configuration:
        raise UntranslatableError(f"its codec {name!r} claims to be {configuration['id']!r}, too")
    return {**configuration, "id": name.removeprefix(_NUMCODECS)}


def _bytes_codec(name: str, configuration: dict[str, Any], kind: Kind) -> dict[str, Any]:
    """One codec from bytes to bytes."""
    match name:
        case "crc32c":
            check_members(name, configuration, set(), what="codec")
            return {"name": "crc32c"}
        case "gzip":
            check_members(name, configuration, {"level"}, what="codec")
            level = configuration.get("level", 5)
            if type(level) is not int or not 0 <= level <= 9:
                raise UntranslatableError(f"its codec 'gzip' has the level {level!r}, which is not known")
            return {"name": "gzip", "configuration": {"level": level}}
        case "zstd":
            check_members(name, configuration, {"level", "checksum"}, what="codec")
            step = {**configuration, "id": "zstd"}
        case "blosc":
            check_members(name, configuration, {"blocksize", "clevel", "cname", "shuffle", "typesize"}, what="codec")
            shuffle = configuration.get("shuffle", "noshuffle")
            if not isinstance(shuffle, str) or shuffle not in _SHUFFLES:
                raise UntranslatableError(f"its codec 'blosc' has the shuffle {shuffle!r}, which is not known")
            step = {**configuration, "shuffle": _SHUFFLES[shuffle], "id": "blosc"}
            step.pop("typesize", None)
        case _:
            step = _filter(name, configuration)
            if step["id"] == "shuffle" and step.get("elementsize") is None:
                if kind.itemsize is None:
                    raise UntranslatableError("its codec 'numcodecs.shuffle' does not say how large an item is")
                step["elementsize"] = kind.itemsize
    first, *behind = v3_codecs({"filters": [step]}, kind, ndim=0)
    if first != kind.to_bytes or len(behind) != 1:
        raise UntranslatableError(f"its codec {name!r} is one for arrays, but stands behind 'bytes'")
    return behind[0]


def _sharding(name: str, configuration: dict[str, Any], kind: Kind, chunks: tuple[int, ...]) -> dict[str, Any]:
    known = {"chunk_shape", "codecs", "index_codecs", "index_location"}
    check_members(name, configuration, known, what="codec")
    if not kind.name:  # zarr 3.1 fails on their fill value, which it can't hash
        raise UntranslatableError("its compounds in shards can't be read yet")
    inner, location = configuration.get("chunk_shape"), configuration.get("index_location", "end")
    if not isinstance(inner, list) or len(inner) != len(chunks) or not all(type(n) is int and n > 0 for n in inner):
        raise UntranslatableError(f"the chunks of its shards, {inner!r}, do not have its dimensions")
    if any(outer % n for outer, n in zip(chunks, inner, strict=True)):
        raise UntranslatableError(f"its shards of {list(chunks)} can't be split into chunks of {inner}")
    if location not in ("start", "end"):
        raise UntranslatableError(f"the index of its shards lies at {location!r}, which is not known")
    index = checked_codecs(configuration.get("index_codecs"), v3_kind("uint64", 2**64 - 1), (*inner, 2))
    if not {codec["name"] for codec in index} <= {"bytes", "crc32c"}:
        raise UntranslatableError("the index of its shards is compressed, which can't be read")
    return {
        "name": name,
        "configuration": {
            "chunk_shape": inner,
            "codecs": checked_codecs(configuration.get("codecs"), kind, tuple(inner)),
            "index_codecs": index,
            "index_location": location,
        },
    }
