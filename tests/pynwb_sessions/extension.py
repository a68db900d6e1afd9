"""Writes a session with types of extensions: one that is defined here, as pynwb's own test files do, and ndx-pose's.

    python extension.py OUT

In a process of its own: who reads the session knows the types by the specifications cached in it only.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

import ndx_pose
import numpy as np
from pynwb import NWBHDF5IO, NWBFile, get_class, load_namespaces
from pynwb.file import Subject
from pynwb.spec import NWBAttributeSpec, NWBGroupSpec, NWBNamespaceBuilder, export_spec


def define(folder: Path) -> None:
    """Define the extension of pynwb.testing.make_test_files: a time series that has a number."""
    namespace = NWBNamespaceBuilder(
        doc="A test extension", name="ndx-testextension", version="0.1.0", author="Nobody", contact="nobody@example.org"
    )
    namespace.include_type("TimeSeries", namespace="core")
    series = NWBGroupSpec(
        neurodata_type_def="TimeSeriesWithID",
        neurodata_type_inc="TimeSeries",
        doc="A time series with a number",
        attributes=[NWBAttributeSpec(name="id", doc="The number", dtype="int32")],
    )
    export_spec(namespace, [series], output_dir=str(folder))
    load_namespaces(str(folder / "ndx-testextension.namespace.yaml"))


def main(out: Path) -> None:
    """Write the session."""
    define(out.parent)
    nwbfile = NWBFile(
        session_description="types of extensions",
        identifier="extension",
        session_start_time=datetime(2026, 1, 1, 12, tzinfo=UTC),
        subject=Subject(subject_id="M7", species="Mus musculus"),
    )
    with_id = get_class("TimeSeriesWithID", "ndx-testextension")
    nwbfile.add_acquisition(with_id(name="numbered", data=np.arange(2000.0), unit="m", rate=10.0, id=42))
    nose = ndx_pose.PoseEstimationSeries(
        name="nose",
        description="where the nose is",
        data=np.random.default_rng(1).random((1500, 2)),
        unit="pixels",
        reference_frame="the upper left corner",
        rate=30.0,
        confidence=np.ones(1500),
    )
    pose = ndx_pose.PoseEstimation(pose_estimation_series=[nose], description="pose", source_software="none")
    nwbfile.create_processing_module("behavior", "pose").add(pose)
    with NWBHDF5IO(out, "w") as io:
        io.write(nwbfile)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
