"""Zarr v3 references, one file or a folder, with `indexes`, `gen`, `selections` and `sources`: beside h5py and numpy.

The samples are as zarrshadow (formerly zindi) writes them: `make_zarrshadow.py` beside them says how.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zarr

import lindi_dask as ld
from lindi_dask import errors

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import h5py

    from lindi_dask.testing import EmbeddedArchive

# zarr 3.4 says so of compounds and of text, at each opening by fsspec
pytestmark = pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning")

CONTIGUOUS = "acquisition/contiguous/data"
TIMESTAMPS = "processing/ecephys/LFP/LFP/timestamps"
LFP = "processing/ecephys/LFP/LFP/data"
PIXELS = "processing/ophys/ImageSegmentation/rois/pixel_mask"
SESSIONS = {
    "session.zarrshadow": {"gen", "indexes", "refs", "sources", "templates", "version"},
    "session.zarrshadow.json": {"refs", "sources", "templates", "version"},
}
RECORDS = {
    "records.zarrshadow": {"gen", "indexes", "refs", "selections", "sources", "version"},
    "records.zarrshadow.json": {"refs", "selections", "sources", "templates", "version"},
}
"""sample -> what it has to be read by"""


def written(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((path / "refs.json" if path.is_dir() else path).read_text("utf-8"))
    return document


@pytest.fixture(scope="session")
def records(peers: Path) -> Any:
    """The numbers of `raw.bin`."""
    return np.frombuffer((peers / "raw.bin").read_bytes(), "<i2", offset=100).reshape(1009, 6)


@pytest.mark.parametrize("name", SESSIONS)
def test_every_array_of_the_session_is_what_h5py_reads(
    name: str,
    place: Callable[..., Path],
    arrays: Callable[..., dict[str, zarr.Array[Any]]],
    assert_equal_to_h5py: Callable[..., None],
    session_h5: h5py.File,
    here: dict[str, Any],
) -> None:
    path = place(name)
    assert written(path).keys() == SESSIONS[name]
    ours = arrays(ld.open_group(path, **here))
    assert len(ours) == 54
    for key, array in ours.items():
        assert_equal_to_h5py(array, session_h5[key])


def test_one_file_of_version_1_is_what_fsspec_reads(
    place: Callable[..., Path],
    by_fsspec: Callable[..., dict[str, zarr.Array[Any]]],
    arrays: Callable[..., dict[str, zarr.Array[Any]]],
    assert_same: Callable[..., None],
    here: dict[str, Any],
) -> None:
    path = place("session.zarrshadow.json")
    document = written(path)
    assert document["version"] == 1
    ours = arrays(ld.open_group(path, **here))
    if zarr.__version__ < "3.2":  # which does not know the type `struct`
        del document["refs"][f"{PIXELS}/zarr.json"], ours[PIXELS]
    theirs = by_fsspec(document, zarr_format=3)
    assert ours.keys() == theirs.keys()
    for key, array in ours.items():
        assert_same(array, theirs[key])


def test_an_index_and_rules_are_read_together(place: Callable[..., Path], here: dict[str, Any]) -> None:
    path = place("session.zarrshadow")
    document = written(path)
    assert document["indexes"].keys() == {LFP}
    assert {rule["key"].partition("/c/")[0] for rule in document["gen"]} >= {CONTIGUOUS, TIMESTAMPS}
    manifests = ld.open_store(path, **here).references.manifests
    assert {key: len(manifests[key].present()) for key in (LFP, CONTIGUOUS, TIMESTAMPS)} == {
        LFP: 1250,
        CONTIGUOUS: 19,
        TIMESTAMPS: 5,
    }


def test_an_index_that_is_not_beside_a_document_is_an_error(
    place: Callable[..., Path], here: dict[str, Any], tmp_path: Path
) -> None:
    document = written(place("session.zarrshadow"))
    with pytest.raises(errors.InvalidReferences, match=f"indexes of '{LFP}'"):
        ld.open_store(document, **here)
    alone = tmp_path / "alone.json"
    alone.write_text(json.dumps(document))
    with pytest.raises(errors.InvalidReferences, match="index"):
        ld.open_array(alone, LFP, **here).compute()


def test_rules_are_read_in_a_document_of_version_1_too(
    place: Callable[..., Path],
    assert_equal_to_h5py: Callable[..., None],
    session_h5: h5py.File,
    here: dict[str, Any],
) -> None:
    document = written(place("session.zarrshadow"))
    del document["indexes"]
    group = ld.open_group(document | {"version": 1}, **here)
    for path in (CONTIGUOUS, TIMESTAMPS):
        assert_equal_to_h5py(group[path], session_h5[path])


@pytest.mark.parametrize("name", SESSIONS)
def test_soft_links_open_as_what_they_point_at(
    name: str, place: Callable[..., Path], session_h5: h5py.File, here: dict[str, Any]
) -> None:
    path = place(name)
    links = ld.open_store(path, **here).references.links
    assert len(links) == 5
    group = ld.open_group(path, **here)
    for link, target in links.items():
        assert session_h5.get(link, getlink=True).path == f"/{target}"
        assert group[link].attrs.asdict() == group[target].attrs.asdict()


@pytest.mark.parametrize("name", SESSIONS)
def test_an_embargoed_session_is_read_through_the_archive(
    name: str,
    embedded_archive: EmbeddedArchive,
    own_key: Callable[[EmbeddedArchive], dict[str, str]],
    place: Callable[..., Path],
    assert_equal_to_h5py: Callable[..., None],
    session_h5: h5py.File,
    data: Path,
) -> None:
    content = (data / "session.nwb").read_bytes()
    path = place(name, embedded_archive.add(content).url)
    edit_source(path, etag=hashlib.md5(content).hexdigest())
    group = ld.open_group(path, instances=own_key(embedded_archive))
    for key in (LFP, CONTIGUOUS, TIMESTAMPS, PIXELS):
        assert_equal_to_h5py(group[key], session_h5[key])


# Records


@pytest.mark.parametrize("name", RECORDS)
def test_selections_and_indexes_with_chunks_that_are_missing_are_what_numpy_reads(
    name: str, place: Callable[..., Path], peers: Path, records: Any
) -> None:
    path = place(name, str(peers / "raw.bin"))
    document = written(path)
    assert document.keys() == RECORDS[name]
    assert document["version"] == 2
    group = ld.open_group(path, allow=[f"{peers}/"])
    listed = records.copy()
    listed[400:500] = listed[1000:] = -1  # the fill value
    expected = {"whole": records, "columns": records[:, [4, 0, 1]], "indexed": listed}
    for key, values in expected.items():
        array = group[key]
        assert isinstance(array, zarr.Array)
        assert array.dtype == np.int16
        np.testing.assert_array_equal(np.asarray(array[...]), values)


@pytest.mark.filterwarnings("ignore::dask.array.PerformanceWarning")
def test_parts_of_selected_records_are_what_numpy_reads(place: Callable[..., Path], peers: Path, records: Any) -> None:
    path = place("records.zarrshadow", str(peers / "raw.bin"))
    columns = ld.open_array(path, "columns", allow=[f"{peers}/"], chunks=(300, 2))
    np.testing.assert_array_equal(columns[95:1005:7, 1:].compute(), records[95:1005:7, [0, 1]])


# Sources


def edit_source(path: Path, **changes: Any) -> None:
    """Change what a placed document says of its one source; None takes a member out."""
    document = written(path)
    [url] = document["sources"]
    described = document["sources"][url] | changes
    document["sources"][url] = {name: value for name, value in described.items() if value is not None}
    (path / "refs.json" if path.is_dir() else path).write_text(json.dumps(document))


@pytest.mark.parametrize("name", SESSIONS)
@pytest.mark.parametrize("change", [1, -1, None])
def test_a_local_file_of_another_size_than_sources_says_is_not_read(
    name: str, change: int | None, place: Callable[..., Path], session_file: Path, here: dict[str, Any]
) -> None:
    path = place(name)
    edit_source(path, size=None if change is None else session_file.stat().st_size + change)
    for key in (LFP, CONTIGUOUS):
        array = ld.open_array(path, key, **here)[:10]
        if change is None:
            array.compute()
            continue
        with pytest.raises(errors.SourceMismatch, match="when the references were made"):
            array.compute()


SOURCES: dict[str, tuple[dict[str, Any], bool]] = {
    "as it is": ({}, True),
    "no size": ({"size": None}, True),
    "no ETag": ({"etag": None}, True),
    "a weak ETag, which says nothing": ({"etag": 'W/"another"'}, True),
    "another size": ({"size": 5_504_846}, False),
    "another ETag": ({"etag": '"0123456789abcdef0123456789abcdef"'}, False),
    "the ETag of the same bytes in parts": ({"etag": '"0123456789abcdef0123456789abcdef-2"'}, False),
}
"""what is changed in `sources`, and whether the file is read"""


@pytest.mark.parametrize("case", SOURCES)
def test_a_file_in_the_archive_is_read_only_if_it_is_the_one_that_sources_describes(
    case: str,
    embedded_archive: EmbeddedArchive,
    own_key: Callable[[EmbeddedArchive], dict[str, str]],
    place: Callable[..., Path],
    session_h5: h5py.File,
    data: Path,
) -> None:
    changes, is_read = SOURCES[case]
    content = (data / "session.nwb").read_bytes()
    path = place("session.zarrshadow", embedded_archive.add(content).url)
    edit_source(path, **{"etag": f'"{hashlib.md5(content).hexdigest()}"', **changes})
    array = ld.open_array(path, LFP, instances=own_key(embedded_archive))[:100]
    if is_read:
        np.testing.assert_array_equal(array.compute(), session_h5[LFP][:100])
    else:
        with pytest.raises(errors.SourceMismatch):
            array.compute()
