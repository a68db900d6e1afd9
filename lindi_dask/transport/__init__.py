"""How bytes come: ranges are planned, then read from local files and from presigned URLs, renewed as they expire.

Data plane only; leases come from `lindi_dask.archive`.
"""

from lindi_dask.transport.compression import decompressed
from lindi_dask.transport.download import Downloaded, download, peek
from lindi_dask.transport.loop import IoLoop
from lindi_dask.transport.plan import PlannedRange, plan_ranges
from lindi_dask.transport.reader import RangeReader

__all__ = ["Downloaded", "IoLoop", "PlannedRange", "RangeReader", "decompressed", "download", "peek", "plan_ranges"]
