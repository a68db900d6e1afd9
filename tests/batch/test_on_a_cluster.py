"""`ld.index_dandiset` on processes: workers that die, assets that are dealt to several, a scheduler that is lost."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
from clusters import CLUSTER, cluster_of
from pipeline_runs import write_session
from settings import table_of

import lindi_dask as ld
from lindi_dask.errors import UnavailableError
from lindi_dask.jobs.ledger import events_of
from lindi_dask.testing import EmbeddedArchive, Fault

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from distributed import Client

    from lindi_dask.testing import Asset

ADDRESS = "dandi://local/000123@draft/"
LARGE = 12_000  # chunks


def table(workers: int) -> dict[str, Any]:
    return table_of({"workers": workers}, CLUSTER, "[cluster]")


@pytest.fixture(scope="module")
def archive() -> Iterator[EmbeddedArchive]:
    with EmbeddedArchive(lifetime_s=60) as archive:
        yield archive


@pytest.fixture(scope="module")
def client(archive: EmbeddedArchive) -> Iterator[Client]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOCAL_API_KEY", archive.owner_token)
        with cluster_of(table(2), print) as client, ld.distribute(client, instances={"local": archive.api_url}):
            yield client


def write_large(path: Path) -> None:
    """Write a file with datasets of many chunks, and some of few."""
    with h5py.File(path, "w") as file:
        for number, chunks in enumerate([LARGE, LARGE + 1, 300]):
            data = np.arange(chunks, dtype="int32") + number
            file.create_dataset(f"group/{number}", data=data, chunks=(1,), compression="gzip")
        file["text"] = "a few words"


def test_workers_have_no_key_of_their_own(client: Client) -> None:
    keys = client.run(lambda: os.environ.get("LOCAL_API_KEY"))
    assert list(keys.values()) == ["", ""]


def test_the_datasets_of_a_large_asset_are_dealt_to_several_tasks_and_nothing_is_lost(
    archive: EmbeddedArchive, client: Client, tmp_path: Path
) -> None:
    path = tmp_path / "large.nwb"
    write_large(path)
    asset = archive.add(path, path="large/large.nwb")
    index = ld.index_dandiset(
        f"{ADDRESS}large/", tmp_path / "out", client=client, split=path.stat().st_size // 2 + 1, **instances(archive)
    )
    assert (index.done, index.failures) == (1, {})
    reference = index.folder / "large/large.nwb.lindi.json"
    ld.index(path, url=asset.url).save(tmp_path / "truth.lindi.json")
    made, truth = (
        ld.open_store(one, **instances(archive)).references for one in (reference, tmp_path / "truth.lindi.json")
    )
    assert made.metadata == truth.metadata
    chunks = sum(len(manifest.present()) for manifest in made.manifests.values())
    assert chunks == 2 * LARGE + 1 + 2  # the small ones are held
    for name, manifest in made.manifests.items():
        places = manifest.present()
        assert places.tolist() == truth.manifests[name].present().tolist()
        found, wanted = manifest.locate(places), truth.manifests[name].locate(places)
        assert found.offsets.tolist() == wanted.offsets.tolist()
        assert found.lengths.tolist() == wanted.lengths.tolist()
    starts = [
        one for one in archive.requests if one.is_read and one.asset_id == asset.id and one.range and not one.range[0]
    ]
    assert len(starts) == 3  # two shares, and what puts them together


def instances(archive: EmbeddedArchive) -> dict[str, Any]:
    return {"instances": {"local": archive.api_url}, "api_keys": {"local": lambda: archive.owner_token}}


class Killer:
    """Kills the worker that has begun an asset, each time."""

    def __init__(self, client: Client, ledger: Path, asset: Asset) -> None:
        self._client, self._ledger, self._asset = client, ledger, asset
        self.killed: list[int] = []

    def kill(self, times: int) -> None:
        until = time.monotonic() + 90
        while len(self.killed) < times and time.monotonic() < until:
            time.sleep(0.05)
            events = list(events_of(self._ledger))
            begun = [one["worker"] for one in events if one["event"] == "begun" and one["asset"] == self._asset.id]
            if len(begun) > len(self.killed):
                pid = self._client.run(os.getpid, workers=[begun[-1]])[begun[-1]]
                self.killed.append(pid)
                os.kill(pid, signal.SIGKILL)


@pytest.mark.timeout(240)
def test_an_asset_whose_worker_dies_three_times_is_set_aside_and_the_rest_goes_on(
    archive: EmbeddedArchive, client: Client, tmp_path: Path
) -> None:
    paths = [tmp_path / f"{number}.nwb" for number in range(6)]
    for number, path in enumerate(paths):
        write_session(path, number)
    deadly, *_ = assets = [archive.add(path, path=f"deadly/{path.name}") for path in paths]
    stall = archive.inject(Fault(plane="s3", kind="stall", times=None, delay_s=25.0, asset_id=deadly.id))
    killer = Killer(client, tmp_path / "out" / ".job" / "ledger.jsonl", deadly)
    thread = threading.Thread(target=killer.kill, args=(3,))
    thread.start()
    try:
        index = ld.index_dandiset(f"{ADDRESS}deadly/", tmp_path / "out", client=client, **instances(archive))
    finally:
        thread.join()
        stall.cancel()
    assert len(killer.killed) == 3
    assert list(index.failures) == [deadly.path]
    assert index.done == len(assets) - 1
    assert index.failures[deadly.path].kind == "WorkerDied"
    assert "died, 3 times; it had been begun 3 times" in index.failures[deadly.path].reason
    again = ld.index_dandiset(f"{ADDRESS}deadly/", tmp_path / "out", client=client, **instances(archive))
    assert (again.done, again.skipped, again.failures) == (6, 5, {})


def test_a_scheduler_that_is_gone_ends_the_run(archive: EmbeddedArchive, tmp_path: Path) -> None:
    path = tmp_path / "0.nwb"
    write_session(path, 0)
    assets = [archive.add(path, path=f"lost/{number}.nwb") for number in range(3)]
    with cluster_of(table(1), print) as client:
        ld.distribute(client, instances=instances(archive)["instances"], tokens={"local": archive.owner_token})
        with pytest.raises(UnavailableError, match="scheduler does not answer"):
            ld.index_dandiset(
                f"{ADDRESS}lost/",
                tmp_path / "out",
                client=client,
                progress=lambda _: client.cluster.close(),
                **instances(archive),
            )
    assert ld.index_dandiset(f"{ADDRESS}lost/", tmp_path / "out", **instances(archive)).done == len(assets)
