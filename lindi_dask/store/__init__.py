"""References as a read-only Zarr store."""

from lindi_dask.store.lindi import LindiStore

__all__ = ["LindiStore"]
