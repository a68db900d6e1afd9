"""`pipelines/lfp_power.py`, run as it stands, in a process of its own; and the parts that it is made of."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import h5py
import lfp_power
import numpy as np
import pytest
import scipy.signal
import xarray as xr
import zarr
from pipeline_runs import RATE, SERIES, VOLTS, command, environ_of, secrets_in, settings_for, write_lfp, write_session
from sessions import Session

import lindi_dask as ld
from lindi_dask.errors import InvalidSession, JobConflict
from lindi_dask.testing import EmbeddedArchive

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def power_by_scipy(path: Path, size: int, step: int) -> NDArray[np.float64]:
    """The power of each window by itself, of what h5py reads: (window, frequency, channel)."""
    with h5py.File(path) as file:
        volts = file[f"{SERIES}/data"][...] * VOLTS
    windows = [volts[start : start + size] for start in range(0, len(volts) - size + 1, step)]
    return np.array([scipy.signal.periodogram(one, RATE, "hann", detrend="constant", axis=0)[1] for one in windows])


def test_one_zarr_has_the_spectrograms_of_all_sessions_as_scipy_makes_them_of_the_files(tmp_path: Path) -> None:
    changes = {
        '"dandi://dandi/': '"dandi://local/',
        "workers = 4": "workers = 1",
        "highest_hz = 200": "highest_hz = 100",
    }
    settings = settings_for(tmp_path, "lfp_power.toml", changes)
    files = {f"sub-{number}/ses-{number}.nwb": tmp_path / f"{number}.nwb" for number in range(3)}
    with EmbeddedArchive(lifetime_s=2, latency_s=0.05) as archive:
        for number, (path, file) in enumerate(files.items()):
            if number:
                write_lfp(file, number)
            else:
                write_session(file, 0)  # without an LFP
            archive.add(file, path=path)
        ran = subprocess.run(
            command("lfp_power.py", settings),
            # Blocks that windows go across
            capture_output=True, text=True, check=False, timeout=90, cwd=tmp_path,
            env=environ_of(archive) | {"DASK_ARRAY__CHUNK_SIZE": "40 kB"},
        )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "sub-0/ses-0.nwb: no ElectricalSeries of that path" in ran.stdout
    out = tmp_path / "lfp-power.zarr"
    assert sorted(key for key, _ in zarr.open_group(out, mode="r").groups()) == ["sub-1", "sub-2"]
    for path, file in list(files.items())[1:]:
        found = xr.open_dataset(out, engine="zarr", consolidated=False, group=f"{path}/{SERIES}")
        truth = power_by_scipy(file, size=1_000, step=500)
        assert found["power"].attrs["units"] == "volts**2/Hz"
        assert found["power"].encoding["chunks"][0] < len(truth) / 2
        np.testing.assert_allclose(found["frequency"], np.arange(201) / 2)
        np.testing.assert_allclose(found["time"], 2.5 + np.arange(len(truth)))
        np.testing.assert_allclose(found["power"], truth[:, :201], rtol=1e-3, atol=1e-6 * truth.max())
        assert found["location"].values.tolist() == ["CA1", "CA1", "DG", "DG"]
    assert not list((tmp_path / ".lfp-power.zarr.job").glob("part-*"))
    assert not secrets_in(archive, tmp_path, ran.stdout + ran.stderr)


def opened(path: Path) -> xr.Dataset:
    return xr.open_dataset(path, engine="lindi", group=SERIES, chunks={}).chunk({"time": 700})


@pytest.mark.parametrize(("window_s", "step_s"), [(2, 2), (2, 0.25), (1.998, 0.123), (24.69, 1)])
def test_windows_are_the_same_whichever_blocks_they_go_across(tmp_path: Path, window_s: float, step_s: float) -> None:
    write_lfp(tmp_path / "lfp.nwb", 7)
    found = lfp_power.spectrogram(opened(tmp_path / "lfp.nwb"), window_s, step_s, RATE)
    truth = power_by_scipy(tmp_path / "lfp.nwb", round(window_s * RATE), round(step_s * RATE))
    assert found["power"].shape == truth.shape
    values: NDArray[Any] = found["power"].compute(scheduler="sync").values
    np.testing.assert_allclose(values, truth, rtol=1e-3, atol=1e-6 * truth.max())


def test_what_has_no_spectrogram_is_an_error(tmp_path: Path) -> None:
    write_lfp(tmp_path / "lfp.nwb", 7)
    write_lfp(tmp_path / "timed.nwb", 7, timed=True)
    with pytest.raises(InvalidSession, match="12345 samples, fewer than a window of 15000"):
        lfp_power.spectrogram(opened(tmp_path / "lfp.nwb"), 30, 1, 100)
    with pytest.raises(InvalidSession, match="no sampling rate"):
        lfp_power.spectrogram(opened(tmp_path / "timed.nwb"), 2, 1, 100)


def test_series_are_found_by_patterns_of_each_part_of_a_path(tmp_path: Path) -> None:
    write_lfp(tmp_path / "lfp.nwb", 7)
    group = ld.open_group(tmp_path / "lfp.nwb")
    assert lfp_power.series_of(group, SERIES) == lfp_power.series_of(group, "/proc*/*/*/Elec*") == [SERIES]
    assert lfp_power.series_of(group, "processing/*") == lfp_power.series_of(group, "processing/ecephys/LFP") == []


def test_a_group_that_was_made_of_something_else_is_not_taken_for_done(tmp_path: Path) -> None:
    session, place = Session("a.nwb", "dandi://local/000123@draft/a.nwb", "blob-1"), tmp_path / "a.nwb"
    how = {"series": SERIES, "window": "2 s"}
    assert not lfp_power.is_done(place, session, how)
    zarr.create_group(place, attributes=lfp_power.identity(session, how))
    assert lfp_power.is_done(place, session, how)
    with pytest.raises(JobConflict, match=r"other settings in \[lfp\]"):
        lfp_power.is_done(place, session, {**how, "window": "1 s"})
    with pytest.raises(JobConflict, match="an earlier file of the session"):
        lfp_power.is_done(place, Session(session.path, session.address, "blob-2"), how)
