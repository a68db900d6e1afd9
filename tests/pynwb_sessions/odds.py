"""Writes a session with what the sample session lacks.

    python odds.py OUT

Compounds with references, datasets of references, data and timestamps that are links, text of two dimensions, booleans,
enumerations, empty arrays, numbers that JSON lacks, images in other files.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from hdmf.common import EnumData
from pynwb import NWBHDF5IO, NWBFile, TimeSeries
from pynwb.base import ImageReferences, Images
from pynwb.core import DynamicTable, VectorData
from pynwb.image import GrayscaleImage, ImageSeries


def session() -> NWBFile:
    """Return the session."""
    nwbfile = NWBFile(
        session_description="odds and ends",
        identifier="odds",
        session_start_time=datetime(2026, 1, 1, 12, tzinfo=UTC),
        experimenter=["Doe, Jane"],
    )
    first = TimeSeries(name="first", data=np.arange(20.0), unit="m", timestamps=np.arange(20.0) * 0.1)
    second = TimeSeries(name="second", data=np.arange(20.0), unit="m", timestamps=first)
    third = TimeSeries(name="third", data=first, unit="m", rate=1.0)
    not_json = np.array([np.nan, np.inf, -np.inf, 1.0])
    text = np.array([["a", "b"], ["c", "dé"]], dtype=object)
    for series in (
        first,
        second,
        third,
        TimeSeries(name="nan", data=not_json, unit="m", rate=1.0, conversion=float("nan"), offset=float("inf")),
        TimeSeries(name="empty", data=np.zeros((0, 3)), unit="m", rate=1.0),
        TimeSeries(name="bools", data=np.array([True, False]), unit="m", rate=1.0),
        TimeSeries(name="text", data=text, unit="m", rate=1.0),
        ImageSeries(
            name="elsewhere",
            external_file=["film.avi"],
            starting_frame=[0],
            format="external",
            unit="n/a",
            rate=1.0,
            num_samples=5,
            dimension=[3, 4],
        ),
    ):
        nwbfile.add_acquisition(series)
    nwbfile.add_trial_column("flag", "a boolean")
    for number in range(3):
        series = [first, second] if number != 1 else [first]
        nwbfile.add_trial(start_time=float(number), stop_time=number + 0.5, timeseries=series, flag=bool(number % 2))
    enum = EnumData(name="enum", description="an enumeration", data=np.array([0, 1], "u1"), elements=["x", "y"])
    references = VectorData(name="references", description="object references", data=[first, second])
    nwbfile.add_scratch(DynamicTable(name="table", description="d", columns=[references, enum, enum.elements]))
    images = [GrayscaleImage(name=name, data=np.ones((2, 2), "u1")) for name in ("one", "two")]
    order = ImageReferences(name="order_of_images", data=images)
    nwbfile.add_acquisition(Images(name="images", images=images, order_of_images=order))
    return nwbfile


if __name__ == "__main__":
    with NWBHDF5IO(Path(sys.argv[1]), "w") as io:
        io.write(session())
