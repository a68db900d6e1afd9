"""Soak: `make soak`. A cluster reads for minutes while every twentieth request fails and workers are killed at random.

Leases are signed for 3 s. It fails if a value is wrong, a read fails, throughput falls below half of that without
faults, or a worker's memory grows. Two more runs without faults compare leases of 3 s with leases of an hour.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import statistics
import sys
import tempfile
import time
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask
import h5py
import numpy as np
from distributed import Client, LocalCluster, wait
from usage import memory

import lindi_dask as ld
from lindi_dask.hdf5 import index_hdf5
from lindi_dask.testing import EmbeddedArchive, Fault, Injection

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

WORKERS, CHUNKS, ROWS, CHANNELS = 2, 400, 500, 32
SHARE = 0.05
KILL_EVERY_S = 20.0
GROWTH = 1.25  # of a worker's memory, at most, from its first minute to its last
# Not 403: by design, two of them in a row for URLs that are alive are a denial, and final
KINDS = (
    Fault(plane="s3", kind="status", status=503, times=None, probability=SHARE / 4, seed=1),
    Fault(plane="s3", kind="reset", times=None, probability=SHARE / 4, seed=2),
    Fault(plane="s3", kind="short-body", times=None, probability=SHARE / 4, seed=3),
    Fault(plane="s3", kind="wrong-range", times=None, probability=SHARE / 4, seed=4),
    Fault(plane="api", kind="status", status=500, html=True, times=None, probability=SHARE, seed=6),
)


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of the run."""

    name: str
    lifetime_s: int
    has_faults: bool
    share: float
    """of all the time"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a phase came to."""

    blocks_per_s: float
    blocks: int
    wrong: int
    failed: int
    faults: int
    kills: int
    exchanges: int


def crc(block: NDArray[np.int16]) -> NDArray[np.uint32]:
    return np.array([[zlib.crc32(np.ascontiguousarray(block).tobytes())]], np.uint32)


def private() -> tuple[int, int]:
    return os.getpid(), memory().private


class Soak:
    """A cluster, an archive, and an array whose blocks' CRCs are known."""

    def __init__(self, client: Client, archive: EmbeddedArchive, folder: Path) -> None:
        self.client, self.archive = client, archive
        noise = np.random.default_rng(7).normal(0, 60, (CHUNKS * ROWS, CHANNELS)).astype("int16")
        path = folder / "recording.h5"
        with h5py.File(path, "w") as file:
            options = {"compression": "gzip", "compression_opts": 1, "shuffle": True}
            file.create_dataset("data", data=noise, chunks=(ROWS, CHANNELS), **options)
        self.truth = np.array([zlib.crc32(part.tobytes()) for part in noise.reshape(CHUNKS // 4, -1)], np.uint32)
        self.path = path
        self.memory: dict[int, list[int]] = {}
        self.random = random.Random(7)

    def run(self, phase: Phase, seconds: float) -> Outcome:
        """Read the whole array again and again for so long."""
        archive = self.archive
        archive.lifetime_s = phase.lifetime_s
        # An asset of its own, which there are no older leases of
        asset = archive.add(self.path)
        refs = self.path.with_name(f"{asset.id}.lindi.json")
        index_hdf5(self.path, asset.url).save(refs)
        injections: list[Injection] = [archive.inject(fault) for fault in KINDS if phase.has_faults]
        exchanges = archive.counts()["exchanges"]
        array = ld.open_array(refs, "data", chunks=(4 * ROWS, CHANNELS), instances={"local": archive.api_url})
        blocks = wrong = failed = kills = 0
        started = time.monotonic()
        kill_at = started + KILL_EVERY_S
        while time.monotonic() - started < seconds:
            sums = array.map_blocks(crc, chunks=(1, 1), dtype=np.uint32)
            future = self.client.compute(sums, allow_other_workers=True)
            if phase.has_faults and time.monotonic() > kill_at:
                time.sleep(self.random.uniform(0.1, 0.5))
                kills += self._kill()
                kill_at = time.monotonic() + self.random.uniform(0.5, 1.5) * KILL_EVERY_S
            wait(future, timeout=120)
            if future.status == "finished":
                wrong += int((future.result()[:, 0] != self.truth).sum())
                blocks += len(self.truth)
            else:
                failed += 1
                print(f"failed: {future.exception(timeout=1)!r}", flush=True)
            del future
            if phase.has_faults:
                for pid, nbytes in self.client.run(private, on_error="ignore").values():
                    self.memory.setdefault(pid, []).append(nbytes)
        took_s = time.monotonic() - started
        for injection in injections:
            injection.cancel()
        faults = sum(injection.injected for injection in injections)
        made = archive.counts()["exchanges"] - exchanges
        return Outcome(blocks / took_s, blocks, wrong, failed, faults, kills, made)

    def _kill(self) -> int:
        """End a worker, but not the one that has lived longest: that one's memory is watched."""
        pids = [pid for pid, _ in self.client.run(private, on_error="ignore").values()]
        oldest = max(pids, key=lambda pid: len(self.memory.get(pid, [])))
        with suppress(ProcessLookupError):
            os.kill(self.random.choice([pid for pid in pids if pid != oldest] or pids), signal.SIGKILL)
            return 1
        return 0

    def growth(self) -> float:
        """By how much the memory of the worker that lived longest grew, from its first quarter to its last."""
        longest = max(self.memory.values(), key=len)
        quarter = max(len(longest) // 4, 1)
        return statistics.median(longest[-quarter:]) / statistics.median(longest[quarter : 2 * quarter])


PHASES = (
    Phase("leases of an hour", 3600, has_faults=False, share=0.15),
    Phase("leases of 3 s", 3, has_faults=False, share=0.15),
    Phase("leases of 3 s, faults, kills", 3, has_faults=True, share=0.7),
)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=240.0)
    seconds = parser.parse_args(arguments).seconds
    with tempfile.TemporaryDirectory() as folder, EmbeddedArchive(lifetime_s=3600, latency_s=0.03) as archive:
        os.environ["LOCAL_API_KEY"] = archive.owner_token  # the broker's, and of no worker
        dask.config.set({"lindi-dask.index-cache": f"{folder}/index"})
        cluster: Any = LocalCluster(
            n_workers=WORKERS, threads_per_worker=2, dashboard_address=None, env={"LOCAL_API_KEY": ""}
        )
        with cluster, Client(cluster) as client, ld.distribute(client, instances={"local": archive.api_url}):
            soak = Soak(client, archive, Path(folder))
            soak.run(PHASES[0], 5.0)  # what is made once is made
            outcomes = {phase.name: soak.run(phase, seconds * phase.share) for phase in PHASES}
        growth = soak.growth()
    hour, short, stormy = outcomes.values()
    print(f"{'':30}{'blocks/s':>9}{'blocks':>8}{'wrong':>7}{'failed':>8}{'faults':>8}{'kills':>7}{'exchanges':>11}")
    for name, one in outcomes.items():
        counted = f"{one.blocks:8}{one.wrong:7}{one.failed:8}{one.faults:8}{one.kills:7}{one.exchanges:11}"
        print(f"{name:30}{one.blocks_per_s:9.1f}{counted}")
    kept, under_faults = short.blocks_per_s / hour.blocks_per_s, stormy.blocks_per_s / short.blocks_per_s
    print(f"throughput with leases of 3 s: {kept:.2f} of that with leases of an hour (target 0.95)")
    print(f"throughput under faults: {under_faults:.2f} of that without (at least 0.5)")
    print(f"memory of the longest-lived worker: x {growth:.2f} (at most {GROWTH})")
    is_right = not any(one.wrong or one.failed for one in outcomes.values())
    struck = stormy.faults > 0 and stormy.kills > 0
    return 0 if is_right and struck and under_faults >= 0.5 and growth <= GROWTH else 1


if __name__ == "__main__":
    sys.exit(main())
