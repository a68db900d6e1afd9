"""How fast a whole array is read, beside what a user would write by hand; prints one table.

The embedded archive, in a process of its own, answers each request after 30 ms, under presigned URLs. Every
reader gives the same bytes, compared by their digest. A first run of each warms up and is not counted. Run by
`make bench`; takes a few minutes.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask.array as da
import deflate
import h5py
import numpy as np
import obstore
import requests
import zarr
from obstore.store import HTTPStore
from rich.console import Console
from rich.table import Table
from zarr.storage import WrapperStore

import lindi_dask as ld
from lindi_dask import process
from lindi_dask.index import index_hdf5

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from lindi_dask.refs import ChunkManifest, Locations

LATENCY_MS = 30
THREADS = 4
CHANNELS = 64
NBYTES = 128 * 2**20  # logical, int16
BLOCK = "16 MiB"
CHUNKS = {"16 KiB": 2**14, "64 KiB": 2**16, "1 MiB": 2**20, "16 MiB": 2**24}
RUNS = 7
PATIENCE_S = 10  # a reader that took longer in all is not run again


def write(path: Path, chunk_nbytes: int) -> None:
    rows = chunk_nbytes // (2 * CHANNELS)
    rng = np.random.default_rng(1)
    with h5py.File(path, "w") as file:
        data = file.create_dataset(
            "data", (NBYTES // (2 * CHANNELS), CHANNELS), "<i2", chunks=(rows, CHANNELS), compression=4, shuffle=True
        )
        piece = max(rows, 2**15)
        for at in range(0, len(data), piece):
            walk = np.cumsum(rng.normal(0, 4, (min(piece, len(data) - at), CHANNELS)), axis=0)
            data[at : at + piece] = (walk % 4096).astype("<i2")


@contextmanager
def archive(path: Path) -> Iterator[dict[str, Any]]:
    command = [sys.executable, "-m", "lindi_dask.testing", str(path), "--json", "--lifetime", "3600"]
    command += ["--latency-ms", str(LATENCY_MS), "--seconds", "600"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield json.loads(server.stdout.readline())
        finally:
            server.terminate()
            server.communicate()


def ours(factory: ld.StoreFactory) -> NDArray[np.int16]:
    array = ld.open_array(factory, "data", chunks={0: BLOCK})
    values: NDArray[np.int16] = array.compute(scheduler="threads", num_workers=THREADS)
    return values


def zarrs_own(factory: ld.StoreFactory) -> NDArray[np.int16]:
    """The same store, hidden from the dispatcher: zarr's pipeline fetches and decodes chunk by chunk."""
    array = zarr.open_array(WrapperStore(factory()), path="data", mode="r")
    rows = ld.open_array(factory, "data", chunks={0: BLOCK}).chunks
    values: NDArray[np.int16] = da.from_zarr(array, chunks=rows).compute(scheduler="threads", num_workers=THREADS)
    return values


def chunks_of(factory: ld.StoreFactory) -> tuple[ChunkManifest, Locations]:
    manifest = factory().references.manifests["data"]
    return manifest, manifest.locate(manifest.present())


def by_requests(factory: ld.StoreFactory, url: str, key: str) -> NDArray[np.int16]:
    """What a user writes first: a pool of threads, a GET a chunk, numpy."""
    location = requests.get(url, headers={"Authorization": f"token {key}"}, allow_redirects=False, timeout=30)
    presigned = location.headers["Location"]
    manifest, columns = chunks_of(factory)
    out = np.empty((NBYTES // (2 * CHANNELS), CHANNELS), "<i2")
    rows = len(out) // manifest.grid[0]
    session = requests.Session()

    def one(place: int) -> None:
        start = int(columns.offsets[place])
        stop = start + int(columns.lengths[place])
        answer = session.get(presigned, headers={"Range": f"bytes={start}-{stop - 1}"}, timeout=30)
        out[place * rows : (place + 1) * rows] = inflate(answer.content, rows)

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(one, range(manifest.grid[0])))
    return out


def limit(factory: ld.StoreFactory, url: str, key: str) -> NDArray[np.int16]:
    """What the machine gives without zarr and dask: merged ranges, obstore, libdeflate in threads."""
    location = requests.get(url, headers={"Authorization": f"token {key}"}, allow_redirects=False, timeout=30)
    http = HTTPStore.from_url(location.headers["Location"], client_options={"allow_http": True})
    manifest, columns = chunks_of(factory)
    offsets, lengths = columns.offsets.astype(int), columns.lengths.astype(int)
    out = np.empty((NBYTES // (2 * CHANNELS), CHANNELS), "<i2")
    rows = len(out) // manifest.grid[0]
    pool = ThreadPoolExecutor(THREADS)

    def decode(data: memoryview, base: int, first: int, last: int) -> None:
        for i in range(first, last):
            at = int(offsets[i]) - base
            out[i * rows : (i + 1) * rows] = inflate(data[at : at + int(lengths[i])], rows)

    async def part(first: int, last: int) -> None:
        base, end = int(offsets[first]), int(offsets[last - 1] + lengths[last - 1])
        data = memoryview(await obstore.get_range_async(http, "", start=base, end=end))
        await asyncio.get_running_loop().run_in_executor(pool, decode, data, base, first, last)

    async def whole() -> None:
        per_part = max(1, 4 * 2**20 // int(lengths.mean()))
        await asyncio.gather(*(part(i, min(i + per_part, len(offsets))) for i in range(0, len(offsets), per_part)))

    asyncio.run(whole())
    return out


def inflate(data: bytes | memoryview, rows: int) -> NDArray[np.int16]:
    planes = np.frombuffer(deflate.zlib_decompress(data, rows * CHANNELS * 2), "u1").reshape(2, -1)
    items = np.empty((rows * CHANNELS, 2), "u1")
    items[:, 0], items[:, 1] = planes
    return items.view("<i2").reshape(rows, CHANNELS)


@dataclass(frozen=True, slots=True)
class Measured:
    """One reader's runs, medians."""

    wall_s: float
    of_the_limit: float
    """of the ratios with the limit's time in the same round"""
    cpu_s: float
    chunks_per_request: float | None
    """None: not counted"""
    digest: str


def measure(readers: dict[str, Callable[[], NDArray[np.int16]]]) -> dict[str, Measured]:
    """Measure each reader; runs alternate, the last one is the limit."""
    walls: dict[str, list[float]] = {name: [] for name in readers}
    cpus: dict[str, list[float]] = {name: [] for name in readers}
    asked: dict[str, float | None] = {}
    digests = {}
    for run in range(RUNS + 1):
        for name, read in readers.items():
            if sum(walls[name]) > PATIENCE_S:
                continue
            before = process.counters().counts()
            wall, cpu = time.perf_counter(), time.process_time()
            values = read()
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            done = process.counters().counts() - before
            digests[name] = hashlib.sha256(values.data).hexdigest()[:8]
            del values  # else the next reader starts with less memory at hand
            asked[name] = done.chunks / done.requests if done.requests else None
            if run or wall > PATIENCE_S:
                walls[name].append(wall)
                cpus[name].append(cpu)
    *_, limits = walls.values()
    return {
        name: Measured(
            statistics.median(walls[name]),
            statistics.median(best / wall for best, wall in zip(limits, walls[name], strict=False)),
            statistics.median(cpus[name]),
            asked[name],
            digests[name],
        )
        for name in readers
    }


def main() -> None:
    table = Table(title=f"{NBYTES >> 20} MiB of int16, gzip + shuffle, {LATENCY_MS} ms latency, {THREADS} threads")
    for column in ("chunks", "reader", "MB/s", "of the limit", "CPU s/GB", "chunks a request", "digest"):
        table.add_column(column, justify="left" if column in {"chunks", "reader", "digest"} else "right")
    differs = False
    with tempfile.TemporaryDirectory() as folder:
        for chunk, chunk_nbytes in CHUNKS.items():
            path = Path(folder) / "recording.h5"
            write(path, chunk_nbytes)
            with archive(path) as served:
                os.environ["LOCAL_API_KEY"] = key = served["token"]
                url = served["urls"][0]
                refs = Path(folder) / "recording.lindi.json"
                refs.write_text(json.dumps(index_hdf5(path, url)))
                factory = ld.StoreFactory(refs, instances={"local": served["api_url"]})
                found = measure(
                    {
                        "lindi_dask": partial(ours, factory),
                        "its store, zarr's pipeline": partial(zarrs_own, factory),
                        "requests, a GET a chunk": partial(by_requests, factory, url, key),
                        "limit, by hand": partial(limit, factory, url, key),
                    }
                )
            differs |= len({one.digest for one in found.values()}) > 1
            for name, one in found.items():
                asked = "" if one.chunks_per_request is None else f"{one.chunks_per_request:.1f}"
                cells = (
                    f"{NBYTES / one.wall_s / 1e6:,.0f}",
                    f"{one.of_the_limit:.2f}",
                    f"{one.cpu_s / NBYTES * 1e9:.1f}",
                )
                table.add_row(chunk, name, *cells, asked, one.digest)
    Console(width=100).print(table)
    names = ("zarr", "dask", "obstore", "numpy", "lindi-dask")
    print(f"Python {platform.python_version()},", ", ".join(f"{name} {version(name)}" for name in names))
    print(
        f"{os.cpu_count()} cores, {platform.machine()}; medians of {RUNS} alternating runs (fewer of slow readers),"
        " all at their defaults."
    )
    if differs:
        sys.exit("The readers do not agree: see the digests.")


if __name__ == "__main__":
    main()
