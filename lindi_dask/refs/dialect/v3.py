"""Zarr v3 references, as zarrshadow (formerly zindi) writes them, to the one internal dialect. Pure.

The metadata is Zarr v3 already: here it is checked, member by member, so that every document that leaves can be opened
by every version of zarr that we read with, and only codecs that we know are ever run. One bad document would otherwise
take the whole tree down, as the root's holds them all. What can't be read is listed with the reason.

Sources: https://zarr-specs.readthedocs.io/en/latest/v3/core/index.html; https://github.com/bendichter/zarrshadow,
README, "The refs.json Format"; https://github.com/catalystneuro/zarr-non-finite-attributes.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from lindi_dask.errors import InvalidReferences
from lindi_dask.refs.dialect.v2 import ArrayPlan
from lindi_dask.refs.dialect.v2_kinds import Kind, UntranslatableError
from lindi_dask.refs.dialect.v3_codecs import checked_codecs, has_axes, is_deflated, refuse_pickle
from lindi_dask.refs.dialect.v3_kinds import check_members, named, v3_kind
from lindi_dask.refs.kerchunk.templates import expand
from lindi_dask.refs.references import Source
from lindi_dask.refs.zarrshadow.chunk_indexes import ChunkIndex, index_manifest, parse_indexes
from lindi_dask.refs.zarrshadow.selections import Selection, parse_selections

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
_LAYOUT = {"chunk_grid", "chunk_key_encoding", "codecs", "data_type", "fill_value", "shape", "storage_transformers"}
_MEMBERS: Final = frozenset(_LAYOUT | {"attributes", "dimension_names", "node_type", "zarr_format"})

_NON_FINITE: Final = "2adc9aac-d676-4e93-8feb-903b6ae9e08a"
_CONVENTIONS: Final = "zarr_conventions"
_ESCAPE: Final = "_str_"
_MARKED = re.compile(r"(?:_str_)*(?:NaN|-?Infinity)")
_MAX_ADDRESS: Final = 4096  # characters
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
    refuse_pickle(codecs)
    shape = _extents(document.get("shape"), "shape")
    chunks = _chunks(document, shape)
    plain = attributes(document)
    if plain.get("_SCALAR") is True and shape == chunks == (1,) and not has_axes(codecs):
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
        raw_nbytes=nbytes if names == ["bytes"] else None,
        tail_nbytes=None,
        deflated=nbytes if is_deflated(names) else None,
        unreadable=unreadable,
        may_end_early=True,
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


def parse_sources(value: object, *, templates: Mapping[str, str] | None) -> dict[str, Source]:
    """Return what is said of files when the references were made, by URL.

    Parameters
    ----------
    value
        The member `sources`: `{"size": bytes, "etag": '"..."', "address": "dandi://..."}` by URL; each may be missing.
    templates
        Of the reference file, by name; None: URLs are as they are.

    Returns
    -------
    dict
        URL, templates expanded -> the file. The ETag has no quotes: `If-Match` wants them around it.
        A weak one (`W/"..."`) is left out, as `If-Match` never matches it; so is an address that is none, as it is but
        a hint.

    Raises
    ------
    InvalidReferences
        If it is malformed, or says different things of one URL.
    """
    if not isinstance(value, dict):
        raise _invalid_source(None, "it is not an object")
    known: dict[str, Source] = {}
    for written, entry in value.items():
        if not isinstance(written, str) or not isinstance(entry, dict):
            raise _invalid_source(written, "it is not an object by URL")
        size, etag = entry.get("size"), entry.get("etag")
        if size is not None and not (type(size) is int and 0 <= size < 2**63):
            raise _invalid_source(written, f"its size {size!r} is not a number of bytes")
        url = written if templates is None else expand(written, templates, key="sources")
        described = Source(url, size, _strong(written, etag), address=_address(entry.get("address")))
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


def _address(address: object) -> str | None:
    if not isinstance(address, str) or not address.startswith("dandi://"):
        return None
    return address if len(address) <= _MAX_ADDRESS and address.isprintable() else None


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
    name, configuration = named(encoding, "chunk key encoding")
    check_members(name, configuration, {"separator"}, what="chunk key encoding")
    if name in ("default", "v2"):
        separator = configuration.get("separator", "/" if name == "default" else ".")
        if separator in ("/", "."):
            return ("c" if name == "default" else ""), separator
    raise UntranslatableError(f"its chunk key encoding {encoding!r} is not known")


def _elements(document: dict[str, Any], chunks: tuple[int, ...]) -> tuple[Kind, list[dict[str, Any]]]:
    """Return what the elements are, and the codecs that keep them."""
    _check_document(document)
    kind = v3_kind(document.get("data_type"), document.get("fill_value"))
    if (kind.itemsize or 1) * math.prod(chunks) >= _MAX_CHUNK_NBYTES:
        raise UntranslatableError(f"its chunks of {list(chunks)} elements are larger than 2 GiB")
    return kind, checked_codecs(document.get("codecs"), kind, chunks)


def _check_document(document: dict[str, Any]) -> None:
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
