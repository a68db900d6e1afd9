"""Chunks of parts in one grid: as they are, cut anew, held, padded, selected, missing, and many."""

from __future__ import annotations

import time
import tracemalloc
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pandas as pd
import pytest
from parts_on_disk import CHUNKED, DATA, SERIES, Recording, numbers, opened, parts_of, raw, read

import lindi_dask as ld
from lindi_dask.errors import CorruptChunk, PartsDisagree, UnsupportedArray, UrlRefused
from lindi_dask.refs import ColumnManifest, Source
from lindi_dask.refs.combine import arrays
from lindi_dask.refs.combine.along import concatenated
from lindi_dask.refs.combine.parts import Part

if TYPE_CHECKING:
    from pathlib import Path


Json = dict[str, Any]


def test_contiguous_data_are_cut_anew_where_there_is_a_common_length(tmp_path: Path) -> None:
    values = numbers(400_000, 4)
    whole = ld.combine(parts_of(values, [160_000, 360_000], tmp_path))
    found = ld.open_array(whole, DATA, allow=[f"{tmp_path}/"])
    np.testing.assert_array_equal(found, values)
    assert opened(whole, tmp_path)[DATA].chunks == (40_000, 4)
    with pytest.raises(PartsDisagree, match=r"numbers of rows, \[160001, 199999, 40000\], leave none of 64 KiB"):
        ld.combine(parts_of(values, [160_001, 360_000], tmp_path))


def test_never_written_contiguous_data_stay_the_fill_value(tmp_path: Path) -> None:
    values = numbers(100_000)
    parts = parts_of(values, [50_000], tmp_path)
    path = tmp_path / "empty.nwb"
    Recording(values[:1], start=50.0).write(path)
    with h5py.File(path, "a") as file:
        attributes = dict(file[DATA].attrs)
        del file[DATA]
        file.create_dataset(DATA, (50_000, 2), "<i2").attrs.update(attributes)
    whole = ld.combine([parts[0], ld.index(path)])
    np.testing.assert_array_equal(read(whole, DATA, tmp_path), np.concatenate([values[:50_000], 0 * values[:50_000]]))


def test_small_arrays_are_held_whatever_their_chunks(tmp_path: Path) -> None:
    values = numbers(700)
    times = np.sort(np.random.default_rng(0).uniform(0, 100, 700))
    parts = [
        Recording(values[:13], timestamps=times[:13]).index(tmp_path / "a.nwb"),
        Recording(values[13:], timestamps=times[13:], storage={"chunks": (100, 2)}).index(tmp_path / "b.nwb"),
    ]
    with pytest.raises(UrlRefused, match="allow="):
        ld.combine(parts)
    whole = ld.combine(parts, allow=[f"{tmp_path}/"])
    np.testing.assert_array_equal(read(whole, DATA, tmp_path), values)
    np.testing.assert_array_equal(read(whole, f"{SERIES}/timestamps", tmp_path), times)


def test_text_along_time_is_held_too(tmp_path: Path) -> None:
    parts = []
    for i, words in enumerate((["go", "é" * 40], ["stop"])):
        with h5py.File(tmp_path / f"{i}.h5", "w") as file:
            file["log/data"] = words
            file["log/timestamps"] = np.arange(len(words)) + 10.0 * i
        parts.append(ld.index(tmp_path / f"{i}.h5"))
    assert read(ld.combine(parts), "log/data", tmp_path).tolist() == ["go", "é" * 40, "stop"]


def test_what_can_not_be_read_in_one_part_can_not_be_read_in_the_whole(tmp_path: Path) -> None:
    parts = []
    for i in (0, 1):
        path = Recording(numbers(1000), start=float(i), storage=CHUNKED).write(tmp_path / f"{i}.nwb")
        with h5py.File(path, "a") as file:
            file["odd"] = np.array([b"ab"] * (1 + i), "V2") if i else np.arange(2)
        parts.append(ld.index(path))
    whole = ld.combine(parts)
    assert "in part 2, " in whole.unreadable["odd"]
    with pytest.raises(UnsupportedArray, match="opaque"):
        ld.open_array(whole, "odd")
    assert "opaque" in ld.combine({"a": parts[0], "b": parts[1]}).unreadable["b/odd"]


@pytest.mark.parametrize("keep", [None, {"record_size": 6, "keep": [[2, 4]]}])
def test_short_last_chunks_and_selections_are_kept(tmp_path: Path, keep: Json | None) -> None:
    table = np.random.default_rng(1).integers(0, 999, (550, 3), "<i2")
    stored = table[:, 1:2] if keep is None else table
    for name, part in (("x", stored[:300]), ("y", stored[300:])):
        (tmp_path / f"{name}.bin").write_bytes(part.tobytes())
    documents = [raw(f"{tmp_path}/x.bin", 300, keep=keep), raw(f"{tmp_path}/y.bin", 250, keep=keep)]
    whole = ld.combine(documents)
    np.testing.assert_array_equal(read(whole, "a", tmp_path), table[:, 1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrays, "_MAX_READ", 0)
        if keep is None:  # plain numbers in one piece are cut anew
            turned = read(ld.combine(documents[::-1]), "a", tmp_path)
            np.testing.assert_array_equal(turned, np.concatenate([table[300:, 1], table[:300, 1]]))
        else:
            with pytest.raises(PartsDisagree, match="50 more than"):
                ld.combine(documents[::-1])
        other = raw(f"{tmp_path}/y.bin", 200, keep=None if keep else {"record_size": 4, "keep": [[0, 2]]})
        with pytest.raises(PartsDisagree, match="has the selection"):
            ld.combine([documents[0], other])


def test_a_chunk_too_short_is_an_error_beside_parts_whose_chunks_are_padded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = np.random.default_rng(3).integers(0, 999, 550, "<i2")
    for name, part in (("x", table[:300]), ("y", table[300:])):
        (tmp_path / f"{name}.bin").write_bytes(part.tobytes())
    ld.StoreFactory(raw(f"{tmp_path}/x.bin", 300)).load()[0].save(tmp_path / "x.parquet")  # nothing there says "padded"
    last = raw(f"{tmp_path}/y.bin", 250)
    np.testing.assert_array_equal(read(ld.combine([tmp_path / "x.parquet", last]), "a", tmp_path), table)
    record = tmp_path / "x.parquet" / "a" / "refs.0.parq"
    rows = pd.read_parquet(record)
    rows.loc[1, "size"] = 198
    rows.to_parquet(record)
    with pytest.raises(CorruptChunk, match="198 bytes came out"):
        ld.combine([tmp_path / "x.parquet", last], allow=[f"{tmp_path}/"])
    monkeypatch.setattr(arrays, "_MAX_READ", 0)
    with pytest.raises(PartsDisagree, match="has a chunk of 198 bytes"):
        ld.combine([tmp_path / "x.parquet", last])


def test_nothing_is_read_that_would_fill_the_memory(tmp_path: Path) -> None:
    parts = []
    for chunk in (1000, 2000):
        with h5py.File(tmp_path / f"{chunk}.h5", "w") as file:
            file.create_dataset("s/data", (10**12,), "<f8", chunks=(chunk,), compression="gzip")  # never written
            file["s/starting_time"] = 0.0 if chunk == 1000 else 1e12
            file["s/starting_time"].attrs["rate"] = 1.0
        parts.append(ld.index(tmp_path / f"{chunk}.h5"))
    with pytest.raises(PartsDisagree, match=r"the chunks \[2000\], but part 1 has \[1000\]"):
        ld.combine(parts)


def test_two_million_chunks_are_joined_in_columns() -> None:
    count, parts = 10**6, []
    steps = np.arange(count, dtype=np.uint64)
    for first in (0, count):
        one = ld.StoreFactory(raw("https://example.org/x.bin", 100 * count, listed=0)).load()[0]
        number = one.sources.add(Source("https://example.org/x.bin"))
        manifest = ColumnManifest.build(
            (count,), steps, np.full(count, number), 200 * (steps + np.uint64(first)), np.full(count, 200)
        )
        parts.append(Part(f"{first}", replace(one, manifests={"a": manifest}), lambda _: np.zeros(0)))
    start = time.perf_counter()
    tracemalloc.start()
    whole = concatenated(parts, along="time", drop=[])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert time.perf_counter() - start < 20
    assert peak < 300 * 2**20  # an object a chunk would take more
    places = np.array([0, 999_999, 1_000_000, 1_999_999], np.uint64)
    assert whole.manifests["a"].locate(places).offsets.tolist() == [200 * place for place in places.tolist()]
