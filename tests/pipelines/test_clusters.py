"""Clusters out of a table: of jobs, of a scheduler that runs already, and what is said where there is none."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trustme
from clusters import CLUSTER, cluster_of
from settings import table_of

from lindi_dask.batch.asset_task import Reading
from lindi_dask.batch.executors import Cluster
from lindi_dask.errors import ConfigurationError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Clusters of distributed's that were not made to their end, or lost, complain of it when they are collected
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

# As slurm does: the script is copied, and the job inherits the environment of who submits it
SBATCH = """#!/bin/sh
cp "$1" "$JOBS/script"
setsid bash "$JOBS/script" >>"$JOBS/log" 2>&1 &
echo $! >>"$JOBS/pids"
echo "Submitted batch job $!"
"""
SCANCEL = """#!/bin/sh
for pid in "$@"; do kill -TERM -- "-$pid"; done
"""


def table(**keys: Any) -> dict[str, Any]:
    return table_of(keys, CLUSTER, "[cluster]")


@pytest.fixture(autouse=True)
def _collect_here() -> Iterator[None]:
    """Collect what a test leaves before the next one starts, which would be blamed for it."""
    yield
    gc.collect()


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with what jobs leave, and `sbatch` and `scancel` that run and end jobs on this machine."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, script in (("sbatch", SBATCH), ("scancel", SCANCEL)):
        (folder / name).write_text(script)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("JOBS", str(tmp_path))
    yield tmp_path
    pids = tmp_path / "pids"
    for pid in pids.read_text().split() if pids.exists() else []:
        try:
            os.killpg(int(pid), signal.SIGKILL)
        except ProcessLookupError:
            continue


@pytest.mark.timeout(120)
def test_jobs_of_slurm_are_workers_and_have_no_key(jobs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_API_KEY", "a-key")
    options = {"cores": 1, "memory": "1 GB", "interface": "lo", "queue": "night", "python": sys.executable}
    options["scheduler_options"] = {"dashboard_address": "127.0.0.1:0"}
    with cluster_of(table(kind="slurm", workers=1, wait="60 s", options=options), print) as client:
        assert client.submit(lambda: 6 * 7).result(timeout=30) == 42
        keys = client.run(lambda: os.environ.get("LOCAL_API_KEY"))
        assert list(keys.values()) == [None]
        assert client.cluster.scheduler.allowed_failures == 2
    script = (jobs / "script").read_text()
    assert "#SBATCH -p night" in script
    assert "a-key" not in script


@contextmanager
def running(program: str, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start a program of dask's, and return the address that it says it has."""
    started = subprocess.Popen(
        [sys.executable, "-m", f"distributed.cli.{program}", *arguments], stderr=subprocess.PIPE, text=True
    )
    try:
        assert started.stderr is not None
        yield started, next(line.split()[-1] for line in started.stderr if " at: " in line)
    finally:
        started.terminate()
        started.communicate(timeout=30)


@pytest.mark.timeout(120)
def test_a_scheduler_that_runs_already_is_found_by_its_address_and_certificates(tmp_path: Path) -> None:
    authority = trustme.CA()
    own = authority.issue_cert("127.0.0.1", "localhost")
    authority.cert_pem.write_to_path(tmp_path / "ca_file")
    own.private_key_pem.write_to_path(tmp_path / "key")
    for number, part in enumerate(own.cert_chain_pems):
        part.write_to_path(tmp_path / "cert", append=number > 0)
    files = {name: str(tmp_path / name) for name in ("ca_file", "cert", "key")}
    options = [f"--tls-{name.replace('_', '-')}={path}" for name, path in files.items()]
    with running("dask_scheduler", "--host=tls://127.0.0.1", "--port=0", "--no-dashboard", *options) as (
        program,
        address,
    ):
        said: list[str] = []
        with (
            pytest.raises(UnavailableError, match=r"No worker came within 0.5 s .* start `dask worker"),
            cluster_of(table(kind="address", address=address, tls=files, wait="500 ms"), said.append),
        ):
            pass
        with (
            pytest.raises((UnavailableError, ConfigurationError), match="does not answer"),
            cluster_of(table(kind="address", address=address.replace("tls://", "tcp://"), wait="1 s"), said.append),
        ):
            pass
        with (
            running("dask_worker", address, "--nthreads=1", "--no-nanny", *options),
            cluster_of(table(kind="address", address=address, tls=files), said.append) as client,
        ):
            assert client.submit(lambda: 6 * 7).result(timeout=30) == 42
            executor = Cluster(client, Reading((), (), 1), 1)
            assert executor.window() == 2 * 1 + 8
            program.kill()
            with pytest.raises(UnavailableError, match="scheduler does not answer"):
                wait_for_the_end(executor)
            executor.close()


def wait_for_the_end(executor: Cluster) -> None:
    for _ in range(300):
        executor.event(0.1)
        executor.window()


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"kind": "sge"}, "must be one of local, slurm, kubernetes, address"),
        ({"kind": "address"}, "needs the scheduler's address, such as tls://"),
        ({"kind": "address", "address": "tcp://x:1", "options": {"a": 1}}, "leave out adapt and options"),
        ({"address": "tcp://x:1"}, "address and tls are for the kind address, not for local"),
        ({"adapt": {"maximum": "many"}}, "adapt: maximum must be a whole number"),
        ({"adapt": {"maximun": 3}}, "has no key maximun. Is it maximum"),
        ({"wait": "long"}, r"\[cluster\] wait must be like"),
        ({"options": {"env": "A=1"}}, "env must be a table"),
        ({"kind": "kubernetes"}, "needs dask-kubernetes: pip install dask-kubernetes"),
        ({"kind": "slurm", "options": {"memory": "1 GB"}}, "SLURMCluster can't be started with them"),
    ],
)
def test_what_makes_no_sense_is_named(keys: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said), cluster_of(table(**keys), print):
        pass


@pytest.mark.timeout(120)
def test_workers_come_when_there_is_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clusters._SAY_AFTER_S", 0.2)
    said: list[str] = []
    with cluster_of(table(adapt={"minimum": 1, "maximum": 2}, wait="60 s"), said.append) as client:
        assert client.submit(lambda: 6 * 7).result(timeout=30) == 42
    assert said
    assert set(said) == {"No worker has come yet: the lines above say why, if they don't start."}
