"""`References` -> reference files: LINDI's JSON, kerchunk's JSON (version 1) and parquet. Pure: bytes out, in pieces.

All are Zarr v2. Chunks go out in blocks; no Python object of a chunk outlives its block. What is written reads as the
same references again, but for two things that other readers need: text, compounds and references to objects that the
reference file holds itself are made anew where a form has other ones (`write_objects`), and in kerchunk's forms the
short last chunk of a contiguous dataset is as long as the others, where the file is known to go on behind it (no reader
of kerchunk pads, and what is behind the array's end is never looked at).
"""

from __future__ import annotations

import base64
import json
import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from lindi_dask.errors import InvalidReferences
from lindi_dask.refs.kerchunk.parquet_records import encode_record
from lindi_dask.refs.manifest import MISSING, WHOLE
from lindi_dask.refs.write.rows import rows
from lindi_dask.refs.write.tree import V2Tree

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from lindi_dask.refs.manifest import Locations
    from lindi_dask.refs.references import References
    from lindi_dask.refs.write.tree import WrittenArray

__all__ = ["MARK", "to_kerchunk", "to_lindi", "to_parquet"]

MARK: Final = b'"generationMetadata":{"generator":"lindi-dask"}'
"""stands in the first 100 bytes of each JSON file that is written here; readers take no notice of it"""

_TEMPLATE_FROM: Final = 5  # references to a URL from which on it gets a template, as in LINDI
_MAX_RECORDS: Final = 100_000  # of an array: as many as are read
_PRINTABLE: Final = bytes(range(0x20, 0x7F)) + b"\t\n\r"


def to_lindi(references: References, *, skip_unreadable: bool = False) -> Iterator[bytes]:
    """Yield the pieces of a LINDI reference file.

    Parameters
    ----------
    references
        What to write.
    skip_unreadable
        Leave out, and log, what can't be read or has no form in LINDI's Zarr v2, instead of raising.

    Raises
    ------
    UnsupportedArray
        For the first array, link or attribute that can't be written.
    InvalidReferences
        For a URL that can't be written, or what a manifest that is read now raises.
    """
    yield from _to_json(V2Tree(references, "lindi", skip=skip_unreadable))


def to_kerchunk(references: References, *, skip_unreadable: bool = False) -> Iterator[bytes]:
    """Yield the pieces of a kerchunk reference file, version 1. Parameters and errors are those of `to_lindi`.

    Links, which kerchunk does not have, become what LINDI has for them; others see an empty group there.
    """
    yield from _to_json(V2Tree(references, "kerchunk", skip=skip_unreadable))


def to_parquet(
    references: References, record_size: int = 100_000, *, skip_unreadable: bool = False
) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of the files of a folder of kerchunk's parquet references.

    Parameters
    ----------
    references, skip_unreadable
        As for `to_lindi`.
    record_size
        Rows of a record.

    Raises
    ------
    UnsupportedArray, InvalidReferences
        As `to_lindi`; also for an array with so many places for chunks that they make more than 100,000 records.
    ConfigurationError
        If the parquet writer is not installed.
    """
    tree = V2Tree(references, "kerchunk", skip=skip_unreadable, max_places=_MAX_RECORDS * record_size)
    members = {"record_size": record_size, "sources": _sources(tree), "metadata": tree.documents}
    yield ".zmetadata", b"{%s,%s" % (MARK, _dumped({name: value for name, value in members.items() if value})[1:])
    for path, array in tree.arrays.items():
        total = math.prod(array.manifest.grid)
        for number in range(-(-total // record_size)):
            name = f"{path}/refs.{number}.parq".removeprefix("/")
            places = np.arange(number * record_size, min((number + 1) * record_size, total), dtype=np.uint64)
            yield name, _record(tree, name, array, places, record_size)


# JSON


def _to_json(tree: V2Tree) -> Iterator[bytes]:
    templates, urls = _urls(tree)
    yield b'{"version":1,%s' % MARK
    if templates:
        yield b',"templates":%s' % _dumped(templates)
    sources = _sources(tree)
    if sources:
        yield b',"sources":%s' % _dumped(sources)
    yield b',"refs":{'
    separator = b"\n"
    for key, document in tree.documents.items():
        value = document if tree.form == "lindi" else json.dumps(document)
        yield b"%s%s:%s" % (separator, _dumped(key), _dumped(value))
        separator = b",\n"
    for path, array in tree.arrays.items():
        folder = json.dumps(f"{path}/")[1:-1] if path else ""
        for places, locations in array.blocks():
            yield b",\n" + _entries(tree, array, folder, urls, places, locations).encode("ascii")
    yield b"\n}}\n"


def _entries(
    tree: V2Tree,
    array: WrittenArray,
    folder: str,
    urls: Sequence[str | None],
    places: NDArray[np.uint64],
    locations: Locations,
) -> str:
    """Return the entries of a block of chunks."""
    at = tree.long_enough(array, places, locations)
    coordinates = _coordinates(array.manifest.grid, places)
    numbers = np.unique(at.sources).tolist()
    plain = all(urls[i] is not None for i in numbers) and not bool((at.lengths == WHOLE).any())
    if plain and len(numbers) == 1:
        return rows(folder, coordinates, urls[numbers[0]] or "", at.offsets, at.lengths)
    entries = zip(_names(coordinates), *(c.tolist() for c in (at.sources, at.offsets, at.lengths)), strict=True)
    if plain:
        return ",\n".join([f'"{folder}{name}":[{urls[i]},{offset},{length}]' for name, i, offset, length in entries])
    return ",\n".join([f'"{folder}{name}":{_value(tree, array, urls, *row)}' for name, *row in entries])


def _value(tree: V2Tree, array: WrittenArray, urls: Sequence[str | None], source: int, offset: int, length: int) -> str:
    url = urls[source]
    if url is None:
        return _inline(array.held(tree.data(source, offset, length)))
    if length != WHOLE:
        return f"[{url},{offset},{length}]"
    return f"[{url}]" if tree.form == "kerchunk" else f"[{url},0,{tree.sources[source].size}]"


def _inline(data: bytes) -> str:
    """Return bytes as a JSON string: as they are where that is text which no reader takes for something else."""
    if data.translate(None, _PRINTABLE) or data.startswith(b"base64:") or b"{{" in data:
        return f'"base64:{base64.b64encode(data).decode("ascii")}"'
    return json.dumps(data.decode("ascii"))


def _coordinates(grid: tuple[int, ...], places: NDArray[np.uint64]) -> list[NDArray[np.uint64]]:
    """Return where in the grid chunks lie, a column a dimension."""
    columns: list[NDArray[np.uint64]] = []
    for extent in reversed(grid):
        above = places // np.uint64(extent)
        columns.append(places - above * np.uint64(extent))
        places = above
    return columns[::-1]


def _names(coordinates: list[NDArray[np.uint64]]) -> Iterable[str]:
    """Return the names of chunks."""
    if not coordinates:
        return ["0"]
    form = ".".join(["%d"] * len(coordinates))
    return (form % chunk for chunk in zip(*(column.tolist() for column in coordinates), strict=True))


def _urls(tree: V2Tree) -> tuple[dict[str, str], list[str | None]]:
    """Return the templates, and by number of a source what stands for it, as JSON; None for what is held here."""
    templates: dict[str, str] = {}
    names: dict[str, str] = {}
    written: list[str | None] = []
    for number, count in enumerate(tree.uses.counts.tolist()):
        source = tree.sources[number]
        if source.data is not None or not count:
            written.append(None)
            continue
        url = _checked(source.url)
        if count >= _TEMPLATE_FROM and url not in names:
            names[url] = f"u{len(names) + 1}"
            templates[names[url]] = url
        written.append(json.dumps(f"{{{{{names[url]}}}}}" if url in names else url))
    return templates, written


def _checked(url: str, *, templates: bool = True) -> str:
    """Return the URL of a source, if those who read it take it for the same."""
    reason = None
    if not url:
        reason = "chunks lie in the bundle that the references were read from. Unpack it, and save from its folder"
    elif templates and ("{{" in url or "}}" in url):
        reason = "a URL with double braces can't be told from a template"
    if reason is None:
        return url
    raise InvalidReferences(f"The references can't be written: {reason}.", key=None, reason=reason)


def _sources(tree: V2Tree) -> dict[str, dict[str, Any]]:
    """Return what is known of the sources that are used, by URL; LINDI, fsspec and VirtualiZarr look past it."""
    described: dict[str, dict[str, Any]] = {}
    for number, count in enumerate(tree.uses.counts.tolist()):
        source = tree.sources[number]
        etag = None if source.etag is None else f'"{source.etag}"'
        known = {"size": source.size, "etag": etag, "address": source.address}
        said = {name: value for name, value in known.items() if value is not None}
        if count and source.data is None and said:
            described[source.url] = said
    return described


def _dumped(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode("ascii")


# Parquet


def _record(tree: V2Tree, name: str, array: WrittenArray, places: NDArray[np.uint64], record_size: int) -> bytes:
    at = tree.long_enough(array, places, array.manifest.locate(places))
    codes = np.full(record_size, -1, np.int32)
    paths: list[str] = []
    raw: dict[int, bytes] = {}
    for number in np.unique(at.sources[at.sources != MISSING]).tolist():
        rows = np.flatnonzero(at.sources == number)
        source = tree.sources[number]
        if source.data is None:
            codes[rows] = len(paths)
            paths.append(_checked(source.url, templates=False))
            continue
        for row in rows.tolist():
            raw[row] = array.held(tree.data(number, int(at.offsets[row]), int(at.lengths[row])))
    offsets, lengths = np.zeros(record_size, np.uint64), np.zeros(record_size, np.uint32)
    offsets[: len(at)], lengths[: len(at)] = at.offsets, at.lengths
    reason = None
    try:
        return encode_record(paths, codes, offsets, lengths, raw)
    except InvalidReferences as error:
        reason = error.reason
    raise InvalidReferences(f"{name} can't be written: {reason}.", key=name, reason=reason)
