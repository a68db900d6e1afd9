"""How fast references become sharded Zarr v3, beside dask and xarray over fsspec and VirtualiZarr, and a bound by hand.

As `read.py`: each in a process of its own, in turns, under the same latency. What each has written is read back by zarr
when the time is taken, and compared by digest.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from lineup import CONCURRENCY, FUSED, Pythons
from machine import described
from recordings import CHANNELS, ROW_NBYTES, Archive, sized
from report import print_cell
from rounds import Reader, Running, run_cell
from table import Page, Target, show
from talk import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rounds import Cell

LATENCY_MS, THREADS = 30, 4
NBYTES = 244 * 2**20  # of the array: two million rows of 64 channels
CHUNKS = (64 * 2**10, 2**20)
LEAST = {64 * 2**10: 2.5, 2**20: 1.4}
"""times as fast as the best tuned peer"""
OF_THE_LIMIT, CPU, REQUESTS, FETCHED, MEMORY_MB = 0.85, 7.0, 40, 1.1, 300
TUNED = {"concurrency": CONCURRENCY, "pipeline": FUSED}
ORDER = {"fsspec_zarr": "fsspec {fsspec}", "virtual_zarr": "VirtualiZarr {virtualizarr}"}


def lineup(environ: Mapping[str, str], pythons: Pythons, workers: int | None) -> list[Reader]:
    """Return who converts."""
    more = {} if workers is None else {"workers": workers}
    environ = {**environ, "DASK_LINDI_DASK__INDEX_CACHE": "false"}
    found = [Reader("ours", "ours", "lindi_dask {lindi-dask}", "convert_ours", settings=more, environ=environ)]
    if workers is None:
        found.insert(0, Reader("limit", "limit", "bound: numcodecs {numcodecs}", "convert_limit", said="by hand"))
    python = pythons.newest if pythons.has_newest else pythons.peers
    for by in ("dask", "xarray", "loop"):
        for reader, title in ORDER.items():
            if reader == "virtual_zarr" and by != "dask":
                continue
            settings = {"reader": reader, "by": by, **more}
            for said, tuning in (("default", {}), ("tuned", TUNED)):
                if (said == "default" and by == "loop") or (tuning and not pythons.has_newest):
                    continue
                key, name = f"{by} {reader} {said}", f"{title}, {by}"
                found.append(Reader(key, "peer", name, "convert_zarr", python, {**settings, **tuning}, said))
    return found


def targets(cell: Cell, chunk_nbytes: int) -> list[Target]:
    """Return what has to hold."""
    ours, limit = cell.ours, cell.limit
    if ours is None:
        return []
    _, stored = cell.recording.touched(cell.task)
    found = []
    ratios = [ours.times_as_fast(peer) for peer in cell.of_kind("peer")]
    if ratios:
        closest = min(ratios, key=lambda ratio: ratio.median)
        found.append(Target.at_least_ratio(f"{cell.title}: as the best peer", closest, LEAST[chunk_nbytes]))
    if limit is not None:
        ratio = ours.times_as_fast(limit)
        found.append(Target.at_least_ratio(f"{cell.title}: of the bound", ratio, OF_THE_LIMIT))
        cpu = ours.median(lambda run: run.cpu_s) / cell.nbytes * 1e9
        found.append(Target(f"{cell.title}: CPU s/GB", cpu, CPU, ""))
        peak = ours.median(lambda run: run.peak) / 1e6
        found.append(Target(f"{cell.title}: memory, MB above idle", peak, MEMORY_MB, ""))
    found.append(Target(f"{cell.title}: requests", ours.median(lambda run: run.requests), REQUESTS, ""))
    fetched = ours.median(lambda run: run.fetched) / stored
    found.append(Target(f"{cell.title}: fetched, of the bytes wanted", fetched, FETCHED, "x"))
    return found


def main() -> None:
    options = parsed()
    pythons = Pythons("", options.peers, options.newest_peers)
    page, agrees, goals = Page(), True, list[Target]()
    with tempfile.TemporaryDirectory() as name, Archive(Path(name)) as archive:
        said = f"{NBYTES // ROW_NBYTES:,} x {CHANNELS} int16, {LATENCY_MS} ms, {THREADS} threads."
        page.say(f"# Converting\n\n{described()} {said}")
        for chunk_nbytes in options.chunks:
            label = sized(chunk_nbytes)
            show(f"writing chunks of {label}")
            recording = archive.record(label.replace(" ", ""), NBYTES, chunk_nbytes)
            archive.set_latency(LATENCY_MS)
            for workers in (None, 2) if options.full else (None,):
                said = f"{THREADS} threads" if workers is None else f"{workers} processes of 2 threads"
                task = recording.task("whole", threads=THREADS)
                running = [Running(one) for one in lineup(archive.environ, pythons, workers)]
                for one in running:
                    one.open(recording)
                cell = run_cell(f"{label}, {said}", recording, task, running, archive, options.runs)
                for one in running:
                    one.close()
                agrees &= cell.agrees
                goals += targets(cell, chunk_nbytes)
                print_cell(page, cell)
                page.say("\n".join(f"- {one.failure.title}: {one.failure.reason}" for one in running if one.failure))
    page.targets(goals)
    if not agrees:
        sys.exit("The outputs are not the same: see the digests.")


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="References, converted by who can.")
    for name in ("peers", "newest-peers"):
        default = os.environ.get(
            f"BENCH_{name.upper().replace('-', '_')}_PYTHON", str(ROOT / f".venv-{name}" / "bin" / "python")
        )
        parser.add_argument(f"--{name}", default=default, help=f"interpreter with peers/{name}.txt (%(default)s)")
    parser.add_argument("--full", action="store_true", help="by two processes, too")
    parser.add_argument("--runs", type=int, default=3, help="of each (%(default)s)")
    parser.add_argument("--chunks", type=int, nargs="+", choices=CHUNKS, default=CHUNKS, help="bytes of the source's")
    return parser.parse_args()


if __name__ == "__main__":
    main()
