"""The ledger, and the lock: what is left by a process that died."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from lindi_dask.batch.ledger import Ledger, events_of
from lindi_dask.batch.lock import JobLock
from lindi_dask.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path


def test_a_line_that_was_cut_short_is_no_event_and_is_gone_when_the_next_comes(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    with Ledger(path, clock=lambda: 1.0) as ledger:
        ledger.add("done", path="a")
    with path.open("ab") as file:
        file.write(b'{"t": 2, "event": "do')
    assert [event["path"] for event in events_of(path)] == ["a"]
    with Ledger(path, clock=lambda: 3.0) as ledger:
        ledger.add("done", path="b\n")
    assert list(events_of(path)) == [{"t": t, "event": "done", "path": p} for t, p in ((1.0, "a"), (3.0, "b\n"))]


@pytest.mark.parametrize("line", [b"{nonsense\n", b"[1]\n", b'{"t": 1}\n'])
def test_a_damaged_line_is_named(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(b'{"t": 1, "event": "done"}\n' + line)
    with pytest.raises(ConfigurationError, match="damaged in line 2"):
        list(events_of(path))


def test_an_event_that_has_no_room_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    with Ledger(path) as ledger:
        ledger.add("done", path="a")
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 20, before[1]))
        try:
            with pytest.raises(ConfigurationError, match=r"ledger\.jsonl can't be written \(File too large\)"):
                ledger.add("done", path="b")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            signal.signal(signal.SIGXFSZ, handler)
        ledger.add("done", path="c")
    assert [event["path"] for event in events_of(path)] == ["a", "c"]


HOLD = """
import sys, time
from pathlib import Path
from lindi_dask.batch.lock import JobLock
with JobLock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_lock_is_held_by_one_process_and_let_go_when_that_is_killed(tmp_path: Path) -> None:
    path = tmp_path / ".job" / "lock"
    path.parent.mkdir()
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(ConfigurationError, match=rf"is being written by process {holder.pid} on"), JobLock(path):
            pass
    finally:
        holder.kill()
        holder.communicate()
    with JobLock(path):
        assert json.loads(path.read_bytes())["pid"] == os.getpid()
    assert path.read_bytes() == b""


def test_a_lock_of_another_machine_is_held_as_long_as_it_is_touched(tmp_path: Path) -> None:
    path = tmp_path / ".job" / "lock"
    path.parent.mkdir()
    path.write_text(json.dumps({"host": "elsewhere", "pid": 7}))
    with pytest.raises(ConfigurationError, match="process 7 on elsewhere"), JobLock(path):
        pass
    os.utime(path, (0, 0))
    with JobLock(path):
        pass
