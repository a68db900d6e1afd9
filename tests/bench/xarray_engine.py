"""A reduction by xarray beside the same by `open_array`: four worker processes, an embargoed asset, leases of 2 s.

`python tests/bench/xarray_engine.py [MiB]`: seconds of each round, and the ratios of the medians and of the shortest.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import dask
import h5py
import numpy as np
import xarray as xr
from distributed import Client, LocalCluster

import lindi_dask as ld
from lindi_dask.hdf5 import index_hdf5
from lindi_dask.testing import EmbeddedArchive
from lindi_dask.xarray_backend import LindiBackendEntrypoint

ROUNDS = 9
CHANNELS, CHUNK_ROWS = 64, 4096
WORKERS = 4


def write(path: Path, nbytes: int) -> int:
    """Write a time series of int16; return the sum of its elements."""
    rows = nbytes // (2 * CHANNELS) // CHUNK_ROWS * CHUNK_ROWS
    rng = np.random.default_rng(3)
    total = 0
    with h5py.File(path, "w") as file:
        series = file.create_group("acquisition/s")
        series.attrs.update({"neurodata_type": "ElectricalSeries", "namespace": "core"})
        series["starting_time"] = 0.0
        series["starting_time"].attrs.update({"rate": 30000.0, "unit": "seconds"})
        data = series.create_dataset(
            "data", (rows, CHANNELS), "<i2", chunks=(CHUNK_ROWS, CHANNELS), compression=1, shuffle=True
        )
        for first in range(0, rows, CHUNK_ROWS):
            block = np.cumsum(rng.normal(0, 4, (CHUNK_ROWS, CHANNELS)), axis=0).astype("<i2")
            data[first : first + CHUNK_ROWS] = block
            total += int(block.sum(dtype=np.int64))
    return total


def main() -> None:
    nbytes = int(sys.argv[1] if len(sys.argv) > 1 else 512) * 2**20
    with tempfile.TemporaryDirectory() as folder, EmbeddedArchive(lifetime_s=2, latency_s=0.03) as archive:
        path = Path(folder) / "session.nwb"
        truth = write(path, nbytes)
        refs = Path(folder) / "session.lindi.json"
        index_hdf5(path, archive.add(path).url).save(refs)
        os.environ.update(archive.environ())
        engine: Any = LindiBackendEntrypoint  # also where the package is not installed
        options: Any = {"instances": {"local": archive.api_url}}
        cluster = LocalCluster(n_workers=WORKERS, threads_per_worker=1, dashboard_address=None)
        with cluster, Client(cluster), dask.config.set({"array.chunk-size": "16 MiB"}):

            def by_open_array() -> int:
                array = ld.open_array(refs, "acquisition/s/data", **options)
                return int(array.sum(dtype="int64").compute())

            def by_xarray() -> int:
                dataset = xr.open_dataset(
                    refs, group="acquisition/s", physical=False, chunks={}, engine=engine, **options
                )
                return int(dataset["data"].sum(dtype="int64").compute())

            taken: dict[str, list[float]] = {"open_array": [], "xarray": []}
            for turn in range(ROUNDS + 1):
                for name, way in (("open_array", by_open_array), ("xarray", by_xarray)):
                    started = time.monotonic()
                    if way() != truth:
                        sys.exit(f"{name} read wrong values")
                    if turn:  # the first one warms up
                        taken[name].append(time.monotonic() - started)
        for name, seconds in taken.items():
            print(f"{name:>10}: {' '.join(f'{one:.2f}' for one in seconds)} s")
        for kind, of in (("medians", statistics.median), ("shortest", min)):
            print(f"xarray is {of(taken['open_array']) / of(taken['xarray']):.2f} times as fast, by the {kind}")
        print(f"{archive.renewals()} renewals")


if __name__ == "__main__":
    main()
