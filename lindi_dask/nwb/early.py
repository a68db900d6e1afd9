"""Small arrays that have to be known when a session is opened: starting times, rows of regions."""

from __future__ import annotations

import json
import math
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from zarr.core.array_spec import ArrayConfig, ArraySpec
from zarr.core.buffer import default_buffer_prototype
from zarr.core.metadata import ArrayV3Metadata

from lindi_dask.codecs import BulkCodecPipeline
from lindi_dask.decode import chunk_decoder
from lindi_dask.errors import DataError, RefsError
from lindi_dask.refs import MISSING
from lindi_dask.refs.kerchunk.parquet import RecordManifest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from lindi_dask.decode import ChunkDecoder
    from lindi_dask.nwb.tree import ArrayNode
    from lindi_dask.store import LindiStore

__all__ = ["EarlyValues"]

_AT_ONCE = 16


class EarlyValues:
    """Values of arrays, each read once. What lies in the references themselves is decoded without zarr's objects.

    Parameters
    ----------
    store
        Reads what lies elsewhere.
    """

    def __init__(self, store: LindiStore) -> None:
        self._store = store
        self._values: dict[str, NDArray[Any] | RefsError | DataError] = {}
        self._decoders: dict[str, ChunkDecoder | None] = {}

    def fetch(self, nodes: Iterable[ArrayNode]) -> None:
        """Read arrays, those that are not inline at the same time."""
        waiting = []
        for node in nodes:
            if node.path not in self._values:
                value = self._inline(node)
                if value is None:
                    waiting.append(node.path)
                else:
                    self._values[node.path] = value
        waiting = list(dict.fromkeys(waiting))
        if len(waiting) > 1:
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                self._values.update(zip(waiting, pool.map(self._read, waiting), strict=True))
        elif waiting:
            self._values[waiting[0]] = self._read(waiting[0])

    def of(self, node: ArrayNode) -> NDArray[Any]:
        """Return all of an array.

        Raises
        ------
        RefsError, DataError
            If it can't be read; other errors, of access, are raised by `fetch` already.
        """
        self.fetch([node])
        value = self._values[node.path]
        if isinstance(value, RefsError | DataError):
            raise value.fresh()
        return value

    def _read(self, path: str) -> NDArray[Any] | RefsError | DataError:
        try:
            self._store.check_readable(path)
            return np.asarray(zarr.open_array(self._store, path=path, mode="r", zarr_format=3)[...])
        except (RefsError, DataError) as error:
            failure = error
        return failure.fresh()  # type: ignore[return-value] # of the same class

    def _bytes(self, node: ArrayNode) -> memoryview | None:
        """Return the one chunk of an array, encoded, if it lies in the references; parquet's records don't tell yet."""
        references = self._store.references
        manifest = references.manifests.get(node.path)
        if manifest is None or isinstance(manifest, RecordManifest) or math.prod(manifest.grid) != 1:
            return None
        where = manifest.locate(np.zeros(1, np.uint64))
        if node.path in references.unreadable or where.sources[0] == MISSING:
            return None
        data, start = references.sources[int(where.sources[0])].data, int(where.offsets[0])
        return None if data is None else data[start : start + int(where.lengths[0])]

    def _inline(self, node: ArrayNode) -> NDArray[Any] | None:
        """Return an array that lies in the references; None for others, and whatever zarr should see to."""
        try:
            view = self._bytes(node)
            decoder = None if view is None else self._decoder(node)
            return None if view is None or decoder is None else decoder(view)[tuple(map(slice, node.shape))]
        except Exception:  # noqa: BLE001 - zarr's way says what is wrong with it
            return None

    def _decoder(self, node: ArrayNode) -> ChunkDecoder | None:
        document = {**node.document, "attributes": {}}
        key = json.dumps(document, sort_keys=True)
        if key not in self._decoders:
            metadata = ArrayV3Metadata.from_dict(document)
            pipeline = BulkCodecPipeline.from_codecs(metadata.codecs)
            spec = ArraySpec(
                node.chunks,
                metadata.data_type,
                metadata.fill_value,
                ArrayConfig.from_dict({}),
                default_buffer_prototype(),
            )
            self._decoders[key] = chunk_decoder(pipeline, spec)
        return self._decoders[key]
