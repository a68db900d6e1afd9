"""What the limit reader is held to: the same bytes inflated from memory, in as many threads. Whole arrays only."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from readers.limit import Chunks, chunks_of

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from readers.task import Given, Settings, Task

PACKAGES = ("deflate", "numpy")


def open_array(given: Given, settings: Settings) -> tuple[Chunks, memoryview]:
    return chunks_of(given), memoryview(Path(given.file).read_bytes())


def read(opened: tuple[Chunks, memoryview], task: Task) -> NDArray[np.int16]:
    chunks, data = opened
    out = np.empty((task.stop - task.start, chunks.channels), "<i2")

    def decode(part: tuple[int, int]) -> None:
        for i in range(*part):
            at, offset = i * chunks.rows - task.start, chunks.offsets[i]
            out[at : at + chunks.rows] = chunks.inflate(data[offset : offset + chunks.lengths[i]])

    with ThreadPoolExecutor(task.threads) as pool:
        list(pool.map(decode, chunks.parts(task.start // chunks.rows, task.stop // chunks.rows)))
    return out
