"""What the machine gives without zarr and dask: merged ranges, libdeflate, Blosc and CRC-32C in threads, plain files.

Written once, to measure others by: it is not to be changed. It checks nothing of what it writes.
"""

from __future__ import annotations

import asyncio
import struct
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import google_crc32c
import numcodecs.blosc
import numpy as np
import obstore
import requests
from obstore.store import HTTPStore
from readers import converted
from readers.limit import chunks_of

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from readers.limit import Chunks
    from readers.task import Given, Settings, Task

PACKAGES = ("obstore", "deflate", "numcodecs", "numpy", "google-crc32c")


def open_array(given: Given, settings: Settings) -> tuple[Given, Chunks]:
    numcodecs.blosc.use_threads = False
    return given, chunks_of(given)


def read(opened: tuple[Given, Chunks], task: Task) -> Any:
    given, chunks = opened
    out = converted.place()
    converted.created(out, task, chunks.channels)  # the documents
    key = {"Authorization": f"token {given.key}"}
    location = requests.get(given.url, headers=key, allow_redirects=False, timeout=30).headers["Location"]
    http = HTTPStore.from_url(location, client_options={"allow_http": True})
    with ThreadPoolExecutor(task.threads) as pool:
        asyncio.run(Conversion(chunks, http, pool, out, task.stop).run())
    return converted.Output(out)


class Conversion:
    """One run."""

    def __init__(self, chunks: Chunks, http: HTTPStore, pool: ThreadPoolExecutor, out: Path, rows: int) -> None:
        self._chunks, self._http, self._pool, self._out, self._rows = chunks, http, pool, out, rows

    async def run(self) -> None:
        two = asyncio.Semaphore(2)  # at a time

        async def one(number: int) -> None:
            async with two:
                await self._shard(number)

        await asyncio.gather(*(one(number) for number in range(-(-self._rows // converted.SHARD_ROWS))))

    async def _shard(self, number: int) -> None:
        start = number * converted.SHARD_ROWS
        stop = min(start + converted.SHARD_ROWS, self._rows)
        block = np.empty((stop - start, self._chunks.channels), "<i2")
        each = self._chunks.rows
        parts = self._chunks.parts(start // each, -(-stop // each))
        await asyncio.gather(*(self._part(first, last, start, block) for first, last in parts))
        loop = asyncio.get_running_loop()
        pieces = [block[at : at + converted.CHUNK_ROWS] for at in range(0, len(block), converted.CHUNK_ROWS)]
        encoded = await asyncio.gather(*(loop.run_in_executor(self._pool, encode, piece) for piece in pieces))
        await loop.run_in_executor(self._pool, self._write, number, encoded)

    async def _part(self, first: int, last: int, start: int, block: NDArray[np.int16]) -> None:
        offsets, lengths, each = self._chunks.offsets, self._chunks.lengths, self._chunks.rows
        base, end = offsets[first], offsets[last - 1] + lengths[last - 1]
        data = memoryview(await obstore.get_range_async(self._http, "", start=base, end=end))

        def decode() -> None:
            for i in range(first, last):
                at = offsets[i] - base
                low, high = max(start, i * each), min(start + len(block), (i + 1) * each)
                values = self._chunks.inflate(data[at : at + lengths[i]])
                block[low - start : high - start] = values[low - i * each : high - i * each]

        await asyncio.get_running_loop().run_in_executor(self._pool, decode)

    def _write(self, number: int, encoded: list[bytes]) -> None:
        index = np.full((converted.SHARD_ROWS // converted.CHUNK_ROWS, 2), 2**64 - 1, "<u8")
        lengths = np.array(list(map(len, encoded)))
        index[: len(encoded), 0], index[: len(encoded), 1] = np.cumsum(lengths) - lengths, lengths
        path = self._out / "data" / "c" / str(number) / "0"
        path.parent.mkdir(parents=True)
        with path.open("wb") as file:
            file.writelines(encoded)
            file.write(with_crc(index.tobytes()))


def encode(piece: NDArray[np.int16]) -> bytes:
    if len(piece) < converted.CHUNK_ROWS:
        piece = np.concatenate([piece, np.zeros((converted.CHUNK_ROWS - len(piece), piece.shape[1]), "<i2")])
    return with_crc(numcodecs.blosc.compress(piece, b"zstd", 5, 2, 0, typesize=2))


def with_crc(data: bytes) -> bytes:
    return data + struct.pack("<I", google_crc32c.value(data))
