"""What readers that know nothing of this package find in a converted session."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tensorstore
import zarr

import lindi_dask as ld

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import h5py

LFP = "processing/ecephys/LFP/LFP/data"


@pytest.fixture
def out(session_refs: Callable[..., dict[str, Any]], data: Path, tmp_path: Path) -> Path:
    layout = {LFP: {"chunks": (1000, -1), "shards": (8000, -1)}}
    path = tmp_path / "session.nwb.zarr"
    assert ld.convert(session_refs(str(data / "session.nwb")), path, layout=layout, allow=[f"{data}/"]).made == 58
    return path


def test_zarr_reads_all_datasets(
    out: Path, session_h5: h5py.File, assert_equal_to_h5py: Callable[[zarr.Array[Any], h5py.Dataset], None]
) -> None:
    group = zarr.open_group(out, mode="r")
    arrays = {name: node for name, node in group.members(max_depth=None) if isinstance(node, zarr.Array)}
    assert len(arrays) == 54
    for name, array in arrays.items():
        assert_equal_to_h5py(array, session_h5[name])
    unconsolidated = zarr.open_group(out, mode="r", use_consolidated=False)
    assert sorted(dict(unconsolidated.members(max_depth=None))) == sorted(dict(group.members(max_depth=None)))


def test_tensorstore_reads_all_numbers(out: Path, session_h5: h5py.File) -> None:
    nodes = json.loads((out / "zarr.json").read_text())["consolidated_metadata"]["metadata"]
    read = 0
    for name, node in nodes.items():
        if node["node_type"] == "array" and node["data_type"] != "string" and isinstance(node["data_type"], str):
            where = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{out / name}/"}}
            found = tensorstore.open(where, open=True, read=True).result().read().result()
            np.testing.assert_array_equal(found, session_h5[name][()])
            read += 1
    assert read == 34
