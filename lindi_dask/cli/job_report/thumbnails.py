"""Small pictures of what was converted: traces of signals, a frame of images. Read from the output."""

from __future__ import annotations

import base64
import math
import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from lindi_dask.cli.job_report.elements import element

if TYPE_CHECKING:
    from collections.abc import Callable
    from xml.etree.ElementTree import Element

    from numpy.typing import NDArray

    Read = Callable[[tuple[slice, ...]], NDArray[Any]]

__all__ = ["Thumbnail", "thumbnail_of"]

_WIDTH, _ROW, _HEIGHT = 340.0, 14.0, 170.0
_TRACES: Final = 12
_BINS: Final = 340
_SPAN: Final = 4000  # samples
_SIDE: Final = 256  # pixels of an image, along each dimension


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A picture, and what it shows."""

    picture: Element
    caption: str


def thumbnail_of(shape: tuple[int, ...], region: tuple[slice, ...], read: Read) -> Thumbnail | None:
    """Return a picture of some of a part of an array of numbers; None if there is little to be seen.

    Parameters
    ----------
    shape
        Of the array: (samples,), (samples, channels) or (frames, rows, columns, ...).
    region
        The part.
    read
        Returns some of it.
    """
    extents = tuple(part.stop - part.start for part in region)
    if math.prod(extents) < 2 or not 1 <= len(shape) <= 4:
        return None
    if len(shape) >= 3:
        frame, *others = ((part.start + part.stop) // 2 for part in (region[0], *region[3:]))
        block = read((slice(frame, frame + 1), *region[1:3], *(slice(at, at + 1) for at in others)))
        return Thumbnail(_image(block.reshape(extents[1:3])), f"frame {frame:,} of {shape[0]:,}")
    rows = min(_SPAN, extents[0])
    start = region[0].start + (extents[0] - rows) // 2
    caption = f"{start:,} to {start + rows:,} of {shape[0]:,}"
    if len(shape) == 1:
        values = read((slice(start, start + rows),))
        is_interesting = bool((values[1:] < values[:-1]).any())  # times, ids and indexes are not
        return Thumbnail(_traces(values[:, np.newaxis]), f"elements {caption}") if is_interesting else None
    step = -(-extents[1] // _TRACES)
    block = read((slice(start, start + rows), region[1]))[:, ::step]
    return Thumbnail(_traces(block), f"rows {caption}, {block.shape[1]} of {shape[1]:,} columns")


def _traces(block: NDArray[Any]) -> Element:
    """Return a line each channel, below each other, all in one scale."""
    values = block.astype("float64")
    values = values - np.nanmedian(np.where(np.isfinite(values), values, np.nan), axis=0, keepdims=True)
    channels = values.shape[1]
    height = max(_ROW * channels, _HEIGHT)
    scale = _highest(np.abs(values)) or 1.0
    row = height / (channels + 1)  # half of one is left above, and below
    drawn = []
    for channel in range(channels):
        low, high = _envelope(values[:, channel])
        middle = row * (channel + 1)
        points = []
        for number, pair in enumerate(zip(low.tolist(), high.tolist(), strict=True)):
            x = _WIDTH * (number + 0.5) / len(low)
            points += [
                f"{x:.1f} {middle - 0.65 * row * max(-1.5, min(value / scale, 1.5)):.1f}"
                for value in pair
                if math.isfinite(value)
            ]
        if points:
            drawn.append(element("path", d="M" + "L".join(points), class_="trace"))
    return element("svg", *drawn, viewBox=f"0 0 {_WIDTH:g} {height:g}", role="img", aria_label="traces")


def _highest(values: NDArray[Any]) -> float:
    """Return what all but one in a hundred values stay below; 0 if none is finite."""
    finite = values[np.isfinite(values)]
    return float(np.percentile(finite, 99)) if finite.size else 0.0


def _envelope(values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the lowest and the highest value of each of some stretches."""
    edges = np.linspace(0, len(values), min(_BINS, len(values)) + 1).astype(int)[:-1]
    return np.minimum.reduceat(values, edges), np.maximum.reduceat(values, edges)


def _image(block: NDArray[Any]) -> Element:
    """Return a frame in grey, from its 1st to its 99th percentile."""
    steps = [-(-extent // _SIDE) for extent in block.shape]
    values = block[:: steps[0], :: steps[1]].astype("float64")
    finite = values[np.isfinite(values)]
    low, high = np.percentile(finite, (1, 99)) if finite.size else (0.0, 1.0)
    grey = np.clip((np.nan_to_num(values, nan=low) - low) / ((high - low) or 1.0) * 255, 0, 255).astype("uint8")
    data = base64.b64encode(_png(grey)).decode()
    return element("img", src=f"data:image/png;base64,{data}", alt="a frame")


def _png(grey: NDArray[np.uint8]) -> bytes:
    """Return an image, 8 bits of grey a pixel, as PNG (https://www.w3.org/TR/png-3/)."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = grey.shape
    rows = b"".join(b"\0" + row.tobytes() for row in grey)
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")
