"""Jobs that end before their end: what is done stays, and what comes of it is the same to the last byte."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask
import pytest
from distributed import Client, LocalCluster
from jobs import CHANNELS, ROWS, lindi_document, write_recording

import lindi_dask as ld
from lindi_dask.conversion import Status, job_of, running
from lindi_dask.errors import JobConflict, JobIncomplete, PermissionDenied
from lindi_dask.jobs.ledger import events_of
from lindi_dask.testing import EmbeddedArchive

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Tree = Callable[[Path], dict[str, bytes]]

SHARDS = 40
LAYOUT = {"data": {"chunks": (ROWS // 2, CHANNELS), "shards": (ROWS, CHANNELS)}}
LATENCY_S = 0.05
LIFETIME_S = 2  # of a presigned URL
AHEAD = 5  # objects that two threads may have under way
CLIENT = Path(__file__).with_name("convert_in_a_process.py")


@pytest.fixture(scope="module")
def archive() -> Iterator[EmbeddedArchive]:
    with EmbeddedArchive(lifetime_s=LIFETIME_S, latency_s=LATENCY_S) as archive:
        yield archive


@pytest.fixture(scope="module")
def refs(archive: EmbeddedArchive, tmp_path_factory: pytest.TempPathFactory) -> Path:
    recording = tmp_path_factory.mktemp("recording") / "recording.h5"
    write_recording(recording, SHARDS)
    path = recording.with_suffix(".lindi.json")
    path.write_text(json.dumps(lindi_document(recording, archive.add(recording).url)))
    return path


@pytest.fixture(autouse=True)
def _key(archive: EmbeddedArchive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_API_KEY", archive.owner_token)
    monkeypatch.setenv("DASK_LINDI_DASK__INSTANCES__LOCAL__API_URL", archive.api_url)


@pytest.fixture
def options(archive: EmbeddedArchive) -> dict[str, Any]:
    return {"layout": LAYOUT, "instances": {"local": archive.api_url}}


@pytest.fixture(scope="module")
def undisturbed(
    archive: EmbeddedArchive, refs: Path, tmp_path_factory: pytest.TempPathFactory, tree: Tree
) -> dict[str, bytes]:
    """All files of an output that nothing went wrong with."""
    out = tmp_path_factory.mktemp("undisturbed") / "out.zarr"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOCAL_API_KEY", archive.owner_token)
        ld.convert(refs, out, layout=LAYOUT, instances={"local": archive.api_url}, threads=4)
    return tree(out)


def start(refs: Path, out: Path) -> subprocess.Popen[bytes]:
    """Convert in another process."""
    return subprocess.Popen([sys.executable, str(CLIENT), str(refs), str(out), json.dumps(LAYOUT)])


def wait_until(done: int, out: Path, process: subprocess.Popen[bytes] | None = None) -> None:
    """Wait until so many objects are in the ledger."""
    ledger, deadline = job_of(out).ledger, time.monotonic() + 60
    while not ledger.exists() or ledger.read_bytes().count(b'"event":"done"') < done:
        assert process is None or process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_client_that_is_killed_loses_what_was_under_way_at_most(
    refs: Path, tmp_path: Path, options: dict[str, Any], undisturbed: dict[str, bytes], tree: Tree
) -> None:
    out = tmp_path / "out.zarr"
    kept = 0
    for at in sorted(random.Random().sample(range(1, SHARDS - 3 * AHEAD), 3)):
        process = start(refs, out)
        wait_until(at, out, process)
        process.kill()
        process.wait(20)
        assert not out.exists()
        status = Status(job_of(out))
        assert status.holder is None
        assert status.done >= max(at, kept)
        stored = [path for path in job_of(out).data.rglob("c/*/0") if path.is_file()]
        assert len(stored) - status.done <= AHEAD  # that the ledger does not know
        kept = status.done
    before = len([event for event in events_of(job_of(out).ledger) if event["event"] == "done"])
    done = ld.convert(refs, out, resume=True, threads=2, **options)
    assert (done.made, done.kept, done.failures) == (SHARDS - before, before, 0)
    assert tree(out) == undisturbed
    print(f"killed 3 times: {done.kept} objects were kept, {done.made} made at last")


def test_a_torn_last_line_is_an_object_that_is_made_again(
    refs: Path, tmp_path: Path, options: dict[str, Any], undisturbed: dict[str, bytes], tree: Tree
) -> None:
    out = tmp_path / "out.zarr"
    job = job_of(out)
    ld.convert(refs, out, threads=4, **options)
    out.rename(job.data)
    lines = [line for line in job.ledger.read_bytes().splitlines(keepends=True) if b'"event":"done"' in line]
    job.ledger.write_bytes(b"".join(lines)[:-20])
    done = ld.convert(refs, out, resume=True, threads=4, **options)
    assert (done.made, done.kept) == (1, SHARDS - 1)
    assert tree(out) == undisturbed
    assert sum(event["event"] == "done" for event in events_of(job.ledger)) == SHARDS


@pytest.mark.parametrize("harm", ["lost", "short"])
def test_what_the_ledger_says_is_looked_up(
    refs: Path, tmp_path: Path, options: dict[str, Any], undisturbed: dict[str, bytes], tree: Tree, harm: str
) -> None:
    out = tmp_path / "out.zarr"
    job = job_of(out)
    ld.convert(refs, out, threads=4, **options)
    out.rename(job.data)
    victim = job.data / "data/c/7/0"
    if harm == "lost":
        victim.unlink()
    else:
        victim.write_bytes(victim.read_bytes()[:-1])
    assert ld.convert(refs, out, resume=True, threads=4, **options).made == 1
    assert tree(out) == undisturbed


def test_killed_workers_do_not_end_a_job(
    archive: EmbeddedArchive,
    refs: Path,
    tmp_path: Path,
    options: dict[str, Any],
    undisturbed: dict[str, bytes],
    tree: Tree,
) -> None:
    out = tmp_path / "out.zarr"
    killed: list[int] = []
    points = sorted(random.Random().sample(range(3, SHARDS - AHEAD), 3))
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
        ld.distribute(client),
    ):

        def kill(progress: Any) -> None:
            if len(killed) < len(points) and progress.done >= points[len(killed)]:
                # The one that was killed last may still be taken for alive
                pids = set(client.run(os.getpid, on_error="ignore").values()) - set(killed)
                if pids:
                    killed.append(pids.pop())
                    os.kill(killed[-1], signal.SIGKILL)

        before = len([request for request in archive.requests if request.plane == "s3"])
        done = ld.convert(refs, out, client=client, progress=kill, **options)
        requests = len([request for request in archive.requests if request.plane == "s3"]) - before
    assert len(killed) == 3
    assert (done.made, done.failures) == (SHARDS, 0)
    assert tree(out) == undisturbed
    assert requests <= SHARDS + 3 * AHEAD  # and there may be hedges, where the machine is slow
    written = b"".join([*tree(out).values(), *tree(job_of(out).folder).values()])
    assert archive.owner_token.encode() not in written
    assert b"X-Amz" not in written
    print(f"3 workers killed at {points}: {requests} requests for {SHARDS} objects")


def test_a_scheduler_that_is_killed_leaves_a_job_to_resume(
    refs: Path,
    tmp_path: Path,
    options: dict[str, Any],
    undisturbed: dict[str, bytes],
    tree: Tree,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(running, "_PATIENCE_S", 2.0)
    out, at = tmp_path / "out.zarr", random.Random().randrange(1, SHARDS - 2 * AHEAD)
    with scheduler_and_worker(tmp_path / "scheduler.json") as (scheduler, client):

        def kill(progress: Any) -> None:
            if progress.done >= at:
                scheduler.kill()

        with pytest.raises(JobIncomplete, match="No worker of the cluster"):
            ld.convert(refs, out, client=client, progress=kill, **options)
    assert at <= Status(job_of(out)).done < SHARDS
    ld.convert(refs, out, resume=True, threads=4, **options)
    assert tree(out) == undisturbed


@contextmanager
def scheduler_and_worker(file: Path) -> Iterator[tuple[subprocess.Popen[bytes], Client]]:
    """A scheduler, and a worker with two threads, each a process of its own."""
    where = ["--scheduler-file", str(file), "--host", "127.0.0.1", "--no-dashboard"]
    python: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    cli = [sys.executable, "-m"]
    scheduler = subprocess.Popen([*cli, "distributed.cli.dask_scheduler", "--port", "0", *where], **python)
    options = ["--nthreads", "2", "--no-nanny", "--death-timeout", "5"]
    worker = subprocess.Popen([*cli, "distributed.cli.dask_worker", *options, *where], **python)
    try:
        with dask.config.set({"distributed.comm.timeouts.connect": "2s"}):
            client = Client(scheduler_file=str(file), timeout="20s")
            yield scheduler, client
            client.close(timeout=2)
    finally:
        for process in (worker, scheduler):
            process.kill()
            process.wait(20)


def test_a_network_that_is_down_for_a_while(
    archive: EmbeddedArchive,
    refs: Path,
    tmp_path: Path,
    options: dict[str, Any],
    undisturbed: dict[str, bytes],
    tree: Tree,
) -> None:
    out = tmp_path / "out.zarr"
    points = sorted(random.Random().sample(range(1, SHARDS - AHEAD), 3))
    left = list(points)

    def cut(progress: Any) -> None:
        if left and progress.done >= left[0]:
            left.pop(0)
            archive.stop()
            time.sleep(0.5)
            archive.start()

    done = ld.convert(refs, out, threads=2, progress=cut, **options)
    assert not left
    assert done.failures == 0
    assert tree(out) == undisturbed
    print(f"down at {points}")


def test_a_disk_that_gets_full_ends_a_job_cleanly(
    refs: Path, tmp_path: Path, options: dict[str, Any], undisturbed: dict[str, bytes], tree: Tree
) -> None:
    out = tmp_path / "out.zarr"
    kept = 0
    for at in (0, *sorted(random.Random().sample(range(1, SHARDS - AHEAD), 3))):
        with no_file_larger_than(10_000) as fill:

            def filled(progress: Any, at: int = at, fill: Any = fill) -> None:
                if progress.done >= at:
                    fill()

            with pytest.raises(JobIncomplete, match=r" of 40 objects are done\..*Make room.* resume") as full:
                ld.convert(refs, out, threads=2, resume=at > 0, progress=filled, **options)
        assert full.value.total == SHARDS
        assert max(at, kept) <= full.value.done == Status(job_of(out)).done
        assert not out.exists()
        assert not list(tmp_path.rglob("*.lindi-part"))
        kept = full.value.done
    with no_file_larger_than(400) as fill:
        fill()  # there is no room for the ledger, either
        with pytest.raises(JobIncomplete, match="Make room"):
            ld.convert(refs, out, resume=True, threads=2, **options)
    done = ld.convert(refs, out, resume=True, threads=4, **options)
    assert done.kept == kept
    assert tree(out) == undisturbed


@contextmanager
def no_file_larger_than(nbytes: int) -> Iterator[Callable[[], None]]:
    """Give a function from whose call on no file can get larger."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, hard))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_two_processes_do_not_do_the_same_job(refs: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    out = tmp_path / "out.zarr"
    process = start(refs, out)
    try:
        wait_until(1, out, process)
        with pytest.raises(JobConflict, match=f"is being written by process {process.pid} on "):
            ld.convert(refs, out, resume=True, threads=2, **options)
        holder = Status(job_of(out)).holder
        assert holder is not None
        assert holder.pid == process.pid
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait(20)
    assert Status(job_of(out)).holder is None
    assert out.exists()


def test_objects_that_cannot_be_made_are_set_aside_and_the_rest_goes_on(
    refs: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    out = tmp_path / "out.zarr"
    document = json.loads(refs.read_text())
    truth = document["refs"]["data/7.0"]
    document["refs"]["data/7.0"] = [truth[0], truth[1] + 3, truth[2] - 6]  # not where it lies
    broken = tmp_path / "broken.lindi.json"
    broken.write_text(json.dumps(document))
    with pytest.raises(JobIncomplete, match=r"39 of 40 .* 1 could not be made; data/c/7/0: .*can't be decoded") as left:
        ld.convert(broken, out, threads=4, **options)
    assert list(left.value.set_aside) == ["data/c/7/0"]
    assert list(Status(job_of(out)).set_aside) == ["data/c/7/0"]
    failed = [event["event"] for event in events_of(job_of(out).ledger) if event["event"] in {"failed", "set_aside"}]
    assert failed == ["failed", "failed", "set_aside"]
    assert not out.exists()


def test_access_that_is_denied_ends_a_job_at_once(
    archive: EmbeddedArchive, refs: Path, tmp_path: Path, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from jobs import forget_leases  # noqa: PLC0415 - of this process

    forget_leases()
    monkeypatch.setenv("LOCAL_API_KEY", archive.stranger_token)
    with pytest.raises(PermissionDenied):
        ld.convert(refs, tmp_path / "out.zarr", threads=2, **options)
    events = [event["event"] for event in events_of(job_of(tmp_path / "out.zarr").ledger)]
    assert events.count("failed") <= AHEAD
    text = job_of(tmp_path / "out.zarr").ledger.read_text()
    assert archive.stranger_token not in text
    assert "X-Amz" not in text
