"""How bytes come: ranges are planned, then read from presigned URLs that are renewed as they expire.

Data plane only; leases come from `lindi_dask.archive`.
"""

from lindi_dask.transport.loop import IoLoop
from lindi_dask.transport.plan import PlannedRange, plan_ranges
from lindi_dask.transport.reader import RangeReader

__all__ = ["IoLoop", "PlannedRange", "RangeReader", "plan_ranges"]
