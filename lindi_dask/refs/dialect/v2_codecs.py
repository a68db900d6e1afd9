"""Zarr v2's filters and compressors, by numcodecs' names, as v3 codecs. Pure."""

from __future__ import annotations

from typing import Any, Final

from lindi_dask.refs.dialect.v2_kinds import MAX_ITEM_NBYTES, NUMERIC, Kind, UntranslatableError

__all__ = ["BLOSC_SHUFFLE", "v3_codecs"]

BLOSC_SHUFFLE: Final = {0: "noshuffle", 1: "shuffle", 2: "bitshuffle"}
"""numcodecs' numbers -> v3's names"""

# What each takes: numcodecs refuses all else, and so would a version of it that does not know a member that matters
_BYTES_CODECS: Final = {
    "adler32": {"location"},
    "bz2": {"level"},
    "crc32": {"location"},
    "crc32c": {"location"},
    "fletcher32": set[str](),
    "gzip": {"level"},
    "jenkins_lookup3": {"initval", "prefix"},
    "lz4": {"acceleration"},
    "lzma": {"check", "filters", "format", "preset"},
    "shuffle": {"elementsize"},
    "zlib": {"level"},
}
_ARRAY_CODECS: Final = {
    "astype": {"decode_dtype", "encode_dtype"},
    "bitround": {"keepbits"},
    "delta": {"astype", "dtype"},
    "fixedscaleoffset": {"astype", "dtype", "offset", "scale"},
    "packbits": set[str](),
    "quantize": {"astype", "digits", "dtype"},
}
_JSON_WRITING = {"allow_nan", "check_circular", "ensure_ascii", "indent", "separators", "skipkeys", "sort_keys"}
_OBJECT_CODECS: Final = {
    "json2": _JSON_WRITING | {"encoding", "strict"},
    "vlen-bytes": set[str](),
    "vlen-utf8": set[str](),
}
_KNOWN: Final = {
    **_BYTES_CODECS,
    **_ARRAY_CODECS,
    **_OBJECT_CODECS,
    "blosc": {"blocksize", "clevel", "cname", "shuffle", "typesize"},
    "zstd": {"checksum", "level"},
}
_TYPES_OF = {"astype": ("decode_dtype", "encode_dtype")}  # of a filter's two sides; others call them dtype and astype
_NAMES = frozenset(NUMERIC.values())
_BLOSC_COMPRESSORS = frozenset(("blosclz", "lz4", "lz4hc", "snappy", "zlib", "zstd"))


def v3_codecs(zarray: dict[str, Any], kind: Kind, *, ndim: int) -> list[dict[str, Any]]:
    """Return an array's filters and compressor as v3 codecs, in the order of encoding.

    Parameters
    ----------
    zarray
        Its `.zarray`.
    kind
        What its elements are.
    ndim
        Dimensions of the array.

    Raises
    ------
    UntranslatableError
        If one of them can't be read.
    """
    steps = [step for step in _steps(zarray) if not _is_idle(step)]
    for step in steps:
        _check_members(step, kind)
    steps = [step for step in steps if step["id"] != kind.object_codec]
    names = [step["id"] for step in steps]
    split = next((i for i, name in enumerate(names) if name not in _ARRAY_CODECS), len(names))
    if any(name in _ARRAY_CODECS for name in names[split:]):
        raise UntranslatableError(f"its filters {names} have one for arrays behind one for bytes")
    _check_array_codecs(steps[:split], kind)
    transpose: list[dict[str, Any]] = []
    order = zarray.get("order", "C")
    if order not in ("C", "F"):
        raise UntranslatableError(f"its order {order!r} is neither C nor F")
    if order == "F" and ndim > 1:
        if split:
            raise UntranslatableError(f"its order F with the filters {names[:split]} can't be read yet")
        transpose = [{"name": "transpose", "configuration": {"order": list(range(ndim))[::-1]}}]
    form = [kind.form] if kind.form is not None else []
    encoded = [_codec(step, kind) for step in steps]
    return [*encoded[:split], *transpose, kind.to_bytes, *form, *encoded[split:]]


def _is_idle(step: dict[str, Any]) -> bool:
    """Whether a filter changes no byte: kerchunk's that puts text in for ids, of compounds that have numbers only."""
    fields = step.get("dtype")
    if step["id"] != "fill_hdf_strings" or not isinstance(fields, list):
        return False
    types = [str(field[1]) for field in fields if isinstance(field, list) and len(field) == 2]
    return len(types) == len(fields) and all(name in _NAMES or name[1:] in NUMERIC for name in types)


def _check_array_codecs(steps: list[dict[str, Any]], kind: Kind) -> None:
    """Refuse filters that a v3 pipeline would read other values with than numcodecs alone did, or none.

    v3 converts between the codecs' types where v2 looked at the same bytes anew; of big-endian ones it makes what
    the version of zarr likes.
    """
    if steps and not kind.is_numeric:
        raise UntranslatableError(f"its filter {steps[0]['id']!r} of what is not numbers can't be read")
    held = kind.name
    for step in steps:
        if step["id"] == "bitround" or (step["id"] == "packbits" and held == "bool"):
            types = []
        else:
            types = [str(step.get(field)) for field in _TYPES_OF.get(step["id"], ("dtype", "astype"))]
        if kind.endian == "big" or any(dtype[:1] == ">" for dtype in types):
            raise UntranslatableError(f"its filter {step['id']!r} of big-endian numbers can't be read yet")
        names = [NUMERIC.get(dtype[1:]) for dtype in types] or [held]
        changes = names[0] != names[-1]
        if names[0] != held or None in names or (changes and (step["id"] == "quantize" or kind.endian is None)):
            raise UntranslatableError(
                f"its filter {step['id']!r} from {held} by {' and '.join(types)} can't be read yet"
            )
        held = names[-1] or held


def _steps(zarray: dict[str, Any]) -> list[dict[str, Any]]:
    filters, compressor = zarray.get("filters") or [], zarray.get("compressor")
    if not isinstance(filters, list):
        raise UntranslatableError(f"its filters {filters!r} are no list")
    steps = [*filters, *([compressor] if compressor else [])]
    for step in steps:
        if not isinstance(step, dict) or not isinstance(step.get("id"), str):
            raise UntranslatableError(f"its filter {step!r} has no id")
    return steps


def _check_members(step: dict[str, Any], kind: Kind) -> None:
    name = step["id"]
    if name not in _KNOWN or (name in _OBJECT_CODECS and name != kind.object_codec):
        raise UntranslatableError(f"its filter {name!r} can't be read")
    if unknown := step.keys() - _KNOWN[name] - {"id"}:
        raise UntranslatableError(f"its filter {name!r} has a member {min(unknown)!r}, which is not known")
    if name == "json2" and step.get("encoding", "utf-8") != "utf-8":
        raise UntranslatableError(f"its filter 'json2' has the encoding {step['encoding']!r}, which can't be read")


def _codec(step: dict[str, Any], kind: Kind) -> dict[str, Any]:
    name = step["id"]
    configuration = {key: value for key, value in step.items() if key != "id"}
    if name == "blosc":
        shuffle, cname = _whole(configuration, "shuffle", 1), configuration.get("cname", "lz4")
        if not isinstance(cname, str) or cname not in _BLOSC_COMPRESSORS:
            raise UntranslatableError(f"its compressor {cname!r} is not one of Blosc's")
        if shuffle == -1:  # numcodecs' AUTOSHUFFLE
            shuffle = 2 if kind.itemsize == 1 else 1
        configuration = {
            "cname": cname,
            "clevel": _whole(configuration, "clevel", 5),
            "shuffle": BLOSC_SHUFFLE.get(shuffle, "shuffle"),
            "typesize": kind.itemsize or 1,
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
        size = configuration["elementsize"] = _whole(configuration, "elementsize", 4)
        if not 1 <= size <= MAX_ITEM_NBYTES:
            raise UntranslatableError(f"its filter 'shuffle' is for elements of {size} bytes")
    return {"name": f"numcodecs.{name}", "configuration": configuration}


def _whole(configuration: dict[str, Any], field: str, default: int) -> int:
    value = configuration.get(field, default)
    if type(value) is not int:
        raise UntranslatableError(f"its codec's {field} {value!r} is not a whole number")
    return value
