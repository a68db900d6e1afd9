"""Zarr v3 references, as zarrshadow (formerly zindi) writes them, to the one internal dialect. Pure.

The metadata is Zarr v3 already: here it is checked, member by member, so that every document that leaves can be opened
by every version of zarr that we read with, and only codecs that we know are ever run. One bad document would otherwise
take the whole tree down, as the root's holds them all. What can't be read is listed with the reason.

Sources: https://zarr-specs.readthedocs.io/en/latest/v3/core/index.html; https://github.com/bendichter/zarrshadow,
README, "The refs.json Format"; https://github.com/catalystneuro/zarr-non-finite-attributes.
"""

from __future__ import annotations

import base64
import math
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from lindi_dask.errors import InvalidReferences
from lindi_dask.refs.chunk_indexes import ChunkIndex, index_manifest, parse_indexes
from lindi_dask.refs.dialect import ArrayPlan
from lindi_dask.refs.kinds import NUMERIC, Kind, UntranslatableError, json_float
from lindi_dask.refs.selections import Selection, parse_selections
from lindi_dask.refs.templates import expand
from lindi_dask.refs.v2_codecs import v3_codecs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = [
    "ChunkIndex",
    "Selection",
    "array_plan",
    "attributes",
    "index_manifest",
    "parse_indexes",
    "parse_selections",
    "parse_sources",
    "shortest_nbytes",
]

_MAX_CHUNK_NBYTES: Final = 2**31  # zarr-python's codecs take no more
_MAX_ITEM_NBYTES: Final = 2**20
_MEMBERS: Final = frozenset(
    (
        "attributes",
        "chunk_grid",
        "chunk_key_encoding",
        "codecs",
        "data_type",
        "dimension_names",
        "fill_value",
        "node_type",
        "shape",
        "storage_transformers",
        "zarr_format",
    )
)
_NUMBERS: Final = frozenset(NUMERIC.values())
_TO_BYTES: Final = frozenset(("bytes", "sharding_indexed", "vlen-bytes", "vlen-utf8"))
_BLOSC_SHUFFLE: Final = {"noshuffle": 0, "shuffle": 1, "bitshuffle": 2}
_NUMCODECS: Final = "numcodecs."
_FILTER_TYPES: Final = {
    "astype": ("decode_dtype", "encode_dtype"),
    **dict.fromkeys(("delta", "fixedscaleoffset", "quantize"), ("dtype", "astype")),
}

_NON_FINITE: Final = "2adc9aac-d676-4e93-8feb-903b6ae9e08a"
_CONVENTIONS: Final = "zarr_conventions"
_ESCAPE: Final = "_str_"
_MARKED = re.compile(r"(?:_str_)*(?:NaN|-?Infinity)")
_HEXADECIMAL = re.compile(r"0x[0-9A-Fa-f]+")
_ETAG = re.compile(r"[!#-~\x80-\xff]{1,1024}")  # RFC 9110, 8.8.3


def array_plan(document: dict[str, Any]) -> ArrayPlan:
    """Check and translate the `zarr.json` of one array.

    The chunk of a 0-d array has the key `c`; that of an array that `_SCALAR` makes 0-d (shape [1], early zindi), `c/0`.
    Where chunks are not compressed, one is as long as `raw_nbytes`, or shorter, but not than `shortest_nbytes` says.

    Parameters
    ----------
    document
        Parsed; bare `NaN` and `Infinity` are floats.

    Raises
    ------
    ValueError
        If shape or chunks make no sense, so that the array can't even be listed, or a codec would run code.
    """
    if (document.get("zarr_format"), document.get("node_type")) != (3, "array"):
        raise ValueError("it does not describe a Zarr v3 array")
    codecs = document.get("codecs")
    _refuse_pickle(codecs)
    shape = _extents(document.get("shape"), "shape")
    chunks = _chunks(document, shape)
    plain = attributes(document)
    if plain.get("_SCALAR") is True and shape == chunks == (1,) and not _has_axes(codecs):
        del plain["_SCALAR"]
        shape = chunks = ()
    grid = tuple(-(-extent // chunk) for extent, chunk in zip(shape, chunks, strict=True))
    if math.prod(grid) >= 2**63:
        raise ValueError(f"a grid of {list(grid)} chunks is too large")
    kind, unreadable = None, None
    prefix, separator = "c", "/"
    try:
        prefix, separator = _encoding(document.get("chunk_key_encoding"))
        kind, translated = _elements(document, chunks)
    except UntranslatableError as reason:
        unreadable = str(reason)
        translated = [{"name": "vlen-utf8"}]
    nbytes = None if kind is None or kind.itemsize is None else kind.itemsize * math.prod(chunks)
    names = [codec["name"] for codec in translated]
    raw = nbytes if names == ["bytes"] else None
    return ArrayPlan(
        document={
            "zarr_format": 3,
            "node_type": "array",
            "shape": list(shape),
            "data_type": "string" if kind is None else kind.data_type,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunks)}},
            "chunk_key_encoding": {"name": "v2", "configuration": {"separator": "."}},
            "fill_value": "" if kind is None else kind.fill_value,
            "codecs": translated,
            "attributes": plain,
            **_dimension_names(document, plain, len(shape)),
        },
        grid=grid,
        separator=separator,
        prefix=prefix,
        raw_nbytes=raw,
        tail_nbytes=None if raw is None else _tail_nbytes(shape, chunks, raw),
        deflated=nbytes if _is_deflated(names) else None,
        unreadable=unreadable,
    )


def shortest_nbytes(plan: ArrayPlan, places: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return how many bytes each chunk of an uncompressed array must have at least.

    The zeros that pad a shorter chunk may only come to lie outside of the array. Those are the lengths that
    the end of a contiguous dataset has that was split into slabs, also of several datasets side by side.

    Parameters
    ----------
    plan
        With `raw_nbytes`, from `array_plan`: elements in C order.
    places
        Of the chunks in the grid, C order.
    """
    shape = plan.document["shape"]
    chunks = plan.document["chunk_grid"]["configuration"]["chunk_shape"]
    last, stride, rest = np.zeros(len(places), np.uint64), 1, places
    for extent, chunk, length in reversed(list(zip(shape, chunks, plan.grid, strict=True))):
        rest, coordinate = np.divmod(rest, np.uint64(length))
        inside = np.minimum(np.uint64(extent) - coordinate * np.uint64(chunk), np.uint64(chunk))
        last += (inside - np.uint64(1)) * np.uint64(stride)
        stride *= chunk
    itemsize = (plan.raw_nbytes or 0) // stride
    return (last + np.uint64(1)) * np.uint64(itemsize)


def attributes(document: dict[str, Any]) -> dict[str, Any]:
    """Return the attributes of a group or an array, without those that are null.

    Where the node registers the convention of non-finite attributes, "NaN", "Infinity" and "-Infinity" are the
    numbers, and the registration goes, as it no longer holds. Anything else is as it stands in the document.

    Raises
    ------
    ValueError
        If they are not an object.
    """
    match document.get("attributes"):
        case None:
            found: dict[str, Any] = {}
        case dict(found):
            pass
        case _:
            raise ValueError("its attributes are not an object")
    plain = {name: value for name, value in found.items() if value is not None}
    conventions = plain.get(_CONVENTIONS)
    if not isinstance(conventions, list) or not any(map(_registers, conventions)):
        return plain
    others = [convention for convention in conventions if not _registers(convention)]
    finite = {name: _unescaped(value) for name, value in plain.items() if name != _CONVENTIONS}
    return {**finite, _CONVENTIONS: others} if others else finite


def _registers(convention: object) -> bool:
    return isinstance(convention, dict) and convention.get("uuid") == _NON_FINITE


def _unescaped(value: Any) -> Any:  # noqa: ANN401 - JSON in, JSON out
    match value:
        case str() if _MARKED.fullmatch(value):
            return value.removeprefix(_ESCAPE) if value.startswith(_ESCAPE) else float(value)
        case list():
            return [_unescaped(item) for item in value]
        case dict():
            return {name: _unescaped(item) for name, item in value.items()}
        case _:
            return value


def parse_sources(value: object, *, templates: Mapping[str, str]) -> dict[str, tuple[int | None, str | None]]:
    """Return size and ETag of files when the references were made, by URL.

    Parameters
    ----------
    value
        The member `sources`: `{"size": bytes, "etag": '"..."'}` by URL; both may be missing.
    templates
        Of the reference file, by name.

    Returns
    -------
    dict
        URL, templates expanded -> size in bytes, and ETag. The ETag has no quotes: `If-Match` wants them around it.
        A weak one (`W/"..."`) is left out, as `If-Match` never matches it.

    Raises
    ------
    InvalidReferences
        If it is malformed, or says different things of one URL.
    """
    if not isinstance(value, dict):
        raise _invalid_source(None, "it is not an object")
    known: dict[str, tuple[int | None, str | None]] = {}
    for written, entry in value.items():
        if not isinstance(written, str) or not isinstance(entry, dict):
            raise _invalid_source(written, "it is not an object by URL")
        size, etag = entry.get("size"), entry.get("etag")
        if size is not None and not (type(size) is int and 0 <= size < 2**63):
            raise _invalid_source(written, f"its size {size!r} is not a number of bytes")
        described = size, _strong(written, etag)
        url = expand(written, templates, key="sources")
        if known.setdefault(url, described) != described:
            raise _invalid_source(written, "other things are said of the same file")
    return known


def _strong(url: str, etag: object) -> str | None:
    if etag is None or (isinstance(etag, str) and etag.startswith("W/")):
        return None
    text = etag if isinstance(etag, str) else ""
    if len(text) > 2 and text[0] == text[-1] == '"':
        text = text[1:-1]
    # Any other character could end the header that it will stand in
    if not _ETAG.fullmatch(text):
        raise _invalid_source(url, f"{str(etag)[:100]!r} is not an ETag")
    return text


def _invalid_source(url: object, reason: str) -> InvalidReferences:
    # Of a URL only what is in front of the query: the rest may be secret
    shown = None if url is None else str(url)[:200].partition("?")[0]
    key = "sources" if shown is None else f"sources of {shown!r}"
    message = f"The member 'sources' is not valid{'' if shown is None else f' at {shown!r}'}: {reason}. Leave it out."
    return InvalidReferences(message, key=key, reason=reason)


# Shape, chunks and keys


def _extents(value: object, member: str) -> tuple[int, ...]:
    if not isinstance(value, list) or not all(type(n) is int and 0 <= n < 2**63 for n in value):
        raise ValueError(f"its {member} {value!r} is not a list of natural numbers")
    return tuple(value)


def _chunks(document: dict[str, Any], shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the chunks' shape; of a grid that is not regular, so small that the key of any chunk has a place."""
    match document.get("chunk_grid"):
        case {"name": "regular", "configuration": {"chunk_shape": value}}:
            chunks = _extents(value, "chunk_shape")
        case {"name": "regular"}:
            raise ValueError("its chunk grid has no chunk_shape")
        case _:
            return (1,) * len(shape)
    # An empty array's chunks may be empty too where the writer took the array's shape; v3 has no such chunks
    if len(chunks) == len(shape):
        chunks = tuple(chunk or int(extent == 0) for chunk, extent in zip(chunks, shape, strict=True))
    if len(chunks) != len(shape) or 0 in chunks:
        raise ValueError(f"its shape {list(shape)} and chunks {list(chunks)} do not fit together")
    return chunks


def _encoding(encoding: object) -> tuple[str, str]:
    """Return prefix and separator of the chunks' keys."""
    name, configuration = _named(encoding, "chunk key encoding", allowed={"separator"})
    if name in ("default", "v2"):
        separator = configuration.get("separator", "/" if name == "default" else ".")
        if separator in ("/", "."):
            return ("c" if name == "default" else ""), separator
    raise UntranslatableError(f"its chunk key encoding {encoding!r} is not known")


def _elements(document: dict[str, Any], chunks: tuple[int, ...]) -> tuple[Kind, list[dict[str, Any]]]:
    """Return what the elements are, and the codecs that keep them."""
    _check_members(document)
    kind = _kind(document.get("data_type"), document.get("fill_value"))
    if (kind.itemsize or 1) * math.prod(chunks) >= _MAX_CHUNK_NBYTES:
        raise UntranslatableError(f"its chunks of {list(chunks)} elements are larger than 2 GiB")
    return kind, _codecs(document.get("codecs"), kind, chunks)


def _check_members(document: dict[str, Any]) -> None:
    for name, value in document.items():
        ignorable = isinstance(value, dict) and value.get("must_understand") is False
        if name not in _MEMBERS and not ignorable:
            raise UntranslatableError(f"its member {name!r} is not known, and may change what its chunks mean")
    if document.get("storage_transformers"):
        raise UntranslatableError(f"its storage transformers {document['storage_transformers']!r} can't be read")
    grid = document.get("chunk_grid")
    if not isinstance(grid, dict) or grid.get("name") != "regular":
        raise UntranslatableError(f"its chunk grid {grid!r} is not a regular one")


def _dimension_names(document: dict[str, Any], plain: dict[str, Any], ndim: int) -> dict[str, Any]:
    for names in (document.get("dimension_names"), plain.get("_ARRAY_DIMENSIONS")):
        if isinstance(names, list) and len(names) == ndim and all(isinstance(name, str | None) for name in names):
            return {"dimension_names": names}
    return {}


def _tail_nbytes(shape: tuple[int, ...], chunks: tuple[int, ...], raw_nbytes: int) -> int | None:
    if not shape or shape[1:] != chunks[1:] or shape[0] % chunks[0] == 0:
        return None
    return raw_nbytes // chunks[0] * (shape[0] % chunks[0])


def _named(value: object, what: str, *, allowed: set[str] | None) -> tuple[str, dict[str, Any]]:
    """Return name and configuration of an extension: an object, or only a name.

    Parameters
    ----------
    value
        Of the document.
    what
        For the error.
    allowed
        Members that a configuration may have, or None for any.
    """
    if isinstance(value, str):
        return value, {}
    name = value.get("name") if isinstance(value, dict) else None
    configuration = {} if not isinstance(value, dict) else value.get("configuration")
    configuration = {} if configuration is None else configuration
    if not isinstance(name, str) or not isinstance(configuration, dict):
        raise UntranslatableError(f"its {what} {value!r} has no name or no configuration")
    unknown = set(configuration) - (set(configuration) if allowed is None else allowed)
    if unknown:
        raise UntranslatableError(f"its {what} {name!r} has {sorted(map(str, unknown))}, which is not known")
    return name, configuration


# What the elements are


def _kind(data_type: object, fill_value: object) -> Kind:
    name, configuration = _named(data_type, "data type", allowed={"fields", "length_bytes"})
    if name in _NUMBERS and not configuration:
        return _number(name, fill_value)
    if name == "string" and not configuration:
        return Kind("string", "str", {"name": "vlen-utf8"}, _text_fill(fill_value), None)
    if name == "variable_length_bytes" and not configuration:
        return Kind(name, "bytes", {"name": "vlen-bytes"}, _base64_fill(fill_value, None), None)
    size = configuration.get("length_bytes")
    if set(configuration) == {"length_bytes"} and type(size) is int and 0 < size <= _MAX_ITEM_NBYTES:
        plain = {"name": name, "configuration": {"length_bytes": size}}
        if name == "null_terminated_bytes":
            return Kind(plain, f"S{size}", {"name": "bytes"}, _base64_fill(fill_value, size), size)
        if name == "fixed_length_utf32" and size % 4 == 0:
            text = _text_fill(fill_value)
            if 4 * len(text) > size:
                raise UntranslatableError(f"its fill value {fill_value!r} is longer than {size // 4} characters")
            return Kind(plain, "str", _little(), text, size, "little")
    if name in ("struct", "structured") and set(configuration) == {"fields"}:
        return _compound(configuration["fields"], fill_value)
    raise UntranslatableError(f"its data type {data_type!r} is not known")


def _little() -> dict[str, Any]:
    return {"name": "bytes", "configuration": {"endian": "little"}}


def _number(name: str, fill_value: object) -> Kind:
    size = np.dtype(name).itemsize
    endian = "little" if size > 1 else None
    return Kind(name, name, _little() if endian else {"name": "bytes"}, _number_fill(fill_value, name), size, endian)


def _number_fill(value: Any, name: str) -> Any:  # noqa: ANN401 - JSON in, JSON out
    bits = 8 * np.dtype(name).itemsize
    if name.startswith("complex"):
        if isinstance(value, list) and len(value) == 2:
            return [_number_fill(part, f"float{bits // 2}") for part in value]
    elif name.startswith("float"):
        if value in ("NaN", "Infinity", "-Infinity"):
            return value
        if isinstance(value, str) and _HEXADECIMAL.fullmatch(value) and len(value) == 2 + bits // 4:
            return value
        if isinstance(value, float) or (type(value) is int and abs(value) < 2**1023):
            with np.errstate(over="ignore"):
                overflows = math.isfinite(value) and not np.isfinite(np.dtype(name).type(value))
            if not overflows:
                return json_float(float(value))
    elif name == "bool":
        if isinstance(value, bool):
            return value
    elif (type(value) is int or (isinstance(value, float) and value.is_integer())) and (
        np.iinfo(name).min <= value <= np.iinfo(name).max
    ):
        return int(value)
    raise UntranslatableError(f"its fill value {value!r} is not one of {name}")


def _text_fill(value: object) -> str:
    if isinstance(value, str) and not any("\ud800" <= character <= "\udfff" for character in value):
        return value
    raise UntranslatableError(f"its fill value {value!r} is not text")


def _base64_fill(value: object, size: int | None) -> str:
    data = _unbase64(value)
    if data is None or (size is not None and len(data) > size):
        limit = "" if size is None else f" of up to {size} bytes"
        raise UntranslatableError(f"its fill value {value!r} is not a text{limit} in base64")
    return base64.b64encode(data).decode("ascii")


def _unbase64(value: object) -> bytes | None:
    try:
        return base64.b64decode(value, validate=True) if isinstance(value, str) else None
    except ValueError:
        return None


def _compound(fields: object, fill_value: object) -> Kind:
    """Packed records, in the form that zarr 3.1.6 knows: `structured`, with pairs and a fill value in base64."""
    kinds: dict[str, Kind] = {}
    listed = fields if isinstance(fields, list) else []
    fills = fill_value if isinstance(fill_value, dict) else {}
    for field in listed:
        match field:
            case [str(name), data_type] | {"name": str(name), "data_type": data_type} if name and name not in kinds:
                kinds[name] = _field(name, data_type, fills)
            case _:
                raise UntranslatableError(f"its compound field {field!r} can't be read")
    size = sum(kind.itemsize or 0 for kind in kinds.values())
    if not kinds or size > _MAX_ITEM_NBYTES:
        raise UntranslatableError(f"its compound type of {len(kinds)} fields and {size} bytes can't be read")
    if isinstance(fill_value, dict) and set(fill_value) <= set(kinds):
        filled = b"".join(_packed(kind) for kind in kinds.values())
    else:
        filled = _unbase64(fill_value) or b""
    if len(filled) != size:
        raise UntranslatableError(f"its fill value {fill_value!r} is not a record of {size} bytes")
    pairs = [[name, kind.data_type] for name, kind in kinds.items()]
    data_type = {"name": "structured", "configuration": {"fields": pairs}}
    return Kind(data_type, "", _little(), base64.b64encode(filled).decode("ascii"), size, "little")


def _field(name: str, data_type: object, fills: dict[str, Any]) -> Kind:
    """Return what a field is; where the fill value has nothing for it, zeros."""
    type_name, _ = _named(data_type, "compound field", allowed=None)
    if type_name not in _NUMBERS and type_name not in ("fixed_length_utf32", "null_terminated_bytes"):
        raise UntranslatableError(f"its compound field {name!r} has the data type {data_type!r}, which can't be read")
    zero: Any = "" if type_name not in _NUMBERS else False if type_name == "bool" else 0
    return _kind(data_type, fills.get(name, [0, 0] if type_name.startswith("complex") else zero))


def _packed(kind: Kind) -> bytes:
    """Return the bytes of a field's fill value, little-endian."""
    fill, size = kind.fill_value, kind.itemsize or 0
    if isinstance(kind.data_type, dict):
        data = fill.encode("utf-32-le") if kind.endian else base64.b64decode(fill)
        return bytes(data.ljust(size, b"\0"))
    if isinstance(fill, str) and fill.startswith("0x"):
        return bytes.fromhex(fill[2:])[::-1]
    if isinstance(fill, list):
        half = replace(kind, data_type=f"float{4 * size}", itemsize=size // 2)
        return b"".join(_packed(replace(half, fill_value=part)) for part in fill)
    dtype = np.dtype(kind.data_type).newbyteorder("<")
    return np.array(float(fill) if isinstance(fill, str) else fill, dtype).tobytes()


# Codecs


def _refuse_pickle(codecs: object) -> None:
    waiting = [codecs]
    while waiting:
        match waiting.pop():
            case "pickle" | "numcodecs.pickle":
                raise ValueError("the codec 'pickle' runs whatever code the file holds, and is never used")
            case list(items):
                waiting += items
            case dict(members):
                waiting += members.values()


def _has_axes(codecs: object) -> bool:
    """Whether a codec names dimensions, so that the array must keep those that it has."""
    listed = codecs if isinstance(codecs, list) else []
    return any(isinstance(codec, dict) and codec.get("name") in ("transpose", "sharding_indexed") for codec in listed)


def _codecs(codecs: object, kind: Kind, chunks: tuple[int, ...]) -> list[dict[str, Any]]:
    """Return codecs as every zarr that we read with takes them, in the order of encoding."""
    if not isinstance(codecs, list):
        raise UntranslatableError(f"its codecs {codecs!r} are no list")
    steps = [_named(codec, "codec", allowed=None) for codec in codecs]
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
    return np.dtype(name).newbyteorder("<").str if isinstance(name, str) and name in _NUMBERS else name


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
            _named({"name": name, "configuration": configuration}, "codec", allowed=set())
            return {"name": "crc32c"}
        case "gzip":
            level = configuration.get("level", 5)
            if set(configuration) - {"level"} or type(level) is not int or not 0 <= level <= 9:
                raise UntranslatableError(f"its codec 'gzip' with {configuration} is not known")
            return {"name": "gzip", "configuration": {"level": level}}
        case "zstd":
            _named({"name": name, "configuration": configuration}, "codec", allowed={"level", "checksum"})
            step = {**configuration, "id": "zstd"}
        case "blosc":
            known = {"blocksize", "clevel", "cname", "shuffle", "typesize"}
            _named({"name": name, "configuration": configuration}, "codec", allowed=known)
            shuffle = configuration.get("shuffle", "noshuffle")
            if not isinstance(shuffle, str) or shuffle not in _BLOSC_SHUFFLE:
                raise UntranslatableError(f"its codec 'blosc' has the shuffle {shuffle!r}, which is not known")
            step = {**configuration, "shuffle": _BLOSC_SHUFFLE[shuffle], "id": "blosc"}
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
    _named({"name": name, "configuration": configuration}, "codec", allowed=known)
    if not kind.name:  # zarr 3.1 fails on their fill value, which it can't hash
        raise UntranslatableError("its compounds in shards can't be read yet")
    inner, location = configuration.get("chunk_shape"), configuration.get("index_location", "end")
    if not isinstance(inner, list) or len(inner) != len(chunks) or not all(type(n) is int and n > 0 for n in inner):
        raise UntranslatableError(f"the chunks of its shards, {inner!r}, do not have its dimensions")
    if any(outer % n for outer, n in zip(chunks, inner, strict=True)):
        raise UntranslatableError(f"its shards of {list(chunks)} can't be split into chunks of {inner}")
    if location not in ("start", "end"):
        raise UntranslatableError(f"the index of its shards lies at {location!r}, which is not known")
    index = _codecs(configuration.get("index_codecs"), _number("uint64", 2**64 - 1), (*inner, 2))
    if not {codec["name"] for codec in index} <= {"bytes", "crc32c"}:
        raise UntranslatableError("the index of its shards is compressed, which can't be read")
    return {
        "name": name,
        "configuration": {
            "chunk_shape": inner,
            "codecs": _codecs(configuration.get("codecs"), kind, tuple(inner)),
            "index_codecs": index,
            "index_location": location,
        },
    }


def _is_deflated(names: list[str]) -> bool:
    """Whether what deflate packed is as large as a chunk, so that a stream too short for it can be told at once."""
    *before, last = names
    kept = {"transpose", "bytes", "crc32c", "numcodecs.shuffle", "numcodecs.fletcher32"}
    return last in {"gzip", "numcodecs.gzip", "numcodecs.zlib"} and set(before) <= kept
