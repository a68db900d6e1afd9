"""`index_dandiset`: references to all assets of a dandiset, and a catalogue of what they hold."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lindi_dask.archive import BUILTIN, offer_keys
from lindi_dask.assets import list_assets
from lindi_dask.batch.asset_task import Reading
from lindi_dask.batch.executors import Cluster, Threads
from lindi_dask.batch.folder import JobFolder
from lindi_dask.batch.plan import ENDINGS, FAILED, Failure, dues_of, last_of
from lindi_dask.batch.running import Progress, Run
from lindi_dask.catalogue import check_catalogue, write_catalogue
from lindi_dask.errors import ConfigurationError
from lindi_dask.factory import concurrency_of, policy_of
from lindi_dask.hdf5_files import check_h5py
from lindi_dask.index_file import release
from lindi_dask.jobs.ledger import Ledger, events_of
from lindi_dask.jobs.lock import JobLock
from lindi_dask.jobs.writing import writing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from distributed import Client

    from lindi_dask.types import AssetInfo

__all__ = ["DandisetIndex", "Progress", "index_dandiset"]

_ATTEMPTS: Final = 3
_SPLIT: Final = 100 * 10**9  # bytes


@dataclass(frozen=True, slots=True)
class DandisetIndex:
    """What there is after a run."""

    folder: Path
    """with the references, each under its asset's path"""
    total: int
    """files at the address"""
    done: int
    """of them, those that have references now"""
    skipped: int
    """of those, what an earlier run had done, unchanged since"""
    failures: Mapping[str, Failure]
    """why the others have none, by path"""
    left_out: tuple[str, ...]
    """paths of Zarr assets: they are no HDF5 files"""
    catalogue: tuple[Path, Path]
    """a table (parquet), and a page (HTML)"""


def index_dandiset(
    address: str,
    folder: str | os.PathLike[str],
    *,
    client: Client | None = None,
    threads: int = 4,
    ending: str = ".lindi.json",
    attempts: int = _ATTEMPTS,
    split: int = _SPLIT,
    progress: Callable[[Progress], None] = lambda _: None,
    instances: Mapping[str, str] | None = None,
    allow: Iterable[str] | None = None,
    concurrency: int | None = None,
    api_keys: Mapping[str, Callable[[], str | None]] | None = None,
) -> DandisetIndex:
    """Index all files of a dandiset, or a part of it, and write a catalogue of what they hold.

    Whatever ends it, it may be called again: an asset whose content and settings are the same is not indexed again; if
    an edit of its metadata gave it another id, its references get the new URL. This process alone writes; workers send
    what they found. What fails is looked up anew, and tried again, when all else is done.

    Parameters
    ----------
    address
        As of `list_assets`, such as `dandi://dandi/000123@draft/sub-*/**/*.nwb`. The key for it has to be found in this
        process.
    folder
        Where everything goes; made if need be. The references of `sub-1/sub-1.nwb` are `sub-1/sub-1.nwb.lindi.json`.
        Its `.job` holds what was done, for the next call.
    client
        Of a dask cluster, whose workers index then, one asset a task; call `distribute(client)` before, so that they
        need no key. None: threads of this process.
    threads
        How many, without a client.
    ending
        Of the references: `.lindi.json`, `.json` (kerchunk's), `.parquet` (a folder of kerchunk's) or `.lindi.d`.
    attempts
        How often an asset is tried in one call. One whose worker died is put back by the cluster itself, three times if
        it is not told otherwise.
    split
        Bytes: the datasets of larger assets are dealt to several tasks of a cluster.
    progress
        Called when an asset is done or has failed, and each minute without one.
    instances, allow, concurrency, api_keys
        As for `StoreFactory`.

    Returns
    -------
    DandisetIndex
        What is there now, and what failed, with the reasons.

    Raises
    ------
    ConfigurationError
        If an option makes no sense; if the folder can't be written, or another process is writing it; if a package is
        missing.
    DandisetNotFound, AssetNotFound
        If there is nothing at the address.
    AccessError, ArchiveUnavailable
        If the archive does not list it.
    UnavailableError
        If the cluster's scheduler is gone.
    """
    check_h5py("To index assets")
    check_catalogue()
    _check(ending, attempts, split, threads)
    policy = policy_of(instances, allow)
    offer_keys(policy.instances, api_keys or {})
    own = tuple((one.name, one.api_url) for one in policy.instances[len(BUILTIN) :])
    reading = Reading(own, policy.allow, concurrency_of(concurrency))
    job = JobFolder(Path(os.fspath(folder)).absolute(), ending)
    settings = {"ending": ending, "release": release()}

    def listed() -> list[AssetInfo]:
        return list_assets(address, instances=dict(own))

    job.make()
    with JobLock(job.lock, str(job.folder)):
        job.tidy()
        found = listed()
        infos = [info for info in found if info.blob is not None]
        last = last_of(events_of(job.ledger))
        dues = dues_of(infos, last, settings, job.has)
        skipped = len(infos) - len(dues.index)
        executor = Threads(reading, threads) if client is None else Cluster(client, reading, split)
        with Ledger(job.ledger) as ledger:
            run = Run(executor, job, ledger, settings, progress, total=len(infos))
            run.run(dues, attempts, listed)
        last = last_of(events_of(job.ledger))
        failures = {info.path: _failure(last[info.path]) for info in infos if last[info.path]["event"] == FAILED}
        cards = [partial(job.card, info) for info in infos if info.path not in failures]
        reasons = {path: failure.reason for path, failure in failures.items()}
        with writing(job.folder):
            write_catalogue(job.table, job.page, address, cards, reasons)
    return DandisetIndex(
        folder=job.folder,
        total=len(infos),
        done=len(cards),
        skipped=skipped,
        failures=failures,
        left_out=tuple(info.path for info in found if info.blob is None),
        catalogue=(job.table, job.page),
    )


def _failure(event: dict[str, Any]) -> Failure:
    return Failure(event["kind"], event["reason"], event["attempt"])


def _check(ending: str, attempts: int, split: int, threads: int) -> None:
    if ending not in ENDINGS:
        raise ConfigurationError(f"ending: {ending!r} is none of {', '.join(ENDINGS)}.")
    for name, value in (("attempts", attempts), ("split", split), ("threads", threads)):
        if type(value) is not int or value < 1:
            raise ConfigurationError(f"{name} must be a whole number from 1 on, not {value!r}.")
