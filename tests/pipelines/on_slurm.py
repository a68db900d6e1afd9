"""`pipelines/convert_session.py` on a SLURM cluster, through dask-jobqueue: `make slurm`. Not among the tests of CI."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np
import psutil
import pytest
import zarr
from one_node_slurm import one_node, what_is_missing
from pipeline_runs import command, environ_of, secrets_in, settings_for, write_session

from lindi_dask.testing import EmbeddedArchive

if TYPE_CHECKING:
    from collections.abc import Callable

WHY_NOT = what_is_missing()
OPTIONS = """
queue = "normal"
cores = 1
memory = "1 GB"
walltime = "00:10:00"
interface = "lo"
security = true
shared_temp_directory = "{folder}"
log_directory = "{folder}"
"""


@pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))
def test_a_session_is_converted_by_jobs_though_one_of_them_is_cancelled(tmp_path: Path) -> None:
    session, jobs, log = tmp_path / "session.nwb", tmp_path / "jobs", tmp_path / "log"
    write_session(session, 0)
    jobs.mkdir()
    changes = {
        '"dandi://dandi/': '"dandi://local/',
        'kind = "local"': 'kind = "slurm"',
        "workers = 4": "adapt = { minimum = 2, maximum = 2 }",
        'threads_per_worker = 2\nmemory_limit = "4 GB"\n': OPTIONS.format(folder=jobs),
    }
    with EmbeddedArchive(lifetime_s=2, bytes_per_s=40_000) as archive, one_node() as environ:
        archive.add(session, path="sub-1/sub-1.nwb")
        with log.open("wb") as out:
            script = subprocess.Popen(
                command("convert_session.py", settings_for(tmp_path, "convert_session.toml", changes)),
                stdout=out, stderr=subprocess.STDOUT, cwd=tmp_path, env=environ_of(archive) | environ,
            )  # fmt: skip
        try:
            ledger = tmp_path / ".sub-1.nwb.zarr.lindi-job" / "ledger.jsonl"
            wait_for(lambda: ledger.exists() and '"done"' in ledger.read_text(), script)
            archive.stop()  # there is work left until another job has come
            subprocess.run(["scancel", "1"], env=os.environ | environ, check=True, timeout=30)
            wait_for((jobs / "dask-worker-3.err").exists, script)
            archive.start()
            code = script.wait(120)
        finally:
            script.kill()
        kept_by_slurm = secrets_in(archive, Path(environ["SLURM_CONF"]).parent, "")
    logs = {path.name: path.read_text() for path in jobs.glob("dask-worker-*.err")}
    assert code == 0, f"{log.read_text()}{logs}"
    assert len(logs) == 3  # of jobs, one in the place of that which was cancelled
    assert all("tls://127.0.0.1" in text for text in logs.values())
    converted = zarr.open_group(tmp_path / "sub-1.nwb.zarr", mode="r")
    with h5py.File(session) as truth:
        for name in ("acquisition/voltage/data", "acquisition/position/data", "acquisition/position/timestamps"):
            np.testing.assert_array_equal(converted[name][...], truth[name][...])  # type: ignore[index] # an array
    assert not kept_by_slurm
    assert not secrets_in(archive, tmp_path, "")
    assert not [one for one in psutil.process_iter(["cmdline", "status"]) if is_left(one, tmp_path)]


def wait_for(condition: Callable[[], bool], script: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert script.poll() is None, "it has ended"
        assert time.monotonic() < until
        time.sleep(0.02)


def is_left(process: psutil.Process, folder: Path) -> bool:
    """Whether a process still runs that was started with something of the test's folder."""
    is_over = process.info["status"] == psutil.STATUS_ZOMBIE
    return not is_over and any(str(folder) in part for part in process.info["cmdline"] or ())
