"""The index file: parsed references, laid out so that a reader maps them into memory instead of parsing again. Pure.

::

     0  8  magic
     8  4  CRC-32 of all from here to the end of the header
    12  4  VERSION
    16  8  bytes of the header
    24  8  bytes of the whole file
    32     the header (JSON), padded to a multiple of 64 bytes
           the sections, each at a multiple of 64 bytes

Numbers are little-endian. The header holds what there is once a file, an array or a document, and where the sections
lie; these hold the documents, the bytes of inline chunks, and the columns of each array's manifest. A column that is
the same for all chunks is a number in the header instead.
"""

from __future__ import annotations

import mmap
import struct
import threading
import zlib
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib.metadata import version
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import orjson

from lindi_dask.errors import RefsChanged
from lindi_dask.refs.manifest import ChunkManifest, ColumnManifest, LazyManifest, Locations
from lindi_dask.refs.references import References, Source, SourceTable
from lindi_dask.refs.zarrshadow.selections import parse_selections

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from numpy.typing import NDArray

    Buffer = bytes | memoryview

__all__ = ["MAGIC", "VERSION", "DamagedIndexError", "lay_out", "read_index", "release"]

MAGIC: Final = b"\x89LDIDX\r\n"

VERSION: Final = 2
"""of the layout, and of what parsers make of a reference file: raise it when either changes"""

_PREFIX = struct.Struct("<8sIIQQ")  # as drawn above
_CHECKED_FROM = 12  # bytes: behind the checksum itself
_ALIGNMENT = 64
_ROOT = "zarr.json"
_DTYPES = {"sources": "<u4", "offsets": "<u8", "lengths": "<u4", "index": "<u8"}


class DamagedIndexError(Exception):
    """An index file does not hold what was written. Never leaves the index cache."""


@dataclass(frozen=True, slots=True)
class _Section:
    """Where bytes lie in the file."""

    name: str
    """for messages"""
    offset: int
    """bytes, from the start of the first section"""
    nbytes: int
    dtype: str
    """of its elements, as numpy has it"""
    checksum: int
    """CRC-32"""


@cache
def release() -> str:
    """Return the version of this package: another one may parse differently, and does not read this one's files."""
    return version("lindi-dask")


def lay_out(references: References) -> Iterator[Buffer]:
    """Yield the pieces of an index file, in order; all manifests must be `ColumnManifest`s.

    Raises
    ------
    TypeError
        If JSON can't have a name in the references: half a character, for one.
    """
    sections = _Sections()
    sources = [references.sources[number] for number in range(len(references.sources))]
    here = [number for number, source in enumerate(sources) if source.data is not None]
    documents = dict(references.metadata)
    cuts = _cut(documents[_ROOT], _below_root(documents)) if _ROOT in documents else []
    if cuts:
        documents[_ROOT] = b"".join(cuts)
    header = {
        "release": release(),
        "fingerprint": references.fingerprint,
        "documents": {key: len(document) for key, document in documents.items()},
        "cuts": [len(cut) for cut in cuts],
        "metadata": sections.add("metadata", b"".join(documents.values())),
        "sources": [
            {"url": source.url, "size": source.size, "etag": source.etag, "address": source.address}
            | ({} if source.data is None else {"data": sections.add(f"source {number}", source.data.cast("B"))})
            for number, source in enumerate(sources)
        ],
        "padded": dict(references.padded),
        "selections": dict(references.selections),  # in JSON they are as reference files have them
        "links": dict(references.links),
        "unreadable": dict(references.unreadable),
        "arrays": {path: _array(path, manifest, here, sections) for path, manifest in references.manifests.items()},
    }
    coded = orjson.dumps(header)
    start = _aligned(_PREFIX.size + len(coded))
    prefix = _PREFIX.pack(MAGIC, 0, VERSION, len(coded), start + sections.nbytes)[_CHECKED_FROM:]
    yield MAGIC + struct.pack("<I", zlib.crc32(coded, zlib.crc32(prefix))) + prefix
    yield coded
    yield bytes(start - _PREFIX.size - len(coded))
    yield from sections.contents


def read_index(mapped: mmap.mmap, fingerprint: str, recover: Callable[[str], References]) -> References | None:
    """Return the references in an index file; None if it is not one of this version, or of other references.

    Checks the header and the documents. The columns of an array are checked when they are first used.

    Parameters
    ----------
    mapped
        The whole file. Stays mapped as long as the references live.
    fingerprint
        Of the references.
    recover
        Called when a column turns out damaged, with the reason, at most once unless it raises; returns the same
        references, parsed anew from their file.

    Raises
    ------
    DamagedIndexError
        If the file is damaged.
    """
    if len(mapped) < _PREFIX.size:
        raise DamagedIndexError("it ends within its first bytes")
    magic, checksum, layout, header_nbytes, nbytes = _PREFIX.unpack_from(mapped)
    if magic != MAGIC or layout != VERSION:
        return None
    start = _aligned(_PREFIX.size + header_nbytes)
    if nbytes != len(mapped) or start > nbytes:
        raise DamagedIndexError("it does not end where its header says")
    content = memoryview(mapped)
    if zlib.crc32(content[_CHECKED_FROM : _PREFIX.size + header_nbytes]) != checksum:
        raise DamagedIndexError("damaged: its header")
    header = orjson.loads(content[_PREFIX.size : _PREFIX.size + header_nbytes])
    if header["release"] != release() or header["fingerprint"] != fingerprint:
        return None
    return _Index(mapped, start, header, recover).references()


class _Sections:
    """Contents, as they get their places in a file."""

    def __init__(self) -> None:
        self.contents: list[Buffer] = []
        self.nbytes = 0

    def add(self, name: str, content: Buffer, dtype: str = "u1") -> _Section:
        section = _Section(name, self.nbytes, len(content), dtype, zlib.crc32(content))
        self.nbytes += _aligned(len(content))
        self.contents += content, bytes(-len(content) % _ALIGNMENT)
        return section


def _array(path: str, manifest: ChunkManifest, here: list[int], sections: _Sections) -> dict[str, Any]:
    if not isinstance(manifest, ColumnManifest):
        raise TypeError(f"the manifest of /{path} is not in columns")
    columns, index = manifest.columns, manifest.index
    return {
        "grid": manifest.grid,
        "chunks": len(columns),
        "sources": _column(path, "sources", columns.sources, sections),
        "offsets": _column(path, "offsets", columns.offsets, sections),
        "lengths": _column(path, "lengths", columns.lengths, sections),
        "index": None if index is None else _column(path, "index", index, sections),
        "here": [number for number in here if bool((columns.sources == number).any())],
    }


def _column(path: str, name: str, column: NDArray[Any], sections: _Sections) -> _Section | int:
    if len(column) == 0 or bool((column == column[0]).all()):
        return int(column[0]) if len(column) else 0
    content = np.ascontiguousarray(column, _DTYPES[name])
    return sections.add(f"the {name} of /{path}", content.view(np.uint8).data, _DTYPES[name])


class _Index:
    """An index file with a header that is whole. Each section is checked when it is first used. Thread-safe."""

    def __init__(
        self,
        mapped: mmap.mmap,
        start: int,
        header: dict[str, Any],
        recover: Callable[[str], References],
    ) -> None:
        self._mapped = mapped
        self._start = start
        self._header = header
        self._recover = recover
        self._sources = SourceTable(tuple(map(self._source, header["sources"])))
        self._sound: set[int] = set()  # sources with bytes in the file that were checked
        self._parsed: References | None = None
        self._lock = threading.Lock()

    def references(self) -> References:
        header = self._header
        return References(
            fingerprint=header["fingerprint"],
            metadata=self._documents(),
            manifests={
                path: LazyManifest(tuple(array["grid"]), partial(self._manifest, path, array))
                for path, array in header["arrays"].items()
            },
            padded=header["padded"],
            selections=parse_selections(header["selections"]),
            sources=self._sources,
            links=header["links"],
            unreadable=header["unreadable"],
        )

    def _documents(self) -> dict[str, bytes]:
        content = bytes(self._checked(self._header["metadata"]))
        documents = dict(
            zip(self._header["documents"], _pieces(content, self._header["documents"].values()), strict=True)
        )
        if self._header["cuts"]:
            cuts = list(_pieces(documents[_ROOT], self._header["cuts"]))
            documents[_ROOT] = b"".join(chain(cuts[:1], *zip(_below_root(documents), cuts[1:], strict=False)))
        return documents

    def _source(self, entry: dict[str, Any]) -> Source:
        data = self._view(_Section(**entry["data"])) if "data" in entry else None
        return replace(_named(entry), data=data)

    def _manifest(self, path: str, array: dict[str, Any]) -> ChunkManifest:
        damage = None
        try:
            return self._mapped_manifest(array)
        except DamagedIndexError as error:
            damage = str(error)
        return self._parsed_manifest(path, tuple(array["grid"]), damage)

    def _mapped_manifest(self, array: dict[str, Any]) -> ColumnManifest:
        with self._lock:
            for number in set(array["here"]) - self._sound:
                self._checked(self._header["sources"][number]["data"])
                self._sound.add(number)
        sources, offsets, lengths = (self._column(array, name) for name in ("sources", "offsets", "lengths"))
        index = None if array["index"] is None else self._column(array, "index")
        return ColumnManifest(tuple(array["grid"]), index, Locations(sources, offsets, lengths))

    def _parsed_manifest(self, path: str, grid: tuple[int, ...], damage: str) -> ChunkManifest:
        with self._lock:
            if self._parsed is None:
                parsed = self._recover(damage)
                self._take_over(parsed)
                self._parsed = parsed
            manifest = self._parsed.manifests.get(path)
        if manifest is None or manifest.grid != grid:
            raise self._changed(self._parsed)
        return manifest

    def _take_over(self, parsed: References) -> None:
        """Take what is here from references parsed anew: the bytes in the file may be damaged, too."""
        new = [parsed.sources[number] for number in range(len(parsed.sources))]
        if [replace(source, data=None) for source in new] != list(map(_named, self._header["sources"])):
            raise self._changed(parsed)
        for number, source in enumerate(new):
            if source.data is not None:
                self._sources.replace(number, source)

    def _changed(self, parsed: References) -> RefsChanged:
        return RefsChanged(
            "The reference file is not as it was when it was opened. Open it again.",
            expected=self._header["fingerprint"],
            found=parsed.fingerprint,
        )

    def _column(self, array: dict[str, Any], name: str) -> NDArray[Any]:
        held = array[name]
        if isinstance(held, int):
            return np.broadcast_to(np.array(held, _DTYPES[name]), (array["chunks"],))
        return np.frombuffer(self._checked(held), held["dtype"])

    def _checked(self, held: dict[str, Any]) -> memoryview:
        section = _Section(**held)
        view = self._view(section)
        if zlib.crc32(view) != section.checksum:
            raise DamagedIndexError(f"damaged: {section.name}")
        if section.nbytes:
            # The check went over all pages; those that no read touches should not count as this process's memory
            end = self._start + section.offset + section.nbytes
            first = (end - section.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
            self._mapped.madvise(mmap.MADV_DONTNEED, first, end - first)
        return view

    def _view(self, section: _Section) -> memoryview:
        first = self._start + section.offset
        return memoryview(self._mapped)[first : first + section.nbytes]


def _named(entry: dict[str, Any]) -> Source:
    return Source(entry["url"], entry["size"], entry["etag"], address=entry["address"])


def _below_root(documents: Mapping[str, bytes]) -> list[bytes]:
    """Return the documents in the order of their paths: the one in which the root's repeats them."""
    keys = sorted((key for key in documents if key != _ROOT), key=lambda key: key.removesuffix("/zarr.json"))
    return [documents[key] for key in keys]


def _cut(document: bytes, repeated: list[bytes]) -> list[bytes]:
    """Return what stands before, between and after others that a document repeats in order; all of it if it doesn't."""
    cuts, at = [], 0
    for other in repeated:
        start = document.find(other, at)
        if start < 0:
            return [document]
        cuts.append(document[at:start])
        at = start + len(other)
    return [*cuts, document[at:]]


def _pieces(content: bytes, lengths: Iterable[int]) -> Iterator[bytes]:
    at = 0
    for length in lengths:
        yield content[at : at + length]
        at += length


def _aligned(nbytes: int) -> int:
    return -(-nbytes // _ALIGNMENT) * _ALIGNMENT
