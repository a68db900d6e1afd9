"""`References`: what every format of reference file turns into."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from os import PathLike

    from lindi_dask.refs.manifest import ChunkManifest
    from lindi_dask.refs.zarrshadow.selections import Selection

__all__ = ["INLINE", "References", "Source", "SourceTable"]

INLINE = 0
"""the source that holds the chunks which the reference file has itself"""


@dataclass(frozen=True, slots=True)
class Source:
    """Where bytes of chunks come from: a file by its URL, or bytes that are already here."""

    url: str
    """as the reference file has it, templates expanded: absolute, or relative to the reference file; `""` stands for
    the bundle file that the references lie in themselves"""
    size: int | None = None
    """bytes of the file when the references were made, if they say so"""
    etag: str | None = None
    """of the file when the references were made, if they say so; without quotes"""
    data: memoryview | None = None
    """bytes that are here already; then `url` is of no meaning"""
    address: str | None = None
    """`dandi://INSTANCE/000123@VERSION/PATH` of the asset that the file was then, if they say so: by that it is found
    when an edit of its metadata made another asset of it"""


class SourceTable:
    """The sources of a reference file, by number. Thread-safe; only ever grows.

    Number `INLINE` has the chunks that the reference file holds itself. Lazy manifests add theirs when they read them.
    """

    def __init__(self, sources: tuple[Source, ...] = (Source("", data=memoryview(b"")),)) -> None:
        self._sources = list(sources)
        self._numbers = {source: i for i, source in enumerate(sources) if source.data is None}
        self._lock = threading.Lock()

    def add(self, source: Source) -> int:
        """Return the number of a source; equal ones get the same, ones with `data` each a new one."""
        with self._lock:
            number = self._numbers.get(source) if source.data is None else None
            if number is None:
                number = len(self._sources)
                self._sources.append(source)
                if source.data is None:
                    self._numbers[source] = number
            return number

    def replace(self, number: int, source: Source) -> None:
        """Set what a number stands for; of a source with `data`."""
        with self._lock:
            self._sources[number] = source

    def __getitem__(self, number: int) -> Source:
        return self._sources[number]

    def __len__(self) -> int:
        return len(self._sources)


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class References:
    """A reference file system in the one internal dialect: Zarr v3 metadata and a manifest an array.

    Chunk keys have the form `path/3.0` (`chunk_key_encoding` v2 with "."), whatever the file had.
    """

    fingerprint: str
    """hexadecimal digest of the file's content"""
    metadata: Mapping[str, bytes]
    """`zarr.json` documents by key (`zarr.json`, `acquisition/zarr.json`); the root's holds all of them consolidated"""
    manifests: Mapping[str, ChunkManifest]
    """by array path, without a leading slash"""
    padded: Mapping[str, int]
    """by path of an uncompressed array: bytes that each chunk has, where a short last chunk is padded with zeros"""
    selections: Mapping[str, Selection]
    """by path of an array: what of each record that lies in a file belongs to it"""
    sources: SourceTable
    """where chunks come from"""
    links: Mapping[str, str]
    """soft links: path of the link -> path of what it points at, both from the root, without a leading slash"""
    unreadable: Mapping[str, str]
    """why an array or a link can't be read, by path"""

    def all_sources(self) -> list[Source]:
        """Return the sources by number; manifests that are read when they are needed enter theirs now.

        Raises
        ------
        LindiError
            If they can't be read.
        """
        for manifest in self.manifests.values():
            if not manifest.is_ready:
                manifest.locate(manifest.present())
        return [self.sources[number] for number in range(len(self.sources))]

    writer: ClassVar[Callable[..., None] | None] = None
    """what `save` calls: files are not this room's affair, and `lindi_dask.saving` puts itself here"""

    def save(self, path: str | PathLike[str], **options: Any) -> None:  # noqa: ANN401 - those of the writer
        """Write a reference file, of the form that the ending of `path` says.

        Parameters and errors are those of `lindi_dask.saving.save`.
        """
        writer = type(self).writer
        if writer is None:
            raise RuntimeError("import lindi_dask first: it has what writes references")
        writer(self, path, **options)
