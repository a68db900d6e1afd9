"""TimeSeries and what is made from it: data in their unit, along time and channels."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np
import xarray as xr
from xarray import Variable

from lindi_dask.nwb.kinds import TABLE, data_dims
from lindi_dask.nwb.loaded_index import LoadedIndex
from lindi_dask.nwb.opening import warn
from lindi_dask.nwb.stored import Scaling
from lindi_dask.nwb.time_index import SampledTimes, TimeIndex
from lindi_dask.nwb.tree import number, text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray
    from xarray import Index

    from lindi_dask.nwb.opening import Opening
    from lindi_dask.nwb.tree import ArrayNode

__all__ = ["early_nodes", "open_series"]

_REGIONS: Final = {"electrodes": "channel", "source_channels": "channel", "rois": "roi"}
_ALONG: Final = {"channel_conversion": "channel", "features": "feature", "feature_units": "feature", "control": "time"}
_SCALINGS: Final = ("conversion", "offset", "unit")
_EXTERNAL: Final = "external_file"


def early_nodes(opening: Opening, path: str) -> Iterator[ArrayNode]:
    """Yield the small arrays that have to be read to open a time series."""
    for name, node in opening.tree.arrays(path).items():
        if (name == "starting_time" and node.size == 1) or (name in _REGIONS and node.ndim == 1):
            yield node


def open_series(opening: Opening, path: str, line: list[str]) -> xr.Dataset:
    """Return a time series as a dataset.

    Parameters
    ----------
    opening
        Of the session.
    path, line
        Of the group, and of its type.

    Returns
    -------
    xarray.Dataset
        `data` in its unit, `time` in seconds; the columns of the electrodes or ROIs that its channels are; all else.
    """
    arrays = opening.tree.arrays(path)
    data = arrays.pop("data", None)
    if data is not None and _EXTERNAL in arrays and data.size == 0:
        data = None  # the frames are in other files: only their names are here
    dims = () if data is None else data_dims(line, data.ndim)
    sizes = {} if data is None else dict(zip(dims, data.shape, strict=True))
    variables: dict[str, Variable] = {}
    coordinates, indexes = _time(opening, path, arrays, sizes.get("time"))
    if data is not None:
        variables["data"] = _data(opening, data, dims, arrays.get("channel_conversion"))
    for name, dim in _REGIONS.items():
        if name in arrays and dim in sizes:
            coordinates |= _region(opening, arrays.pop(name), dim, sizes[dim], {*arrays, *sizes, *coordinates, "data"})
    if "bands" in opening.tree.groups(path) and "band" in sizes:
        bands = opening.tree.groups(path)["bands"]
        coordinates |= _columns(opening, bands, None, "band", sizes["band"], {*arrays, *sizes, *coordinates, "data"})
    if line[0] == "SpatialSeries" and 1 <= sizes.get("feature", 0) <= 3:
        coordinates["feature"] = Variable(("feature",), list("xyz"[: sizes["feature"]]))
    for name, node in arrays.items():
        along = _ALONG.get(name)
        own = tuple(f"{name}_dim_{axis}" for axis in range(node.ndim))
        fits = along is not None and node.ndim == 1 and sizes.get(along) == node.shape[0]
        variables[name] = opening.variable(node, (along,) if fits and along is not None else own)
    blocks = variables["data"].encoding["preferred_chunks"] if data is not None else {}
    for variable in [*variables.values(), *coordinates.values()]:  # all of a dimension are cut alike
        own_blocks = variable.encoding.get("preferred_chunks", {})
        variable.encoding["preferred_chunks"] = own_blocks | {
            dim: blocks[dim] for dim in variable.dims if dim in blocks
        }
    coords = xr.Coordinates(coordinates, indexes=indexes)
    return xr.Dataset(variables, coords, opening.attributes(path, timed=True))


def _data(opening: Opening, node: ArrayNode, dims: tuple[str, ...], factors: ArrayNode | None) -> Variable:
    attributes = {name: value for name, value in node.attributes.items() if name != "namespace"}
    if opening.physical is False or node.dtype.kind not in "iuf":
        return opening.variable(node, dims, attributes)
    conversion, offset = number(node.attributes.get("conversion", 1.0)), number(node.attributes.get("offset", 0.0))
    reason = None
    axis = 1 if factors is None else factors.attributes.get("axis", 1)
    if conversion is None or offset is None:
        reason = "its conversion or offset is not a finite number"
    elif factors is not None and (type(axis) is not int or factors.shape != node.shape[axis : axis + 1]):
        reason = f"its channel_conversion has the shape {factors.shape}, where the data are {node.shape}"
    if reason is not None or conversion is None or offset is None:
        warn(f"/{node.path}: {reason}. The data are given as they are stored, not in their unit.")
        return opening.variable(node, dims, attributes)
    unit = text(attributes.get("unit"))
    attributes = {name: value for name, value in attributes.items() if name not in _SCALINGS}
    attributes |= {"units": unit} if unit else {}
    is_plain = conversion == 1 and offset == 0 and factors is None
    if is_plain and not isinstance(opening.physical, str):
        return opening.variable(node, dims, attributes)
    scaling = Scaling(conversion, offset, None if factors is None else factors.path, axis)
    return opening.variable(node, dims, attributes, scaling)


def _time(
    opening: Opening, path: str, arrays: dict[str, ArrayNode], size: int | None
) -> tuple[dict[str, Variable], dict[str, Index]]:
    """Return the coordinate of time, and its index; nothing, with a warning, where there can be none."""
    moments = opening.session_times(path)
    reference = moments.get("timestamps_reference_time") or moments.get("session_start_time")
    attributes = {"units": "seconds", "long_name": "time"} | ({"since": reference} if reference else {})
    timestamps = arrays.get("timestamps")
    if timestamps is not None:
        if timestamps.ndim == 1 and timestamps.dtype.kind in "iuf" and size in {None, timestamps.shape[0]}:
            del arrays["timestamps"]
            variable = opening.variable(timestamps, ("time",), attributes)
            return {"time": variable}, {"time": LoadedIndex(variable, "time", timestamps.path, increasing=True)}
        warn(
            f"/{path}: {size} rows of data have timestamps of the shape {timestamps.shape}. It has no coordinate time."
        )
        return {}, {}
    node = arrays.get("starting_time")
    if node is None or node.size != 1 or node.dtype.kind not in "iuf":
        warn(f"/{path} has neither timestamps nor a starting_time: it has no coordinate time.")
        return {}, {}
    value = opening.value(node, f"/{path} has no coordinate time")
    if value is None or size is None:
        return {}, {}
    start, rate = float(value.item()), number(node.attributes.get("rate"))
    transform = SampledTimes(start, rate or math.nan, size)
    last = transform.times(np.arange(max(size - 2, 0), size))
    if rate is None or rate <= 0 or not math.isfinite(start) or (np.diff(last) <= 0).any():
        warn(
            f"/{node.path}: {start} s and a rate of {node.attributes.get('rate')} Hz make no times: no coordinate time."
        )
        return {}, {}
    del arrays["starting_time"]
    index = TimeIndex(transform)
    variables = index.create_variables()
    variables["time"].attrs = attributes | {"sampling_rate": rate}
    return variables, {"time": index}


def _region(opening: Opening, region: ArrayNode, dim: str, size: int, taken: set[str]) -> dict[str, Variable]:
    """Return the columns of the table that a region points into, along the dimension that its rows are."""
    table = opening.tree.find(region.attributes.get("table"))
    without = f"its {dim}s have no coordinates"
    if table is None or TABLE not in opening.line(table):
        warn(f"/{region.path} points at no table: {without}.")
        return {}
    rows = opening.value(region, without)
    if rows is None:
        return {}
    if rows.ndim != 1 or rows.dtype.kind not in "iu" or len(rows) != size:
        warn(f"/{region.path} has {rows.size} rows for {size} {dim}s: {without}.")
        return {}
    return _columns(opening, table, rows.astype(np.int64), dim, size, taken, region.path)


def _columns(
    opening: Opening,
    table: str,
    rows: NDArray[np.int64] | None,
    dim: str,
    size: int,
    taken: set[str],
    by: str = "",
) -> dict[str, Variable]:
    """Return the plain columns of a table, some rows of them, as coordinates that are read later."""
    columns: Mapping[str, ArrayNode] = opening.tree.arrays(table)
    length = columns["id"].shape[0] if "id" in columns and columns["id"].ndim == 1 else None
    if length is None or (rows is None and length != size):
        return {}
    if rows is not None and len(rows) and (rows.min() < 0 or rows.max() >= length):
        wrong = int(rows[(rows < 0) | (rows >= length)][0])
        warn(f"/{by} points at row {wrong} of /{table}, which has {length}: its {dim}s have no coordinates.")
        return {}
    found = {}
    for name, node in columns.items():
        if node.ndim != 1 or f"{name}_index" in columns or node.kind in {"VectorIndex", "DynamicTableRegion"}:
            continue
        if node.shape[0] != length:
            warn(f"/{node.path} has {node.shape[0]} rows, but its table has {length}: it is no coordinate.")
            continue
        new = "electrode" if dim == "channel" else dim
        label = f"{new}_id" if name == "id" else name if name not in taken else f"{new}_{name}"
        variable = opening.variable(node, (dim,))
        if rows is not None:
            variable = variable.isel({dim: rows})
            variable.encoding = {}
        found[label] = variable
    return found
