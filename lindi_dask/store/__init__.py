"""References as a read-only Zarr store."""

from lindi_dask.store.lindi import LindiStore, Recipe

__all__ = ["LindiStore", "Recipe"]
