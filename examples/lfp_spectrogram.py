"""Spectrogram of a local field potential: theta that speeds up, in one of two regions.

Writes a session, serves it under embargo, reads it as an xarray dataset on a dask cluster, checks the result, and
draws lfp_spectrogram.png.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import h5py
import numpy as np
import xarray as xr
from served import cluster, embargoed, folder_of, write

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

RATE_HZ: Final = 1250.0
SECONDS: Final = 160
CHANNELS: Final = 16
REGIONS: Final = ("CA1", "DG")
VOLTS_PER_COUNT: Final = 2e-7
WINDOW: Final = 2048  # samples: 1.6 s, so bins of 0.6 Hz; a chunk has whole windows
SERIES: Final = "processing/ecephys/LFP/ElectricalSeries"


def theta_hz(seconds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the frequency of theta, which is what the analysis has to find."""
    return 6.0 + 4.0 * seconds / SECONDS


def write_session(path: Path) -> None:
    """Write an LFP of two regions; only the first has theta."""
    from hdmf.backends.hdf5 import H5DataIO  # noqa: PLC0415 - workers don't need it
    from pynwb import NWBFile  # noqa: PLC0415
    from pynwb.ecephys import LFP, ElectricalSeries  # noqa: PLC0415

    random = np.random.default_rng(7)
    seconds = np.arange(int(SECONDS * RATE_HZ)) / RATE_HZ
    theta = 150e-6 * np.sin(2 * np.pi * np.cumsum(theta_hz(seconds)) / RATE_HZ)
    volts = 40e-6 * random.standard_normal((len(seconds), CHANNELS), dtype=np.float32)
    volts[:, : CHANNELS // 2] += theta[:, np.newaxis].astype(np.float32)

    nwbfile = NWBFile(
        session_description="A rat that runs faster and faster",
        identifier="lfp-spectrogram",
        session_start_time=datetime(2026, 1, 1, 12, tzinfo=UTC),
    )
    probe = nwbfile.create_device(name="probe", description="a linear probe")
    shank = nwbfile.create_electrode_group(name="shank0", description="its shank", location="hippocampus", device=probe)
    for channel in range(CHANNELS):
        nwbfile.add_electrode(group=shank, location=REGIONS[channel // (CHANNELS // 2)])
    data = np.round(volts / VOLTS_PER_COUNT).astype(np.int16)
    series = ElectricalSeries(
        name="ElectricalSeries",
        data=H5DataIO(data, chunks=(8 * WINDOW, CHANNELS), compression="gzip", shuffle=True),
        electrodes=nwbfile.create_electrode_table_region(list(range(CHANNELS)), "all of them"),
        rate=RATE_HZ,
        conversion=VOLTS_PER_COUNT,
    )
    lfp = LFP()
    nwbfile.create_processing_module("ecephys", "filtered").add(lfp)
    lfp.add_electrical_series(series)
    write(nwbfile, path)


def power_density(volts: NDArray[Any]) -> NDArray[np.float64]:
    """Return the power spectral density (V²/Hz) of windows, along their last axis."""
    taper = np.hanning(volts.shape[-1])
    spectrum = np.fft.rfft((volts - volts.mean(axis=-1, keepdims=True)) * taper, axis=-1)
    return np.asarray(2 * np.abs(spectrum) ** 2 / (RATE_HZ * np.sum(taper**2)))


def spectrogram(refs: Path) -> xr.DataArray:
    """Return the power of each region by frequency and time: (region, frequency, time)."""
    session = xr.open_dataset(refs, engine="lindi", group=SERIES, chunks={})
    lfp = session["data"]
    windows = lfp.coarsen(time=WINDOW, boundary="trim").construct(time=("window", "sample"))
    power = xr.apply_ufunc(
        power_density,
        windows,
        input_core_dims=[["sample"]],
        output_core_dims=[["frequency"]],
        dask="parallelized",
        output_dtypes=[np.float64],
        dask_gufunc_kwargs={"output_sizes": {"frequency": WINDOW // 2 + 1}},
    )
    by_region: xr.DataArray = power.groupby(session["location"].compute()).mean("channel").compute()
    frequency = np.fft.rfftfreq(WINDOW, 1 / RATE_HZ)
    middle = (np.arange(by_region.sizes["window"]) + 0.5) * WINDOW / RATE_HZ
    return by_region.assign_coords(frequency=frequency, window=middle).transpose("location", "frequency", "window")


def check(found: xr.DataArray, path: Path) -> float:
    """Compare with what was planted, and with numpy on the file itself; return the largest error of theta in Hz."""
    slow = found.sel(frequency=slice(2, 20))
    peak = slow.sel(location="CA1").idxmax("frequency")
    error = float(np.abs(peak - theta_hz(found["window"].values)).max())
    np.testing.assert_array_less(error, RATE_HZ / WINDOW, "theta is off, in Hz")
    np.testing.assert_array_less(slow.sel(location="DG").max(), 0.1 * slow.sel(location="CA1").max())
    with h5py.File(path) as file:
        volts = file[f"{SERIES}/data"][:, : CHANNELS // 2] * VOLTS_PER_COUNT
    windows = volts[: len(volts) // WINDOW * WINDOW].reshape(-1, WINDOW, CHANNELS // 2)
    truth = power_density(windows.transpose(0, 2, 1)).mean(axis=1).T
    np.testing.assert_allclose(found.sel(location="CA1").values, truth, rtol=1e-3, atol=1e-18)
    return error


def draw(found: xr.DataArray, path: Path) -> None:
    """Draw the spectrogram of each region."""
    import matplotlib as mpl  # noqa: PLC0415 - workers don't need it

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, axes = plt.subplots(len(REGIONS), 1, figsize=(8, 6), sharex=True, layout="constrained")
    decibels: xr.DataArray = 10 * xr.ufuncs.log10(found.sel(frequency=slice(1, 30)) * 1e12)
    for axis, region in zip(axes, REGIONS, strict=True):
        image = axis.pcolormesh(
            decibels["window"],
            decibels["frequency"],
            decibels.sel(location=region),
            vmin=-5,
            vmax=45,
            shading="nearest",
        )
        axis.set(title=region, ylabel="frequency (Hz)")
    axes[0].plot(found["window"], theta_hz(found["window"].values), "w:", label="planted")
    axes[0].legend(loc="upper left")
    axes[-1].set_xlabel("time (s)")
    figure.colorbar(image, ax=axes, label="power (dB, µV²/Hz)")
    figure.savefig(path, dpi=120)


def main(arguments: list[str] | None = None) -> None:
    """Run the example."""
    folder = folder_of(arguments, __doc__)
    path = folder / "lfp_spectrogram.nwb"
    write_session(path)
    with embargoed(path) as refs, cluster():
        found = spectrogram(refs)
    error = check(found, path)
    draw(found, path.with_suffix(".png"))
    print(
        f"theta is right to within {error:.2f} Hz in all of {found.sizes['window']} windows: {path.with_suffix('.png')}"
    )


if __name__ == "__main__":
    main()
