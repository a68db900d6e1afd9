"""LINDI's h5py-like file, over zarr 2."""

from __future__ import annotations

from typing import Any

from lindi import LindiH5pyFile  # type: ignore[import-not-found]

PACKAGES = ("lindi", "zarr")


def open_array(path: str, array: str) -> Any:
    file = LindiH5pyFile.from_lindi_file(path)
    return file, file[array]


def store_of(opened: Any) -> Any:
    return opened[0]._zarr_store


def locate(store: Any, array: str, names: list[str]) -> list[tuple[int, int]]:
    return [tuple(store.rfs["refs"][f"{array}/{name}"][1:]) for name in names]


def to_pickle(opened: Any) -> dict[str, Any]:
    file, dataset = opened
    return {"dataset": dataset, "store": file._zarr_store}
