"""How bytes come: ranges are planned, then read from files, the disk cache and presigned URLs, renewed as they expire.

Data plane only; leases come from `lindi_dask.archive`.
"""

from lindi_dask.transport.adaptive import Sizes
from lindi_dask.transport.batching import Batcher
from lindi_dask.transport.compression import decompressed
from lindi_dask.transport.counters import Counters, Counts
from lindi_dask.transport.disk_cache import CacheFolder, RangeCache, cache_of
from lindi_dask.transport.download import Downloaded, Start, download, peek
from lindi_dask.transport.etags import strong
from lindi_dask.transport.loop import IoLoop
from lindi_dask.transport.plan import PlannedRange, plan_ranges
from lindi_dask.transport.reader import RangeReader
from lindi_dask.transport.traffic import Traffic

__all__ = [
    "Batcher",
    "CacheFolder",
    "Counters",
    "Counts",
    "Downloaded",
    "IoLoop",
    "PlannedRange",
    "RangeCache",
    "RangeReader",
    "Sizes",
    "Start",
    "Traffic",
    "cache_of",
    "decompressed",
    "download",
    "peek",
    "plan_ranges",
    "strong",
]
