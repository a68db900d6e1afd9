"""What the tests of the pipelines share: a dandiset of small sessions, and how a script is run."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pynwb import NWBHDF5IO, H5DataIO, NWBFile, TimeSeries
from pynwb.behavior import SpatialSeries
from pynwb.file import Subject

if TYPE_CHECKING:
    from lindi_dask.testing import EmbeddedArchive

PIPELINES = Path(__file__).parents[2] / "pipelines"


def write_session(path: Path, number: int) -> None:
    """Write a session of which each number has another one."""
    random = np.random.default_rng(number)
    nwbfile = NWBFile(
        session_description="A session <of> many & more",
        identifier=f"session-{number}",
        session_start_time=datetime(2026, 1, 1 + number % 28, 12, tzinfo=UTC),
        session_id=f"day-{number}",
        subject=Subject(subject_id=f"mouse-{number % 4}", species="Mus musculus", age="P90D", sex="F"),
    )
    samples = 6_000 + number
    data = H5DataIO(random.normal(0, 60, (samples, 4)).astype("int16"), chunks=(5, 4), compression="gzip", shuffle=True)
    nwbfile.add_acquisition(TimeSeries(name="voltage", data=data, unit="volts", rate=1000.0, starting_time=1.5))
    times = H5DataIO(np.sort(random.uniform(0, 10, 2_000)), chunks=(500,), compression="gzip")
    positions = H5DataIO(random.normal(size=(2_000, 2)), chunks=(500, 2), compression="gzip")
    nwbfile.add_acquisition(
        SpatialSeries(name="position", data=positions, timestamps=times, reference_frame="the cage", unit="meters")
    )
    with NWBHDF5IO(path, "w") as io:
        io.write(nwbfile)


def settings_for(folder: Path, name: str, changes: dict[str, str]) -> Path:
    """Write a pipeline's own TOML file, changed line by line, and return its path."""
    text = (PIPELINES / name).read_text("utf-8")
    for old, new in changes.items():
        assert text.count(old) == 1, f"{name} has no line {old!r} any more"
        text = text.replace(old, new)
    path = folder / name
    path.write_text(text, "utf-8")
    return path


def command(script: str, settings: Path) -> list[str]:
    return [sys.executable, str(PIPELINES / script), str(settings)]


def environ_of(archive: EmbeddedArchive) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}
    return {**own, **archive.environ(), "PYTHONPATH": str(PIPELINES.parent)}
