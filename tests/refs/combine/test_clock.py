"""What the time axis is told by is looked at before it is read: of any shape, little is read, or it is an error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import lindi_dask as ld
from lindi_dask.errors import PartsDisagree
from lindi_dask.refs.combine.along import concatenated
from lindi_dask.refs.combine.parts import Part

if TYPE_CHECKING:
    from numpy.typing import NDArray

Json = dict[str, Any]

STARTED = "2026-01-01T12:00:00+00:00"
HUGE = 10**12
TARGET = {"name": "fixed_length_utf32", "configuration": {"length_bytes": 4}}
STRUCTURED = {"name": "structured", "configuration": {"fields": [["row", "int32"], ["target", TARGET]]}}


def group(**attributes: Any) -> Json:
    return {"zarr_format": 3, "node_type": "group", "attributes": attributes}


def array(shape: list[int], data_type: Any = "float64", fill_value: Any = 0.0, **attributes: Any) -> Json:
    """Return the document of an array of which nothing was written."""
    codec = {"name": "vlen-utf8"} if data_type == "string" else {"name": "bytes", "configuration": {"endian": "little"}}
    return {
        "zarr_format": 3, "node_type": "array", "shape": shape, "data_type": data_type, "fill_value": fill_value,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [1000] * len(shape)}},
        "chunk_key_encoding": {"name": "default"}, "attributes": attributes, "codecs": [codec],
    }  # fmt: skip


def part(name: str, nodes: Json, values: dict[str, Any]) -> Part:
    """Return a part with these arrays below a series, whose values are all that may be read."""
    series = group(neurodata_type="TimeSeries")
    refs = {"zarr.json": group(nwb_version="2.9.0"), "s/zarr.json": series}
    refs |= {f"{path}/zarr.json": node for path, node in nodes.items()}

    def read(path: str) -> NDArray[Any]:
        assert path in values, f"/{path} was read"
        return np.asarray(values[path])

    return Part(name, ld.StoreFactory({"refs": refs}).load()[0], read)


def joined(nodes: Json, values: dict[str, Any], *, later: Json | None = None) -> ld.References:
    """Return two parts behind each other; `later` has what is other in the second."""
    return concatenated([part("one", nodes, values), part("two", nodes, values | (later or {}))], along="time", drop=[])


def test_timestamps_that_were_never_written_are_not_read_however_many_there_are() -> None:
    whole = joined({"s/timestamps": array([HUGE])}, {})
    assert ld.open_array(whole, "s/timestamps").shape == (2 * HUGE,)


def test_timestamps_that_were_never_written_are_not_shifted_if_there_are_many() -> None:
    nodes = {"s/timestamps": array([HUGE]), "session_start_time": array([], "string", "")}
    values, later = {"session_start_time": STARTED}, {"session_start_time": STARTED.replace("12", "13")}
    with pytest.raises(PartsDisagree, match="can't be shifted") as caught:
        joined(nodes, values, later=later)
    assert caught.value.path == "s/timestamps"


@pytest.mark.parametrize("shape", [[0], [2], [3, 0], [HUGE]])
@pytest.mark.parametrize("path", ["session_start_time", "s/starting_time"])
def test_more_or_less_than_one_start_is_an_error_before_it_is_read(path: str, shape: list[int]) -> None:
    nodes = {
        "s/data": array([5]),
        "s/starting_time": array([], rate=10.0),
        "session_start_time": array([], "string", ""),
    }
    nodes[path] |= {name: array(shape)[name] for name in ("shape", "chunk_grid")}
    values = {"session_start_time": STARTED, "s/starting_time": 0.0}
    values.pop(path)
    with pytest.raises(PartsDisagree, match="one value") as caught:
        joined(nodes, values)
    assert (caught.value.path, caught.value.part) == (path, "one")
    assert str(shape) in str(caught.value)


@pytest.mark.parametrize("shape", [[], [1], [1, 1]])
def test_one_start_may_have_dimensions(shape: list[int]) -> None:
    nodes = {
        "s/data": array([5]),
        "s/starting_time": array(shape, rate=10.0),
        "session_start_time": array(shape, "string", ""),
    }
    values = {"session_start_time": np.full(shape, STARTED), "s/starting_time": np.full(shape, 1.0)}
    whole = joined(nodes, values, later={"s/starting_time": np.full(shape, 1.5)})
    assert ld.open_array(whole, "s/data").shape == (10,)


def test_a_start_that_is_no_number_is_an_error() -> None:
    nodes = {"s/data": array([5]), "s/starting_time": array([], "string", "", rate=10.0)}
    with pytest.raises(PartsDisagree, match="the starting_time of one is not a finite number"):
        joined(nodes, {"s/starting_time": "noon"})


def test_tables_with_too_many_rows_to_look_where_they_point_are_not_read() -> None:
    rows = array([HUGE], STRUCTURED, "AAAAAAAAAAA=", _REFERENCE_FIELDS=["target"])
    nodes = {"s/timestamps": array([1000]), "trials": group(), "trials/series": rows}
    with pytest.raises(PartsDisagree, match="too large to be read") as caught:
        joined(nodes, {"s/timestamps": np.zeros(1000)})
    assert (caught.value.path, caught.value.part) == ("trials/series", "one")
