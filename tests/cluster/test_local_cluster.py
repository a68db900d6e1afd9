"""The main job: embargoed data on a `LocalCluster` of four processes, with leases that expire in mid-job."""

from __future__ import annotations

import json
import math
import os
import pickle
import subprocess
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import cloudpickle
import dask
import dask.array as da
import h5py
import numpy as np
import pytest
import zarr
from distributed import Client, LocalCluster, SchedulerPlugin
from jobs import forget_leases, set_key

import lindi_dask as ld
from lindi_dask import errors
from lindi_dask.hdf5 import index_hdf5
from lindi_dask.testing import EmbeddedArchive, Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

WORKERS = 4
BLOCKS = 200
ROWS, CHANNELS = 500, 32  # of a chunk
SIGNATURE = "X-Amz-Signature"


@pytest.fixture(scope="module")
def archive() -> Iterator[EmbeddedArchive]:
    with EmbeddedArchive(lifetime_s=3600) as archive:
        yield archive


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recording") / "recording.h5"
    noise = np.random.default_rng(7).normal(0, 60, (BLOCKS * ROWS, CHANNELS)).astype("int16")
    with h5py.File(path, "w") as file:
        file.create_dataset(
            "data", data=noise, chunks=(ROWS, CHANNELS), compression="gzip", compression_opts=1, shuffle=True
        )
    return path


@pytest.fixture(scope="module")
def truth(recording: Path) -> NDArray[np.int16]:
    with h5py.File(recording) as file:
        values: NDArray[np.int16] = file["data"][...]
    return values


@pytest.fixture(scope="module")
def refs(archive: EmbeddedArchive, recording: Path) -> Path:
    path = recording.with_suffix(".lindi.json")
    index_hdf5(recording, archive.add(recording).url).save(path)
    return path


@pytest.fixture(scope="module")
def client(archive: EmbeddedArchive) -> Iterator[Client]:
    with (
        LocalCluster(
            n_workers=WORKERS,
            threads_per_worker=1,
            processes=True,
            dashboard_address="127.0.0.1:0",
            env={"LOCAL_API_KEY": archive.owner_token},
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


class Runs(SchedulerPlugin):
    """Counts how often each task was given to a worker."""

    def __init__(self) -> None:
        self.of: Counter[str] = Counter()

    def transition(self, key: Any, start: str, finish: str, *args: Any, **kwargs: Any) -> None:
        if finish == "processing":
            self.of[key] += 1


@pytest.fixture
def runs(client: Client) -> Iterator[Runs]:
    plugin = Runs()
    client.cluster.scheduler.add_plugin(plugin, name="runs")
    yield plugin
    client.cluster.scheduler.remove_plugin("runs")


@pytest.fixture
def instances(archive: EmbeddedArchive) -> dict[str, str]:
    return {"local": archive.api_url}


@pytest.fixture
def pace(archive: EmbeddedArchive, client: Client) -> Iterator[Callable[[int, float], None]]:
    """Sets the leases' lifetime and the storage's latency, and makes the workers forget the leases they have."""

    def set_pace(lifetime_s: int, latency_s: float) -> None:
        archive.lifetime_s, archive.latency_s = lifetime_s, latency_s
        client.run(forget_leases)

    yield set_pace
    set_pace(3600, 0.0)


def block_sum(block: NDArray[np.int16]) -> NDArray[np.int64]:
    sums: NDArray[np.int64] = block.sum(axis=0, dtype=np.int64, keepdims=True)
    return sums


@pytest.mark.usefixtures("client")
def test_a_job_over_leases_of_3_s_is_exact_with_few_exchanges_and_no_task_run_twice(
    archive: EmbeddedArchive,
    refs: Path,
    instances: dict[str, str],
    truth: NDArray[np.int16],
    runs: Runs,
    pace: Callable[[int, float], None],
) -> None:
    pace(3, 0.33)
    before = archive.counts()
    array = ld.open_array(refs, "data", chunks=(ROWS, CHANNELS), instances=instances)
    assert array.npartitions == BLOCKS
    started = time.monotonic()
    sums = array.map_blocks(block_sum, chunks=(1, CHANNELS), dtype="int64").compute()
    took_s = time.monotonic() - started
    after = archive.counts()
    exchanges = after["exchanges"] - before["exchanges"]
    print(f"took {took_s:.1f} s, {exchanges} exchanges, {archive.renewals()} renewals")
    assert took_s >= 15
    expected = truth.reshape(BLOCKS, ROWS, CHANNELS).sum(axis=1, dtype=np.int64)
    np.testing.assert_array_equal(sums, expected)
    assert exchanges <= WORKERS * (math.ceil(took_s / 1.5) + 1)
    assert archive.renewals() >= WORKERS
    assert after["reads"] - before["reads"] >= BLOCKS
    assert len(runs.of) >= BLOCKS
    assert set(runs.of.values()) == {1}


@pytest.mark.usefixtures("client")
def test_a_job_over_leases_of_1_s_some_dead_on_arrival_is_exact(
    archive: EmbeddedArchive,
    refs: Path,
    instances: dict[str, str],
    truth: NDArray[np.int16],
    runs: Runs,
    pace: Callable[[int, float], None],
) -> None:
    pace(1, 0.15)
    dead = archive.inject(Fault(plane="api", kind="dead-lease", times=6))
    values = ld.open_array(refs, "data", chunks=(ROWS, CHANNELS), instances=instances).compute()
    assert dead.injected == 6
    np.testing.assert_array_equal(values, truth)
    assert set(runs.of.values()) == {1}


def test_stats_are_the_sum_over_the_workers_and_what_the_archive_counted(
    archive: EmbeddedArchive,
    refs: Path,
    instances: dict[str, str],
    client: Client,
    pace: Callable[[int, float], None],
) -> None:
    pace(3600, 0.0)
    counted, before, own = archive.counts(), ld.stats(client), ld.stats()
    array = ld.open_array(refs, "data", chunks=(10 * ROWS, CHANNELS), instances=instances)
    array.sum().compute()
    read = ld.stats(client) - before
    assert (read.chunks, read.refusals, read.retries, read.renewals) == (BLOCKS, 0, 0, 0)
    assert read.requests == archive.counts()["reads"] - counted["reads"]
    assert read.bytes_fetched == archive.counts()["read_bytes"] - counted["read_bytes"]
    assert read.exchanges == archive.counts()["exchanges"] - counted["exchanges"]
    assert 1 <= read.exchanges <= WORKERS
    assert read.bytes_wanted <= read.bytes_fetched <= 1.1 * read.bytes_wanted
    assert read.wait_s > 0
    assert read.decode_s > 0
    assert ld.stats() == own  # nothing was read here


def test_workers_share_a_disk_cache_and_need_no_lease_for_what_is_in_it(
    archive: EmbeddedArchive,
    refs: Path,
    instances: dict[str, str],
    truth: NDArray[np.int16],
    client: Client,
    pace: Callable[[int, float], None],
    tmp_path: Path,
) -> None:
    pace(3600, 0.0)
    cache = tmp_path / "scratch"
    array = ld.open_array(refs, "data", chunks=(10 * ROWS, CHANNELS), instances=instances, cache=cache)
    np.testing.assert_array_equal(array.compute(), truth)
    client.run(forget_leases)
    counted, before = archive.counts(), ld.stats(client)
    with dask.config.set({"lindi-dask.cache": str(cache)}):  # the same by configuration, read where it is opened
        again = ld.open_array(refs, "data", chunks=(20 * ROWS, CHANNELS), instances=instances)
    np.testing.assert_array_equal(again.compute(), truth)
    read = ld.stats(client) - before
    assert (read.cache_hits, read.requests, read.exchanges) == (BLOCKS, 0, 0)
    assert archive.counts() == counted
    for path in cache.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        assert not any(
            secret in content for secret in (SIGNATURE.encode(), archive.owner_token.encode(), b"http://127")
        )


def test_workers_that_are_threads_of_one_process_are_counted_once(
    archive: EmbeddedArchive, refs: Path, instances: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_API_KEY", archive.owner_token)
    with (
        LocalCluster(n_workers=2, processes=False, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
    ):
        before = ld.stats(client)
        ld.open_array(refs, "data", chunks=(10 * ROWS, CHANNELS), instances=instances).sum().compute()
        assert (ld.stats(client) - before).chunks == BLOCKS
        assert ld.stats(client) == ld.stats()


@pytest.mark.usefixtures("client")
def test_leases_that_the_storage_host_refuses_in_mid_job_are_renewed(
    archive: EmbeddedArchive,
    refs: Path,
    instances: dict[str, str],
    truth: NDArray[np.int16],
    pace: Callable[[int, float], None],
) -> None:
    pace(3600, 0.02)
    refused = [archive.inject(Fault(plane="s3", kind="status", status=403, skip=n)) for n in (5, 15, 25)]
    values = ld.open_array(refs, "data", chunks=(ROWS * 4, CHANNELS), instances=instances).compute()
    assert [one.injected for one in refused] == [1, 1, 1]
    np.testing.assert_array_equal(values, truth)


@pytest.mark.usefixtures("client")
def test_from_zarr_reads_on_the_cluster_as_open_array_does(
    refs: Path, instances: dict[str, str], truth: NDArray[np.int16]
) -> None:
    store = ld.open_store(refs, instances=instances)
    array = da.from_zarr(store, component="data", chunks=(ROWS * 20, CHANNELS))
    np.testing.assert_array_equal(array[12_345:67_890:7, 3].compute(), truth[12_345:67_890:7, 3])


def test_a_factory_called_on_workers_gives_each_process_one_store(
    client: Client, refs: Path, instances: dict[str, str]
) -> None:
    factory = ld.StoreFactory(refs, instances=instances)

    def made(factory: ld.StoreFactory) -> tuple[int, int]:
        return os.getpid(), id(factory())

    seen = client.gather(client.map(lambda _: made(factory), range(40), pure=False))
    assert len(set(seen)) == len({pid for pid, _ in seen})
    assert os.getpid() not in {pid for pid, _ in seen}


# What travels


def whole_session(path: Path, **options: Any) -> dict[str, da.Array]:
    group = ld.open_group(path, **options)
    names = [name for name, node in group.members(max_depth=None) if isinstance(node, zarr.Array)]
    return {name: ld.open_array(path, name, **options) for name in names}


@pytest.fixture
def session(archive: EmbeddedArchive, session_refs: Callable[..., Any], data: Path, tmp_path: Path) -> Path:
    path = tmp_path / "session.lindi.json"
    path.write_text(json.dumps(session_refs(archive.add(data / "session.nwb").url)))
    return path


@pytest.mark.usefixtures("client")
def test_the_graph_over_the_whole_session_holds_no_secret_and_200_bytes_a_block_at_most(
    archive: EmbeddedArchive, session: Path, instances: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_API_KEY", archive.owner_token)
    arrays = whole_session(session, instances=instances)
    assert len(arrays) == 54
    for array in arrays.values():
        array.compute()  # so that there are leases in this process that could travel
    pickled = cloudpickle.dumps([dict(array.dask) for array in arrays.values()])
    assert archive.owner_token.encode() not in pickled
    assert SIGNATURE.encode() not in pickled
    assert b"download" not in pickled
    name = "processing/ecephys/LFP/LFP/data"
    coarse = ld.open_array(session, name, chunks=(20_000, 16), instances=instances)
    fine = ld.open_array(session, name, chunks=(32, 16), instances=instances)
    grown = len(cloudpickle.dumps(dict(fine.dask))) - len(cloudpickle.dumps(dict(coarse.dask)))
    assert fine.npartitions - coarse.npartitions == 1248
    assert grown <= 200 * 1248
    for store_based in (da.from_zarr(ld.open_store(session, instances=instances), component=name),):
        assert archive.owner_token.encode() not in cloudpickle.dumps(store_based.dask)
        assert len(cloudpickle.dumps(store_based.dask)) <= 200 * store_based.npartitions + 5000


def test_factory_and_store_pickle_to_2_kb_at_most(session: Path, instances: dict[str, str]) -> None:
    factory = ld.StoreFactory(session, instances=instances)
    factory().references  # noqa: B018 - loaded, so that the manifests could travel
    assert len(pickle.dumps(factory)) <= 2048
    assert len(pickle.dumps(factory())) <= 2048


FRESH = """
import pickle, socket, sys, builtins
store_bytes = sys.stdin.buffer.read()
opened = []
real_open, real_connect = builtins.open, socket.socket.connect
def connect(self, address):
    opened.append(address)
    return real_connect(self, address)
socket.socket.connect = connect
import lindi_dask, pathlib
read_bytes = pathlib.Path.read_bytes
def counted(self):
    opened.append(str(self))
    return read_bytes(self)
pathlib.Path.read_bytes = counted
store = pickle.loads(store_bytes)
assert opened == [], opened
print(len(opened))
import zarr
array = zarr.open_array(store, path="data", mode="r")
print(int(array[:1000].sum(dtype="int64")))
assert opened
"""


def test_unpickled_in_a_fresh_process_a_store_does_no_io_until_it_is_read(
    archive: EmbeddedArchive, refs: Path, instances: dict[str, str], truth: NDArray[np.int16]
) -> None:
    store = pickle.dumps(ld.StoreFactory(refs, instances=instances)())
    environ = {**os.environ, "LOCAL_API_KEY": archive.owner_token}
    ran = subprocess.run([sys.executable, "-c", FRESH], input=store, env=environ, capture_output=True, check=True)
    assert ran.stdout.decode().split() == ["0", str(int(truth[:1000].sum(dtype="int64")))]


NAMES = """
import sys, lindi_dask as ld, dask.array as da
path, url = sys.argv[1:]
print(ld.open_array(path, "data", instances={"local": url}).name)
print(da.from_zarr(ld.open_store(path, instances={"local": url}), component="data").name)
"""


def test_graph_keys_are_the_same_in_each_run(refs: Path, instances: dict[str, str]) -> None:
    command = [sys.executable, "-c", NAMES, str(refs), instances["local"]]
    runs = {subprocess.run(command, capture_output=True, check=True, text=True).stdout for _ in range(2)}
    own = ld.open_array(refs, "data", instances=instances).name
    theirs = da.from_zarr(ld.open_store(refs, instances=instances), component="data").name
    assert runs == {f"{own}\n{theirs}\n"}


# What goes wrong on a worker is told on the client


def on_cluster(refs: Path, instances: dict[str, str]) -> NDArray[np.int16]:
    array = ld.open_array(refs, "data", chunks=(ROWS * 10, CHANNELS), instances=instances)
    values: NDArray[np.int16] = array.compute()
    return values


@pytest.fixture
def worker_key(archive: EmbeddedArchive, client: Client, tmp_path: Path) -> Iterator[Callable[..., None]]:
    """Sets the key in the workers' environment, and makes them forget their leases unless told otherwise."""

    def use(key: str, *, forget: bool = True) -> None:
        file = tmp_path / "key"
        file.write_text(key)
        client.run(set_key, str(file))
        if forget:
            client.run(forget_leases)

    yield use
    use(archive.owner_token)


def test_no_key_on_the_workers_names_the_variable_to_set(
    refs: Path, instances: dict[str, str], worker_key: Callable[..., None]
) -> None:
    worker_key("")
    with pytest.raises(errors.AuthenticationError, match="Set LOCAL_API_KEY") as caught:
        on_cluster(refs, instances)
    assert caught.value.variable == "LOCAL_API_KEY"


def test_a_bad_key_on_the_workers_is_an_authentication_error_that_does_not_show_it(
    refs: Path, instances: dict[str, str], worker_key: Callable[..., None]
) -> None:
    worker_key("not-the-key-9f8e7d")
    with pytest.raises(errors.AuthenticationError, match="does not know the key in LOCAL_API_KEY"):
        on_cluster(refs, instances)


def test_a_strangers_key_is_permission_denied(
    archive: EmbeddedArchive, refs: Path, instances: dict[str, str], worker_key: Callable[..., None]
) -> None:
    worker_key(archive.stranger_token)
    with pytest.raises(errors.PermissionDenied, match="not an owner"):
        on_cluster(refs, instances)


@pytest.mark.usefixtures("client")
def test_an_unknown_asset_is_not_found(
    archive: EmbeddedArchive, recording: Path, instances: dict[str, str], tmp_path: Path
) -> None:
    path = tmp_path / "gone.lindi.json"
    url = f"{archive.api_url}/assets/00000000-0000-4000-8000-000000000000/download/"
    index_hdf5(recording, url).save(path)
    with pytest.raises(errors.AssetNotFound, match="no such asset"):
        on_cluster(path, instances)


def test_a_lease_that_expires_and_cannot_be_renewed_is_the_error_of_the_renewal(
    archive: EmbeddedArchive,
    refs: Path,
    instances: dict[str, str],
    client: Client,
    worker_key: Callable[..., None],
    pace: Callable[[int, float], None],
) -> None:
    pace(2, 0.25)
    array = ld.open_array(refs, "data", chunks=(ROWS, CHANNELS), instances=instances)
    computing = client.compute(array.sum(dtype="int64"))
    enough, deadline = archive.counts()["reads"] + 10, time.monotonic() + 30
    while archive.counts()["reads"] < enough and time.monotonic() < deadline:
        time.sleep(0.05)
    worker_key(archive.stranger_token, forget=False)  # as if the owner's had been revoked in mid-job
    with pytest.raises(errors.PermissionDenied):
        computing.result(timeout=60)


@pytest.mark.usefixtures("client")
def test_a_reference_file_that_changed_on_the_way_is_refused_on_the_worker(
    archive: EmbeddedArchive, recording: Path, instances: dict[str, str], tmp_path: Path
) -> None:
    path = tmp_path / "changing.lindi.json"
    index_hdf5(recording, archive.add(recording).url).save(path)
    document = json.loads(path.read_text())
    array = ld.open_array(path, "data", chunks=(ROWS * 10, CHANNELS), instances=instances)
    document["refs"][".zattrs"] = {"edited": True}
    path.write_text(json.dumps(document))
    with pytest.raises(errors.RefsChanged, match="not the one that this store was made from"):
        array.compute()


def document_of(recording: Path, archive: EmbeddedArchive, folder: Path) -> dict[str, Any]:
    index_hdf5(recording, archive.add(recording).url).save(folder / "made.lindi.json")
    document: dict[str, Any] = json.loads((folder / "made.lindi.json").read_text())
    return document


@pytest.mark.usefixtures("client")
def test_refs_given_as_a_dict_reach_the_workers_of_the_machine_by_the_index_cache(
    archive: EmbeddedArchive, recording: Path, instances: dict[str, str], truth: NDArray[np.int16], tmp_path: Path
) -> None:
    document = document_of(recording, archive, tmp_path)
    array = ld.open_array(document, "data", chunks=(ROWS * 10, CHANNELS), instances=instances)
    np.testing.assert_array_equal(array[: ROWS * 20].compute(), truth[: ROWS * 20])


@pytest.mark.usefixtures("client")
def test_refs_given_as_a_dict_name_the_remedy_on_a_worker_without_the_index(
    archive: EmbeddedArchive, recording: Path, instances: dict[str, str], tmp_path: Path
) -> None:
    document = document_of(recording, archive, tmp_path)
    with dask.config.set({"lindi-dask.index-cache": False}):
        array = ld.open_array(document, "data", chunks=(ROWS * 10, CHANNELS), instances=instances)
    with pytest.raises(errors.RefsUnreachable, match="save it to a path that they reach"):
        array.compute()
