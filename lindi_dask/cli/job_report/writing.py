"""The report of a job, from its folder and its output to a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from zarr.core.sync import sync

from lindi_dask.cli.job_report.page import report_page
from lindi_dask.cli.job_report.thumbnails import Thumbnail, thumbnail_of
from lindi_dask.conversion import Status, job_of
from lindi_dask.conversion.history import history_of
from lindi_dask.conversion.rereading import opened_output
from lindi_dask.conversion.targets import PART
from lindi_dask.errors import ConfigurationError, JobError
from lindi_dask.jobs.ledger import events_of

if TYPE_CHECKING:
    from lindi_dask.conversion import Plan
    from lindi_dask.conversion.history import History, Making

__all__ = ["write_report"]

_PICTURES: Final = 4
_LOOKED_AT: Final = 12  # arrays, the largest ones
_NUMBERS: Final = "biuf"


def write_report(out: str, job: str | None = None, file: str | None = None) -> Path:
    """Write the report of the conversion to `out`, and return where it lies.

    Parameters
    ----------
    out, job
        As of `convert`.
    file
        To write, or to replace; None: `NAME.report.html` beside the job's folder.

    Raises
    ------
    ConfigurationError
        If there is no job, or the file can't be written.
    """
    status = Status(job_of(out, job))
    folder, plan = status.job.folder, status.plan
    if plan is None:
        raise ConfigurationError(f"There is no job for {out}: {folder} has none.")
    history = history_of(events_of(status.job.ledger))
    thumbnails = _thumbnails(status.job.out, plan, history) if status.is_published else {}
    page = report_page(status, plan, history, thumbnails)
    name = folder.name.removeprefix(".").removesuffix(".lindi-job")
    path = folder.with_name(f"{name}.report.html") if file is None else Path(file)
    part = path.with_name(f".{path.name}{PART}")
    reason = None
    try:
        part.write_text(page, "utf-8")
        part.replace(path)
    except OSError as error:
        reason = error.strerror
    if reason is not None:
        raise ConfigurationError(f"{path} can't be written ({reason}): name another file for the report.")
    return path


def _thumbnails(out: str, plan: Plan, history: History) -> dict[str, Thumbnail | str]:
    """Return pictures of the largest arrays of numbers."""
    by_array: dict[int, list[Making]] = {}
    for one in history.makings:
        if one.nbytes is not None:
            by_array.setdefault(one.shard[0], []).append(one)
    numbers = [number for number in by_array if plan.arrays[number].itemsize is not None]
    numbers.sort(key=lambda number: (-plan.arrays[number].nbytes, number))
    found: dict[str, Thumbnail | str] = {}
    for number in numbers[:_LOOKED_AT]:
        places = sorted(one.shard[1] for one in by_array[number])
        picture: Thumbnail | str | None
        try:
            picture = _thumbnail(out, plan, number, places[len(places) // 2])
        except Exception as error:  # noqa: BLE001 - codecs and stores raise whatever they like: it is told
            picture = f"can't be drawn ({type(error).__name__}): verify the output"
        if picture is not None:
            found[plan.arrays[number].path] = picture
        if len(found) == _PICTURES:
            break
    return found


def _thumbnail(out: str, plan: Plan, number: int, place: int) -> Thumbnail | None:
    """Return a picture of some of what one object holds."""
    array = plan.arrays[number]
    opened = opened_output(out, array.path, is_stored=True)
    if opened.dtype.kind not in _NUMBERS:
        return None
    key = array.place_key(place).removeprefix(f"{array.path}/")
    if not sync((opened.store_path / key).exists()):
        raise JobError(f"{array.place_key(place)} is missing.")
    return thumbnail_of(array.shape, array.region(place), lambda region: _read(opened, region))


def _read(opened: Any, region: tuple[slice, ...]) -> Any:  # noqa: ANN401 - what zarr has
    return opened[region]
