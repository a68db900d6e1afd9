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
from pynwb.ecephys import LFP, ElectricalSeries
from pynwb.file import Subject

if TYPE_CHECKING:
    from lindi_dask.testing import EmbeddedArchive

PIPELINES = Path(__file__).parents[2] / "pipelines"

# Of the sessions with an LFP
RATE, SAMPLES, CHANNELS, VOLTS = 500.0, 12_345, 4, 2e-7
SERIES = "processing/ecephys/LFP/ElectricalSeries"


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


def write_lfp(path: Path, seed: int, *, timed: bool = False) -> None:
    """Write a session with an LFP of noise, at a rate or with timestamps."""
    nwbfile = NWBFile(
        session_description="A session",
        identifier=f"lfp-{seed}",
        session_start_time=datetime(2026, 1, 1, 12, tzinfo=UTC),
    )
    probe = nwbfile.create_device(name="probe")
    shank = nwbfile.create_electrode_group(name="shank", description="one", location="hippocampus", device=probe)
    for channel in range(CHANNELS):
        nwbfile.add_electrode(group=shank, location=("CA1", "DG")[channel // 2])
    data = np.random.default_rng(seed).normal(0, 500, (SAMPLES, CHANNELS)).astype("int16")
    when = {"timestamps": np.arange(SAMPLES) / RATE} if timed else {"rate": RATE, "starting_time": 1.5}
    series = ElectricalSeries(
        name="ElectricalSeries",
        data=H5DataIO(data, chunks=(1_000, CHANNELS), compression="gzip"),
        electrodes=nwbfile.create_electrode_table_region(list(range(CHANNELS)), "all of them"),
        conversion=VOLTS,
        **when,
    )
    lfp = LFP(name="LFP")
    nwbfile.create_processing_module("ecephys", "filtered").add(lfp)
    lfp.add_electrical_series(series)
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


def secrets_in(archive: EmbeddedArchive, folder: Path, said: str) -> list[str]:
    """Where the key, or a presigned URL, is found: among what was said, and in all files of a folder."""
    texts = {"what was said": said.encode()}
    texts |= {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return [name for name, text in texts.items() if archive.owner_token.encode() in text or b"X-Amz-Signature" in text]
