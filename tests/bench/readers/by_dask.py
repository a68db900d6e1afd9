"""How an array is read by dask and, in short windows, by threads: the same for all that dask can read."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from readers.task import Task


def compute(blocks: Any, task: Task) -> NDArray[np.int16]:
    """Compute what the task wants of a dask array, in threads."""
    if (task.start, task.stop) != (0, len(blocks)):
        blocks = blocks[task.start : task.stop]
    if task.way == "channel":
        blocks = blocks[:, task.channel]
    values: NDArray[np.int16] = blocks.compute(scheduler="threads", num_workers=task.threads)
    return values


def windows(array: Any, task: Task) -> NDArray[np.int16]:
    """Read windows of an array that is indexed like numpy's: one a call, in threads, or all by one call."""
    if task.way == "at once":
        rows = np.concatenate([np.arange(place, place + task.window_rows) for place in task.places])
        values: NDArray[np.int16] = array[rows, :]
        return values
    with ThreadPoolExecutor(task.threads) as pool:
        parts = pool.map(lambda place: array[place : place + task.window_rows], task.places)
        return np.concatenate(list(parts))
