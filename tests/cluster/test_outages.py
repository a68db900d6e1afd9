"""Outages of 20 s in the midst of a job, ridden out by the policies that users have: no task is lost or run twice."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from distributed import Client, LocalCluster, SchedulerPlugin
from jobs import CHANNELS, ROWS, lindi_document, write_recording

import lindi_dask as ld
from lindi_dask.testing import EmbeddedArchive, Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

CHUNKS = 200
OUTAGE_S = 20.0


class Runs(SchedulerPlugin):
    """Counts how often each task was given to a worker."""

    def __init__(self) -> None:
        self.of: Counter[str] = Counter()

    def transition(self, key: Any, start: str, finish: str, *args: Any, **kwargs: Any) -> None:
        if finish == "processing":
            self.of[key] += 1


def s3_refuses(archive: EmbeddedArchive) -> Callable[[], int]:
    archive.stop()  # the API, too, which nobody needs: leases live for an hour

    def end() -> int:
        archive.start()
        return 1

    return end


def s3_is_too_busy(archive: EmbeddedArchive) -> Callable[[], int]:
    return until_over(archive, Fault(plane="s3", kind="status", status=503, times=None))


def api_is_broken(archive: EmbeddedArchive) -> Callable[[], int]:
    archive.lifetime_s = 3
    return until_over(archive, Fault(plane="api", kind="status", status=500, html=True, times=None))


def until_over(archive: EmbeddedArchive, fault: Fault) -> Callable[[], int]:
    injection = archive.inject(fault)

    def end() -> int:
        injection.cancel()
        return injection.injected

    return end


@pytest.fixture
def archive() -> Iterator[EmbeddedArchive]:
    with EmbeddedArchive(lifetime_s=3600, latency_s=0.1) as archive:
        yield archive


@pytest.mark.parametrize("outage", [s3_refuses, s3_is_too_busy, api_is_broken])
def test_an_outage_of_20_s_costs_no_task(
    archive: EmbeddedArchive, tmp_path: Path, outage: Callable[[EmbeddedArchive], Callable[[], int]]
) -> None:
    if outage is api_is_broken:
        archive.lifetime_s = 3
    truth = write_recording(tmp_path / "recording.h5", CHUNKS)
    url = archive.add(tmp_path / "recording.h5").url
    refs = tmp_path / "recording.lindi.json"
    refs.write_text(json.dumps(lindi_document(tmp_path / "recording.h5", url)))
    struck: list[int] = []

    def strike() -> None:
        deadline = time.monotonic() + 30
        while archive.counts()["reads"] < 20 and time.monotonic() < deadline:
            time.sleep(0.02)
        end = outage(archive)
        time.sleep(OUTAGE_S)
        struck.append(end())

    runs, thread = Runs(), threading.Thread(target=strike)
    with (
        LocalCluster(
            n_workers=2,
            threads_per_worker=4,
            processes=True,
            dashboard_address="127.0.0.1:0",
            env={"LOCAL_API_KEY": archive.owner_token},
        ) as cluster,
        Client(cluster) as client,
    ):
        cluster.scheduler.add_plugin(runs)
        array = ld.open_array(refs, "data", chunks=(ROWS, CHANNELS), instances={"local": archive.api_url})
        started = time.monotonic()
        thread.start()
        values = client.compute(array).result(timeout=120)
        took_s = time.monotonic() - started
        read = ld.stats(client)
    thread.join(30)
    print(f"{outage.__name__}: {took_s:.0f} s, struck {struck} times, {read}")
    assert struck[0] > 0
    assert took_s > OUTAGE_S
    np.testing.assert_array_equal(values, truth)
    assert len(runs.of) >= CHUNKS
    assert set(runs.of.values()) == {1}
