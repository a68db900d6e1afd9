"""One reader opens references in this process, which is new, and measures itself; prints one line of JSON.

`python -m peers.measure READER TASK`: READER is a module beside this one, TASK a JSON object. Runs in each reader's own
interpreter, and so needs nothing but the standard library and cloudpickle.
"""

from __future__ import annotations

import gc
import importlib
import json
import sys
import time
from pathlib import Path
from typing import Any

import cloudpickle as pickle  # dask does
import usage
from usage import memory, reset_peak


def opened(reader: Any, task: dict[str, Any]) -> dict[str, Any]:
    """Open, locate the sampled chunks, pickle."""
    gc.collect()
    reset_peak()
    before = memory()
    start = time.perf_counter()
    array = reader.open_array(task["path"], task["array"])
    seconds = time.perf_counter() - start
    peak = memory().peak
    gc.collect()
    after = memory()
    store = reader.store_of(array)
    located = {path: reader.locate(store, path, names) for path, names in task["names"].items()}
    gc.collect()
    used = memory()
    return {
        "seconds": seconds,
        "peak": peak - before.resident,
        "kept": after.resident - before.resident,
        "private": used.private - before.private,
        "located": located,
        "pickled": pickled(reader, array, task.get("keep")) if task.get("pickle") else None,
    }


def pickled(reader: Any, array: Any, keep: str | None) -> dict[str, Any]:
    """Return the bytes of each thing, or why it can't be pickled; keep the store's for another process."""
    found: dict[str, Any] = {}
    for name, thing in reader.to_pickle(array).items():
        try:
            content = pickle.dumps(thing)
        except TypeError as error:
            found[name] = str(error)
            continue
        found[name] = len(content)
        if name == "store" and keep is not None:
            Path(keep).write_bytes(content)
    return found


def unpickled(reader: Any, task: dict[str, Any]) -> dict[str, Any]:
    """Unpickle a store that another process pickled, and locate one chunk."""
    content = Path(task["unpickle"]).read_bytes()
    gc.collect()
    before = memory()
    start = time.perf_counter()
    store = pickle.loads(content)
    located = reader.locate(store, task["array"], task["names"][task["array"]][:1])
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "located": located, "private": memory().private - before.private}


def versions(packages: tuple[str, ...]) -> str:
    python, *found = usage.versions(packages).items()
    return ", ".join(f"{package} {version}" for package, version in [*found, python])


def main() -> None:
    reader, task = importlib.import_module(f"peers.{sys.argv[1]}"), json.loads(sys.argv[2])
    # Whatever is imported or started at the first use is not what is measured
    warm = reader.open_array(task["warm"], task["array"])
    reader.locate(reader.store_of(warm), task["array"], task["warm_names"])
    del warm
    result = unpickled(reader, task) if "unpickle" in task else opened(reader, task)
    print(json.dumps(result | {"versions": versions(reader.PACKAGES)}), flush=True)
    if task.get("hold"):
        sys.stdin.read()


if __name__ == "__main__":
    main()
