"""`pipelines/index_dandiset.py`, run as it stands, in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pyarrow.parquet
import pytest
from index_dandiset import code_of_index
from pipeline_runs import command, environ_of, settings_for, write_session

import lindi_dask as ld
from lindi_dask.batch import DandisetIndex
from lindi_dask.batch.plan import Failure
from lindi_dask.hdf5.remote_file import START
from lindi_dask.testing import EmbeddedArchive, Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from lindi_dask.testing import Asset
    from lindi_dask.testing.records import Request

ASSETS, WORKERS = 40, 4
ADDRESS = '"dandi://dandi/000123@draft/sub-*/**/*.nwb"'
HERE = '"dandi://local/000123@draft/sub-*/**/*.nwb"'


@pytest.fixture(scope="module")
def sessions(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("sessions")
    paths = [folder / f"{number}.nwb" for number in range(ASSETS)]
    for number, path in enumerate(paths):
        write_session(path, number)
    return paths


@pytest.fixture
def archive() -> Iterator[EmbeddedArchive]:
    with EmbeddedArchive(lifetime_s=2) as archive:
        yield archive


def add(archive: EmbeddedArchive, sessions: Iterable[Path]) -> dict[str, tuple[Path, Asset]]:
    """Take sessions into a dandiset; returns them by their paths there."""
    found = {}
    for number, path in enumerate(sessions):
        place = f"sub-{number % 4}/ses-{number}/sub-{number % 4}_ses-{number}.nwb"
        found[place] = path, archive.add(path, path=place)
    return found


class Job:
    """A run of the script."""

    def __init__(self, archive: EmbeddedArchive, settings: Path, log: Path) -> None:
        self.folder = settings.parent / "dandiset-000123"
        self.log = log
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                command("index_dandiset.py", settings),
                stdout=out, stderr=subprocess.STDOUT, env=environ_of(archive), cwd=settings.parent,
                start_new_session=True,
            )  # fmt: skip

    def events(self) -> list[dict[str, Any]]:
        ledger = self.folder / ".job" / "ledger.jsonl"
        lines = ledger.read_text().splitlines() if ledger.exists() else []
        return [json.loads(line) for line in lines]

    def done(self) -> list[str]:
        return [event["path"] for event in self.events() if event["event"] == "done"]

    def await_done(self, number: int) -> None:
        self._await(lambda: len(self.done()) >= number)

    def _await(self, condition: Callable[[], bool]) -> None:
        until = time.monotonic() + 90
        while not condition():
            assert self._process.poll() is None, f"it ended with {self._process.returncode}: {self.log.read_text()}"
            assert time.monotonic() < until, self.log.read_text()
            time.sleep(0.02)

    def kill_a_worker(self) -> None:
        """Kill one of the processes that do the work."""
        spawned = psutil.Process(self._process.pid).children(recursive=True)
        workers = [one for one in spawned if any("spawn_main" in part for part in one.cmdline())]
        assert len(workers) == WORKERS
        workers[0].kill()

    def interrupt(self) -> None:
        """Press Ctrl-C: a terminal sends it to all processes."""
        os.killpg(self._process.pid, signal.SIGINT)

    def code(self) -> int:
        try:
            return self._process.wait(90)
        finally:
            if self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGKILL)


def begun(requests: Iterable[Request]) -> Counter[str]:
    """How often each asset was begun to be indexed: by the first bytes of its file."""
    return Counter(one.asset_id for one in requests if one.is_read and one.asset_id and one.range == (0, START))


@pytest.mark.timeout(240)
def test_40_embargoed_assets_are_indexed_once_each_though_a_worker_and_the_client_are_killed(
    archive: EmbeddedArchive, sessions: list[Path], tmp_path: Path
) -> None:
    archive.latency_s = 0.06
    assets = add(archive, sessions)
    faults = [archive.inject(Fault(plane="api", kind="status", times=None, probability=0.05))]
    faults += [archive.inject(Fault(plane="s3", kind=kind, times=None, probability=0.0125, seed=seed))
               for seed, kind in enumerate(["status", "reset", "short-body", "reset-mid-body"])]  # fmt: skip
    archive.inject(Fault(plane="s3", kind="stall", delay_s=2.5, times=6, probability=0.2, seed=7))
    settings = settings_for(tmp_path, "index_dandiset.toml", {ADDRESS: HERE})
    log = tmp_path / "log"

    first = Job(archive, settings, log)
    first.await_done(6)
    first.kill_a_worker()
    first.await_done(16)
    first.interrupt()
    assert first.code() == 130, log.read_text()
    done, said = first.done(), first.events()
    in_first = archive.requests
    assert 16 <= len(done) < ASSETS
    assert set(done) <= set(assets)

    second = Job(archive, settings, log)
    assert second.code() == 0, log.read_text()
    print(f"{len(done)} done when interrupted; {archive.renewals()} renewals; requests: {archive.counts()}")

    # All of them, and right
    assert sorted(second.done()) == sorted(assets)  # each once, in the job's records
    for place, (path, asset) in assets.items():
        made = json.loads((second.folder / f"{place}.lindi.json").read_bytes())
        ld.index(path, url=asset.url).save(tmp_path / "truth.lindi.json")
        truth = json.loads((tmp_path / "truth.lindi.json").read_bytes())
        assert made["refs"] == truth["refs"]
        assert made.get("templates") == truth.get("templates")

    # Nothing twice but what was in flight: counted at the archive, and in the job's records
    ids = {place: asset.id for place, (_, asset) in assets.items()}
    in_second = archive.requests[len(in_first) :]
    left = Counter(ids[place] for place in set(assets) - set(done))
    assert begun(in_second) == left
    assert not {one.asset_id for one in in_second} & {ids[place] for place in done}
    records = Counter(event["asset"] for event in said if event["event"] == "begun")
    assert Counter(event["asset"] for event in second.events()[len(said) :] if event["event"] == "begun") == left
    for times in (begun(in_first), records):
        twice = [asset_id for asset_id, number in times.items() if number > 1]
        assert len(twice) <= 2  # of the worker that was killed: what it did, and what had not been fetched from it
        assert max(times.values()) <= 2
    assert (
        len(begun(in_first).keys() - {ids[place] for place in done}) <= 2 * WORKERS
    )  # when the client was interrupted
    assert all(fault.injected for fault in faults[:1])
    assert sum(fault.injected for fault in faults) >= 3

    # A catalogue, and no secret anywhere
    table = pyarrow.parquet.read_table(second.folder / "catalogue.parquet")
    assert set(table["asset_path"].to_pylist()) == set(assets)
    page = (second.folder / "catalogue.html").read_text("utf-8")
    assert all(place in page for place in assets)
    for file in [log, *(path for path in second.folder.rglob("*") if path.is_file())]:
        content = file.read_bytes()
        assert archive.owner_token.encode() not in content
        assert b"X-Amz-Signature" not in content


def test_what_ends_a_run_at_once_has_its_exit_code_and_says_what_to_do(
    archive: EmbeddedArchive, sessions: list[Path], tmp_path: Path
) -> None:
    assets = add(archive, sessions[:1])
    settings = settings_for(tmp_path, "index_dandiset.toml", {ADDRESS: HERE, "workers = 4": "workers = 1"})

    def ran(environ: dict[str, str]) -> tuple[int, str]:
        done = subprocess.run(
            command("index_dandiset.py", settings),
            capture_output=True, text=True, check=False, env=environ, cwd=tmp_path, timeout=90,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    environ = environ_of(archive)
    code, said = ran({**environ, "LOCAL_API_KEY": archive.stranger_token})
    assert code == 5, said
    assert "000123" in said
    settings.write_text(settings.read_text().replace("workers =", "wokers ="))
    code, said = ran(environ)
    assert code == 2
    assert "[cluster] has no key wokers. Is it workers?" in said
    assert not archive.counts()["reads"]
    assert assets


@pytest.mark.parametrize(
    ("done", "kinds", "code"),
    [
        (2, [], 0),
        (1, ["SourceMismatch"], 3),
        (1, ["PermissionDenied"], 3),
        (0, ["PermissionDenied", "AuthenticationError"], 5),
        (0, ["ArchiveUnavailable", "StorageUnavailable"], 75),
        (0, ["StorageUnavailable", "PermissionDenied"], 3),
        (0, ["MemoryError"], 3),
        (0, ["WorkerDied"], 3),
    ],
)
def test_a_run_that_came_to_its_end_has_the_code_of_what_failed(done: int, kinds: list[str], code: int) -> None:
    failures = {str(number): Failure(kind, "", 1) for number, kind in enumerate(kinds)}
    index = DandisetIndex(Path(), done + len(kinds), done, 0, failures, (), (Path(), Path()))
    assert code_of_index(index) == code
