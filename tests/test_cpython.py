"""A worker of distributed must not hang where its profiler looks at the threads while garbage is collected."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import gc, sys, threading
from lindi_dask.cpython import mend_current_frames
mend_current_frames()

class Node:
    def __init__(self):
        self.me, self.local = self, threading.local()

def look(depth):
    return look(depth - 1) if depth else sys._current_frames()

for i in range(60):
    gc.collect()
    Node()  # garbage whose end takes the lock that is held while frames are made
    kept = []
    while gc.get_count()[0] < gc.get_threshold()[0] - 1 - i % 4:
        kept.append([])
    assert threading.get_ident() in look(i % 3)  # one of its allocations starts the collection
    assert gc.isenabled()
gc.disable()
sys._current_frames()
assert not gc.isenabled()
"""


def test_looking_at_the_threads_while_garbage_is_collected_does_not_hang() -> None:
    # Without the mend it does on Python 3.11.7, at once and each time
    done = subprocess.run([sys.executable, "-c", SCRIPT], timeout=60, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_first_read_mends_it() -> None:
    script = (
        "import asyncio, sys\nbefore = sys._current_frames\nfrom lindi_dask import process\n"
        "process.io_loop().submit(asyncio.sleep(0)).result()\n"
        "assert (sys._current_frames is not before) == (sys.version_info < (3, 12))"
    )
    done = subprocess.run([sys.executable, "-c", script], timeout=60, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
