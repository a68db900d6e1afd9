"""`ld.distribute` on a `LocalCluster` of processes: the scheduler has the only key."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import os
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import dask
import h5py
import numpy as np
import pytest
import zarr
from distributed import Client, LocalCluster, wait
from distributed.security import Security

import lindi_dask as ld
from lindi_dask import errors
from lindi_dask.cluster.keys import BrokerKeys
from lindi_dask.cluster.network import is_overheard
from lindi_dask.hdf5 import index_hdf5
from lindi_dask.testing import EmbeddedArchive, Fault
from lindi_dask.types import Asset

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

WORKERS = 8
ASSETS = 20
ROWS, CHANNELS, CHUNKS = 64, 16, 4
SIGNATURE = "X-Amz-Signature"


@pytest.fixture(scope="module")
def archive() -> Iterator[EmbeddedArchive]:
    with EmbeddedArchive(lifetime_s=3600) as archive:
        yield archive


@pytest.fixture(scope="module")
def truths() -> list[NDArray[np.int16]]:
    rng = np.random.default_rng(5)
    return [rng.integers(-900, 900, (CHUNKS * ROWS, CHANNELS)).astype("int16") for _ in range(ASSETS)]


@pytest.fixture(scope="module")
def refs(
    archive: EmbeddedArchive, truths: list[NDArray[np.int16]], tmp_path_factory: pytest.TempPathFactory
) -> list[Path]:
    folder = tmp_path_factory.mktemp("recordings")
    paths = []
    for number, values in enumerate(truths):
        recording = folder / f"{number}.nwb"
        with h5py.File(recording, "w") as file:
            file.create_dataset("data", data=values, chunks=(ROWS, CHANNELS), compression="gzip")
        path = folder / f"{number}.lindi.json"
        index_hdf5(recording, archive.add(recording).url).save(path)
        paths.append(path)
    return paths


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(
        n_workers=WORKERS,
        threads_per_worker=1,
        processes=True,
        dashboard_address="127.0.0.1:0",
        env={"LOCAL_API_KEY": ""},
    ) as cluster:
        yield cluster


@pytest.fixture
def client(cluster: LocalCluster) -> Iterator[Client]:
    with Client(cluster) as client:
        client.run(forget_leases)
        yield client


@pytest.fixture
def instances(archive: EmbeddedArchive) -> dict[str, str]:
    return {"local": archive.api_url}


@pytest.fixture
def key(archive: EmbeddedArchive, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, which is the scheduler's too; the workers were started without it."""
    monkeypatch.setenv("LOCAL_API_KEY", archive.owner_token)


@pytest.fixture
def signed_for(archive: EmbeddedArchive, client: Client) -> Iterator[Callable[[int], None]]:
    def set_lifetime(lifetime_s: int) -> None:
        archive.lifetime_s = lifetime_s
        client.run(forget_leases)

    yield set_lifetime
    set_lifetime(3600)


def forget_leases() -> None:
    from lindi_dask import process  # noqa: PLC0415 - on the worker

    with process._lock:
        process._leases = None
        process._readers.clear()


def set_key(file: str) -> None:
    os.environ["LOCAL_API_KEY"] = open(file).read()  # noqa: PTH123, SIM115
    forget_leases()


def sum_of(path: Path, instances: dict[str, str], chunk: int) -> int:
    """On a worker: read a chunk; nothing is kept between two calls but the lease."""
    array = zarr.open_array(ld.open_store(path, instances=instances), path="data", mode="r")
    return int(np.asarray(array[chunk * ROWS : (chunk + 1) * ROWS]).sum(dtype="int64"))


def work(
    refs: list[Path], instances: dict[str, str], until: float, seed: int
) -> tuple[int, list[tuple[float, int, int, int]], float]:
    """On a worker: read at random places until it is time; return what was read when."""
    rng = np.random.default_rng(seed)
    read = []
    while time.time() < until:
        number, chunk = int(rng.integers(len(refs))), int(rng.integers(CHUNKS))
        total = sum_of(refs[number], instances, chunk)
        read.append((time.time(), number, chunk, total))
        time.sleep(0.05)
    return os.getpid(), read, time.time()


def worked(
    client: Client, refs: list[Path], instances: dict[str, str], truths: list[NDArray[np.int16]], lasting_s: float
) -> tuple[float, dict[int, list[float]]]:
    """Let all workers read all assets for some time; return how long it took, and when each process read something."""
    addresses = list(client.scheduler_info(n_workers=-1)["workers"])
    started = time.time()
    futures = [
        client.submit(work, refs, instances, started + lasting_s, seed, workers=[address], pure=False)
        for seed, address in enumerate(addresses)
    ]
    results = client.gather(futures)
    for _, read, _ in results:
        for _, number, chunk, total in read:
            assert total == truths[number][chunk * ROWS : (chunk + 1) * ROWS].sum(dtype="int64")
    return max(end for *_, end in results) - started, {pid: [at for at, *_ in read] for pid, read, _ in results}


@pytest.mark.usefixtures("key")
def test_leases_of_3_s_are_exchanged_once_for_all_workers_and_each_reads_in_each_period(
    archive: EmbeddedArchive,
    client: Client,
    refs: list[Path],
    instances: dict[str, str],
    truths: list[NDArray[np.int16]],
    signed_for: Callable[[int], None],
) -> None:
    signed_for(3)
    before = archive.counts()["exchanges"]
    with ld.distribute(client, instances=instances) as distribution:
        took_s, read_at = worked(client, refs, instances, truths, 30)
        print(distribution)
        status = distribution.status()
        counted = ld.stats(client)
    exchanges = archive.counts()["exchanges"] - before
    print(f"{exchanges} exchanges in {took_s:.1f} s by {WORKERS} workers")
    assert exchanges <= ASSETS * (math.ceil(took_s / 1.5) + 1)
    assert status["exchanges"] == counted.exchanges == exchanges
    assert len(status["assets"]) == ASSETS
    assert len(read_at) == WORKERS
    first, last = max(times[0] for times in read_at.values()), min(times[-1] for times in read_at.values())
    assert last - first > 25
    for times in read_at.values():
        assert max(np.diff(times)) < 3  # so in each period of 3 s there was a read


@pytest.mark.usefixtures("key")
def test_leases_of_60_s_are_exchanged_once(
    archive: EmbeddedArchive,
    client: Client,
    refs: list[Path],
    instances: dict[str, str],
    truths: list[NDArray[np.int16]],
    signed_for: Callable[[int], None],
) -> None:
    signed_for(60)
    before = archive.counts()["exchanges"]
    with ld.distribute(client, instances=instances):
        worked(client, refs, instances, truths, 10)
    assert archive.counts()["exchanges"] - before <= ASSETS


def test_without_it_each_worker_exchanges_for_itself(
    archive: EmbeddedArchive,
    client: Client,
    refs: list[Path],
    instances: dict[str, str],
    truths: list[NDArray[np.int16]],
    signed_for: Callable[[int], None],
    tmp_path: Path,
) -> None:
    (tmp_path / "key").write_text(archive.owner_token)
    client.run(set_key, str(tmp_path / "key"))
    (tmp_path / "key").write_text("")
    try:
        signed_for(3)
        before = archive.counts()["exchanges"]
        took_s, _ = worked(client, refs, instances, truths, 10)
        exchanges = archive.counts()["exchanges"] - before
        print(f"{exchanges} exchanges in {took_s:.1f} s by {WORKERS} workers without the broker")
        assert ASSETS * 2 < exchanges <= WORKERS * ASSETS * (math.ceil(took_s / 1.5) + 1)
    finally:
        client.run(set_key, str(tmp_path / "key"))


def lease_times(paths: list[Path], instances: dict[str, str], rounds: int) -> list[float]:
    """On a worker: ask the broker for leases, with the thread of a reader beside; seconds each took."""
    from lindi_dask import process  # noqa: PLC0415 - on the worker
    from lindi_dask.archive import Resolver  # noqa: PLC0415

    link = process.cluster_link()
    assert link is not None
    took_s = []
    for number in range(rounds):
        factory = ld.StoreFactory(paths[number % len(paths)], instances=instances)
        references, base = factory.load()
        target = factory.policy.target(references.sources[1], base)
        sum_of(paths[number % len(paths)], instances, number % CHUNKS)
        started = time.perf_counter()
        assert isinstance(target.asset, Asset)
        link.exchange(target.asset, None, Resolver(environ={}))
        took_s.append(time.perf_counter() - started)
    return took_s


@pytest.mark.usefixtures("key")
def test_over_real_comms_under_load_leases_come_at_once_when_none_is_due(
    archive: EmbeddedArchive, client: Client, refs: list[Path], instances: dict[str, str]
) -> None:
    with ld.distribute(client, instances=instances):
        client.gather([client.submit(sum_of, path, instances, 0, pure=False) for path in refs])
        before = archive.counts()["exchanges"]
        addresses = list(client.scheduler_info(n_workers=-1)["workers"])
        futures = [client.submit(lease_times, refs, instances, 60, workers=[one], pure=False) for one in addresses]
        took_s = np.concatenate(client.gather(futures))
    print(
        f"8 processes: median {1000 * np.median(took_s):.1f} ms, 99 % within {1000 * np.quantile(took_s, 0.99):.1f} ms"
    )
    assert len(took_s) == 60 * WORKERS
    assert archive.counts()["exchanges"] == before


@pytest.mark.usefixtures("key")
def test_it_is_there_for_workers_that_come_later_and_gone_when_it_is_closed(
    archive: EmbeddedArchive,
    client: Client,
    cluster: LocalCluster,
    refs: list[Path],
    instances: dict[str, str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with ld.distribute(client, instances=instances) as distribution:
        client.submit(sum_of, refs[0], instances, 0, pure=False).result()
        pids = set(client.run(os.getpid).values())
        victim = next(iter(client.scheduler_info(n_workers=-1)["workers"]))
        client.run(os._exit, 1, workers=[victim], on_error="ignore")
        deadline = time.monotonic() + 60
        while len(now := set(client.run(os.getpid, on_error="ignore").values())) < WORKERS or now <= pids:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        cluster.scale(WORKERS + 1)
        client.wait_for_workers(WORKERS + 1, timeout=60)
        before = archive.counts()["exchanges"]
        addresses = list(client.scheduler_info(n_workers=-1)["workers"])
        futures = [client.submit(sum_of, refs[0], instances, 1, workers=[one], pure=False) for one in addresses]
        assert len(set(client.gather(futures))) == 1
        assert archive.counts()["exchanges"] == before
        assert ld.distribute(client, instances=instances).status()["exchanges"] == distribution.status()["exchanges"]
    cluster.scale(WORKERS)
    assert distribution.status() == {}
    assert repr(distribution) == "<Distribution: closed>"
    assert "No handler" not in caplog.text
    client.run(forget_leases)
    with pytest.raises(errors.AuthenticationError, match="Set LOCAL_API_KEY"):
        client.submit(sum_of, refs[0], instances, 0, pure=False).result()
    distribution.close()


def lose_broker(dask_scheduler: Any) -> None:
    """As if the scheduler's plugin had ended, and nobody had told the workers."""
    for name in [name for name in dask_scheduler.handlers if name.startswith("lindi_dask")]:
        del dask_scheduler.handlers[name]


@pytest.mark.usefixtures("key")
def test_workers_whose_broker_is_gone_use_their_own_key_or_say_that_it_is_gone(
    archive: EmbeddedArchive, client: Client, refs: list[Path], instances: dict[str, str], tmp_path: Path
) -> None:
    with ld.distribute(client, instances=instances):
        client.run_on_scheduler(lose_broker)
        with pytest.raises(errors.AuthenticationError, match="lease broker does not answer") as caught:
            client.submit(sum_of, refs[0], instances, 0, pure=False).result(timeout=60)
        assert archive.owner_token not in str(caught.value)
        (tmp_path / "key").write_text(archive.owner_token)
        client.run(set_key, str(tmp_path / "key"))
        client.submit(sum_of, refs[0], instances, 0, pure=False).result(timeout=60)
        (tmp_path / "key").write_text("")
        client.run(set_key, str(tmp_path / "key"))
        # A new broker in its place, and they ask it again
        ld.distribute(client, instances=instances)
        client.submit(sum_of, refs[1], instances, 0, pure=False).result(timeout=60)


@pytest.mark.usefixtures("key")
def test_a_failed_exchange_is_told_to_all_workers_and_made_once(
    archive: EmbeddedArchive, client: Client, refs: list[Path], instances: dict[str, str]
) -> None:
    with ld.distribute(client, instances=instances) as distribution:
        fault = archive.inject(Fault(plane="api", kind="status", status=403, times=None))
        try:
            addresses = list(client.scheduler_info(n_workers=-1)["workers"])
            futures = [client.submit(sum_of, refs[3], instances, 0, workers=[one], pure=False) for one in addresses]
            wait(futures)
            raised = [future.exception() for future in futures]
            assert {type(one) for one in raised} == {errors.PermissionDenied}
            assert len({str(one) for one in raised}) == 1
            assert fault.injected <= 3  # a failure is remembered for a second or two, and workers start at their pace
            (shown,) = distribution.status()["assets"]
            assert shown["error"] == str(raised[0])
        finally:
            fault.cancel()


@pytest.mark.usefixtures("key")
def test_an_instance_that_the_broker_does_not_know_is_named(
    client: Client, refs: list[Path], instances: dict[str, str]
) -> None:
    with (
        ld.distribute(client, instances={}),
        pytest.raises(errors.AuthenticationError, match="pass instances= to lindi_dask"),
    ):
        client.submit(sum_of, refs[0], instances, 0, pure=False).result(timeout=60)


# Keys


def test_tokens_are_sent_once_and_stand_in_no_log(
    archive: EmbeddedArchive,
    client: Client,
    refs: list[Path],
    instances: dict[str, str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.DEBUG), caplog.at_level(logging.DEBUG, "distributed"):
        with ld.distribute(client, instances=instances, tokens={"local": lambda: archive.owner_token}) as distribution:
            client.submit(sum_of, refs[0], instances, 0, pure=False).result(timeout=60)
            shown = repr(distribution) + json.dumps(distribution.status()) + repr(vars(distribution))
        said = caplog.text
    assert "lindi_dask_tokens" in said, "a log that has not seen the message proves nothing"
    assert archive.owner_token not in said + shown
    assert SIGNATURE not in said + shown
    assert "  keys       local" in shown


def test_tokens_are_refused_where_others_could_listen(
    archive: EmbeddedArchive, client: Client, instances: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("lindi_dask.cluster.distribution.is_overheard", lambda _: True)
        with pytest.warns(UserWarning, match="in plain text"):
            ld.distribute(client, instances=instances).close()
    monkeypatch.setattr("lindi_dask.cluster.distribution.is_overheard", lambda _: True)
    with pytest.raises(errors.ConfigurationError, match=r"not encrypted.*key_file") as caught:
        ld.distribute(client, instances=instances, tokens={"local": archive.owner_token})
    assert archive.owner_token not in str(caught.value)
    with pytest.raises(errors.ConfigurationError, match="there is no instance elsewhere"):
        ld.distribute(client, instances=instances, tokens={"elsewhere": archive.owner_token})
    monkeypatch.undo()
    ld.distribute(client, instances=instances).close()


def test_over_tls_tokens_go_to_other_machines_and_leases_come_from_there(
    archive: EmbeddedArchive,
    refs: list[Path],
    instances: dict[str, str],
    truths: list[NDArray[np.int16]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("lindi_dask.cluster.network._is_this_machine", lambda _: False)
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0", security=Security.temporary()
        ) as cluster,
        Client(cluster) as client,
        ld.distribute(client, instances=instances, tokens={"local": archive.owner_token}),
    ):
        assert cluster.scheduler_address.startswith("tls://")
        array = ld.open_array(refs[4], "data", instances=instances)
        np.testing.assert_array_equal(array.compute(), truths[4])
    assert "plain text" not in caplog.text


@pytest.mark.parametrize(
    ("address", "overheard"),
    [
        ("tcp://127.0.0.1:8786", False),
        ("tcp://[::1]:8786", False),
        ("tcp://192.0.2.1:8786", True),
        ("tls://192.0.2.1:8786", False),
        ("inproc://192.0.2.1/7/1", False),
        ("ws://192.0.2.1:8786", True),
        ("tcp://no-such-host.invalid:8786", True),
    ],
)
def test_what_crosses_a_network_in_plain_text_is_known(address: str, overheard: bool) -> None:
    assert is_overheard(address) is overheard


def test_the_broker_warns_once_of_workers_that_it_hands_leases_in_plain_text(
    archive: EmbeddedArchive,
    client: Client,
    refs: list[Path],
    instances: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("LOCAL_API_KEY", archive.owner_token)
    with ld.distribute(client, instances=instances):
        monkeypatch.setattr("lindi_dask.cluster.broker.is_overheard", lambda _: True)
        client.gather([client.submit(sum_of, path, instances, 0, pure=False) for path in refs])
    assert caplog.text.count("in plain text") == 1


def test_a_key_file_must_be_of_the_user_alone(
    archive: EmbeddedArchive, client: Client, refs: list[Path], instances: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# of the lab\nexport LOCAL_API_KEY='{archive.owner_token}'\n")
    file.chmod(0o640)
    with ld.distribute(client, instances=instances, key_file=str(file)) as distribution:
        assert "can be read by others" in repr(distribution)
        with pytest.raises(errors.ConfigurationError, match="chmod 600"):
            client.submit(sum_of, refs[0], instances, 0, pure=False).result(timeout=60)
        file.chmod(0o600)
        time.sleep(2.1)  # for as long as a failure is remembered
        client.submit(sum_of, refs[0], instances, 0, pure=False).result(timeout=60)


def test_keys_are_looked_up_in_their_order_and_never_shown(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("DANDI_API_KEY=from-file\nEMPTY_API_KEY=\n")
    file.chmod(0o600)
    keys = BrokerKeys(str(file), {"DANDI_API_KEY": "from-environ", "LINC_API_KEY": "environ", "EMPTY_API_KEY": "set"})
    assert (keys["DANDI_API_KEY"], keys["LINC_API_KEY"], keys["EMPTY_API_KEY"]) == ("from-file", "environ", "set")
    keys.take({"DANDI_API_KEY": "sent"})
    assert keys["DANDI_API_KEY"] == "sent"
    assert keys.get("OTHER_API_KEY") is None
    assert "sent" not in repr(keys)
    with pytest.raises(TypeError, match="stay in the process"):
        keys.__reduce__()
    for missing in (tmp_path / "none", tmp_path):
        with pytest.raises(errors.ConfigurationError, match="key file"):
            BrokerKeys(str(missing), {}).get("X")


# References


@pytest.fixture
def document(refs: list[Path]) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(refs[7].read_text())
    document["refs"][".zattrs"] = {"only": f"here {time.time()}"}
    return document


@pytest.mark.usefixtures("key")
def test_refs_given_as_a_dict_are_sent_once_a_process(
    client: Client, document: dict[str, Any], instances: dict[str, str], truths: list[NDArray[np.int16]]
) -> None:
    with dask.config.set({"lindi-dask.index-cache": False}):
        array = ld.open_array(document, "data", chunks=(ROWS, CHANNELS), instances=instances)
    with pytest.raises(errors.RefsUnreachable, match=r"lindi_dask\.distribute"):
        array.compute()
    with ld.distribute(client, instances=instances) as distribution:
        np.testing.assert_array_equal(array.compute(), truths[7])
        (sent,) = distribution.status()["references"]
        np.testing.assert_array_equal((array + 1).compute(), truths[7] + 1)
        assert list(distribution.status()["references"]) == [sent]
        assert "1 sent to workers" in repr(distribution)


@pytest.mark.usefixtures("key")
def test_a_file_that_changed_since_is_sent_as_it_was(
    client: Client, document: dict[str, Any], instances: dict[str, str], truths: list[NDArray[np.int16]], tmp_path: Path
) -> None:
    path = tmp_path / "session.lindi.json"
    path.write_text(json.dumps(document))
    array = ld.open_array(path, "data", chunks=(ROWS, CHANNELS), instances=instances)
    path.unlink()
    with ld.distribute(client, instances=instances):
        np.testing.assert_array_equal(array.compute(), truths[7])


@pytest.mark.usefixtures("key")
def test_references_with_presigned_urls_do_not_travel(
    client: Client, document: dict[str, Any], instances: dict[str, str]
) -> None:
    for entry in document["refs"].values():
        if isinstance(entry, list):
            entry[0] = "https://bucket.s3.amazonaws.com/x?X-Amz-Signature=abc"
    with dask.config.set({"lindi-dask.index-cache": False}):
        array = ld.open_array(document, "data", chunks=(ROWS, CHANNELS), instances=instances)
    with (
        ld.distribute(client, instances=instances) as distribution,
        pytest.raises(errors.RefsUnreachable, match=r"can't send it either.*presigned URLs") as caught,
    ):
        array.compute()
    assert SIGNATURE not in str(caught.value)
    assert distribution.status() == {}


@pytest.mark.usefixtures("key")
def test_references_that_nobody_has_any_more_are_an_error_that_says_so(
    client: Client, document: dict[str, Any], instances: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lindi_dask.cluster.relay._PATIENCE_S", 1.0)
    monkeypatch.setattr("lindi_dask.cluster.offers.references_here", lambda _: None)
    with dask.config.set({"lindi-dask.index-cache": False}):
        array = ld.open_array(document, "data", chunks=(ROWS, CHANNELS), instances=instances)
    with (
        ld.distribute(client, instances=instances),
        pytest.raises(errors.RefsUnreachable, match="no client of the cluster has them"),
    ):
        array.compute()


# Other kinds of clusters


@pytest.mark.usefixtures("key")
def test_workers_that_are_threads_of_the_schedulers_process_share_leases_too(
    archive: EmbeddedArchive, refs: list[Path], instances: dict[str, str], truths: list[NDArray[np.int16]]
) -> None:
    forget_leases()
    before = archive.counts()["exchanges"]
    with (
        LocalCluster(n_workers=2, processes=False, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
        ld.distribute(client, instances=instances) as distribution,
    ):
        arrays = [ld.open_array(path, "data", instances=instances) for path in refs]
        for array, truth in zip(dask.compute(*arrays), truths, strict=True):
            np.testing.assert_array_equal(array, truth)
        assert distribution.status()["exchanges"] == archive.counts()["exchanges"] - before == ASSETS
    forget_leases()
    assert ld.open_array(refs[0], "data", instances=instances).sum().compute() == truths[0].sum()


@pytest.mark.usefixtures("key")
async def test_an_asynchronous_client_awaits_it(
    refs: list[Path], instances: dict[str, str], truths: list[NDArray[np.int16]]
) -> None:
    forget_leases()
    async with (
        LocalCluster(n_workers=1, processes=False, asynchronous=True, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster, asynchronous=True) as client,
    ):
        awaited: Any = ld.distribute(client, instances=instances)
        distribution: Any = await awaited
        array = await asyncio.to_thread(ld.open_array, refs[0], "data", instances=instances)
        assert await client.compute(array.sum(dtype="int64")) == truths[0].sum(dtype="int64")
        assert (await distribution.status())["exchanges"] == 1
        await distribution.close()
        assert await distribution.status() == {}
    forget_leases()


# A scheduler elsewhere


@contextmanager
def scheduler_process(folder: Path, start: str, environ: dict[str, str]) -> Iterator[Path]:
    """A scheduler and a worker in processes of their own; gives the scheduler's file."""
    file = folder / "scheduler.json"
    common = ["--scheduler-file", str(file)]
    programs = [
        (start + "from distributed.cli.dask_scheduler import main; main()", [*common, "--port", "0", "--no-dashboard"]),
        ("from distributed.cli.dask_worker import main; main()", [*common, "--nthreads", "1", "--no-dashboard"]),
    ]
    base = {name: value for name, value in os.environ.items() if name != "LOCAL_API_KEY"}
    with ExitStack() as running:
        for program, arguments in programs:
            command = [sys.executable, "-W", "ignore", "-c", program, *arguments, "--host", "127.0.0.1"]
            process = subprocess.Popen(command, env=base | environ, stderr=subprocess.DEVNULL, cwd=folder)
            running.callback(process.wait, 30)
            running.callback(process.terminate)
            environ = {}
            deadline = time.monotonic() + 60
            while not file.exists():
                assert time.monotonic() < deadline
                time.sleep(0.1)
        yield file


def test_a_scheduler_elsewhere_uses_the_key_of_its_own_environment(
    archive: EmbeddedArchive,
    refs: list[Path],
    instances: dict[str, str],
    truths: list[NDArray[np.int16]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("LOCAL_API_KEY", raising=False)
    with (
        scheduler_process(tmp_path, "", {"LOCAL_API_KEY": archive.owner_token}) as file,
        Client(scheduler_file=str(file)) as client,
        ld.distribute(client, instances=instances) as distribution,
    ):
        array = ld.open_array(refs[2], "data", instances=instances)
        np.testing.assert_array_equal(array.compute(), truths[2])
        assert distribution.status()["instances"]["local"] is True
        assert distribution.status()["exchanges"] == 1


def test_a_scheduler_without_the_package_is_told_to_install_it(instances: dict[str, str], tmp_path: Path) -> None:
    with (
        scheduler_process(tmp_path, "import sys; sys.modules['lindi_dask'] = None; ", {}) as file,
        Client(scheduler_file=str(file)) as client,
    ):
        with pytest.raises(errors.ConfigurationError, match="install the same lindi-dask"):
            ld.distribute(client, instances=instances)
        assert ld.stats(client).exchanges == 0
