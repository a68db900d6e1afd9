"""Every fault of the table, under a job of real worker processes: the exact bytes, or the error with its name."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import secrets
import signal
import ssl
import threading
import time
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import dask
import numpy as np
import pytest
import trustme
from distributed import Client, LocalCluster, wait
from fault_table import TABLE, Row
from jobs import CHANNELS, QUICK_READ, ROWS, document_with_etag, hurry, lindi_document, set_key, write_recording

import lindi_dask as ld
from lindi_dask.errors import UnavailableError
from lindi_dask.testing import EmbeddedArchive

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from distributed import Future
    from numpy.typing import NDArray

    from lindi_dask.testing import Request

    Steps = Iterator[None]

CHUNKS = 40
LIMIT_S = 30.0  # of one row; none may hang


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recording") / "recording.h5"
    write_recording(path, CHUNKS)
    return path


@pytest.fixture(scope="module")
def truth(recording: Path) -> NDArray[np.int16]:
    return write_recording(recording.with_name("again.h5"), CHUNKS)


@pytest.fixture(scope="module")
def archive() -> Iterator[EmbeddedArchive]:
    with EmbeddedArchive(lifetime_s=3600) as archive:
        yield archive


@pytest.fixture(scope="module")
def certificates() -> Iterator[int]:
    """The port of a TLS host whose certificate nobody vouches for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    ready: list[int] = []
    started, ended = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
        ready.append(server.sockets[0].getsockname()[1])
        started.set()
        async with server:
            await ended.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), daemon=True)
    thread.start()
    assert started.wait(10)
    yield ready[0]
    loop.call_soon_threadsafe(ended.set)
    thread.join(10)
    loop.close()


@pytest.fixture(scope="module")
def client(archive: EmbeddedArchive, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    cluster = LocalCluster(
        n_workers=2,
        threads_per_worker=2,
        processes=True,
        dashboard_address="127.0.0.1:0",
        env={"LOCAL_API_KEY": archive.owner_token},  # of workers that come later
        local_directory=str(tmp_path_factory.mktemp("workers")),
    )
    with cluster, Client(cluster) as client:
        yield client


class Scene:
    """One row's archive, references and job."""

    def __init__(
        self, row: Row, archive: EmbeddedArchive, client: Client, recording: Path, folder: Path, tls_port: int
    ) -> None:
        self.row, self.archive, self.client, self.recording, self.folder = row, archive, client, recording, folder
        self.token = secrets.token_hex(20)
        self.asset = archive.add(recording, owners=[self.token, archive.owner_token])
        self.felt = 0
        self.index = folder / "index"
        self.opening: AbstractContextManager[None] = nullcontext()
        self.when_opened: Callable[[], None] = lambda: None
        self.options: dict[str, Any] = {"instances": {"local": archive.api_url}, "concurrency": 8}
        self.hosts = {
            "dns": "https://no-such-host.invalid/recording.h5",
            "tls": f"https://{archive.s3_url.removeprefix('http://')}/recording.h5",
            "certificate": f"https://127.0.0.1:{tls_port}/recording.h5",
        }

    def references(self) -> Any:
        url = self.hosts.get(self.row.refs, self.asset.url)
        if self.row.refs in self.hosts:
            self.options["allow"] = ["/".join([*url.split("/")[:3], ""])]
        if self.row.refs == "etag":
            entry = self.archive._registry.find(self.asset.id)
            assert entry is not None
            assert entry.blob is not None
            document = document_with_etag(self.recording, url, entry.blob.etag)
        else:
            document = lindi_document(self.recording, url)
        if self.row.refs == "many":  # enough for an index to be written
            document["refs"]["more/.zarray"] = document["refs"]["data/.zarray"] | {"shape": [ROWS * 10_000, CHANNELS]}
            document["refs"] |= {f"more/{i}.0": [self.asset.url, 0, 1000] for i in range(10_000)}
        if self.row.refs == "dict":
            return document
        path = self.folder / "recording.json"
        path.write_text(json.dumps(document))
        return path

    def start(self) -> Future:
        rows = ROWS * CHUNKS // self.row.blocks
        references = self.references()
        with self.opening:
            array = ld.open_array(references, "data", chunks=(rows, CHANNELS), **self.options)
            self.when_opened()
            return self.client.compute(array)

    @property
    def requests(self) -> list[Request]:
        """For this row's asset."""
        return [one for one in self.archive.requests if one.asset_id == self.asset.id]

    def let_read(self) -> None:
        """Wait until some ranges were read."""
        deadline = time.monotonic() + LIMIT_S
        while sum(one.is_read for one in self.requests) < 8:
            assert time.monotonic() < deadline, "nothing is read"
            time.sleep(0.01)

    def _refused(self) -> int:
        return sum(one.plane == "api" and one.status in {401, 403} for one in self.requests)

    # Deeds, in three parts: before the job, in its midst, and after it, when they say how often they were felt

    def nothing(self) -> Steps:
        yield
        yield
        self.felt = 1

    def use_leases(self) -> Steps:
        yield
        yield
        used = {one.exchange for one in self.requests if one.is_read}
        self.felt = len(used) - 2  # beyond the first one of each process

    def outlast_leases(self) -> Steps:
        started = time.monotonic()
        yield
        yield
        took_s = time.monotonic() - started
        assert took_s > 2 * self.archive.lifetime_s
        self.felt = sum(one.is_read for one in self.requests)

    def jump_ahead(self) -> Steps:
        yield
        self.let_read()
        self.archive.clock_offset_s = 7200.0
        yield
        self.felt = sum(one.error == "Expired" for one in self.requests)

    def outage(self) -> Steps:
        yield
        self.let_read()
        self.archive.stop()
        time.sleep(0.1)
        self.archive.start()
        yield
        self.felt = 1

    def go_down(self) -> Steps:
        self.archive.stop()
        yield
        yield
        self.felt = int(not self.requests)

    def go_down_midway(self) -> Steps:
        yield
        self.let_read()
        self.archive.stop()
        yield
        self.felt = 1

    def revoke(self) -> Steps:
        yield
        self.let_read()
        self.archive.revoke(self.token)
        yield
        self.felt = self._refused()

    def unembargo(self) -> Steps:
        yield
        self.let_read()
        self.archive.set_embargo(self.asset.id, embargoed=False)
        self.client.run(set_key, os.devnull)
        yield
        self.felt = sum(one.exchange is not None and not one.authorized for one in self.requests if one.is_download)

    def replace(self) -> Steps:
        yield
        self.let_read()
        self.archive.replace(self.asset.id)
        yield
        self.felt = self._refused()

    def overwrite(self) -> Steps:
        yield
        self.let_read()
        self.archive.overwrite(self.asset.id, self.recording.read_bytes()[::-1])
        yield
        self.felt = sum(one.error == "PreconditionFailed" for one in self.requests)

    def remove(self) -> Steps:
        before = len(self.archive.requests)
        yield
        self.let_read()
        self.archive.remove(self.asset.id)
        yield
        self.felt = sum(one.status == 404 for one in self.archive.requests[before:])

    def full_disk_cache(self) -> Steps:
        self.options["cache"] = self.folder / "ranges"
        self.client.run(fill_disk)
        yield
        yield
        self.client.run(empty_disk)
        assert not [path for path in self.options["cache"].rglob("*") if path.is_file() and path.stat().st_size > 512]
        self.felt = int(self.options["cache"].is_dir())

    def full_index_cache(self) -> Steps:
        self.client.run(fill_disk)
        self.opening = full_disk()  # this process writes it first
        yield
        yield
        self.client.run(empty_disk)
        assert not list(self.index.glob("*.lindi-index"))
        self.felt = int(self.index.is_dir())

    def cut_index(self) -> Steps:
        def cut() -> None:
            [file] = self.index.glob("*.lindi-index")
            os.truncate(file, file.stat().st_size // 2)
            self.felt += 1

        self.when_opened = cut
        yield
        yield

    def kill(self) -> Steps:
        yield
        self.let_read()
        os.kill(next(iter(self.client.run(os.getpid).values())), signal.SIGKILL)
        yield
        self.client.wait_for_workers(2, timeout=LIMIT_S)
        self.felt = 1

    def restart_broker(self) -> Steps:
        access = self._distribute()
        yield
        self.let_read()
        self.client.run_on_scheduler(lose_broker)
        time.sleep(1)
        again = self._distribute()
        yield
        self.felt = min(access.status()["exchanges"], len(again.status()["assets"]))
        again.close()

    def lose_broker(self) -> Steps:
        access = self._distribute()
        yield
        self.let_read()
        self.client.run_on_scheduler(lose_broker)
        self.client.run(set_key, str(self.folder / "key"))
        yield
        self.felt = len({one.client for one in self.requests if one.is_download}) - 1
        access.close()

    def lose_broker_and_key(self) -> Steps:
        access = self._distribute()
        yield
        self.let_read()
        self.client.run_on_scheduler(lose_broker)
        yield
        self.felt = self._refused()
        access.close()

    def _distribute(self) -> Any:
        """Let the broker have the only key."""
        self.client.run(set_key, os.devnull)
        return ld.distribute(self.client, instances=self.options["instances"], tokens={"local": self.token})


def lose_broker(dask_scheduler: Any) -> None:
    """As if the scheduler's plugin had ended, and nobody had told the workers."""
    for name in [name for name in dask_scheduler.handlers if name.startswith("lindi_dask")]:
        del dask_scheduler.handlers[name]


def fill_disk() -> None:
    """Let no file of this process grow beyond 512 bytes, as if the disk were full."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (512, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def empty_disk() -> None:
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


@contextmanager
def full_disk() -> Iterator[None]:
    fill_disk()
    try:
        yield
    finally:
        empty_disk()


@contextmanager
def conditions(archive: EmbeddedArchive, **changed: Any) -> Iterator[None]:
    before = {name: getattr(archive, name) for name in changed}
    for name, value in changed.items():
        setattr(archive, name, value)
    try:
        yield
    finally:
        archive.start()
        archive.clock_offset_s = 0.0
        for name, value in before.items():
            setattr(archive, name, value)


@pytest.fixture(scope="module")
def table(request: pytest.FixtureRequest) -> Iterator[list[tuple[str, ...]]]:
    """Lines that are printed in the end, whether or not output is captured."""
    lines: list[tuple[str, ...]] = [("fault", "injected", "expected", "seen", "attempts", "API", "S3", "seconds")]
    yield lines
    plugins = request.config.pluginmanager
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    with plugins.getplugin("capturemanager").global_and_fixture_disabled():
        for line in [("",), *lines]:
            text = "  ".join(part.ljust(width) for part, width in zip(line, widths, strict=False))
            plugins.getplugin("terminalreporter").write_line(text.rstrip())


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_a_fault_comes_to_the_exact_bytes_or_to_its_named_error(
    row: Row,
    archive: EmbeddedArchive,
    client: Client,
    recording: Path,
    truth: NDArray[np.int16],
    certificates: int,
    tmp_path: Path,
    table: list[tuple[str, ...]],
) -> None:
    scene = Scene(row, archive, client, recording, tmp_path, certificates)
    (tmp_path / "key").write_text(scene.token)
    client.run(set_key, str(tmp_path / "key"))
    client.run(empty_disk)
    client.run(hurry)
    before, started = ld.stats(client), time.monotonic()
    injection = None if row.fault is None else archive.inject(replace(row.fault, asset_id=scene.asset.id))
    steps = getattr(scene, row.deed or "nothing")()
    with conditions(archive, **row.conditions), dask.config.set({"lindi-dask.index-cache": str(scene.index)}):
        next(steps)
        future = scene.start()
        next(steps)
        wait(future, timeout=LIMIT_S)
        error = future.exception(timeout=1)
        next(steps, None)
    took_s = time.monotonic() - started
    if injection is not None:
        injection.cancel()
    felt = scene.felt if injection is None else injection.injected
    read = ld.stats(client) - before
    values = None if error is not None else future.result()
    is_exact = values is not None and np.array_equal(values, truth)
    seen = "exact bytes" if is_exact else "WRONG BYTES" if error is None else type(error).__name__
    expected = "exact bytes" if row.expected is None else row.expected.__name__
    sent = [one for one in scene.requests if one.plane == "s3"]
    asked = [one for one in scene.requests if one.is_download]
    attempts = str(error.attempts) if isinstance(error, UnavailableError) else ""
    line = (row.name, str(felt), expected, seen, attempts, str(len(asked)), str(len(sent)), f"{took_s:.1f}")
    table.append(line)
    assert felt > 0, "the fault never struck"
    if row.expected is not None:
        assert type(error) is row.expected, error
        assert len(scene.requests) <= 600
    else:
        assert error is None, error
        np.testing.assert_array_equal(values, truth)
    if isinstance(error, UnavailableError):
        assert 2 <= error.attempts <= QUICK_READ.attempts
    if injection is not None and row.expected is None:
        assert injection.injected == injection.fault.times
        if injection.fault.plane == "api":
            assert len(asked) == injection.injected + sum(one.fault is None for one in asked)
        else:
            needed = row.blocks + injection.injected * row.costs_a_request
            assert needed <= len(sent) <= needed + read.hedges
