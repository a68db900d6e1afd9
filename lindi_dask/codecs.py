"""The bulk codec pipeline: all chunks of a block fetched at once, decoded in threads, straight into the output.

zarr-python asks for the pipeline's class when an array is opened. `install` puts a dispatcher there that takes arrays
over our stores and hands all others to the pipeline that the user had.
"""

from __future__ import annotations

import asyncio
import threading
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Final, TypeAlias, TypedDict

import numpy as np
import zarr
from zarr.core.buffer.cpu import NDBuffer as CpuNDBuffer
from zarr.core.codec_pipeline import BatchedCodecPipeline, fill_value_or_default
from zarr.registry import get_pipeline_class, register_pipeline
from zarr.storage import StorePath

from lindi_dask import object_codecs
from lindi_dask.block_read import BlockRead, BulkStore
from lindi_dask.decode import chunk_decoder, inflated, split_known
from lindi_dask.errors import CorruptChunk
from lindi_dask.refs import MISSING, Locations

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray
    from zarr.abc.codec import Codec, CodecPipeline
    from zarr.abc.store import ByteGetter, Store
    from zarr.core.array_spec import ArraySpec
    from zarr.core.buffer import NDBuffer
    from zarr.core.indexing import SelectorTuple
    from zarr.core.metadata import ArrayMetadata

    Request: TypeAlias = tuple[ByteGetter, ArraySpec, SelectorTuple, SelectorTuple, bool]

__all__ = ["BulkCodecPipeline", "BulkStore", "PipelineDispatcher", "install"]


NOT_SPECIFIED: Final = (
    "Numcodecs codecs are not in the Zarr version 3",
    r"The data type \(.*\) does not have a Zarr V3 specification",
)
"""how the warnings begin that zarr gives for what is not in its specification"""


_MAX_TEXT_NBYTES: Final = 2**27  # of a chunk whose elements have no fixed size


class Status(TypedDict):
    """What became of one chunk: zarr 3.4's `GetResult`, which 3.1 doesn't know."""

    status: str


class BulkCodecPipeline(BatchedCodecPipeline):
    """Reads all chunks that a selection touches in one go; decodes natively what HDF5 files hold.

    Any other codec, and any array that isn't a plain numpy one, is decoded by zarr's own code.
    """

    async def read(  # type: ignore[override] # zarr 3.1 returns None, 3.4 wants the statuses
        self, batch_info: Iterable[Request], out: NDBuffer, drop_axes: tuple[int, ...] = ()
    ) -> tuple[Status, ...]:
        """Read chunks into `out`; see zarr's `CodecPipeline.read`."""
        batch = list(batch_info)
        if not batch:
            return ()
        getter = batch[0][0]
        if not (isinstance(getter, StorePath) and isinstance(getter.store, BulkStore)):
            raise TypeError(f"this pipeline reads from a LindiStore, not from {getter!r}")
        path = getter.path.rpartition("/")[0]
        keys = [request[0].path for request in batch]  # type: ignore[attr-defined] # all of one array's store
        locations = await getter.store.locate(path, [key.rpartition("/")[2] for key in keys])
        missing = locations.sources == MISSING
        for i in np.flatnonzero(missing).tolist():
            out[batch[i][3]] = fill_value_or_default(batch[i][1])
        at = np.flatnonzero(~missing)
        decoder = chunk_decoder(self, batch[0][1]) if isinstance(out, CpuNDBuffer) else None
        present = Locations(locations.sources[at], locations.offsets[at], locations.lengths[at])
        chosen, keys = [batch[i] for i in at.tolist()], [keys[i] for i in at.tolist()]
        if decoder is not None:
            place = decoder.onto(out.as_numpy_array(), drop_axes)
            parts = [request[2:] for request in chosen]
            await BlockRead(getter.store, path, present, parts, keys.__getitem__, decoder, place).run()
        else:
            await self._read_by_zarr(getter.store, path, present, chosen, keys, out, drop_axes)
        return tuple(Status(status="missing" if gone else "present") for gone in missing.tolist())

    async def _read_by_zarr(
        self,
        store: BulkStore,
        path: str,
        locations: Locations,
        batch: list[Request],
        keys: list[str],
        out: NDBuffer,
        drop_axes: tuple[int, ...],
    ) -> None:
        """Fetch at once and inflate within a bound, but decode what is then left, and place it, as zarr does."""
        encoded: list[memoryview] = [memoryview(b"")] * len(batch)

        def keep(indices: NDArray[np.intp], views: list[memoryview]) -> None:
            for i, view in zip(indices.tolist(), views, strict=True):
                encoded[i] = view

        await store.get_many(path, locations, keep)
        reason = None
        try:
            chunks = list(await self._decode_rest(encoded, [request[1] for request in batch]))
        except Exception as error:  # noqa: BLE001 - codecs raise whatever they like; it becomes our error
            reason = f"{type(error).__name__}: {error}"
        if reason is not None:
            raise CorruptChunk(
                f"One of the chunks {keys[0]} ... {keys[-1]} can't be decoded: {reason}. Its file is damaged, or is "
                "another one than the references were made from.",
                key=keys[0],
                reason=reason,
            )
        for (_, _, chunk_selection, out_selection, _), key, chunk in zip(batch, keys, chunks, strict=True):
            if chunk is None:
                raise CorruptChunk(f"The chunk {key} was decoded to nothing.", key=key, reason="nothing")
            part = chunk[chunk_selection]
            out[out_selection] = part.squeeze(axis=drop_axes) if drop_axes else part

    async def _decode_rest(self, encoded: list[memoryview], specs: list[ArraySpec]) -> Iterable[NDBuffer | None]:
        rest, known = split_known(self.bytes_bytes_codecs)
        plain = await asyncio.to_thread(lambda: [inflated(known, data, _MAX_TEXT_NBYTES) for data in encoded])
        pairs = [(spec.prototype.buffer.from_bytes(bytes(data)), spec) for data, spec in zip(plain, specs, strict=True)]
        return await replace(self, bytes_bytes_codecs=tuple(rest)).decode(pairs)


class PipelineDispatcher(BatchedCodecPipeline):
    """Never instantiated: gives each array the pipeline that suits its store."""

    @classmethod
    def from_array_metadata_and_store(cls, array_metadata: ArrayMetadata, store: Store) -> CodecPipeline:  # type: ignore[override]
        """Return our pipeline for our stores, the user's for all others."""
        if isinstance(store, BulkStore) and array_metadata.zarr_format == 3:
            return BulkCodecPipeline.from_codecs(array_metadata.codecs)
        return _users.from_array_metadata_and_store(array_metadata, store)

    @classmethod
    def from_codecs(cls, codecs: Iterable[Codec], *, batch_size: int | None = None) -> CodecPipeline:  # type: ignore[override] # noqa: ARG003
        """Return the user's pipeline."""
        return _users.from_codecs(codecs)


_OURS: Final = f"{PipelineDispatcher.__module__}.{PipelineDispatcher.__qualname__}"
_install_lock: Final = threading.Lock()
_users: type[CodecPipeline] = BatchedCodecPipeline


def install() -> None:
    """Make the dispatcher zarr's pipeline; what was configured before goes on for all stores but ours."""
    global _users  # noqa: PLW0603 - stands beside zarr's own global configuration
    with _install_lock:
        if zarr.config.get("codec_pipeline.path") != _OURS:
            _users = get_pipeline_class()
            register_pipeline(PipelineDispatcher)
            zarr.config.set({"codec_pipeline.path": _OURS})
            object_codecs.register()
            # zarr says at each opening that some codecs and types are not in the specification: nothing a reader
            # can change
            for message in NOT_SPECIFIED:
                warnings.filterwarnings("ignore", message=message)
