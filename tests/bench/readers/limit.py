"""What the machine gives without zarr and dask: merged ranges, obstore, libdeflate in threads.

Written once, to measure others by: it is not to be changed.
"""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import deflate
import numpy as np
import obstore
import requests
from obstore.store import HTTPStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray
    from readers.task import Given, Settings, Task

    Place: TypeAlias = Callable[[int, NDArray[np.int16]], None]

PACKAGES = ("obstore", "deflate", "numpy")
PART_NBYTES = 4 * 2**20  # of a request, about


@dataclass(frozen=True, slots=True)
class Chunks:
    """The array's chunks, which lie one below the other: rows x all channels."""

    rows: int
    """of a chunk"""
    channels: int
    compressed: bool
    offsets: list[int]
    """bytes, from the start of the file"""
    lengths: list[int]
    """bytes"""

    def inflate(self, data: bytes | memoryview) -> NDArray[np.int16]:
        """Return the rows of one chunk."""
        if not self.compressed:
            return np.frombuffer(data, "<i2").reshape(self.rows, self.channels)
        planes = np.frombuffer(deflate.zlib_decompress(data, self.rows * self.channels * 2), "u1").reshape(2, -1)
        items = np.empty((self.rows * self.channels, 2), "u1")
        items[:, 0], items[:, 1] = planes
        return items.view("<i2").reshape(self.rows, self.channels)

    def parts(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """Cut a run of chunks into requests; yields (first, last + 1)."""
        count = max(1, PART_NBYTES // int(np.mean(self.lengths)))
        return ((i, min(i + count, last)) for i in range(first, last, count))


def chunks_of(given: Given) -> Chunks:
    refs = json.loads(Path(given.lindi).read_text())["refs"]
    meta = refs["data/.zarray"]
    rows, channels = meta["chunks"]
    entries = [refs[f"data/{i}.0"] for i in range(meta["shape"][0] // rows)]
    compressed = bool(meta["filters"] or meta["compressor"])
    return Chunks(rows, channels, compressed, [entry[1] for entry in entries], [entry[2] for entry in entries])


def open_array(given: Given, settings: Settings) -> tuple[Given, Chunks]:
    return given, chunks_of(given)


def read(opened: tuple[Given, Chunks], task: Task) -> NDArray[np.int16]:
    given, chunks = opened
    key = {"Authorization": f"token {given.key}"}
    location = requests.get(given.url, headers=key, allow_redirects=False, timeout=30).headers["Location"]
    http = HTTPStore.from_url(location, client_options={"allow_http": True})
    with ThreadPoolExecutor(task.threads) as pool:
        reading = Reading(chunks, http, pool)
        if task.places:
            return reading.windows(task)
        return reading.whole(task)


class Reading:
    """One task's work."""

    def __init__(self, chunks: Chunks, http: HTTPStore, pool: ThreadPoolExecutor) -> None:
        self._chunks, self._http, self._pool = chunks, http, pool

    def whole(self, task: Task) -> NDArray[np.int16]:
        """Request all at once; decode what has come."""
        chunks = self._chunks
        columns = slice(None) if task.way == "whole" else task.channel
        shape = (task.stop - task.start, chunks.channels)[: 2 if task.way == "whole" else 1]
        out = np.empty(shape, "<i2")

        def place(i: int, values: NDArray[np.int16]) -> None:
            at = i * chunks.rows - task.start
            out[at : at + chunks.rows] = values[:, columns]

        parts = chunks.parts(task.start // chunks.rows, task.stop // chunks.rows)

        async def run() -> None:
            await asyncio.gather(*(self._part(first, last, place) for first, last in parts))

        asyncio.run(run())
        return out

    def windows(self, task: Task) -> NDArray[np.int16]:
        """Read as many windows at a time as others have threads, or all."""
        out = np.empty((len(task.places) * task.window_rows, self._chunks.channels), "<i2")

        async def run() -> None:
            turns = asyncio.Semaphore(task.threads if task.way == "windows" else len(task.places))

            async def one(number: int, place: int) -> None:
                async with turns:
                    at = number * task.window_rows
                    await self._window(place, out[at : at + task.window_rows])

            await asyncio.gather(*(one(number, place) for number, place in enumerate(task.places)))

        asyncio.run(run())
        return out

    async def _window(self, start: int, out: NDArray[np.int16]) -> None:
        rows, stop = self._chunks.rows, start + len(out)

        def place(i: int, values: NDArray[np.int16]) -> None:
            low, high = max(start, i * rows), min(stop, (i + 1) * rows)
            out[low - start : high - start] = values[low - i * rows : high - i * rows]

        parts = self._chunks.parts(start // rows, (stop - 1) // rows + 1)
        await asyncio.gather(*(self._part(first, last, place) for first, last in parts))

    async def _part(self, first: int, last: int, place: Place) -> None:
        offsets, lengths = self._chunks.offsets, self._chunks.lengths
        base, end = offsets[first], offsets[last - 1] + lengths[last - 1]
        data = memoryview(await obstore.get_range_async(self._http, "", start=base, end=end))

        def decode() -> None:
            for i in range(first, last):
                at = offsets[i] - base
                place(i, self._chunks.inflate(data[at : at + lengths[i]]))

        await asyncio.get_running_loop().run_in_executor(self._pool, decode)
