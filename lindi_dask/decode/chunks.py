"""From a chunk's encoded bytes to its array, or straight to its place in a larger one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numcodecs
import numpy as np
from zarr.codecs import BytesCodec, TransposeCodec

from lindi_dask.decode.steps import Unshuffle, byte_steps, interleave, numcodecs_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from zarr.core.array_spec import ArraySpec
    from zarr.core.codec_pipeline import BatchedCodecPipeline

    from lindi_dask.decode.steps import Bytes, Step

    Selection: TypeAlias = Any  # whatever numpy indexes by: zarr's own type leaves half of it out
    Filter: TypeAlias = Callable[[NDArray[Any]], NDArray[Any]]
    Place: TypeAlias = Callable[[Bytes, Selection, Selection], None]

__all__ = ["ChunkDecoder", "chunk_decoder"]

_FILTERS = {"astype", "bitround", "delta", "fixedscaleoffset", "quantize"}  # whose output has a size known beforehand


@dataclass(frozen=True, slots=True)
class ChunkDecoder:
    """From a chunk's encoded bytes to its array. Thread-safe.

    Raises `ValueError`, or what the codec's library raises, for bytes that are not a chunk of exactly that shape.
    """

    steps: tuple[Step, ...]
    """from bytes to bytes, in the order of decoding; without the unshuffling that `shuffled` stands for"""
    shuffled: bool
    """whether the bytes that come out are HDF5's shuffle of whole elements: all first bytes, all second ones..."""
    filters: tuple[Filter, ...]
    """from arrays to arrays, in the order of decoding"""
    dtype: np.dtype[Any]
    """of the array"""
    stored: np.dtype[Any]
    """of the elements that the bytes hold"""
    shape: tuple[int, ...]
    """of the array that the bytes hold, C order"""
    axes: tuple[int, ...]
    """which of its axes are those of the array"""

    def __call__(self, data: memoryview) -> NDArray[Any]:
        """Return the chunk; read-only."""
        return self._array(self.raw(data))

    @property
    def nbytes(self) -> int:
        """Bytes of what `raw` returns."""
        return math.prod(self.shape) * self.stored.itemsize

    def raw(self, data: memoryview) -> Bytes:
        """Return a chunk's elements, all that was packed unpacked, but still shuffled where `shuffled` says so."""
        current: Bytes = data
        for step in self.steps:
            current = step(current)
        if len(current) != self.nbytes:
            raise ValueError(f"{len(current)} bytes came out, but the chunk has {self.nbytes}")
        return current

    def _array(self, raw: Bytes) -> NDArray[Any]:
        if self.shuffled:
            raw = Unshuffle(self.stored.itemsize)(raw)
        array = np.frombuffer(raw, self.stored).reshape(self.shape).transpose(self.axes)
        for step in self.filters:
            array = step(array)
        return array

    def onto(self, target: NDArray[Any], drop_axes: tuple[int, ...] = ()) -> Place:
        """Return a function that takes what `raw` returns, and writes a selection of the chunk to one of `target`.

        Parameters
        ----------
        target
            Of any shape, strides and byte order.
        drop_axes
            Of the selected part, to leave out.
        """

        def by_array(raw: Bytes, chunk_selection: Selection, out_selection: Selection) -> None:
            part = self._array(raw)[chunk_selection]
            target[out_selection] = part.squeeze(axis=drop_axes) if drop_axes else part

        if not self.shuffled or self.filters or target.dtype != self.dtype:
            return by_array
        itemsize = self.stored.itemsize
        words = _words(target)
        planes_of = (itemsize, *self.shape)
        axes = (0, *(axis + 1 for axis in self.axes))
        order = _significance(self.stored, target.dtype)
        dropped = tuple(axis + 1 for axis in drop_axes)

        def by_planes(raw: Bytes, chunk_selection: Selection, out_selection: Selection) -> None:
            # The bytes of each significance go straight to where they belong: no chunk is ever put together
            if not (_is_basic(chunk_selection) and _is_basic(out_selection)):
                return by_array(raw, chunk_selection, out_selection)
            planes = np.frombuffer(raw, np.uint8).reshape(planes_of).transpose(axes)
            planes = planes[(slice(None), *chunk_selection)]
            if dropped:
                planes = planes.squeeze(axis=dropped)
            region = words[(*out_selection, ...)]
            interleave([planes[i] for i in order], region)
            return None

        return by_planes


def chunk_decoder(pipeline: BatchedCodecPipeline, spec: ArraySpec) -> ChunkDecoder | None:
    """Return the decoder of an array's chunks, or None if a codec is not among the native ones.

    Parameters
    ----------
    pipeline
        Holds the codecs.
    spec
        Shape and data type of the chunk.
    """
    dtype = spec.dtype.to_native_dtype()
    serializer = pipeline.array_bytes_codec
    if not isinstance(serializer, BytesCodec):
        return None
    filters: list[Filter] = []
    axes = tuple(range(len(spec.shape)))
    encoded = spec
    for codec in pipeline.array_array_codecs:
        if isinstance(codec, TransposeCodec) and len(pipeline.array_array_codecs) == 1:
            axes = tuple(int(axis) for axis in np.argsort(codec.order))
        else:
            found = _filter(codec, encoded)
            if found is None:
                return None
            filters.append(found)
        encoded = codec.resolve_metadata(encoded)
    stored = encoded.dtype.to_native_dtype()
    if not all(kind.kind in "biufc" and not kind.hasobject for kind in (dtype, stored)):
        return None
    steps = byte_steps(pipeline.bytes_bytes_codecs, math.prod(encoded.shape) * stored.itemsize)
    if steps is None:
        return None
    shuffled = False
    if stored.itemsize > 1 and steps and steps[-1] == Unshuffle(stored.itemsize):
        steps.pop()
        shuffled = True
    endian = getattr(serializer.endian, "value", serializer.endian)
    stored = stored.newbyteorder("big" if endian == "big" else "little")
    return ChunkDecoder(tuple(steps), shuffled, tuple(filters[::-1]), dtype, stored, encoded.shape, axes)


def _filter(codec: object, spec: ArraySpec) -> Filter | None:
    """Return how what a codec made of an array of that kind is undone."""
    if isinstance(codec, TransposeCodec):
        inverse = tuple(int(axis) for axis in np.argsort(codec.order))
        return lambda array: array.transpose(inverse)
    name, shape = numcodecs_name(codec), spec.shape
    if name not in _FILTERS:
        return None
    undone = numcodecs.get_codec({"id": name, **getattr(codec, "codec_config", {})})
    return lambda array: np.asarray(undone.decode(array)).reshape(shape)


# Between shuffled bytes and an array


def _words(target: NDArray[Any]) -> NDArray[np.unsignedinteger]:
    """Return an array's memory as little-endian words: one an element of 2 or 4 bytes, else pairs on one axis more."""
    itemsize = target.dtype.itemsize
    if itemsize in {2, 4}:
        return target.view(f"<u{itemsize}")
    pairs: NDArray[np.unsignedinteger] = target.view([("pairs", "<u2", (itemsize // 2,))])["pairs"]
    return pairs


def _significance(stored: np.dtype[Any], wanted: np.dtype[Any]) -> list[int]:
    """Return which byte of a stored element is each byte of a wanted one."""
    one = np.zeros(1, stored).view(np.uint8)
    unit = len(one) // (2 if stored.kind == "c" else 1)
    if (stored.newbyteorder("=") == stored) == (wanted.newbyteorder("=") == wanted):
        return list(range(len(one)))
    return [at // unit * unit + unit - 1 - at % unit for at in range(len(one))]


def _is_basic(selection: object) -> bool:
    return type(selection) is tuple and all(type(one) is slice or type(one) is int for one in selection)
