"""Jobs over many assets: what is due, who runs it, and what was done."""

from lindi_dask.batch.dandiset import DandisetIndex, Progress, index_dandiset

__all__ = ["DandisetIndex", "Progress", "index_dandiset"]
