"""LINDI's index of an HDF5 file, with all chunks."""

from __future__ import annotations

from typing import Any

import lindi  # type: ignore[import-not-found]

PACKAGES = ("lindi", "h5py", "zarr")


def index(path: str) -> Any:
    options = lindi.LindiH5ZarrStoreOpts(num_dataset_chunks_threshold=None)
    url = None if path.startswith("http") else "https://example.org/file.h5"
    return lindi.LindiH5ZarrStore.from_file(path, opts=options, url=url)


def save(store: Any, out: str) -> None:
    store.write_reference_file_system(f"{out}.lindi.json")
