"""The lock of a job: one process at a time, let go by death."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from lindi_dask.errors import JobConflict
from lindi_dask.jobs.lock import JobLock, holder_of

if TYPE_CHECKING:
    from pathlib import Path


def test_a_lock_is_held_by_one_and_freed_by_death(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert holder_of(path) is None
    with JobLock(path, "the job"):
        holder = holder_of(path)
        assert holder is not None
        assert (holder.host, holder.pid, holder.is_here) == (platform.node(), os.getpid(), True)
        with (
            pytest.raises(JobConflict, match=f"^the job is being written by process {os.getpid()} on "),
            JobLock(path, "the job"),
        ):
            pass
    assert holder_of(path) is None
    code = "import os, pathlib, sys; from lindi_dask.jobs.lock import JobLock\n"
    code += "with JobLock(pathlib.Path(sys.argv[1]), 'the job'): os.kill(os.getpid(), 9)"
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False, timeout=60).returncode == -9
    assert json.loads(path.read_bytes())["host"] == platform.node()
    assert holder_of(path) is None
    with JobLock(path, "the job"):
        pass


def test_another_machines_lock_is_held_while_its_beat_is_fresh(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_text(json.dumps({"host": "elsewhere", "pid": 7}))
    with pytest.raises(JobConflict, match="process 7 on elsewhere"), JobLock(path, "the job"):
        pass
    assert holder_of(path) is not None
    long_ago = path.stat().st_mtime - 120
    os.utime(path, (long_ago, long_ago))
    assert holder_of(path) is None
    with JobLock(path, "the job"):
        assert holder_of(path) is not None
