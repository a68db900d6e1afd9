"""A client to kill: converts references, with two threads."""

from __future__ import annotations

import json
import os
import sys

import lindi_dask as ld
from lindi_dask.conversion import job_of

if __name__ == "__main__":
    refs, out, layout = sys.argv[1:]
    instances = {"local": os.environ["DASK_LINDI_DASK__INSTANCES__LOCAL__API_URL"]}
    job = {"layout": json.loads(layout), "threads": 2, "instances": instances}
    ld.convert(refs, out, resume=job_of(out).plan() is not None, **job)
