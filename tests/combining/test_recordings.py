"""Parts of one recording, of real HDF5 files: equal to what was written, or an error that names what disagrees."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from parts_on_disk import CHUNKED, DATA, RATE, SERIES, Recording, dataset, numbers, opened, parts_of, read

import lindi_dask as ld
from lindi_dask.errors import PartsDisagree
from lindi_dask.hdf5.datasets import INLINE_SIZE
from lindi_dask.refs.combine import arrays

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


Json = dict[str, Any]


@pytest.mark.parametrize("name", [None, "x.lindi.json", "x.json", "x.parquet", "x.lindi.d"])
def test_parts_are_one_recording_in_every_form(tmp_path: Path, name: str | None) -> None:
    values = numbers(4321)
    parts = parts_of(values, [1000, 3500], tmp_path, storage=CHUNKED)
    refs: Any = ld.combine(parts)
    assert set(refs.unreadable) == set()
    if name is not None:
        refs.save(tmp_path / name, form="kerchunk" if name == "x.json" else None)
        refs = tmp_path / name
    np.testing.assert_array_equal(read(refs, DATA, tmp_path), values)
    np.testing.assert_array_equal(
        ld.open_array(refs, "processing/linked/data", allow=[f"{tmp_path}/"])[900:3600], values[900:3600]
    )
    group = opened(refs, tmp_path)
    assert group[DATA].chunks == (500, 2)
    assert group["general/electrodes/location"][...].tolist() == ["CA3", "CA1"]
    assert group[f"{SERIES}/electrodes"].attrs["table"]["_REFERENCE"]["path"] == "/general/electrodes"
    series = dataset(refs, tmp_path, SERIES)
    np.testing.assert_allclose(series["time"], np.arange(4321) / RATE)
    np.testing.assert_allclose(series["data"], values * 1e-6, rtol=1e-6)


@given(st.data())
@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_split_is_the_whole_or_an_error(tmp_path: Path, data: st.DataObject) -> None:
    rows, columns = data.draw(st.integers(1, 6000)), data.draw(st.integers(1, 3))
    dtype, chunk = data.draw(st.sampled_from(["<i2", ">i4", "<f8", "u1"])), data.draw(st.sampled_from([7, 64, 300]))
    storage: Json = data.draw(st.sampled_from([{}, {"shuffle": True}, {"compression": "gzip"}]))
    values = numbers(rows, columns).astype(dtype)
    cuts = data.draw(st.sets(st.integers(1, rows), max_size=3))
    if data.draw(st.booleans()):
        cuts = {cut // chunk * chunk for cut in cuts}
    edges = sorted({0, rows, *cuts})
    if storage:
        storage |= {"chunks": (chunk, columns), "maxshape": (None, columns)}
    parts = parts_of(values, edges[1:-1], tmp_path, storage=storage)
    lengths = np.diff(edges)
    in_file, in_grid = (lengths * columns >= INLINE_SIZE).all(), not (lengths[:-1] % chunk).any()
    reads_small = data.draw(st.booleans())
    with pytest.MonkeyPatch.context() as patch:
        if not reads_small:
            patch.setattr(arrays, "_MAX_READ", 0)
        whole = None
        with contextlib.suppress(PartsDisagree):
            whole = ld.combine(parts, allow=[f"{tmp_path}/"])
    if whole is None:
        assert not reads_small
        assert not (storage and in_file and in_grid)
        return
    found = read(whole, DATA, tmp_path)
    assert found.dtype.newbyteorder("=") == values.dtype.newbyteorder("=")
    np.testing.assert_array_equal(found, values)


def test_one_part_is_what_it_was(tmp_path: Path, data: Path) -> None:
    session = ld.index(data / "session.nwb")
    session.save(tmp_path / "alone.json")
    ld.combine([session]).save(tmp_path / "combined.json")
    assert (tmp_path / "combined.json").read_bytes() == (tmp_path / "alone.json").read_bytes()


def wrong_dtype(one: Recording) -> None:
    one.data = one.data.astype("<i4")


def wrong_columns(one: Recording) -> None:
    one.data = np.concatenate([one.data, one.data], axis=1)
    one.storage = {**CHUNKED, "chunks": (500, 4)}


def wrong_chunks(one: Recording) -> None:
    one.storage = {**CHUNKED, "chunks": (250, 2)}


def wrong_codecs(one: Recording) -> None:
    one.storage = {"chunks": (500, 2), "compression": "gzip"}


def wrong_fill(one: Recording) -> None:
    one.storage = {**CHUNKED, "fillvalue": 7}


def wrong_layout(one: Recording) -> None:
    one.storage = {}


LARGE = (wrong_chunks, wrong_codecs, wrong_fill, wrong_layout)  # small arrays are combined by value

DISAGREEMENTS: list[tuple[Callable[[Recording], None] | Json, str, str]] = [
    (wrong_dtype, DATA, "'int32', but part 1 has 'int16'"),
    (wrong_columns, DATA, r"the shape \[2000, 4\], but part 1 has \[2000, 2\]"),
    (wrong_chunks, DATA, r"the chunks \[250, 2\], but part 1 has \[500, 2\]"),
    (wrong_codecs, DATA, r"part 2 has the codecs .*, but part 1 has .*shuffle"),
    (wrong_fill, DATA, "the fill value 7, but part 1 has 0"),
    (wrong_layout, DATA, "part 2 has the codecs"),
    ({"conversion": 2e-6}, DATA, "'conversion' is 2e-06 in part 2, but 1e-06 in part 1"),
    ({"unit": "millivolts"}, DATA, '\'unit\' is "millivolts" in part 2, but "volts" in part 1'),
    ({"rate": 2 * RATE}, f"{SERIES}/starting_time", "'rate' is 2000.0 in part 2, but 1000.0"),
    ({"location": "CA2"}, "general/electrodes/location", "its values in part 2 are not those in part 1"),
    ({"start": 2.5}, SERIES, r"part 2 starts 0\.5 s after the end"),
    ({"start": 1.9}, SERIES, r"part 2 starts 0\.1 s before the end"),
    ({"start": 2.0002}, SERIES, r"part 2 starts 0\.0002 s after the end"),
    ({"start": float("nan")}, SERIES, "the starting_time of part 2 is not a finite number"),
    ({"started": "2026-01-01T12:00:05+00:00"}, SERIES, "part 2 starts 5 s after the end"),
    ({"started": "2026-01-01T12:00:02"}, "session_start_time", "can't be told"),
    ({"started": "yesterday"}, "session_start_time", "can't be told"),
    ({"timestamps": np.arange(2000) / RATE + 2}, f"{SERIES}/starting_time", "an array in part 1, but not in part 2"),
]


@pytest.mark.parametrize(("change", "path", "said"), DISAGREEMENTS, ids=[said for _, _, said in DISAGREEMENTS])
def test_what_disagrees_is_named_with_both_values(
    tmp_path: Path, change: Callable[[Recording], None] | Json, path: str, said: str
) -> None:
    rows = 300_000 if change in LARGE else 2000
    one = Recording(numbers(rows), storage=CHUNKED)
    other = Recording(one.data, start=rows / RATE, storage=CHUNKED)
    if isinstance(change, dict):
        other = replace(other, **change)
    else:
        change(other)
    with pytest.raises(PartsDisagree, match=said) as caught:
        ld.combine([one.index(tmp_path / "one.nwb"), other.index(tmp_path / "two.nwb")])
    assert (caught.value.path, caught.value.part) == (path, "part 2")
    assert f"drop=['/{path}']" in str(caught.value)
    assert "give the parts names" in str(caught.value)


def test_of_the_root_no_error_says_that_it_can_be_left_out(tmp_path: Path) -> None:
    parts = []
    for i in (0, 1):
        path = Recording(numbers(1000), start=float(i), storage=CHUNKED).write(tmp_path / f"{i}.nwb")
        with h5py.File(path, "a") as file:
            file.attrs["version"] = i
        parts.append(ld.index(path))
    with pytest.raises(PartsDisagree, match=r"'version' is 1 in part 2, .*\. Give the parts names") as caught:
        ld.combine(parts)
    assert (caught.value.path, caught.value.part) == ("", "part 2")
    assert "drop" not in str(caught.value)


def test_links_that_lead_elsewhere_are_named_with_both_ends(tmp_path: Path) -> None:
    one = Recording(numbers(2000), storage=CHUNKED).index(tmp_path / "one.nwb")
    path = Recording(numbers(2000), start=2.0, storage=CHUNKED).write(tmp_path / "two.nwb")
    with h5py.File(path, "a") as file:
        del file["processing/linked"]
        file["processing/linked"] = h5py.SoftLink("/general/electrodes")
    said = "a link to /general/electrodes in part 2, but to /acquisition/Raw in part 1"
    with pytest.raises(PartsDisagree, match=said) as caught:
        ld.combine([one, ld.index(path)])
    assert caught.value.path == "processing/linked"


def test_too_many_rows_for_the_grid_are_counted(tmp_path: Path) -> None:
    for i, part in enumerate(parts_of(numbers(600_000), [300_003], tmp_path, storage=CHUNKED)):
        part.save(tmp_path / f"{i}.json")
    said = r"part 1 \(0\.json\) has 300003 elements along dimension 0, 3 more than a whole number of chunks of 500"
    with pytest.raises(PartsDisagree, match=said):
        ld.combine([tmp_path / "0.json", tmp_path / "1.json"])


def test_what_describes_a_file_is_that_of_the_first_and_the_rest_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    values = numbers(2000)
    parts = [
        Recording(values[:1000], storage=CHUNKED).index(tmp_path / "a.nwb"),
        Recording(values[1000:], start=1.0, identifier="two", storage=CHUNKED).index(tmp_path / "b.nwb"),
    ]
    with caplog.at_level(logging.WARNING):
        whole = ld.combine(parts)
    assert [record.getMessage() for record in caplog.records] == [
        "/identifier in part 2 is not that in part 1, which is kept"
    ]
    assert read(whole, "identifier", tmp_path) == "one"
    assert ld.open_group(whole).attrs["object_id"] == "a"
