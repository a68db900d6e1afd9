"""Keys and presigned URLs are nowhere that outlives or leaves the process that uses them; the search would find them.

One run, with and without `distribute`, with renewals, refusals and failures of both hosts, at DEBUG. Then everything is
searched that users send, keep or show. The same search has to find a marker that is planted in each of these places.
"""

from __future__ import annotations

import io
import json
import logging
import os
import pickle
import subprocess
import sys
import time
import traceback
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import cloudpickle
import dask
import dask.array as da
import numpy as np
import pytest
from distributed import Client, LocalCluster, performance_report
from jobs import CHANNELS, ROWS, hurry, lindi_document, set_key, write_recording
from rich.console import Console
from rich.traceback import Traceback

import lindi_dask as ld
from lindi_dask import errors
from lindi_dask.testing import EmbeddedArchive, Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CHUNKS = 40
BAD_KEY = "no-key-of-this-archive-9f8e7d6c"
MARKER = "plantedmarker"  # as secret as a key, and put everywhere on purpose


def log_everything(file: str) -> None:
    """Write what any logger of this process says, at DEBUG, to a file."""
    handler = logging.FileHandler(file)
    names = [name for name in logging.root.manager.loggerDict if name.startswith("distributed")]
    for name in (None, "distributed", *names):
        logger = logging.getLogger(name)
        logger.setLevel(logging.DEBUG)
        if name is None or not logger.propagate:
            logger.addHandler(handler)


def log_on_worker(folder: str) -> None:
    log_everything(f"{folder}/{os.getpid()}.log")


def say(text_file: str) -> None:
    logging.getLogger("lindi_dask").debug("%s", Path(text_file).read_text())


def wait_until_forgotten(client: Client) -> None:
    """Wait until the scheduler has let go of all tasks."""
    deadline = time.monotonic() + 30
    while client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks)):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def failure_of(array: da.Array) -> BaseException:
    """Compute what fails; a function of its own, whose locals hold no secret."""
    try:
        array.compute()
    except Exception as error:  # noqa: BLE001 - it is what is searched
        return error
    raise AssertionError("it did not fail")


def told(error: BaseException) -> str:
    """Everything that an error may show: itself, what hangs on it, and the locals of all frames."""
    shown, seen, todo = [], set(), [error]
    while todo:
        one = todo.pop()
        if id(one) not in seen:
            seen.add(id(one))
            shown += [str(one), repr(one), repr(vars(one)), repr(one.args), repr(pickle.dumps(one))]
            todo += [other for other in (one.__context__, one.__cause__) if other is not None]
    shown += traceback.format_exception(error)
    page = Console(file=io.StringIO(), width=400)
    rich = Traceback.from_exception(
        type(error), error, error.__traceback__, show_locals=True, locals_max_string=10**6, locals_max_length=1000
    )
    page.print(rich)
    return "".join([*shown, page.file.getvalue()])  # type: ignore[attr-defined]


def pages(client: Client, keys: list[str]) -> bytes:
    """Every page that the scheduler and the workers serve over HTTP (what bokeh draws is in the performance report)."""
    info = client.scheduler_info()
    base = f"http://127.0.0.1:{info['services']['dashboard']}"
    names = [f"info/main/{name}.html" for name in ("workers", "exceptions", "logs")]
    names += [f"json/{name}" for name in ("counts.json", "identity.json", "index.html")]
    workers = [quote(name, safe="") for name in info["workers"]]
    names += [f"info/{page}/{worker}.html" for worker in workers for page in ("worker", "logs", "call-stacks")]
    names += [f"info/task/{quote(key, safe='')}.html" for key in keys]
    found = [fetched(f"{base}/{name}") for name in names]
    missing = [name for name, page in zip(names, found, strict=True) if not page]
    assert not [name for name in missing if name.startswith("info/")]  # json/ can't always tell of itself
    drawn = ("status", "tasks", "workers", "graph", "groups", "exceptions", "events", "profile")
    found += [fetched(f"{base}/{page}") for page in drawn]
    for worker in info["workers"].values():
        own = f"http://127.0.0.1:{worker['services']['dashboard']}"
        found += [fetched(f"{own}/{name}") for name in ("health", "metrics", "info/main/workers.html")]
    return b"".join(found)


def fetched(url: str) -> bytes:
    """What a page says; nothing where there is none."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            content: bytes = answer.read()
            return content
    except OSError:
        return b""


def files_in(folder: Path) -> bytes:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    assert paths, f"{folder} is empty: it proves nothing"
    return b"".join(str(path).encode() + path.read_bytes() for path in paths)


def command_lines() -> bytes:
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(path.read_bytes())
        except OSError:  # it has ended
            continue
    return b"\n".join(lines)


def keys_of(arrays: list[da.Array]) -> list[str]:
    return [str(key) for array in arrays for key in dask.core.flatten(array.__dask_keys__())]


class Run:
    """What was done, and where what it left is found."""

    def __init__(self, client: Client, folder: Path, report: Path) -> None:
        self.client, self.folder, self.report = client, folder, report
        self.objects: list[Any] = []
        self.arrays: list[da.Array] = []
        self.errors: list[BaseException] = []
        self.kept: list[da.Array] = []  # that the cluster has in memory

    def places(self) -> dict[str, Callable[[], bytes]]:
        def text(value: str) -> bytes:
            return value.encode()

        def dump() -> bytes:
            self.client.dump_cluster_state(str(self.folder / "dump"), format="yaml")
            return (self.folder / "dump.yaml").read_bytes()

        keys = keys_of(self.arrays)
        graphs = [dict(array.dask) for array in self.arrays]
        shown = [*self.objects, *self.arrays]
        return {
            "pickles": lambda: b"".join([*map(cloudpickle.dumps, shown), *map(cloudpickle.dumps, self.errors)]),
            "graphs": lambda: cloudpickle.dumps(graphs) + text(repr(graphs)),
            "keys": lambda: text(repr(keys)),
            "repr": lambda: text(
                "".join([repr(one) + str(one) + str(getattr(one, "_repr_html_", str)()) for one in shown])
            ),
            "exceptions": lambda: text("".join(map(told, self.errors))),
            "log of client and scheduler": (self.folder / "client.log").read_bytes,
            "logs kept by dask": lambda: text(
                repr(self.client.get_worker_logs()) + repr(self.client.get_scheduler_logs())
            ),
            "logs of workers": lambda: files_in(self.folder / "worker-logs"),
            "pages": lambda: pages(self.client, keys_of(self.kept)[-3:]),
            "performance report": self.report.read_bytes,
            "cluster dump": dump,
            "disk cache": lambda: files_in(self.folder / "ranges"),
            "index cache": lambda: files_in(self.folder / "index"),
            "command lines": command_lines,
        }


@pytest.fixture(scope="module")
def archive() -> Iterator[EmbeddedArchive]:
    with EmbeddedArchive(lifetime_s=3) as archive:
        yield archive


@pytest.fixture(scope="module")
def run(archive: EmbeddedArchive, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    folder = tmp_path_factory.mktemp("secrets")
    (folder / "worker-logs").mkdir()
    levels = {name: logging.getLogger(name).level for name in (None, *logging.root.manager.loggerDict)}
    log_everything(str(folder / "client.log"))
    cluster = LocalCluster(
        n_workers=2,
        threads_per_worker=2,
        processes=True,
        dashboard_address="127.0.0.1:0",
        env={"LOCAL_API_KEY": archive.owner_token},
    )
    with cluster, Client(cluster) as client, pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOCAL_API_KEY", archive.owner_token)  # for what is read here, and for the broker
        client.run(log_on_worker, str(folder / "worker-logs"))
        client.run(hurry)
        yield work(archive, client, folder)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def work(archive: EmbeddedArchive, client: Client, folder: Path) -> Run:
    truth = write_recording(folder / "recording.h5", CHUNKS)
    document = lindi_document(folder / "recording.h5", archive.add(folder / "recording.h5").url)
    path = folder / "recording.lindi.json"
    path.write_text(json.dumps(document))
    options: dict[str, Any] = {"instances": {"local": archive.api_url}}
    done = Run(client, folder, folder / "report.html")

    def opened(refs: Any = path, **more: Any) -> da.Array:
        array = ld.open_array(refs, "data", chunks=(ROWS, CHANNELS), **options, **more)
        done.arrays.append(array)
        return array

    with dask.config.set({"lindi-dask.index-cache": str(folder / "index")}), performance_report(str(done.report)):
        archive.latency_s = 0.3
        refused = archive.inject(Fault(plane="s3", kind="status", status=403, times=2))
        broken = archive.inject(Fault(plane="s3", kind="reset", times=2))
        np.testing.assert_array_equal(opened(document, cache=folder / "ranges").compute(), truth)
        archive.latency_s = 0.0
        assert (refused.injected, broken.injected) == (2, 2)
        assert archive.renewals() > 0
        for fault in (
            Fault(plane="s3", kind="status", status=503, times=None),
            Fault(plane="s3", kind="status", status=403, times=None),
            Fault(plane="s3", kind="reset", times=None),
            Fault(plane="s3", kind="redirect", times=None),
            Fault(plane="api", kind="redirect", location="http://storage.example/?key=" + BAD_KEY, times=None),
        ):
            client.run(hurry)
            injection = archive.inject(fault)
            done.errors.append(failure_of(opened()))
            injection.cancel()
            assert injection.injected
        for key in (archive.stranger_token, BAD_KEY):
            (folder / "key").write_text(key)
            client.run(set_key, str(folder / "key"))
            client.run(hurry)
            done.errors.append(failure_of(opened()))
        archive.stop()
        client.run(hurry)
        done.errors.append(failure_of(opened()))
        archive.start()
        (folder / "key").write_text("")
        client.run(set_key, str(folder / "key"))
        client.run(hurry)
        with ld.distribute(client, **options) as access:
            np.testing.assert_array_equal(opened().compute(), truth)
            done.objects += [repr(access)]
            client.run(hurry)
            archive.stop()
            done.errors.append(failure_of(opened()))
            archive.start()
            wait_until_forgotten(client)  # else what has the keys of tasks that failed is what they ended with
            done.kept.append(client.persist(opened()))  # last: what has these keys is not read again
            np.testing.assert_array_equal(done.kept[0].compute(), truth)
        factory = ld.StoreFactory(path, **options)
        store = factory()
        np.testing.assert_array_equal(opened().compute(scheduler="threads"), truth)  # so that this process has leases
        done.objects += [factory, store, repr(store.references), ld.stats(), ld.stats(client)]
        done.arrays.append(da.from_zarr(store, component="data"))
    expected = [errors.StorageUnavailable, errors.PermissionDenied, *[errors.StorageUnavailable] * 2]
    expected += [errors.UrlRefused, errors.PermissionDenied, errors.AuthenticationError, errors.ArchiveUnavailable]
    *others, last = done.errors
    assert [type(error) for error in others] == expected
    assert isinstance(last, errors.UnavailableError)  # of the API, or of the storage host while the lease lived
    return done


def test_no_key_and_no_signature_is_found_anywhere(archive: EmbeddedArchive, run: Run) -> None:
    named = (archive.owner_token, archive.stranger_token, BAD_KEY, "X-Amz-" + "Signature", "X-Amz-" + "Credential")
    found = {}
    for place, collect in run.places().items():
        content = collect()
        assert content, place
        if leaks := [secret for secret in named if secret.encode() in content]:
            found[place] = leaks
    assert not found


def fails(text: str) -> None:
    raise ValueError(text)


def test_the_search_finds_what_is_planted_in_each_place(run: Run) -> None:
    client, folder = run.client, run.folder
    planted = Run(client, folder, folder / "planted.html")
    (folder / "marker").write_text(MARKER)
    with (
        performance_report(str(planted.report)),
        subprocess.Popen([sys.executable, "-c", "input()", MARKER], stdin=subprocess.PIPE) as process,
    ):
        array = da.from_array(np.arange(10), chunks=5, name=f"array{MARKER}").map_blocks(np.negative, name=MARKER)
        planted.kept = [client.persist(array)]
        planted.kept[0].compute()
        planted.objects, planted.arrays = [MARKER], [array]
        planted.errors = [failure_of(array.map_blocks(lambda _: fails(MARKER), dtype=int, meta=np.arange(0)))]
        client.run(say, str(folder / "marker"))
        say(str(folder / "marker"))
        logging.getLogger("distributed.scheduler").warning("%s", MARKER)
        for name in ("ranges", "index"):
            (folder / name / "planted").write_text(MARKER)
        places = planted.places()
        report = places.pop("performance report")
        missed = [place for place, collect in places.items() if MARKER.encode() not in collect()]
        process.communicate(b"\n", timeout=10)
    if MARKER.encode() not in report():
        missed.append("performance report")
    assert not missed
