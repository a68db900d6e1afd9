"""One reader opens references in this process, which is new, and measures itself; prints one line of JSON.

`python measure.py READER TASK`: READER is a module beside this one, TASK a JSON object. Runs in each reader's own
interpreter, and so needs nothing but the standard library and cloudpickle.
"""

from __future__ import annotations

import gc
import importlib
import importlib.util
import json
import platform
import sys
import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

# dask pickles with cloudpickle. LINDI's own environment has none, and nothing that would need it
pickle: Any = importlib.import_module("cloudpickle" if importlib.util.find_spec("cloudpickle") else "pickle")


@dataclass(frozen=True, slots=True)
class Memory:
    """Of this process, in bytes."""

    resident: int
    """pages of mapped files among them"""
    peak: int
    """the most that was resident since `reset_peak`"""
    private: int
    """resident, and of no other process"""


def memory() -> Memory:
    status, rollup = fields("/proc/self/status"), fields("/proc/self/smaps_rollup")
    return Memory(status["VmRSS"], status["VmHWM"], rollup["Private_Clean"] + rollup["Private_Dirty"])


def fields(path: str) -> dict[str, int]:
    lines = (line.split() for line in Path(path).read_text("ascii").splitlines())
    return {line[0].rstrip(":"): int(line[1]) * 1024 for line in lines if line[-1] == "kB"}


def reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5", "ascii")  # man 5 proc_pid_clear_refs


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
    found = []
    for package in packages:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return ", ".join([*found, f"Python {platform.python_version()}"])


def main() -> None:
    reader, task = importlib.import_module(sys.argv[1]), json.loads(sys.argv[2])
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
