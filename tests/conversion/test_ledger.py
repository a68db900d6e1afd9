"""The ledger and the lock of a job."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from lindi_dask.conversion.ledger import Ledger, Stored, events_of, stored_of
from lindi_dask.conversion.lock import JobLock, holder_of
from lindi_dask.errors import ConversionError, JobConflict

if TYPE_CHECKING:
    from pathlib import Path


def test_events_come_back_with_their_time(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    with Ledger(path, clock=lambda: 12.34567) as ledger:
        ledger.add("started", plan="x")
        ledger.add("done", array=1, place=2, nbytes=3, digest="d")
        assert list(events_of(path)) == []  # not flushed yet
        ledger.flush()
    assert next(events_of(path)) == {"t": 12.346, "event": "started", "plan": "x"}
    assert stored_of(path) == {(1, 2): Stored(3, "d")}


def test_wherever_it_is_torn_whole_lines_count_and_others_follow(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    with Ledger(path) as ledger:
        for place in range(3):
            ledger.add("done", array=0, place=place, nbytes=None if place % 2 else 1, digest="d" * 64)
        ledger.flush()
    whole = path.read_bytes()
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        before = whole[:cut].count(b"\n")
        assert len(stored_of(path)) == before
        with Ledger(path) as ledger:
            ledger.add("done", array=0, place=9, nbytes=1, digest="e")
            ledger.flush()
        assert len(stored_of(path)) == before + 1


def test_a_line_that_is_broken_in_the_middle_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    path.write_bytes(b'{"event":"ended"}\n{"event":\n{"event":"ended"}\n')
    with pytest.raises(ConversionError, match="damaged in line 2"):
        list(events_of(path))


def test_a_lock_is_held_by_one_and_freed_by_death(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert holder_of(path) is None
    with JobLock(path):
        holder = holder_of(path)
        assert holder is not None
        assert (holder.host, holder.pid, holder.is_here) == (platform.node(), os.getpid(), True)
        with pytest.raises(JobConflict, match=f"process {os.getpid()} on "), JobLock(path):
            pass
    assert holder_of(path) is None
    code = "import os, pathlib, sys; from lindi_dask.conversion.lock import JobLock\n"
    code += "with JobLock(pathlib.Path(sys.argv[1])): os.kill(os.getpid(), 9)"
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False, timeout=60).returncode == -9
    assert json.loads(path.read_bytes())["host"] == platform.node()
    assert holder_of(path) is None
    with JobLock(path):
        pass


def test_another_machines_lock_is_held_while_its_beat_is_fresh(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_text(json.dumps({"host": "elsewhere", "pid": 7}))
    with pytest.raises(JobConflict, match="process 7 on elsewhere"), JobLock(path):
        pass
    assert holder_of(path) is not None
    long_ago = path.stat().st_mtime - 120
    os.utime(path, (long_ago, long_ago))
    assert holder_of(path) is None
    with JobLock(path):
        assert holder_of(path) is not None
