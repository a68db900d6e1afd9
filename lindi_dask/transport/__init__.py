"""How bytes come: ranges are planned, then read from local files and from presigned URLs, renewed as they expire.

Data plane only; leases come from `lindi_dask.archive`.
"""

from lindi_dask.transport.batching import Batcher
from lindi_dask.transport.compression import decompressed
from lindi_dask.transport.counters import Counters, Counts
from lindi_dask.transport.download import Downloaded, download, peek
from lindi_dask.transport.loop import IoLoop
from lindi_dask.transport.plan import PlannedRange, plan_ranges
from lindi_dask.transport.reader import RangeReader
from lindi_dask.transport.traffic import Traffic

__all__ = [
    "Batcher",
    "Counters",
    "Counts",
    "Downloaded",
    "IoLoop",
    "PlannedRange",
    "RangeReader",
    "Traffic",
    "decompressed",
    "download",
    "peek",
    "plan_ranges",
]
