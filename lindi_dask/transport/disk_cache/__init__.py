"""Raw ranges on a node's disk: shared by its processes, within a limit, keyed by what the source is, never by a URL."""

from lindi_dask.transport.disk_cache.folder import CacheFolder
from lindi_dask.transport.disk_cache.hits import Hit, nbytes_of, plan_hits, read_hits
from lindi_dask.transport.disk_cache.intervals import NONE
from lindi_dask.transport.disk_cache.options import cache_of
from lindi_dask.transport.disk_cache.range_cache import RangeCache

__all__ = ["NONE", "CacheFolder", "Hit", "RangeCache", "cache_of", "nbytes_of", "plan_hits", "read_hits"]
