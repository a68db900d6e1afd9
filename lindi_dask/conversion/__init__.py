"""References -> Zarr v3: planned, resumable, verified."""
