"""The catalogue's table and page, of sessions that are really there."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import h5py
import pyarrow.parquet
import pytest
from pipeline_runs import write_session

import lindi_dask as ld

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lindi_dask.testing import EmbeddedArchive

NASTY = "sub-1/<script>alert(1)</script>&\"'.nwb"
SCRIPT = "</td><img src=x onerror=alert(1)>"


class Page(HTMLParser):
    """The tags of a page, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def folder(
    embedded_archive: EmbeddedArchive, own_key: Callable[[EmbeddedArchive], dict[str, str]], data: Path, tmp_path: Path
) -> Path:
    small = tmp_path / "small.nwb"
    write_session(small, 3)
    with h5py.File(small, "r+") as file:
        file["general/subject/subject_id"][()] = SCRIPT
        file["acquisition"].move("voltage", "<b>voltage</b>")
    embedded_archive.add(small, path=NASTY)
    embedded_archive.add(data / "session.nwb", path="sub-2/sample.nwb")
    embedded_archive.add(b"no HDF5 <i>file</i>", path="sub-3/<i>broken</i>.nwb")
    with_empty = tmp_path / "empty.nwb"
    h5py.File(with_empty, "w").close()
    embedded_archive.add(with_empty, path="sub-4/empty.nwb")
    index = ld.index_dandiset(
        "dandi://local/000123@draft/", tmp_path / "out", attempts=1, instances=own_key(embedded_archive)
    )
    assert index.done == 3
    return index.folder


def row_of(folder: Path, asset: str, path: str) -> dict[str, Any]:
    rows = pyarrow.parquet.read_table(folder / "catalogue.parquet").to_pylist()
    (row,) = [row for row in rows if (row["asset_path"], row["path"]) == (asset, path)]
    return dict(row)


def test_the_table_says_of_each_array_what_h5py_does(folder: Path, data: Path) -> None:
    rows = pyarrow.parquet.read_table(folder / "catalogue.parquet").to_pylist()
    found = {row["path"]: row for row in rows if row["asset_path"] == "sub-2/sample.nwb"}
    checked = 0
    with h5py.File(data / "session.nwb") as file:

        def check(name: str, one: h5py.Dataset | h5py.Group) -> None:
            nonlocal checked
            if isinstance(one, h5py.Dataset) and one.chunks and one.dtype.kind in "iuf" and one.size >= 1000:
                row = found[f"/{name}"]
                assert (tuple(row["shape"]), tuple(row["chunks"]), row["dtype"]) == (
                    one.shape,
                    one.chunks,
                    str(one.dtype),
                )
                assert ("gzip" in row["codec"]) == (one.compression == "gzip")
                assert row["nbytes"] == one.nbytes
                assert row["stored_nbytes"] == one.id.get_storage_size()
                checked += 1

        file.visititems(check)
    assert checked >= 4


def test_the_table_says_what_a_series_is_of_and_how_fast(folder: Path) -> None:
    voltage = row_of(folder, NASTY, "/acquisition/<b>voltage</b>/data")
    wanted = {
        "session": "day-3", "subject": SCRIPT, "species": "Mus musculus", "neurodata_type": "TimeSeries",
        "is_series": True, "unit": "volts", "rate_hz": 1000.0, "start_s": 1.5, "shape": [6003, 4], "chunks": [5, 4],
        "chunk_count": 1201, "codec": "shuffle+gzip", "dtype": "int16", "nbytes": 6003 * 4 * 2,
    }  # fmt: skip
    assert {name: voltage[name] for name in wanted} == wanted
    assert voltage["duration_s"] == pytest.approx(6.003)
    assert voltage["ratio"] == pytest.approx(voltage["nbytes"] / voltage["stored_nbytes"], abs=0.001)
    position = row_of(folder, NASTY, "/acquisition/position/data")
    assert position["rate_hz"] == pytest.approx(200, rel=0.01)  # of timestamps that lie in the file
    assert not row_of(folder, NASTY, "/acquisition/position/timestamps")["is_series"]


def test_the_page_needs_nothing_else_and_escapes_what_comes_from_files(folder: Path) -> None:
    text = (folder / "catalogue.html").read_text("utf-8")
    page = Page()
    page.feed(text)
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "img", "i", "b", "link", "iframe"})
    assert not [one for _, one in page.tags if {"src", "href", "onerror"} & set(one)]
    assert not re.search(r"url\(|@import", text)
    for shown in (
        NASTY,
        SCRIPT,
        "/acquisition/<b>voltage</b>/data",
        "sub-3/<i>broken</i>.nwb",
        "SpatialSeries",
        "1000",
    ):
        assert shown in page.text
    assert "3 files of" in page.text
    assert "Failed, and not in it: 1." in page.text
