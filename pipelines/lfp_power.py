"""Spectrograms of the local field potentials of all sessions of a dandiset, made on a dask cluster, in one Zarr.

    python pipelines/lfp_power.py pipelines/lfp_power.toml

It has a group a session, by its path in the dandiset, and in that one a series, by its path in the session:

    xr.open_dataset("lfp-power.zarr", engine="zarr", group="sub-1/sub-1.nwb/processing/ecephys/LFP/ElectricalSeries")

May be ended and started again at any time: what is done is not done again. Exit codes: 0 done, 1 unexpected, 2
configuration, 3 partial, start again, 5 access denied, 75 try later, 130 interrupted.
"""

from __future__ import annotations

import shutil
import sys
import uuid
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final

import dask.array as da
import numpy as np
import xarray as xr
import zarr
from clusters import CLUSTER, cluster_of
from scripts import main_of, say
from sessions import Interrupted, make_folder, only_run, output_of, sessions_at, work_off
from settings import read_settings, seconds_of

import lindi_dask as ld
from lindi_dask.errors import ConfigurationError, InvalidSession, JobConflict

if TYPE_CHECKING:
    import threading
    from pathlib import Path

    from distributed import Client
    from numpy.typing import NDArray
    from sessions import Session

TABLES: Final[dict[str, dict[str, Any]]] = {
    "dandiset": {"address": str},
    "output": {"zarr": str},
    "lfp": {"series": "processing/ecephys/LFP/*", "window": "2 s", "step": "1 s", "highest_hz": 200},
    "run": {"at_once": 2},
    "cluster": dict(CLUSTER),
    "keys": {"key_file": (str,)},
}


def run(path: Path) -> int:
    """Do what the file says."""
    settings = read_settings(path, TABLES)
    how, out = settings["lfp"], path.parent / settings["output"]["zarr"]
    window_s, step_s = (seconds_of(how[name], f"{path}: [lfp] {name}") for name in ("window", "step"))
    if not 0 < step_s <= window_s:
        raise ConfigurationError(f"{path}: [lfp] step must be longer than 0 s, and no longer than the window.")
    outs = {session: output_of(session, out) for session in sessions_at(settings["dandiset"]["address"])}
    job = out.with_name(f".{out.name}.job")
    make_folder(job)
    with only_run(job):
        due = [session for session, place in outs.items() if not is_done(place, session, how)]
        say(f"{len(outs)} sessions, {len(outs) - len(due)} of them are done.")
        if not due:
            return 0
        try:
            with (
                cluster_of(settings["cluster"], say) as client,
                ld.distribute(client, key_file=settings["keys"]["key_file"]),
            ):

                def analyse(session: Session, ending: threading.Event) -> str:
                    found = series_of(ld.open_group(session.address), how["series"])
                    if not found:
                        return "no ElectricalSeries of that path"
                    # A folder of its own: tasks of a run that was killed may still be writing to theirs
                    part = job / f"part-{uuid.uuid4().hex}"
                    zarr.create_group(part, attributes=identity(session, how))
                    for series in found:
                        lfp = xr.open_dataset(session.address, engine="lindi", group=series, chunks={})
                        write(spectrogram(lfp, window_s, step_s, how["highest_hz"]), part, series, client, ending)
                    publish(part, outs[session], out)
                    return f"{len(found)} series"

                code = work_off(due, analyse, client, at_once=settings["run"]["at_once"], say=say)
        finally:
            for part in job.glob("part-*"):
                shutil.rmtree(part, ignore_errors=True)
    if not code and not out.exists():
        raise ConfigurationError(f"No session has an ElectricalSeries at {how['series']}: mend [lfp] series in {path}.")
    return code


def identity(session: Session, how: dict[str, Any]) -> dict[str, Any]:
    """Return the attributes of a session's group: what it was made of, and how."""
    return {"asset": session.address, "blob": session.blob, "lfp": how}


def is_done(place: Path, session: Session, how: dict[str, Any]) -> bool:
    """Return whether the group of a session is there; `JobConflict` if it was made of something else."""
    if not place.exists():
        return False
    found, wanted = dict(zarr.open_group(place, mode="r").attrs), identity(session, how)
    for name, of_what in (("blob", "an earlier file of the session"), ("lfp", "other settings in [lfp]")):
        if found.get(name) != wanted[name]:
            raise JobConflict(f"{place} was made with {of_what}. Move it away, or name another output.")
    return True


def series_of(group: zarr.Group, pattern: str) -> list[str]:
    """Return the paths of the ElectricalSeries that a pattern names, each part of it by itself."""
    found = {"": group}
    for name in pattern.strip("/").split("/"):
        found = {
            f"{path}/{key}".lstrip("/"): member
            for path, parent in found.items()
            for key, member in parent.groups()
            if fnmatchcase(key, name)
        }
    return [path for path, member in found.items() if member.attrs.get("neurodata_type") == "ElectricalSeries"]


def spectrogram(lfp: xr.Dataset, window_s: float, step_s: float, highest_hz: float) -> xr.Dataset:
    """Return the power spectral density of a series, in the square of its unit a Hz.

    Parameters
    ----------
    lfp
        With `data` (time, channel), in blocks.
    window_s, step_s
        Seconds of a window, and from one to the next: rounded to samples.
    highest_hz
        Frequencies above are left out.

    Returns
    -------
    xarray.Dataset
        `power` (time, frequency, channel); `time` is the middle of a window, in seconds as in the session.

    Raises
    ------
    InvalidSession
        If it has no sampling rate, or is shorter than a window.
    """
    rate = lfp["time"].attrs.get("sampling_rate") if "time" in lfp.coords else None
    if rate is None:
        raise InvalidSession("An LFP has no sampling rate: with timestamps alone it has to be resampled first.")
    samples = lfp["data"].data
    size, step = round(window_s * rate), max(round(step_s * rate), 1)
    windows = (len(samples) - size) // step + 1
    if windows < 1:
        raise InvalidSession(f"An LFP has {len(samples)} samples, fewer than a window of {size}.")
    frequencies = np.fft.rfftfreq(size, 1 / rate)
    frequencies = frequencies[frequencies <= highest_hz]
    at_once = max(samples.chunks[0][0] // step, 1)  # windows of a block, which reads a bit of the next one, too
    blocks = [
        samples[first * step : (min(first + at_once, windows) - 1) * step + size]
        .rechunk(-1)
        .map_blocks(
            power_density,
            rate,
            size,
            step,
            len(frequencies),
            chunks=((min(at_once, windows - first),), (len(frequencies),), (samples.shape[1],)),
            new_axis=1,
            meta=np.empty((0, 0, 0), "float32"),
        )
        for first in range(0, windows, at_once)
    ]
    unit = lfp["data"].attrs.get("units", "1")
    times = lfp["time"][:1].values + (np.arange(windows) * step + size / 2) / rate
    channels = {name: one.compute() for name, one in lfp.coords.items() if one.dims == ("channel",)}
    return xr.Dataset(
        {"power": (("time", "frequency", "channel"), da.concatenate(blocks), {"units": f"{unit}**2/Hz"})},
        {
            "time": ("time", times, {"units": "seconds", "long_name": "middle of the window"}),
            "frequency": ("frequency", frequencies, {"units": "Hz"}),
            **channels,
        },
    )


def power_density(samples: NDArray[Any], rate: float, size: int, step: int, frequencies: int) -> NDArray[np.float32]:
    """Return the power of windows: (sample, channel) -> (window, frequency, channel). Runs on workers."""
    from scipy.signal import spectrogram as of_scipy  # noqa: PLC0415 - an extra

    _, _, power = of_scipy(samples.astype("float64"), rate, "hann", size, size - step, detrend="constant", axis=0)
    return np.ascontiguousarray(power[:frequencies].transpose(2, 0, 1), "float32")


def write(found: xr.Dataset, part: Path, series: str, client: Client, ending: threading.Event) -> None:
    """Write a spectrogram, block by block on the workers."""
    future = client.compute(found.to_zarr(part, group=series, zarr_format=3, consolidated=False, compute=False))
    while not future.done():
        if ending.wait(0.2):
            future.cancel()
            raise Interrupted
    future.result()


def publish(part: Path, place: Path, out: Path) -> None:
    """Let readers find the group of a session: by one rename, into groups that are there."""
    for folder in [*place.relative_to(out).parents][::-1]:
        zarr.open_group(out / folder, mode="a", zarr_format=3)
    part.rename(place)


if __name__ == "__main__":
    try:
        import scipy  # noqa: F401 - workers need it, too
    except ModuleNotFoundError:
        sys.exit("lfp_power.py needs scipy, here and on workers: pip install scipy")
    sys.exit(main_of(__doc__, run))
