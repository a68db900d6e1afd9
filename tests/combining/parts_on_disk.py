"""Parts of recordings as small HDF5 files, and references to them, for the tests beside this file."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import xarray as xr

import lindi_dask as ld

if TYPE_CHECKING:
    from pathlib import Path

SERIES = "acquisition/Raw"
DATA = f"{SERIES}/data"
RATE = 1000.0
STARTED = "2026-01-01T12:00:00+00:00"
CHUNKED = {"chunks": (500, 2), "compression": "gzip", "shuffle": True}

Json = dict[str, Any]


@dataclass
class Recording:
    """A part of a recording, as a small NWB file that is written by h5py."""

    data: Any
    start: float = 0.0
    timestamps: Any = None
    """in place of a start and a rate"""
    rate: float = RATE
    started: str = STARTED
    storage: Json = field(default_factory=dict)
    """options of the data's dataset"""
    conversion: float = 1e-6
    unit: str = "volts"
    location: str = "CA1"
    identifier: str = "one"

    def write(self, path: Path) -> Path:
        with h5py.File(path, "w") as file:
            file.attrs.update({"neurodata_type": "NWBFile", "nwb_version": "2.9.0", "object_id": path.stem})
            file["session_start_time"] = self.started
            file["identifier"] = self.identifier
            table = file.create_group("general/electrodes")
            table.attrs.update({"neurodata_type": "DynamicTable", "colnames": ["location"]})
            table["id"] = np.arange(2)
            table["location"] = ["CA3", self.location]
            series = file.create_group(SERIES)
            series.attrs.update({"neurodata_type": "TimeSeries", "object_id": f"{path.stem}-raw"})
            series.create_dataset("data", data=self.data, **self.storage)
            series["data"].attrs.update({"conversion": self.conversion, "unit": self.unit})
            series["electrodes"] = np.arange(2)
            series["electrodes"].attrs["table"] = table.ref
            if self.timestamps is None:
                series["starting_time"] = self.start
                series["starting_time"].attrs.update({"rate": self.rate, "unit": "seconds"})
            else:
                series["timestamps"] = self.timestamps
            file["processing/linked"] = h5py.SoftLink(f"/{SERIES}")
        return path

    def index(self, path: Path) -> ld.References:
        return ld.index(self.write(path))


def numbers(rows: int, columns: int = 2, dtype: str = "<i2") -> Any:
    return np.random.default_rng(rows).integers(-9999, 9999, (rows, columns)).astype(dtype)


def parts_of(values: Any, cuts: list[int], folder: Path, **options: Any) -> list[ld.References]:
    """Return references to files that have the values from cut to cut."""
    edges = [0, *cuts, len(values)]
    return [
        Recording(values[first:last], start=first / RATE, **options).index(folder / f"{i}.nwb")
        for i, (first, last) in enumerate(pairwise(edges))
    ]


def opened(references: Any, folder: Path, path: str = "") -> Any:
    return ld.open_group(references, path, allow=[f"{folder}/"])


def read(references: Any, path: str, folder: Path) -> Any:
    return np.asarray(opened(references, folder)[path][...])


def dataset(references: Any, folder: Path, group: str = "") -> xr.Dataset:
    return xr.open_dataset(references, engine="lindi", group=group, allow=[f"{folder}/"])


def raw(url: str, rows: int, *, keep: Json | None = None, listed: int | None = None) -> Json:
    """Return Zarr v3 references to numbers of 16 bits in chunks of 100 rows, from the file's start."""
    nbytes = 2 if keep is None else keep["record_size"]
    node = {
        "zarr_format": 3, "node_type": "array", "shape": [rows], "data_type": "int16", "fill_value": 0,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [100]}},
        "chunk_key_encoding": {"name": "default"}, "dimension_names": ["time"],
        "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
    }  # fmt: skip
    refs: Json = {"zarr.json": {"zarr_format": 3, "node_type": "group"}, "a/zarr.json": node}
    for i, first in enumerate(range(0, rows if listed is None else listed, 100)):
        refs[f"a/c/{i}"] = [url, first * nbytes, min(100, rows - first) * nbytes]
    return {"refs": refs} | ({} if keep is None else {"selections": {"a": keep}})
