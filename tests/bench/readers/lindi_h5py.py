"""LINDI's h5py-like file, over zarr 2, read by dask. No settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dask.array as da
from lindi import LindiH5pyFile  # type: ignore[import-not-found]
from readers import by_dask

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from readers.task import Given, Settings, Task

PACKAGES = ("lindi", "zarr", "dask", "requests", "numcodecs", "numpy")


def open_array(given: Given, settings: Settings) -> Any:
    # It asks DANDI's own API for presigned URLs and no other: it is given one
    file = LindiH5pyFile.from_lindi_file(given.lindi_presigned)
    return file, file["data"]


def read(opened: Any, task: Task) -> NDArray[np.int16]:
    _, dataset = opened
    if task.places:
        return by_dask.windows(dataset, task)
    return by_dask.compute(da.from_array(dataset, chunks=(task.block_rows, dataset.shape[1])), task)
