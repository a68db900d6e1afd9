"""References -> Zarr v3: planned, resumable, verified."""

from lindi_dask.conversion.converting import Conversion, convert, plan
from lindi_dask.conversion.job import Status, job_of
from lindi_dask.conversion.plan import ArrayPlan, Plan
from lindi_dask.conversion.progress import Progress
from lindi_dask.conversion.verifying import Verified, verify

__all__ = ["ArrayPlan", "Conversion", "Plan", "Progress", "Status", "Verified", "convert", "job_of", "plan", "verify"]
