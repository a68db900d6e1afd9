"""What parts are put together into: `References` again. Pure."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numcodecs.vlen import VLenUTF8

from lindi_dask.refs.dialect.v2_kinds import UntranslatableError
from lindi_dask.refs.documents import MAX_INLINE, add_implied_groups, documents_of
from lindi_dask.refs.links import Links
from lindi_dask.refs.manifest import ColumnManifest
from lindi_dask.refs.references import INLINE, References, Source

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from lindi_dask.refs.combine.parts import Chunks, Tree
    from lindi_dask.refs.references import SourceTable
    from lindi_dask.refs.zarrshadow.selections import Selection

__all__ = ["Whole", "with_type"]

_LITTLE: Final = {"name": "bytes", "configuration": {"endian": "little"}}


class Whole:
    """Puts `References` together.

    Parameters
    ----------
    sources
        Of the chunks; the number `INLINE` gets the values that are held anew.
    """

    def __init__(self, sources: SourceTable) -> None:
        self.sources = sources
        self.links = Links()
        self.unreadable: dict[str, str] = {}
        self._nodes: dict[str, dict[str, Any]] = {}
        self._manifests: dict[str, ColumnManifest] = {}
        self._padded: dict[str, int] = {}
        self._selections: dict[str, Selection] = {}
        self._held = bytearray()

    def add_group(self, path: str, node: dict[str, Any]) -> None:
        """Add a group."""
        self._nodes[path] = node

    def add_array(
        self, path: str, node: dict[str, Any], chunks: Chunks, *, padded: int | None, selection: Selection | None
    ) -> None:
        """Add an array with the chunks that it has."""
        at = chunks.locations
        self._nodes[path] = node
        self._manifests[path] = ColumnManifest.build(chunks.grid, chunks.places, at.sources, at.offsets, at.lengths)
        if padded is not None:
            self._padded[path] = padded
        if selection is not None:
            self._selections[path] = selection

    def keep(self, path: str, node: dict[str, Any], tree: Tree, old: str) -> None:
        """Add an array as it is in a part, where it has the path `old`."""
        padded, selection = tree.padded.get(old), tree.selections.get(old)
        self.add_array(path, node, tree.chunks[old], padded=padded, selection=selection)

    def hold(self, path: str, node: dict[str, Any], values: NDArray[Any]) -> None:
        """Add an array with these values, in one chunk that the references hold themselves.

        Parameters
        ----------
        path
            Of the array.
        node
            Its document, but for its shape, chunks and codecs; its data type is that of the values.
        values
            As zarr reads them: text as any strings.

        Raises
        ------
        UntranslatableError
            If they are too large to be held.
        """
        data, codec = _encoded(values, node["data_type"])
        if len(data) > MAX_INLINE:
            raise UntranslatableError(f"with {len(data):,} bytes it is too large to be held in the references")
        chunks = [max(extent, 1) for extent in values.shape]
        grid = tuple(int(extent > 0) for extent in values.shape)
        count = int(0 not in values.shape)
        self._nodes[path] = {
            **node,
            "shape": list(values.shape),
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunks}},
            "codecs": [codec],
        }
        start = [len(self._held)][:count]
        self._held += data * count
        self._manifests[path] = ColumnManifest.build(grid, [0][:count], [INLINE][:count], start, [len(data)][:count])

    def references(self) -> References:
        """Return all of it."""
        add_implied_groups(self._nodes)
        links, broken = self.links.resolved(self._nodes)
        self.sources.replace(INLINE, Source("", data=memoryview(bytes(self._held))))
        made = References(
            fingerprint="",
            metadata=documents_of(self.links.written(self._nodes, links)),
            manifests=self._manifests,
            padded=self._padded,
            selections=self._selections,
            sources=self.sources,
            links=links,
            unreadable=self.unreadable | broken,
        )
        return replace(made, fingerprint=_digest(made, self._manifests))


def with_type(node: dict[str, Any], data_type: dict[str, Any], nbytes: int) -> dict[str, Any]:
    """Return the document of compounds that have another type, of so many bytes; it fills with zeros."""
    return {**node, "data_type": data_type, "fill_value": base64.b64encode(bytes(nbytes)).decode("ascii")}


def _encoded(values: NDArray[Any], data_type: Any) -> tuple[bytes, dict[str, Any]]:  # noqa: ANN401 - as in JSON
    if data_type == "string":
        texts = np.empty(values.size, object)
        texts[:] = values.reshape(-1).tolist()
        return bytes(VLenUTF8().encode(texts)), {"name": "vlen-utf8"}
    if data_type == "variable_length_bytes":
        raise UntranslatableError("its elements have no fixed length, and are no text")
    name = data_type["name"] if isinstance(data_type, dict) else data_type
    plain = np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<"))
    has_order = name != "null_terminated_bytes" and (isinstance(data_type, dict) or plain.dtype.itemsize > 1)
    return plain.tobytes(), _LITTLE if has_order else {"name": "bytes"}


def _digest(references: References, manifests: Mapping[str, ColumnManifest]) -> str:
    """Return a digest of all that references are made of."""
    digest = hashlib.sha256()
    sources = [references.sources[i] for i in range(len(references.sources))]
    known = [
        [(source.url, source.size, source.etag, source.address) for source in sources],
        dict(references.padded),
        {path: [one.record_size, one.keep] for path, one in references.selections.items()},
        dict(references.links),
        dict(references.unreadable),
        {path: manifest.grid for path, manifest in manifests.items()},
    ]
    digest.update(json.dumps(known).encode())
    held = [source.data for source in sources if source.data is not None]
    contents: list[bytes | memoryview] = [*references.metadata.values(), *held]
    for content in contents:
        digest.update(b"%d:" % len(content))
        digest.update(content)
    for manifest in manifests.values():
        columns = manifest.columns
        for column in (manifest.index, columns.sources, columns.offsets, columns.lengths):
            if column is not None:
                digest.update(np.ascontiguousarray(column).data)
    return digest.hexdigest()[:32]
