"""Spike-triggered average of a local field potential: what the field does around the spikes of a unit.

Writes a session, serves it under embargo, reads it as xarray datasets on a dask cluster, checks the result, and draws
spike_triggered_average.png.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import h5py
import numpy as np
import xarray as xr
from served import cluster, embargoed, folder_of, write

from lindi_dask.nwb import spike_times

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

RATE_HZ: Final = 1000.0
SECONDS: Final = 300
CHANNELS: Final = 8
UNITS: Final = 3
VOLTS_PER_COUNT: Final = 2e-7
LAGS: Final = np.arange(-100, 201)  # samples around a spike
SERIES: Final = "acquisition/ElectricalSeries"


def response(unit: int) -> NDArray[np.float64]:
    """Return what a spike of a unit adds to the field (lag, channel), in volts: the analysis has to find it."""
    seconds = LAGS / RATE_HZ
    wave = np.where(seconds >= 0, np.sin(2 * np.pi * (10 + 10 * unit) * seconds) * np.exp(-seconds / 0.04), 0.0)
    depth = np.exp(-(((np.arange(CHANNELS) - 2 - 2 * unit) / 1.2) ** 2))
    return 60e-6 * wave[:, np.newaxis] * depth


def write_session(path: Path) -> None:
    """Write a field and the spikes of units that shape it."""
    from hdmf.backends.hdf5 import H5DataIO  # noqa: PLC0415 - workers don't need it
    from pynwb import NWBFile  # noqa: PLC0415
    from pynwb.ecephys import ElectricalSeries  # noqa: PLC0415

    random = np.random.default_rng(11)
    samples = int(SECONDS * RATE_HZ)
    volts = 30e-6 * random.standard_normal((samples, CHANNELS))
    nwbfile = NWBFile(
        session_description="Units, and the field around them",
        identifier="spike-triggered-average",
        session_start_time=datetime(2026, 1, 1, 12, tzinfo=UTC),
    )
    for unit in range(UNITS):
        spikes = np.sort(random.choice(np.arange(500, samples - 500), 600 + 200 * unit, replace=False))
        for lag, row in zip(LAGS, response(unit), strict=True):
            volts[spikes + lag] += row
        nwbfile.add_unit(spike_times=spikes / RATE_HZ)
    probe = nwbfile.create_device(name="probe", description="a linear probe")
    shank = nwbfile.create_electrode_group(name="shank0", description="its shank", location="cortex", device=probe)
    for _ in range(CHANNELS):
        nwbfile.add_electrode(group=shank, location="V1")
    nwbfile.add_acquisition(
        ElectricalSeries(
            name="ElectricalSeries",
            data=H5DataIO(
                np.round(volts / VOLTS_PER_COUNT).astype(np.int16), chunks=(16_384, CHANNELS), compression="gzip"
            ),
            electrodes=nwbfile.create_electrode_table_region(list(range(CHANNELS)), "all of them"),
            rate=RATE_HZ,
            conversion=VOLTS_PER_COUNT,
        )
    )
    write(nwbfile, path)


def average(refs: Path) -> xr.DataArray:
    """Return the mean of the field around the spikes of each unit: (unit, lag, channel), in volts."""
    field = xr.open_dataset(refs, engine="lindi", group=SERIES, chunks={})["data"]
    units = xr.open_dataset(refs, engine="lindi", group="units")
    averages = []
    for unit in units["unit"].values:
        spikes = np.round(spike_times(units, unit).values * RATE_HZ).astype(int)
        around = field.isel(time=xr.DataArray(spikes, dims="spike") + xr.DataArray(LAGS, dims="lag"))
        averages.append(around.mean("spike"))
    found = xr.concat(averages, "unit", coords="minimal", compat="override").compute()
    return found.assign_coords(lag=LAGS / RATE_HZ).transpose("unit", "lag", "channel")


def check(found: xr.DataArray, path: Path) -> float:
    """Compare with what was planted, and with numpy on the file itself; return the worst correlation with it."""
    planted = [response(unit) for unit in range(UNITS)]
    worst = min(
        float(np.corrcoef(one.values.ravel(), truth.ravel())[0, 1]) for one, truth in zip(found, planted, strict=True)
    )
    np.testing.assert_array_less(0.9, worst, "an average is not what was planted")
    with h5py.File(path) as file:
        volts = file[f"{SERIES}/data"][...] * VOLTS_PER_COUNT
        by_unit = np.split(file["units/spike_times"][...], file["units/spike_times_index"][:-1])
    for one, seconds in zip(found, by_unit, strict=True):
        spikes = np.round(seconds * RATE_HZ).astype(int)
        np.testing.assert_allclose(one.values, volts[spikes[:, np.newaxis] + LAGS].mean(axis=0), atol=1e-9)
    return worst


def draw(found: xr.DataArray, path: Path) -> None:
    """Draw the averages of all units by channel."""
    import matplotlib as mpl  # noqa: PLC0415 - workers don't need it

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, axes = plt.subplots(1, UNITS, figsize=(10, 4), sharey=True, layout="constrained")
    for unit, axis in enumerate(axes):
        microvolts = found[unit].values * 1e6
        planted = response(unit) * 1e6
        for channel in range(CHANNELS):
            axis.plot(
                LAGS, planted[:, channel] - 60 * channel, color="0.7", lw=3, label="planted" if not channel else ""
            )
            axis.plot(
                LAGS, microvolts[:, channel] - 60 * channel, color="C0", lw=1, label="found" if not channel else ""
            )
        axis.axvline(0, color="k", lw=0.5)
        axis.set(title=f"unit {unit}", xlabel="time from spike (ms)")
    axes[0].set(ylabel="channel", yticks=-60 * np.arange(CHANNELS), yticklabels=range(CHANNELS))
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    figure.savefig(path, dpi=120)


def main(arguments: list[str] | None = None) -> None:
    """Run the example."""
    folder = folder_of(arguments, __doc__)
    path = folder / "spike_triggered_average.nwb"
    write_session(path)
    with embargoed(path) as refs, cluster():
        found = average(refs)
    worst = check(found, path)
    draw(found, path.with_suffix(".png"))
    print(f"{UNITS} averages correlate with what was planted by {worst:.2f} and more: {path.with_suffix('.png')}")


if __name__ == "__main__":
    main()
