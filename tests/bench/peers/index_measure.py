"""One package indexes an HDF5 file in this process, which is new; prints one line of JSON.

`python -m peers.index_measure MODULE WARM PATH OUT`: WARM is a small file that is indexed first, so that imports are
not counted. Needs nothing but the standard library.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import io
import json
import sys
import time
from typing import Any

from usage import memory, reset_peak, versions


def measured(module: Any, path: str, out: str) -> dict[str, Any]:
    gc.collect()
    reset_peak()
    before = memory()
    start = time.perf_counter()
    found = module.index(path)
    indexed = time.perf_counter()
    module.save(found, out)
    return {
        "index": indexed - start,
        "seconds": time.perf_counter() - start,
        "peak": memory().peak - before.resident,
        "versions": versions(module.PACKAGES),
    }


if __name__ == "__main__":
    name, warm, path, out = sys.argv[1:]
    reader = importlib.import_module(f"peers.{name}")
    with contextlib.redirect_stderr(io.StringIO()):  # bars of progress
        measured(reader, warm, f"{out}.warm")
        result = measured(reader, path, out)
    print(json.dumps(result))
