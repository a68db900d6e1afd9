"""Mean image of a two-photon recording, and the traces of its regions of interest.

Writes a session, serves it under embargo, reads it as an xarray dataset on a dask cluster, checks the result, and draws
two_photon.png.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import h5py
import numpy as np
import xarray as xr
from served import cluster, embargoed, folder_of, write

import lindi_dask as ld

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

RATE_HZ: Final = 30.0
FRAMES: Final = 1800
SIDE: Final = 96  # pixels
ROIS: Final = 6
SERIES: Final = "acquisition/TwoPhotonSeries"
MASKS: Final = "processing/ophys/ImageSegmentation/PlaneSegmentation/image_mask"


def masks() -> NDArray[np.float32]:
    """Return round cells as weights of pixels: (roi, x, y)."""
    random = np.random.default_rng(3)
    x, y = np.mgrid[:SIDE, :SIDE]
    places = [(16 + 32 * (roi % 3), 28 + 40 * (roi // 3)) for roi in range(ROIS)] + random.uniform(-4, 4, (ROIS, 2))
    return np.array([np.hypot(x - a, y - b) < 7 for a, b in places], np.float32)


def calcium() -> NDArray[np.float64]:
    """Return how bright each cell is at each frame (frame, roi): the analysis has to find it."""
    random = np.random.default_rng(5)
    events = random.random((FRAMES, ROIS)) < 0.008
    decay = np.exp(-np.arange(90) / 25)
    return np.stack([np.convolve(one, decay)[:FRAMES] for one in events.T.astype(float)], axis=1)


def write_session(path: Path) -> None:
    """Write a recording of blinking cells, and their masks."""
    from hdmf.backends.hdf5 import H5DataIO  # noqa: PLC0415 - workers don't need it
    from pynwb import NWBFile  # noqa: PLC0415
    from pynwb.ophys import ImageSegmentation, OpticalChannel, TwoPhotonSeries  # noqa: PLC0415

    random = np.random.default_rng(9)
    light = 200 + np.tensordot(60 + 300 * calcium(), masks(), 1)
    movie = random.poisson(light).astype(np.uint16)
    nwbfile = NWBFile(
        session_description="Cells that blink",
        identifier="two-photon",
        session_start_time=datetime(2026, 1, 1, 12, tzinfo=UTC),
    )
    plane = nwbfile.create_imaging_plane(
        name="plane",
        optical_channel=OpticalChannel(name="green", description="GCaMP", emission_lambda=510.0),
        description="layer 2/3",
        device=nwbfile.create_device(name="microscope", description="a two-photon microscope"),
        excitation_lambda=920.0,
        indicator="GCaMP6s",
        location="V1",
    )
    nwbfile.add_acquisition(
        TwoPhotonSeries(
            name="TwoPhotonSeries",
            data=H5DataIO(movie, chunks=(30, SIDE, SIDE), compression="gzip", shuffle=True),
            imaging_plane=plane,
            rate=RATE_HZ,
            unit="a.u.",
        )
    )
    segmentation = ImageSegmentation()
    table = segmentation.create_plane_segmentation(name="PlaneSegmentation", description="cells", imaging_plane=plane)
    for mask in masks():
        table.add_roi(image_mask=mask)
    nwbfile.create_processing_module("ophys", "cells").add(segmentation)
    write(nwbfile, path)


def analyse(refs: Path) -> xr.Dataset:
    """Return the mean image, and each cell's mean brightness by time."""
    movie = xr.open_dataset(refs, engine="lindi", group=SERIES, chunks={})["data"]
    _, *pixels = movie.dims
    weights = xr.DataArray(ld.open_array(refs, MASKS), dims=("roi", *pixels))
    traces = xr.dot(movie.astype("float32"), weights) / weights.sum(pixels)
    return xr.Dataset({"image": movie.mean("time"), "traces": traces.transpose("time", "roi")}).compute()


def check(found: xr.Dataset, path: Path) -> float:
    """Compare with what was planted, and with numpy on the file itself; return the worst correlation of a trace."""
    planted = calcium()
    worst = min(float(np.corrcoef(found["traces"][:, roi], planted[:, roi])[0, 1]) for roi in range(ROIS))
    np.testing.assert_array_less(0.95, worst, "a trace is not what was planted")
    with h5py.File(path) as file:
        movie = file[f"{SERIES}/data"][...].astype(np.float64)
        cells = file[MASKS][...]
    np.testing.assert_allclose(found["image"].values, movie.mean(axis=0), rtol=1e-5)
    truth = np.tensordot(movie, cells, ((1, 2), (1, 2))) / cells.sum(axis=(1, 2))
    np.testing.assert_allclose(found["traces"].values, truth, rtol=1e-5)
    np.testing.assert_allclose(found["time"].values, np.arange(FRAMES) / RATE_HZ)
    return worst


def draw(found: xr.Dataset, path: Path) -> None:
    """Draw the mean image with the outlines of the cells, and the traces beside it."""
    import matplotlib as mpl  # noqa: PLC0415 - workers don't need it

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.5), width_ratios=(1, 1.6), layout="constrained")
    image = left.imshow(found["image"].T, origin="lower", cmap="gray")
    figure.colorbar(image, ax=left, label="mean (a.u.)")
    for roi, mask in enumerate(masks()):
        left.contour(mask.T, [0.5], colors=[f"C{roi}"])
        trace = found["traces"][:, roi]
        right.plot(found["time"], trace / np.median(trace) - 1 + 3 * roi, color=f"C{roi}", lw=0.8)
    left.set(title="mean image", xlabel="x (pixels)", ylabel="y (pixels)")
    right.set(title="traces", xlabel="time (s)", ylabel="ΔF/F, cells apart by 3", yticks=[])
    figure.savefig(path, dpi=120)


def main(arguments: list[str] | None = None) -> None:
    """Run the example."""
    folder = folder_of(arguments, __doc__)
    path = folder / "two_photon.nwb"
    write_session(path)
    with embargoed(path) as refs, cluster():
        found = analyse(refs)
    worst = check(found, path)
    draw(found, path.with_suffix(".png"))
    print(f"{ROIS} traces correlate with what was planted by {worst:.2f} and more: {path.with_suffix('.png')}")


if __name__ == "__main__":
    main()
