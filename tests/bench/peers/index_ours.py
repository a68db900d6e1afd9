"""lindi_dask's index of an HDF5 file."""

from __future__ import annotations

import lindi_dask as ld

PACKAGES = ("lindi_dask", "h5py")


def index(path: str) -> object:
    return ld.index(path) if path.startswith("http") else ld.index(path, url="https://example.org/file.h5")


def save(references: object, out: str) -> None:
    assert isinstance(references, ld.References)
    references.save(f"{out}.lindi.json")
