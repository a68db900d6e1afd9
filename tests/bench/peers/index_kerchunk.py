"""kerchunk's index of an HDF5 file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import fsspec  # type: ignore[import-not-found,import-untyped,unused-ignore]
from kerchunk.hdf import SingleHdf5ToZarr  # type: ignore[import-not-found,import-untyped,unused-ignore]

PACKAGES = ("kerchunk", "h5py", "zarr")


def index(path: str) -> Any:
    with fsspec.open(path, "rb") as file:
        return SingleHdf5ToZarr(file, url="https://example.org/file.h5", inline_threshold=500).translate()


def save(references: Any, out: str) -> None:
    Path(f"{out}.json").write_text(json.dumps(references))
