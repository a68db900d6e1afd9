"""The groups, tables and attributes of a recording in NWB (https://nwb-schema.readthedocs.io)."""

from collections.abc import Sequence
from typing import TypeVar

import h5py
import numpy as np

DATA = "acquisition/ElectricalSeries/data"
Node = TypeVar("Node", h5py.Group, h5py.Dataset)

PITCH_UM = 20.0
STARTED = "2026-01-01T12:00:00+00:00"  # fixed: the same seed gives the same bytes


def write_layout(
    file: h5py.File,
    *,
    shape: tuple[int, int],
    chunks: tuple[int, int],
    level: int,
    rate_hz: float,
    conversion: float,
    regions: Sequence[tuple[str, int]],
    seed: int,
) -> h5py.Dataset:
    """Write all of a session but its data.

    Parameters
    ----------
    file
        New and empty.
    shape, chunks
        Of the recording: (samples, channels).
    level
        Of gzip; the byte shuffle goes before it.
    rate_hz, conversion
        Samples a second; volts a count.
    regions
        Brain regions from the top of the probe: name, first channel.
    seed
        What object ids are drawn from.

    Returns
    -------
    h5py.Dataset
        int16, `shape`, with no chunk written.
    """
    ids = _Ids(seed)
    file.attrs.update(
        {"namespace": "core", "neurodata_type": "NWBFile", "nwb_version": "2.11.0", "object_id": ids.draw()}
    )
    file["file_create_date"] = [STARTED]
    file["identifier"] = f"lindi-dask-demo-{seed}"
    file["session_description"] = "A synthetic recording through cortex and hippocampus"
    file["session_start_time"] = file["timestamps_reference_time"] = STARTED
    for name in ("analysis", "processing", "stimulus/presentation", "stimulus/templates"):
        file.create_group(name)
    table = _electrodes(file, shape[1], regions, ids)

    series = ids.typed(file.create_group("acquisition/ElectricalSeries"), "ElectricalSeries")
    series.attrs.update({"comments": "no comments", "description": "Raw voltage, broadband"})
    start = series.create_dataset("starting_time", data=0.0)
    start.attrs.update({"rate": rate_hz, "unit": "seconds"})
    rows = ids.typed(series.create_dataset("electrodes", data=np.arange(shape[1])), "DynamicTableRegion", "hdmf-common")
    rows.attrs.update({"description": "all electrodes", "table": table.ref})
    data = series.create_dataset(
        "data", shape, "<i2", chunks=chunks, shuffle=True, compression="gzip", compression_opts=level
    )
    data.attrs.update({"conversion": conversion, "offset": 0.0, "resolution": -1.0, "unit": "volts"})
    return data


def _electrodes(file: h5py.File, channels: int, regions: Sequence[tuple[str, int]], ids: "_Ids") -> h5py.Group:
    device = ids.typed(file.create_group("general/devices/probe"), "Device")
    device.attrs["description"] = "A linear silicon probe"
    ephys = file.create_group("general/extracellular_ephys")
    shank = ids.typed(ephys.create_group("shank0"), "ElectrodeGroup")
    shank.attrs.update({"description": "the only shank", "location": "through dorsal hippocampus"})
    shank["device"] = h5py.SoftLink(device.name)

    channel = np.arange(channels)
    names, firsts = zip(*regions, strict=True)
    region = np.searchsorted(firsts, channel, side="right") - 1
    columns = {
        "location": ("Brain region", [names[index] for index in region]),
        "group": ("The electrode's group", np.full(channels, shank.ref, h5py.ref_dtype)),
        "group_name": ("Name of the group", ["shank0"] * channels),
        "x": ("Across, micrometres", np.zeros(channels)),
        "y": ("Depth from the top of the probe, micrometres", channel * PITCH_UM),
        "z": ("Along, micrometres", np.zeros(channels)),
    }
    table = ids.typed(ephys.create_group("electrodes"), "ElectrodesTable")
    table.attrs.update({"colnames": list(columns), "description": "metadata about extracellular electrodes"})
    ids.typed(table.create_dataset("id", data=channel), "ElementIdentifiers", "hdmf-common")
    for name, (description, values) in columns.items():
        dtype = h5py.ref_dtype if name == "group" else None
        column = ids.typed(table.create_dataset(name, data=values, dtype=dtype), "VectorData", "hdmf-common")
        column.attrs["description"] = description
    return table


class _Ids:
    """Object ids: UUIDs, but drawn from the seed."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng([seed, 0x1D])

    def draw(self) -> str:
        digits = self._random.bytes(16).hex()
        return "-".join((digits[:8], digits[8:12], f"4{digits[13:16]}", f"8{digits[17:20]}", digits[20:]))

    def typed(self, node: Node, kind: str, namespace: str = "core") -> Node:
        node.attrs.update({"namespace": namespace, "neurodata_type": kind, "object_id": self.draw()})
        return node
