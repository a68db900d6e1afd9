"""What tests of conversions share: a small file, its references, and outputs to compare."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest

from lindi_dask import StoreFactory
from lindi_dask.hdf5 import index_hdf5

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ROWS = 12_000
LAYOUT = {"a/data": {"chunks": (250, 8), "shards": (1000, 8)}}
"""a shard for each of the source's chunks, and 12 of them"""


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An HDF5 file: an array of 12 chunks, one of them never written, and some small things."""
    path = tmp_path_factory.mktemp("source") / "source.h5"
    values = np.random.default_rng(5).normal(0, 60, (ROWS, 8)).astype("int16")
    with h5py.File(path, "w") as file:
        data = file.create_dataset("a/data", values.shape, "int16", chunks=(1000, 8), compression="gzip", shuffle=True)
        for first in (*range(0, 5000, 1000), *range(6000, ROWS, 1000)):
            data[first : first + 1000] = values[first : first + 1000]
        data.attrs["unit"] = "volts"
        file["a/times"] = np.arange(100) / 30
        file["words"] = np.array(["one", "zwei", "três"], h5py.string_dtype())
        file.attrs["made_by"] = "a test"
        file.create_group("empty")
    return path


@pytest.fixture
def factory(source: Path) -> StoreFactory:
    """The recipe of its references, in this process."""
    return StoreFactory(index_hdf5(source, str(source)), allow=[f"{source.parent}/"])


@pytest.fixture(scope="session")
def tree() -> Callable[[Path], dict[str, bytes]]:
    """Reads all files of an output."""

    def read(out: Path) -> dict[str, bytes]:
        return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}

    return read


@pytest.fixture
def options() -> dict[str, Any]:
    """How the tests convert the file."""
    return {"layout": LAYOUT, "threads": 2}
