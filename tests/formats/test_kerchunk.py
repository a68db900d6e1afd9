"""References that kerchunk wrote: every array beside what fsspec and zarr-python read of the same file, and h5py."""

from __future__ import annotations

import base64
import gzip
import json
import subprocess
import sys
import tarfile
from io import BytesIO
from typing import TYPE_CHECKING, Any

import kerchunk.codecs  # type: ignore[import-untyped] # registers what fsspec's reader needs
import kerchunk.df  # type: ignore[import-untyped]
import numpy as np
import pytest
import zarr
import zstandard
from fsspec.implementations.reference import LazyReferenceMapper  # type: ignore[import-untyped]

import lindi_dask as ld
from lindi_dask import errors

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import h5py

    from lindi_dask.testing import EmbeddedArchive

pytestmark = pytest.mark.filterwarnings(
    # pandas says so at each use; fsspec and kerchunk still read and write with it by default
    "ignore:The 'fastparquet' engine is deprecated",
    # what zarr thinks of a file in the hierarchy that belongs to no array
    "ignore:Object at whole_file is not recognized",
)

ASSET = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0"
URL = f"https://api.dandiarchive.org/api/assets/{ASSET}/download/"
LFP = "processing/ecephys/LFP/LFP/data"
CONTIGUOUS = "acquisition/contiguous/data"
PIXELS = "processing/ophys/ImageSegmentation/rois/pixel_mask"
GROUPS_OF_ELECTRODES = "general/extracellular_ephys/electrodes/group"

TEXTS = frozenset(
    (
        "general/lab",
        "general/optophysiology/plane/description",
        "general/optophysiology/plane/green/description",
        "general/optophysiology/plane/indicator",
        "general/optophysiology/plane/location",
        "identifier",
        "processing/behavior/Position/position/reference_frame",
        "session_description",
        "session_start_time",
        "timestamps_reference_time",
    )
)
"""texts without dimensions: kerchunk lists the array and drops its one chunk"""
LOST = TEXTS | {GROUPS_OF_ELECTRODES}
"""what kerchunk lists and does not keep: of object references it writes the text "None\""""


def templated(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document with its URL as a template."""
    refs = {k: ["{{u}}", *v[1:]] if isinstance(v, list) else v for k, v in document["refs"].items()}
    url = next(value[0] for value in document["refs"].values() if isinstance(value, list))
    return {"version": 1, "templates": {"u": url}, "refs": refs}


FORMS: dict[str, tuple[str, Callable[[dict[str, Any]], dict[str, Any]], int]] = {
    "version 1": ("kerchunk.json", lambda document: document, 52),
    "version 0": ("kerchunk.json", lambda document: document["refs"], 52),
    "templates": ("kerchunk.json", templated, 52),
    "nothing inline": ("kerchunk.noinline.json.gz", lambda document: document, 52),
    "vlen_encode null": ("kerchunk.null.json.gz", lambda document: document, 34),
    "vlen_encode encode": ("kerchunk.encode.json.gz", lambda document: document, 34),
    "gen": ("kerchunk.gen.json", lambda document: document, 3),
}
"""sample, what is made of it, arrays"""


@pytest.mark.parametrize("form", FORMS)
def test_every_array_of_json_is_what_fsspec_reads_and_what_kerchunk_kept_is_what_h5py_reads(
    form: str,
    document: Callable[..., dict[str, Any]],
    by_fsspec: Callable[..., dict[str, zarr.Array[Any]]],
    arrays: Callable[..., dict[str, zarr.Array[Any]]],
    assert_same: Callable[..., None],
    is_truth: Callable[..., bool],
    session_h5: h5py.File,
    here: dict[str, Any],
    tmp_path: Path,
) -> None:
    name, made, count = FORMS[form]
    written = made(document(name))
    path = tmp_path / "refs.json"
    path.write_text(json.dumps(written))
    theirs = by_fsspec(written, simple_templates=False)
    ours = arrays(ld.open_group(path, **here))
    assert len(ours) == count
    assert ours.keys() == theirs.keys()
    for key, array in ours.items():
        assert_same(array, theirs[key])
    lost = {key for key, array in ours.items() if not is_truth(array, session_h5[key])}
    assert lost == LOST & ours.keys()


def test_texts_that_kerchunk_dropped_are_the_fill_value_as_for_fsspec(
    place: Callable[..., Path], document: Callable[..., dict[str, Any]], here: dict[str, Any]
) -> None:
    refs = document("kerchunk.json")["refs"]
    group = ld.open_group(place("kerchunk.json"), **here)
    for path in TEXTS:
        assert f"{path}/.zarray" in refs
        assert [key for key in refs if key.startswith(f"{path}/") and ".z" not in key] == []
        text = group[path]
        assert isinstance(text, zarr.Array)
        assert np.asarray(text[...]).tolist() == ""


def test_the_rules_of_gen_are_right_where_fsspec_by_default_leaves_them_out(
    place: Callable[..., Path],
    document: Callable[..., dict[str, Any]],
    by_fsspec: Callable[..., dict[str, zarr.Array[Any]]],
    arrays: Callable[..., dict[str, zarr.Array[Any]]],
    is_truth: Callable[..., bool],
    session_h5: h5py.File,
    here: dict[str, Any],
) -> None:
    theirs = by_fsspec(document("kerchunk.gen.json"))
    ours = arrays(ld.open_group(place("kerchunk.gen.json"), **here))
    assert not np.asarray(theirs[CONTIGUOUS][:100_000]).any()  # zeros, without a word
    assert {path: is_truth(array, session_h5[path]) for path, array in ours.items()} == dict.fromkeys(theirs, True)
    assert len(ours) == 3


def test_a_reference_that_belongs_to_no_array_is_left_out_with_a_word(
    place: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    ld.open_store(place("kerchunk.gen.json"))
    assert "belong to no array are left out: 1, the first is 'whole_file'" in caplog.text


def test_ids_of_text_left_as_they_are_read_as_for_fsspec_and_contradictions_are_named(
    document: Callable[..., dict[str, Any]],
    by_fsspec: Callable[..., dict[str, zarr.Array[Any]]],
    arrays: Callable[..., dict[str, zarr.Array[Any]]],
    assert_same: Callable[..., None],
    here: dict[str, Any],
) -> None:
    written = document("kerchunk.leave.json.gz")
    theirs = by_fsspec(written)
    with pytest.raises(ValueError, match="cannot reshape array of size 8"):  # 16 items of 16 bytes, says kerchunk
        theirs[GROUPS_OF_ELECTRODES][...]
    with pytest.raises(errors.InvalidReferences, match="it has 128 bytes, but an uncompressed chunk here has 256"):
        ld.open_group(written, **here)
    del written["refs"][f"{GROUPS_OF_ELECTRODES}/0"]
    ours = arrays(ld.open_group(written, **here))
    del theirs[GROUPS_OF_ELECTRODES], ours[GROUPS_OF_ELECTRODES]
    assert len(ours) == 52
    assert ours.keys() == theirs.keys()
    for path, array in ours.items():
        assert_same(array, theirs[path])


def test_an_embargoed_session_is_read_through_the_archive(
    embedded_archive: EmbeddedArchive,
    own_key: Callable[[EmbeddedArchive], dict[str, str]],
    place: Callable[..., Path],
    arrays: Callable[..., dict[str, zarr.Array[Any]]],
    is_truth: Callable[..., bool],
    session_h5: h5py.File,
    data: Path,
) -> None:
    url = embedded_archive.add(data / "session.nwb", asset_id=ASSET).url
    instances = own_key(embedded_archive)
    for name, count in (("kerchunk.json", 41), ("kerchunk.gen.json", 3), ("kerchunk.parq", 41)):
        ours = arrays(ld.open_group(place(name, url), instances=instances))
        kept = [path for path in ours if path not in LOST]
        assert len(kept) == count
        assert all(is_truth(ours[path], session_h5[path]) for path in kept)


# Parquet

RECORDS = {"kerchunk.parq": "fastparquet", "kerchunk.plain.parq": "fastparquet", "kerchunk.pyarrow.parq": "pyarrow"}
"""folder, and the engine that wrote it: fsspec has to read with the same"""


@pytest.mark.parametrize("name", RECORDS)
def test_every_array_of_parquet_is_what_fsspec_reads_but_a_record_that_is_not_there_is_an_error(
    name: str,
    place: Callable[..., Path],
    by_fsspec: Callable[..., dict[str, zarr.Array[Any]]],
    arrays: Callable[..., dict[str, zarr.Array[Any]]],
    assert_same: Callable[..., None],
    is_truth: Callable[..., bool],
    session_h5: h5py.File,
    here: dict[str, Any],
) -> None:
    path = place(name)
    theirs = by_fsspec(LazyReferenceMapper(str(path), engine=RECORDS[name]))
    ours = arrays(ld.open_group(path, **here))
    assert len(ours) == 52
    for key in ours.keys() - TEXTS:
        assert_same(ours[key], theirs[key])
        assert is_truth(ours[key], session_h5[key]) == (key not in LOST)
    for key in TEXTS:  # fsspec says "": the same as for a record that was lost
        assert np.asarray(theirs[key][...]).tolist() == ""
        with pytest.raises(errors.InvalidReferences, match=f"{key}/refs.0.parq' of these references is not valid"):
            ours[key][...]


@pytest.mark.parametrize("name", RECORDS)
def test_every_chunk_of_parquet_as_it_was_written_is_where_json_has_it(
    name: str, peers: Path, document: Callable[..., dict[str, Any]]
) -> None:
    written = document("kerchunk.json", URL)["refs"]
    refs = {key: value for key, value in written.items() if ".z" not in key}
    references = ld.open_store(peers / name).references
    found: dict[str, Any] = {}
    for path, manifest in references.manifests.items():
        if path in TEXTS:
            continue
        places = manifest.present()
        located = manifest.locate(places)
        rows = zip(located.sources.tolist(), located.offsets.tolist(), located.lengths.tolist(), strict=True)
        for place, (number, offset, length) in zip(places.tolist(), rows, strict=True):
            source = references.sources[number]
            key = f"{path}/{'.'.join(map(str, np.unravel_index(place, manifest.grid or (1,))))}"
            if source.data is None:
                found[key] = [source.url, offset, length]
            else:
                found[key] = bytes(source.data[offset : offset + length])
    assert len(found) == 1310
    assert found == {key: inline(value) if isinstance(value, str) else value for key, value in refs.items()}


def inline(text: str) -> bytes:
    return base64.b64decode(text.removeprefix("base64:")) if text.startswith("base64:") else text.encode()


def test_a_filter_that_puts_text_into_compounds_is_named(document: Callable[..., dict[str, Any]]) -> None:
    written = document("kerchunk.null.json.gz")
    zarray = json.loads(written["refs"][f"{PIXELS}/.zarray"])
    zarray["filters"][0]["dtype"][0][1] = "S16"
    written["refs"][f"{PIXELS}/.zarray"] = json.dumps(zarray)
    assert "'fill_hdf_strings'" in ld.open_store(written).references.unreadable[PIXELS]


# Recognised by content


def tar_of(content: bytes) -> bytes:
    written = BytesIO()
    with tarfile.open(fileobj=written, mode="w") as tar:
        member = tarfile.TarInfo("lindi.json")
        member.size = len(content)
        tar.addfile(member, BytesIO(content))
    return written.getvalue()


CONTENTS: dict[str, Callable[[bytes], bytes]] = {
    "x.parquet": lambda content: content,
    "x.lindi.tar": lambda content: content,
    "gzip.json": gzip.compress,
    "zstd.json": lambda content: zstandard.ZstdCompressor().compress(content),
    "zstd.gz": lambda content: zstandard.ZstdCompressor().compress(content),
    "tar.json": tar_of,
}


@pytest.mark.parametrize("name", CONTENTS)
def test_a_file_is_what_it_holds_whatever_its_name(
    name: str,
    document: Callable[..., dict[str, Any]],
    is_truth: Callable[..., bool],
    session_h5: h5py.File,
    here: dict[str, Any],
    tmp_path: Path,
) -> None:
    path = tmp_path / name
    path.write_bytes(CONTENTS[name](json.dumps(document("kerchunk.json")).encode()))
    array = ld.open_group(path, **here)[LFP]
    assert is_truth(array, session_h5[LFP])


def test_a_folder_is_what_it_holds_whatever_its_name(
    place: Callable[..., Path], is_truth: Callable[..., bool], session_h5: h5py.File, here: dict[str, Any]
) -> None:
    array = ld.open_group(place("kerchunk.parq", under="x.json"), **here)[LFP]
    assert is_truth(array, session_h5[LFP])


# Written now, by the packages that are installed


# Without garbage collection: in zarr's thread it can free an object of h5py, and so wait for a lock of h5py's that
# kerchunk holds while it waits for that thread
TRANSLATE = """
import gc, json, sys
gc.disable()
import kerchunk.hdf
with open(sys.argv[1], "rb") as file:
    made = kerchunk.hdf.SingleHdf5ToZarr(file, url=sys.argv[1], error="ignore").translate()
json.dump(made, sys.stdout)
"""


def test_what_the_installed_kerchunk_writes_is_read_too(
    by_fsspec: Callable[..., dict[str, zarr.Array[Any]]],
    arrays: Callable[..., dict[str, zarr.Array[Any]]],
    assert_same: Callable[..., None],
    is_truth: Callable[..., bool],
    session_h5: h5py.File,
    session_file: Path,
    here: dict[str, Any],
) -> None:
    command = [sys.executable, "-W", "ignore", "-c", TRANSLATE, str(session_file)]
    made = subprocess.run(command, check=True, capture_output=True, timeout=120)
    written = json.loads(made.stdout)
    theirs = by_fsspec(written)
    ours = arrays(ld.open_group(written, **here))
    assert ours.keys() == theirs.keys() >= LOST
    for path, array in ours.items():
        assert_same(array, theirs[path])
        assert is_truth(array, session_h5[path]) or path in LOST


@pytest.mark.parametrize("record_size", [7, 500, 100_000])
def test_what_the_installed_kerchunk_makes_parquet_of_is_read_too(
    record_size: int,
    document: Callable[..., dict[str, Any]],
    arrays: Callable[..., dict[str, zarr.Array[Any]]],
    is_truth: Callable[..., bool],
    session_h5: h5py.File,
    here: dict[str, Any],
    tmp_path: Path,
) -> None:
    kerchunk.df.refs_to_dataframe(document("kerchunk.json"), str(tmp_path / "x.parq"), record_size=record_size)
    ours = arrays(ld.open_group(tmp_path / "x.parq", **here))
    kept = ours.keys() - LOST
    assert len(kept) == 41
    assert all(is_truth(ours[path], session_h5[path]) for path in kept)
