"""Arrays that zarr wrote, one of them changed or none: concatenated they are what numpy makes of them, or an error."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.codecs import GzipCodec, ZstdCodec
from zarr.storage import MemoryStore

import lindi_dask as ld
from lindi_dask.errors import PartsDisagree
from lindi_dask.refs.combine import arrays

if TYPE_CHECKING:
    from numpy.typing import NDArray

Json = dict[str, Any]

ERRORS = ("dtype", "extent", "names", "attributes")
"""changes after which nothing can be concatenated; after others small arrays still can"""


def written(values: NDArray[Any], options: Json) -> Json:
    """Return references that hold what zarr writes."""
    store = MemoryStore()
    zarr.create_group(store).create_array("x", shape=values.shape, dtype=values.dtype, **options)[...] = values
    held = {key: buffer.to_bytes() for key, buffer in store._store_dict.items()}
    return {"refs": {key: f"base64:{base64.b64encode(data).decode()}" for key, data in held.items()}}


def changed(kind: str, values: NDArray[Any], options: Json, axis: int) -> tuple[NDArray[Any], Json]:
    names, chunks = list(options["dimension_names"]), options["chunks"]
    match kind:
        case "dtype":
            return values.astype("f4"), options | {"fill_value": 0}
        case "extent":
            return np.concatenate([values, values], axis=(axis + 1) % values.ndim), options
        case "names":
            names[(axis + 1) % len(names)] = "other"
            return values, options | {"dimension_names": names}
        case "attributes":
            return values, options | {"attributes": {"units": "mm"}}
        case "fill_value":
            return values, options | {"fill_value": 3}
        case "chunks":
            return values, options | {"chunks": tuple(size + 1 for size in chunks)}
        case "compressors":
            return values, options | {"compressors": [ZstdCodec()]}
    return values, options


@given(st.data())
@settings(max_examples=60, deadline=None, derandomize=True)
def test_what_zarr_wrote_is_concatenated_as_numpy_does_or_refused(data: st.DataObject) -> None:
    draw = data.draw
    ndim = draw(st.integers(2, 3))
    axis = draw(st.integers(0, ndim - 1))
    shape, chunks = ([draw(st.integers(1, 6)) for _ in range(ndim)] for _ in range(2))
    options: Json = {
        "chunks": tuple(chunks),
        "compressors": draw(st.sampled_from([None, [GzipCodec(level=1)]])),
        "dimension_names": ["time" if i == axis else f"d{i}" for i in range(ndim)],
        "fill_value": draw(st.sampled_from([0, 7])),
        "attributes": {"units": "m"},
    }
    dtype = draw(st.sampled_from(["i2", "u1", "i8"]))
    change = draw(st.sampled_from(["", "", *ERRORS, "fill_value", "chunks", "compressors"]))
    may_hold = draw(st.booleans())
    parts, documents = [], []
    count = draw(st.integers(2, 3))
    at = draw(st.integers(0, count - 1))
    for i in range(count):
        shape[axis] = draw(st.integers(0 if change == "" else 1, 9)) if draw(st.booleans()) else 2 * chunks[axis]
        values = np.random.default_rng(i).integers(6, 9, shape).astype(dtype)
        values, given_options = changed(change if i == at else "", values, options, axis)
        parts.append(values)
        documents.append(written(values, given_options))
    whole = None
    with pytest.MonkeyPatch.context() as patch:
        if not may_hold:
            patch.setattr(arrays, "is_small", lambda *_: False)
        try:
            whole = ld.combine(documents)
        except PartsDisagree as error:
            reason = error.reason
    if whole is None:
        in_grid = not any(part.shape[axis] % chunks[axis] for part in parts[:-1])
        assert change in ERRORS or not may_hold
        assert change or not in_grid, reason
        return
    assert change not in ERRORS
    found: Any = ld.open_group(whole)["x"]
    expected = np.concatenate(parts, axis=axis)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found[...], expected)
    assert found.attrs["units"] == "m"
