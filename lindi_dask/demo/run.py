"""The demo itself: write a session, serve it under embargo, read it serially and on a cluster, compare, draw."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import dask
import h5py
from distributed import Client, LocalCluster, as_completed

from lindi_dask.arrays import open_array
from lindi_dask.demo import screen
from lindi_dask.demo.analysis import THETA_WINDOW, Analysis, BlockSummary, combine, summarise
from lindi_dask.demo.report import MB, DemoReport, RunNumbers
from lindi_dask.demo.session import SECONDS, write_session
from lindi_dask.indexing import index
from lindi_dask.reporting import stats
from lindi_dask.testing import EmbeddedArchive
from lindi_dask.testing.renewals import count_renewals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import dask.array as da
    from dask.delayed import Delayed
    from rich.console import Console

    from lindi_dask.demo.session import SessionInfo

__all__ = ["run_demo"]

INSTANCE: Final = "demo"
KEY_VARIABLE: Final = "DEMO_API_KEY"
LEASE_S: Final = 3
LATENCY_S: Final = 0.05
STREAM_MB_S: Final = 1.0
"""One connection across a continent, on a busy afternoon; slow enough that leases expire in mid-job."""
PROCESSES: Final = 4
SERIAL_SHARE: Final = 8
"""The serial run reads one block of so many: at this pace the whole would take a minute."""


def run_demo(console: Console, folder: Path, *, seconds: float = SECONDS, processes: int = PROCESSES) -> DemoReport:
    """Do the main job against the embedded archive; all files go to `folder`, and nothing leaves the machine.

    Parameters
    ----------
    console
        Where the progress and the result are drawn.
    folder
        Made if need be; its `session.*` files are replaced.
    seconds
        Length of the recording.
    processes
        Of the cluster.

    Returns
    -------
    DemoReport
        Check `exact` and `renewals`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    screen.headline(console, "lindi_dask: an embargoed recording, read by a dask cluster")
    info = _write(console, folder, seconds)
    with EmbeddedArchive(lifetime_s=LEASE_S, latency_s=LATENCY_S, name=INSTANCE) as archive:
        archive.stream_bytes_per_s = STREAM_MB_S * MB
        refs = folder / "session.lindi.json"
        index(info.path, url=archive.add(info.path).url).save(refs, overwrite=True)
        pace = f"{1000 * LATENCY_S:.0f} ms, {STREAM_MB_S:g} MB/s a connection"
        screen.step(
            console, "Serving it from an archive on this machine, under embargo", f"signed for {LEASE_S} s, {pace}"
        )
        with _key(archive.owner_token):
            rows = THETA_WINDOW  # whole windows a block, so that every run adds up in the same order
            array = open_array(refs, info.dataset, chunks=(rows, -1), instances={INSTANCE: archive.api_url})
            serial, _ = _serially(console, array, info)
            seen = len(archive.requests)
            cluster, found = _on_cluster(console, array, info, processes)
            renewals = count_renewals(archive.requests[seen:])
    exact = found.equals(_by_h5py(console, info, rows))
    report = DemoReport(
        title=f"{info.path.name}: {info.shape[1]} channels, {info.seconds:.1f} s at {info.rate_hz / 1000:g} kHz",
        shape=info.shape,
        nbytes=info.nbytes,
        file_nbytes=info.file_nbytes,
        lease_s=LEASE_S,
        pace=pace,
        serial=serial,
        cluster=cluster,
        renewals=renewals,
        exact=exact,
    )
    screen.summary(console, report)
    _draw(console, folder, found, info, report)
    screen.next_steps(console, _next_steps())
    return report


def _write(console: Console, folder: Path, seconds: float) -> SessionInfo:
    screen.step(console, "Writing a recording as NWB does")
    info = write_session(folder / "session.nwb", seconds=seconds)
    screen.done(
        console,
        f"{info.path}: {info.nbytes / MB:.0f} MB of int16 in {info.stored_nbytes / MB:.0f} MB (gzip, shuffled)",
    )
    return info


@contextmanager
def _key(token: str) -> Iterator[None]:
    """Put the demo's own key where workers inherit it from; whatever stood there comes back."""
    before = os.environ.get(KEY_VARIABLE)
    os.environ[KEY_VARIABLE] = token
    try:
        yield
    finally:
        del os.environ[KEY_VARIABLE]
        if before is not None:
            os.environ[KEY_VARIABLE] = before


def _summaries(array: da.Array, info: SessionInfo) -> list[Delayed]:
    lazily = dask.delayed(summarise, pure=True)
    return [lazily(block, info.rate_hz) for block in array.to_delayed().ravel()]


def _serially(console: Console, array: da.Array, info: SessionInfo) -> tuple[RunNumbers, list[BlockSummary]]:
    work = _summaries(array, info)[: max(array.numblocks[0] // SERIAL_SHARE, 1)]
    with (
        screen.progress(console, len(work), "One block after the other") as advance,
        _counted(array, 1, len(work)) as numbers,
    ):
        summaries = []
        for one in work:
            summaries.append(one.compute(scheduler="synchronous"))
            advance()
    return numbers(), summaries


def _on_cluster(console: Console, array: da.Array, info: SessionInfo, processes: int) -> tuple[RunNumbers, Analysis]:
    work = _summaries(array, info)
    screen.step(console, f"Starting a dask cluster of {processes} processes")
    with (
        LocalCluster(n_workers=processes, threads_per_worker=2, dashboard_address="127.0.0.1:0") as dask_cluster,
        Client(dask_cluster) as client,
        screen.progress(console, len(work), "All blocks, on the cluster") as advance,
        _counted(array, processes, len(work), client) as numbers,
    ):
        futures = client.compute(work)
        for _ in as_completed(futures):
            advance()
        return numbers(), combine(client.gather(futures))


@contextmanager
def _counted(
    array: da.Array, processes: int, blocks: int, client: Client | None = None
) -> Iterator[Callable[[], RunNumbers]]:
    """Count what a run costs: the function says it when the run is over."""
    before, started = stats(client), time.monotonic()
    rows = sum(array.chunks[0][:blocks])

    def numbers() -> RunNumbers:
        took_s = time.monotonic() - started
        return RunNumbers(
            processes=processes,
            seconds=took_s,
            blocks=blocks,
            logical_nbytes=rows * array.shape[1] * array.dtype.itemsize,
            read=stats(client) - before,
        )

    yield numbers


def _by_h5py(console: Console, info: SessionInfo, rows: int) -> Analysis:
    """Compute the same of the file itself, without any of our code but the analysis."""
    screen.step(console, "Comparing with h5py on the file itself")
    with h5py.File(info.path) as file:
        data = file[info.dataset]
        return combine(summarise(data[at : at + rows], info.rate_hz) for at in range(0, len(data), rows))


def _draw(console: Console, folder: Path, found: Analysis, info: SessionInfo, report: DemoReport) -> None:
    from lindi_dask.demo.picture import draw  # noqa: PLC0415 - matplotlib takes its time, and workers don't need it

    path = folder / "session.png"
    draw(found, info, report, path)
    screen.done(console, f"The picture: {path}")


def _next_steps() -> list[tuple[str, str]]:
    return [
        ("Your key, from your page at the archive, where the workers run:", "export DANDI_API_KEY=..."),
        ("An array of a LINDI file as a dask array, in Python:", "import lindi_dask as ld"),
        ("", 'ld.open_array("my.lindi.json", "acquisition/ElectricalSeries/data")'),
        ("The same as a zarr group, for whatever reads zarr:", 'ld.open_group("my.lindi.json").tree()'),
    ]
