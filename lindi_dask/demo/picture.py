"""The picture of a demo: two rhythms of the hippocampus over depth and time."""

import os
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from lindi_dask.demo.analysis import RIPPLE_HZ, RIPPLE_WINDOW, THETA_HZ, THETA_WINDOW, Analysis
from lindi_dask.demo.report import MB, DemoReport
from lindi_dask.demo.session import SessionInfo

INK, FAINT, RULE = "#22262e", "#6b717d", "#c9ccd3"
DASHES = (0, (4, 3))
ACCENT = "#b5367a"  # from the middle of magma
SIZE_INCHES, DPI = (11.0, 7.2), 150


@dataclass(frozen=True, slots=True)
class _Panel:
    """A heat map and the profile beside it."""

    title: str
    power: NDArray[np.float64]
    """(windows, channels), microvolts squared."""
    window_s: float
    profile: NDArray[np.float64]
    """(channels,), microvolts."""
    profile_title: str
    limits: tuple[float, float]
    """Percentiles of the power in decibels where the colours begin and end."""


def draw(analysis: Analysis, info: SessionInfo, report: DemoReport, path: str | os.PathLike[str]) -> None:
    """Write the picture as PNG, 1650 by 1080 pixels.

    Parameters
    ----------
    analysis
        Of the whole recording.
    info
        What the recording is: rate, conversion, regions.
    report
        How it was read, for the title and the caption.
    path
        The file to write; replaced if it exists.
    """
    microvolts = info.conversion * 1e6
    theta, ripple = analysis.theta * microvolts**2, analysis.ripple * microvolts**2
    panels = (
        _Panel(
            f"Theta power, {THETA_HZ[0]:g} to {THETA_HZ[1]:g} Hz", theta, THETA_WINDOW / info.rate_hz,
            analysis.rms * microvolts, "Broadband RMS", limits=(5, 99.7),
        ),
        _Panel(
            f"Ripple power, {RIPPLE_HZ[0]:g} to {RIPPLE_HZ[1]:g} Hz", ripple, RIPPLE_WINDOW / info.rate_hz,
            np.sqrt(ripple.max(axis=0, initial=0.0)), "Ripple RMS, highest", limits=(50, 99.95),
        ),
    )  # fmt: skip
    figure = Figure(figsize=SIZE_INCHES, dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(
        2, 4, width_ratios=(1, 0.014, 0.03, 0.22), left=0.075, right=0.925, top=0.855, bottom=0.15,
        hspace=0.2, wspace=0.03,
    )  # fmt: skip
    for row, panel in enumerate(panels):
        heat, bar, side = (figure.add_subplot(grid[row, column]) for column in (0, 1, 3))
        _draw_panel((heat, bar, side), panel, info)
    heat.set_xlabel("Time (s)", color=INK, fontsize=9.5)
    side.set_xlabel("µV", color=INK, fontsize=9.5)
    _write_words(figure, report)
    figure.savefig(path, format="png", metadata={"Software": "lindi-dask demo", "Title": report.title})


def _draw_panel(axes: tuple[Axes, Axes, Axes], panel: _Panel, info: SessionInfo) -> None:
    heat, bar, side = axes
    channels = info.shape[1]
    decibels = 10 * np.log10(np.maximum(panel.power, 1e-3))
    low, high = np.percentile(decibels, panel.limits) if decibels.size else (0.0, 1.0)
    image = heat.imshow(
        decibels.T, aspect="auto", interpolation="nearest", cmap="magma", vmin=low, vmax=max(high, low + 1),
        extent=(0, max(1, len(decibels)) * panel.window_s, channels - 0.5, -0.5),
    )  # fmt: skip
    heat.set_title(panel.title, loc="left", fontsize=11, color=INK, pad=6)
    heat.set_ylabel("Channel", color=INK, fontsize=9.5)
    bar.figure.colorbar(image, cax=bar, ticks=MaxNLocator(5, integer=True))
    bar.set_title("dB re 1 µV²", fontsize=8, color=FAINT, pad=6, loc="right")

    side.plot(panel.profile, np.arange(channels), color=ACCENT, linewidth=1.8, solid_capstyle="round")
    side.fill_betweenx(np.arange(channels), 0, panel.profile, color=ACCENT, alpha=0.12, linewidth=0)
    side.set(ylim=heat.get_ylim(), xlim=(0, max(1e-3, float(panel.profile.max())) * 1.12))
    side.tick_params(labelleft=False, left=False)
    side.set_title(panel.profile_title, loc="left", fontsize=11, color=INK, pad=6)
    _mark_regions(heat, side, info)
    for axis in (heat, bar, side):
        axis.tick_params(labelsize=8.5, colors=FAINT, length=3)
        for name, spine in axis.spines.items():
            spine.set_visible(axis is side and name in {"left", "bottom"})
            spine.set_color(RULE)


def _mark_regions(heat: Axes, side: Axes, info: SessionInfo) -> None:
    firsts = [first for _, first in info.regions]
    for (name, first), stop in zip(info.regions, [*firsts[1:], info.shape[1]], strict=True):
        side.text(
            1.04, (first + stop - 1) / 2, name, transform=side.get_yaxis_transform(),
            va="center", fontsize=9, color=INK,
        )  # fmt: skip
        if first:
            heat.axhline(first - 0.5, color="white", linewidth=0.7, alpha=0.55, linestyle=DASHES)
            side.axhline(first - 0.5, color=RULE, linewidth=0.7, linestyle=DASHES)


def _write_words(figure: Figure, report: DemoReport) -> None:
    run = report.cluster
    figure.text(0.03, 0.955, report.title, fontsize=14.5, fontweight="bold", color=INK, va="center")
    samples, channels = report.shape
    figure.text(
        0.03, 0.918, f"{samples:,} samples of {channels} channels, {report.nbytes / MB:,.0f} MB of int16",
        fontsize=10, color=FAINT, va="center",
    )  # fmt: skip
    checked = (
        "equal to h5py on the file itself, to the last bit" if report.exact else "NOT equal to h5py on the file itself"
    )
    figure.text(
        0.03, 0.042,
        f"Read by {run.processes} dask processes from an embargoed asset: {run.read.bytes_fetched / MB:,.1f} MB in "
        f"{run.read.requests:,} requests, {run.seconds:.1f} s at {report.pace}.\n"
        f"URLs signed for {report.lease_s:g} s: {run.read.exchanges:,} exchanges, of which {report.renewals:,} "
        f"renewals in mid-job. The result is {checked}.",
        fontsize=8.8, color=FAINT, va="center", linespacing=1.5,
    )  # fmt: skip
