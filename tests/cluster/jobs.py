"""What the tests of a cluster share: a recording, its references, and what they do on workers."""

from __future__ import annotations

import json
import os
import pathlib
from functools import partial
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from lindi_dask.errors import ArchiveUnavailable, StorageUnavailable
from lindi_dask.hdf5 import index_hdf5
from lindi_dask.retry import RetryPolicy

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

ROWS, CHANNELS = 500, 32  # of a chunk

QUICK_READ = RetryPolicy(attempts=8, total_s=20, first_s=0.02, cap_s=0.4, retry_on=StorageUnavailable)
QUICK_EXCHANGE = RetryPolicy(attempts=4, total_s=20, first_s=0.02, cap_s=0.1, retry_on=ArchiveUnavailable)


def write_recording(path: Path, chunks: int) -> NDArray[np.int16]:
    """Write a compressed recording, and return what is in it."""
    noise: NDArray[np.int16] = np.random.default_rng(7).normal(0, 60, (chunks * ROWS, CHANNELS)).astype("int16")
    with h5py.File(path, "w") as file:
        options = {"compression": "gzip", "compression_opts": 1, "shuffle": True}
        file.create_dataset("data", data=noise, chunks=(ROWS, CHANNELS), **options)
    return noise


def lindi_document(recording: Path, url: str) -> dict[str, Any]:
    path = recording.with_suffix(".lindi.json")
    index_hdf5(recording, url).save(path)
    document: dict[str, Any] = json.loads(path.read_text())
    path.unlink()
    return document


def document_with_etag(recording: Path, url: str, etag: str) -> dict[str, Any]:
    """The same in Zarr v3, with what the file's entity tag and size were."""
    with h5py.File(recording) as file:
        shape = list(file["data"].shape)
    codecs = [
        {"name": "bytes", "configuration": {"endian": "little"}},
        {"name": "numcodecs.shuffle", "configuration": {"elementsize": 2}},
        {"name": "numcodecs.zlib", "configuration": {"level": 1}},
    ]
    array = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": shape,
        "data_type": "int16",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [ROWS, CHANNELS]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0,
        "codecs": codecs,
        "attributes": {},
    }
    group = {"zarr_format": 3, "node_type": "group", "attributes": {}}
    refs: dict[str, Any] = {"zarr.json": json.dumps(group), "data/zarr.json": json.dumps(array)}
    for key, value in lindi_document(recording, url)["refs"].items():
        row = key.removeprefix("data/").removesuffix(".0")
        if row.isdecimal():
            refs[f"data/c/{row}/0"] = [url, *value[1:]]
    sources = {url: {"etag": etag, "size": recording.stat().st_size}}
    return {"version": 1, "templates": {}, "sources": sources, "refs": refs}


# On a worker


def forget_leases() -> None:
    from lindi_dask import process  # noqa: PLC0415 - the worker's

    with process._lock:
        process._leases = process._resolver = None
        process._readers.clear()
        process._range_caches.clear()  # which list a folder anew only so often


def hurry() -> None:
    """The policies' own code, with bounds that a test can wait for."""
    from lindi_dask import process  # noqa: PLC0415
    from lindi_dask.archive import LeaseCache, PlainUrls, Resolver, asking  # noqa: PLC0415
    from lindi_dask.retry import RetryBudget  # noqa: PLC0415
    from lindi_dask.transport import RangeReader, traffic  # noqa: PLC0415

    forget_leases()
    asking._TIMEOUT_S = (1.0, 1.0)
    traffic._SILENCE_TIMEOUT = traffic._CONNECT_TIMEOUT = "1s"
    process._traffic._stores.clear()  # their connections wait as long as was set when they were made
    process._traffic.budget = budget = RetryBudget()  # a fault is not to pay for the one before
    vars(process)["RangeReader"] = partial(RangeReader, retry=QUICK_READ)
    process._leases = LeaseCache(
        process._Source(Resolver(retry=QUICK_EXCHANGE, budget=budget)),
        plain=PlainUrls(retry=QUICK_READ, budget=budget),
    )


def set_key(file: str) -> None:
    """Take the key out of a file: as an argument it would stand in logs."""
    os.environ.pop("LOCAL_API_KEY", None)
    if key := pathlib.Path(file).read_text():
        os.environ["LOCAL_API_KEY"] = key
