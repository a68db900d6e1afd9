"""How much memory a worker takes for an array, block by block: `python -m worker_memory JOB`, one line of JSON out.

JOB: `refs`, whose array is read in blocks of `block_rows` by so many `threads`, so many `times`; `api_url`; and `by`:
`worker`: one of dask's, in a process of its own, as on a cluster, with graph and scheduler elsewhere;
`threads`: as many as the worker has, block after block, without what dask keeps of each task;
`dask`: a worker that makes such blocks in place of reading them: to see what dask keeps.
What is handed back of a block is its CRC.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
from distributed import Client, LocalCluster
from usage import memory, settle

import lindi_dask as ld

if TYPE_CHECKING:
    from numpy.typing import NDArray

WARM_BLOCKS = 8


def crc(block: NDArray[np.int16]) -> NDArray[np.uint32]:
    return np.array([zlib.crc32(block.data)], np.uint32)


def peak() -> int:
    return memory().peak


def by_worker(array: da.Array, threads: int) -> tuple[NDArray[np.uint32], int, float]:
    """Return the CRCs of an array's blocks, the bytes above idle at most, and the seconds."""
    crcs = array.map_blocks(crc, dtype=np.uint32, drop_axis=1, chunks=((1,) * array.numblocks[0],))
    cluster = LocalCluster(n_workers=1, threads_per_worker=threads, memory_limit=None, dashboard_address=None)
    with cluster, Client(cluster) as client:
        crcs[:WARM_BLOCKS].compute()
        (idle,) = client.run(settle).values()
        started = time.monotonic()
        values = crcs.compute()
        seconds = time.monotonic() - started
        (most,) = client.run(peak).values()
    return values, most - idle, seconds


def by_threads(array: Any, block_rows: int, threads: int, times: int) -> tuple[NDArray[np.uint32], int, float]:
    """Likewise, of a zarr array that is read so many times."""
    values = np.zeros(-(-array.shape[0] // block_rows), np.uint32)

    def run(count: int) -> None:
        blocks = iter(range(count))

        def work() -> None:
            for i in blocks:
                values[i] = crc(array[i * block_rows : (i + 1) * block_rows])[0]

        with ThreadPoolExecutor(threads) as pool:
            for future in [pool.submit(work) for _ in range(threads)]:
                future.result()

    run(WARM_BLOCKS)
    idle = settle()
    started = time.monotonic()
    for _ in range(times):
        run(len(values))
    return values, peak() - idle, time.monotonic() - started


def main() -> None:
    job = json.loads(sys.argv[1])
    factory = ld.StoreFactory(job["refs"], instances={"local": job["api_url"]})
    rows, threads = job["block_rows"], job["threads"]
    if job["by"] == "threads":
        values, most, seconds = by_threads(ld.open_group(factory)["data"], rows, threads, job["times"])
    else:
        array = ld.open_array(factory, "data", chunks=(rows, -1))
        if job["by"] == "dask":
            array = da.zeros(array.shape, dtype=array.dtype, chunks=array.chunks)
        values, most, seconds = by_worker(array, threads)
    digest = hashlib.sha256(values.tobytes()).hexdigest()
    print(json.dumps({"blocks": len(values), "peak": most, "seconds": seconds, "digest": digest}), flush=True)


if __name__ == "__main__":
    main()
