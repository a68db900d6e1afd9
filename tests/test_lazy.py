"""Reads that nobody waits for any more: Ctrl-C, tasks that dask released."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from distributed import Client, LocalCluster

import lindi_dask as ld
from lindi_dask.lazy import LazyArray

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lindi_dask.testing import EmbeddedArchive

CHUNKS = 400  # each is a request: at two at a time and 50 ms, ten seconds
ROW, APART = 2**13, 2**20  # bytes


@pytest.fixture
def refs(embedded_archive: EmbeddedArchive, tmp_path: Path) -> Path:
    path = tmp_path / "scattered.h5"
    with path.open("wb") as file:
        for i in range(CHUNKS):
            file.seek(i * APART)
            file.write(bytes([i % 251]) * ROW)
    embedded_archive.latency_s = 0.05
    url = embedded_archive.add(path).url
    array = {"zarr_format": 2, "shape": [CHUNKS, ROW], "chunks": [1, ROW], "dtype": "|u1", "compressor": None}
    array |= {"filters": None, "fill_value": 0, "order": "C"}
    chunks = {f"data/{i}.0": [url, i * APART, ROW] for i in range(CHUNKS)}
    refs = tmp_path / "scattered.lindi.json"
    refs.write_text(json.dumps({"refs": {".zgroup": {"zarr_format": 2}, "data/.zarray": array, **chunks}}))
    return refs


@pytest.fixture
def instances(
    embedded_archive: EmbeddedArchive, own_key: Callable[[EmbeddedArchive], dict[str, str]]
) -> dict[str, str]:
    return own_key(embedded_archive)


def has_begun(archive: EmbeddedArchive) -> None:
    ends = time.monotonic() + 30
    while archive.counts()["reads"] < 4:
        assert time.monotonic() < ends
        time.sleep(0.02)


def it_is_given_up(archive: EmbeddedArchive) -> None:
    """Wait until no request has come for a second, which must be before all have."""
    before, ends = -1, time.monotonic() + 30
    while archive.counts()["reads"] > before:
        before = archive.counts()["reads"]
        assert time.monotonic() < ends
        time.sleep(1)
    assert before < CHUNKS


SCRIPT = """
import signal, sys
import lindi_dask as ld
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs start without
array = ld.open_array(sys.argv[1], "data", chunks=-1, instances={"local": sys.argv[2]}, concurrency=2)
print("begins", flush=True)
array.compute(scheduler=sys.argv[3])
print("was not interrupted")
"""


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
def test_after_ctrl_c_no_new_range_is_started_and_the_process_ends(
    embedded_archive: EmbeddedArchive, refs: Path, scheduler: str
) -> None:
    command = [sys.executable, "-c", SCRIPT, str(refs), embedded_archive.api_url, scheduler]
    environ = {**os.environ, **embedded_archive.environ()}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ) as process:
        has_begun(embedded_archive)
        process.send_signal(signal.SIGINT)
        said, complained = process.communicate(timeout=30)
    assert "KeyboardInterrupt" in complained
    assert said == "begins\n"
    it_is_given_up(embedded_archive)


def test_after_a_task_is_released_no_new_range_is_started(
    embedded_archive: EmbeddedArchive, refs: Path, instances: dict[str, str]
) -> None:
    with (
        LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
    ):
        array = ld.open_array(refs, "data", chunks=(CHUNKS // 2, -1), instances=instances, concurrency=2)
        futures = client.compute(array.to_delayed().ravel().tolist())
        has_begun(embedded_archive)
        for future in futures:
            future.release()
        it_is_given_up(embedded_archive)
        # Wanted again, it is read anew
        embedded_archive.latency_s = 0.0
        np.testing.assert_array_equal(array[:, 0].compute(), np.arange(CHUNKS) % 251)


def test_a_task_that_is_wanted_again_at_once_is_no_error(
    embedded_archive: EmbeddedArchive, refs: Path, instances: dict[str, str]
) -> None:
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
    ):
        block = ld.open_array(refs, "data", chunks=-1, instances=instances, concurrency=8).to_delayed().ravel()[0]
        future = client.compute(block)
        has_begun(embedded_archive)
        for pause_s in (0.0, 0.1, 0.3):
            future.release()
            time.sleep(pause_s)
            future = client.compute(block)
        np.testing.assert_array_equal(future.result(timeout=60)[:, 0], np.arange(CHUNKS) % 251)


def test_it_reads_what_numpy_would(embedded_archive: EmbeddedArchive, refs: Path, instances: dict[str, str]) -> None:
    embedded_archive.latency_s = 0.0
    group = ld.open_group(refs, instances=instances)
    array: Any = group["data"]
    lazy = pickle.loads(pickle.dumps(LazyArray(array)))
    truth = np.repeat(np.arange(CHUNKS, dtype="u8") % 251, ROW).reshape(CHUNKS, ROW).astype("u1")
    for selection in (
        (slice(3, 90, 7), slice(5)),
        (slice(2), 9),
        (3, 4),
        (..., 7),
        5,
        ([3, 9, 20], slice(2)),
        (slice(3), [True] + [False] * (ROW - 1)),
    ):
        np.testing.assert_array_equal(lazy[selection], truth[selection])
    assert (lazy.shape, lazy.dtype, lazy.ndim) == (truth.shape, truth.dtype, 2)
