"""Array and group metadata of Zarr v2 and v3 -> the one internal dialect. Pure."""
