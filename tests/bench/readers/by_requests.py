"""What a user writes first: a pool of threads, a GET a chunk, numpy. Whole arrays only."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import requests
from readers.limit import Chunks, chunks_of

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from readers.task import Given, Settings, Task

PACKAGES = ("requests", "deflate", "numpy")


def open_array(given: Given, settings: Settings) -> tuple[str, Chunks]:
    return given.presigned, chunks_of(given)


def read(opened: tuple[str, Chunks], task: Task) -> NDArray[np.int16]:
    url, chunks = opened
    out = np.empty((task.stop - task.start, chunks.channels), "<i2")
    session = requests.Session()

    def one(i: int) -> None:
        at, start, length = i * chunks.rows - task.start, chunks.offsets[i], chunks.lengths[i]
        answer = session.get(url, headers={"Range": f"bytes={start}-{start + length - 1}"}, timeout=30)
        out[at : at + chunks.rows] = chunks.inflate(answer.content)

    with ThreadPoolExecutor(task.threads) as pool:
        list(pool.map(one, range(task.start // chunks.rows, task.stop // chunks.rows)))
    return out
