"""References on disk: whole or not at all, nothing of others replaced, and read by LINDI itself."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import lindi_dask as ld
from lindi_dask.errors import ConfigurationError, InvalidReferences, UnsupportedArray
from lindi_dask.refs import References, parse_json, parse_kerchunk_parquet
from lindi_dask.saving import save
from lindi_dask.types import LocalFolder

if TYPE_CHECKING:
    from collections.abc import Callable


HERE = Path(__file__).parent
URL = "https://archive.example/file.nwb"

Json = dict[str, Any]


def tree(*, url: str = URL, name: str = "a", number: int = 0) -> References:
    zarray = {
        "zarr_format": 2, "shape": [2], "chunks": [2], "dtype": "<i4", "fill_value": number, "order": "C",
        "compressor": None, "filters": None,
    }  # fmt: skip
    document = {"version": 1, "refs": {f"{name}/.zarray": zarray, f"{name}/0": [url, 8, 8]}}
    return parse_json(json.dumps(document).encode(), "f", name="test")


def read(path: Path) -> References:
    """Return what was saved, by its form."""
    if path.is_file():
        return parse_json(path.read_bytes(), "f", name=path.name)
    if (path / "lindi.json").is_file():
        return read(path / "lindi.json")

    def beside(name: str) -> bytes | None:
        return (path / name).read_bytes() if (path / name).is_file() else None

    return parse_kerchunk_parquet((path / ".zmetadata").read_bytes(), "f", beside)


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def session(session_refs: Callable[..., Json]) -> References:
    document = session_refs("https://api.dandiarchive.org/api/assets/0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0/download/")
    return parse_json(json.dumps(document).encode(), "f", name="session")


@pytest.fixture
def bundle(data: Path) -> tuple[References, LocalFolder]:
    """The sample bundle, which has an array in blobs of its own, and one that LINDI left out."""
    folder = data / "session.amended.lindi.d"
    return read(folder), LocalFolder(str(folder))


# Forms


@pytest.mark.parametrize(
    ("name", "form", "files"),
    [
        ("x.lindi.json", None, ["x.lindi.json"]),
        ("x.json", None, ["x.json"]),
        ("x.json", "lindi", ["x.json"]),
        ("x.json", "kerchunk", ["x.json"]),
        ("x.parquet", None, ["x.parquet/.zmetadata", "x.parquet/a/refs.0.parq"]),
        ("x.parq", "kerchunk", ["x.parq/.zmetadata", "x.parq/a/refs.0.parq"]),
        ("x.lindi.d", None, ["x.lindi.d/lindi.json"]),
    ],
)
def test_the_ending_says_the_form(tmp_path: Path, name: str, form: Any, files: list[str]) -> None:
    save(tree(), tmp_path / name, form=form)
    assert names(tmp_path) == files  # and nothing temporary
    assert read(tmp_path / name).metadata == tree().metadata
    if name.endswith("json"):
        entry = json.loads((tmp_path / name).read_bytes())["refs"]["a/.zarray"]
        assert isinstance(entry, str if form == "kerchunk" else dict)


@pytest.mark.parametrize(
    ("name", "form", "reason"),
    [
        ("x.nwb", None, "ends with none of"),
        ("x.lindi.tar", None, "ends with none of"),
        ("x.parquet", "lindi", "can't be in the form of lindi"),
        ("x.lindi.d", "kerchunk", "can't be in the form of kerchunk"),
    ],
)
def test_a_form_that_there_is_not_is_refused(tmp_path: Path, name: str, form: Any, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        save(tree(), tmp_path / name, form=form)
    assert not names(tmp_path)


def test_others_may_read_it_as_they_may_read_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    save(tree(), tmp_path / "x.json")
    assert (tmp_path / "x.json").stat().st_mode == (tmp_path / "plain").stat().st_mode


# What is there already


@pytest.mark.parametrize("name", ["x.json", "x.parquet", "x.lindi.d"])
def test_what_was_saved_before_is_replaced_as_a_whole(tmp_path: Path, name: str) -> None:
    save(tree(name="old"), tmp_path / name)
    save(tree(), tmp_path / name)
    assert read(tmp_path / name).manifests.keys() == {"a"}
    assert not any("old" in file for file in names(tmp_path))


@pytest.mark.parametrize("document", ["x.json", "x.parquet/.zmetadata", "x.lindi.d/lindi.json"])
def test_references_of_others_are_replaced_only_when_that_is_said(tmp_path: Path, document: str) -> None:
    name, place = document.partition("/")[0], tmp_path / document
    place.parent.mkdir(exist_ok=True)
    place.write_text('{"refs":{}}')
    with pytest.raises(ConfigurationError, match=r"overwrite=True"):
        save(tree(), tmp_path / name)
    assert place.read_text() == '{"refs":{}}'
    save(tree(), tmp_path / name, overwrite=True)
    assert read(tmp_path / name).manifests.keys() == {"a"}


def test_a_folder_of_anything_else_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").mkdir()
    (tmp_path / "x.parquet" / "part.0.parquet").write_bytes(b"data")
    with pytest.raises(ConfigurationError, match="never replaced"):
        save(tree(), tmp_path / "x.parquet", overwrite=True)
    assert names(tmp_path) == ["x.parquet/part.0.parquet"]


def make_link(path: Path) -> None:
    path.symlink_to("../elsewhere")


@pytest.mark.parametrize(
    ("name", "make"),
    [("x.json", Path.mkdir), ("x.parquet", Path.touch), ("x.json", make_link), ("x.lindi.d", make_link)],
)
def test_neither_links_nor_the_wrong_kind_of_thing_are_replaced(
    tmp_path: Path, name: str, make: Callable[[Path], None]
) -> None:
    make(tmp_path / name)
    with pytest.raises(ConfigurationError, match="exists, and is not a"):
        save(tree(), tmp_path / name, overwrite=True)


def test_an_empty_folder_is_a_place_to_save_to(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").mkdir()
    save(tree(), tmp_path / "x.parquet")
    assert read(tmp_path / "x.parquet").manifests.keys() == {"a"}


# Failures


@pytest.mark.parametrize("name", ["x.json", "x.parquet", "x.lindi.d"])
def test_what_cannot_be_written_leaves_what_was_there(
    tmp_path: Path, name: str, session_refs: Callable[..., Json]
) -> None:
    save(tree(), tmp_path / name)
    before = {path: (tmp_path / path).read_bytes() for path in names(tmp_path)}
    broken = parse_json(json.dumps(session_refs(URL, "session.lindi.json")).encode(), "f", name="test")
    with pytest.raises(UnsupportedArray, match="LFP"):
        save(broken, tmp_path / name)
    assert {path: (tmp_path / path).read_bytes() for path in names(tmp_path)} == before
    save(broken, tmp_path / name, skip_unreadable=True)
    assert len(read(tmp_path / name).manifests) == 53


@pytest.mark.parametrize("name", ["x.json", "x.parquet", "x.lindi.d"])
def test_trouble_with_the_disk_in_between_leaves_nothing_half(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tree(), tmp_path / name)
    before = {path: (tmp_path / path).read_bytes() for path in names(tmp_path)}

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConfigurationError, match="No space left on device") as caught:
        save(tree(name="other"), tmp_path / name)
    assert caught.value.__context__ is None
    assert {path: (tmp_path / path).read_bytes() for path in names(tmp_path)} == before
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_folder_that_cannot_take_its_place_leaves_the_old_one_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "x.parquet"
    save(tree(), target)
    rename, failures = Path.rename, [target]

    def failing(self: Path, to: Path) -> Path:
        if to in failures and ".part" in self.name:
            failures.remove(to)
            raise OSError(5, "Input/output error")
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(ConfigurationError, match="Input/output error"):
        save(tree(name="other"), target)
    assert read(target).manifests.keys() == {"a"}
    assert [path.name for path in tmp_path.iterdir()] == ["x.parquet"]


@pytest.mark.parametrize("name", ["x.json", "x.parquet", "x.lindi.d"])
def test_a_folder_that_is_missing_is_said_to_be(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match="No such file or directory"):
        save(tree(), tmp_path / "missing" / name)


# Files beside the references


def test_a_bundle_takes_its_blobs_along(bundle: tuple[References, LocalFolder], data: Path, tmp_path: Path) -> None:
    references, base = bundle
    save(references, tmp_path / "x.lindi.d", base=base, skip_unreadable=True)
    blobs = [name for name in names(data / "session.amended.lindi.d") if name.startswith("blobs/")]
    assert blobs
    assert names(tmp_path / "x.lindi.d") == [*blobs, "lindi.json"]
    for name in blobs:
        assert (tmp_path / "x.lindi.d" / name).read_bytes() == (data / "session.amended.lindi.d" / name).read_bytes()
    assert float(ld.open_array(tmp_path / "x.lindi.d", "scratch/added").sum().compute()) == 1249975000.0


def test_a_bundle_is_saved_over_itself(bundle: tuple[References, LocalFolder], tmp_path: Path) -> None:
    references, base = bundle
    target = tmp_path / "x.lindi.d"
    save(references, target, base=base, skip_unreadable=True)
    before = names(tmp_path)
    save(read(target), target, base=LocalFolder(str(target)))
    assert names(tmp_path) == before


@pytest.mark.parametrize("name", ["x.json", "x.parquet", "x.lindi.d"])
def test_relative_references_that_would_mean_nothing_are_refused(
    bundle: tuple[References, LocalFolder], tmp_path: Path, name: str
) -> None:
    with pytest.raises(InvalidReferences, match="beside them"):
        save(bundle[0], tmp_path / name)
    assert not names(tmp_path)


def test_relative_references_stay_where_they_mean_the_same(tmp_path: Path) -> None:
    references, base = tree(url="blobs/x"), LocalFolder(str(tmp_path))
    save(references, tmp_path / "x.json", base=base)
    assert read(tmp_path / "x.json").sources[1].url == "blobs/x"
    (tmp_path / "below").mkdir()
    with pytest.raises(InvalidReferences, match=r"would not be found from .*below.*\.lindi\.d"):
        save(references, tmp_path / "below" / "x.json", base=base)


@pytest.mark.parametrize("make", [lambda _: None, make_link, Path.mkdir], ids=["missing", "a link out", "a folder"])
def test_blobs_that_are_not_files_of_the_bundle_are_not_copied(tmp_path: Path, make: Callable[[Path], None]) -> None:
    old = tmp_path / "old"
    old.mkdir()
    (tmp_path / "elsewhere").write_bytes(b"secret")
    make(old / "blob")
    with pytest.raises(InvalidReferences, match="can't be copied: there is no such file, or it lies elsewhere"):
        save(tree(url="./blob"), tmp_path / "x.lindi.d", base=LocalFolder(str(old)))
    assert not (tmp_path / "x.lindi.d").exists()


# LINDI itself


def by_kerchunk(references: References, folder: Path) -> References:
    save(references, folder / "between.json", form="kerchunk")
    return read(folder / "between.json")


def by_parquet(references: References, folder: Path) -> References:
    save(references, folder / "between.parquet", record_size=1000)
    return read(folder / "between.parquet")


@pytest.mark.parametrize("way", [lambda references, _: references, by_kerchunk, by_parquet])
def test_lindi_reads_what_we_write_as_h5py_reads_the_file(
    session: References,
    data: Path,
    lindi: Callable[[Path, Path], Json],
    lindi_truth: Json,
    tmp_path: Path,
    way: Callable[[References, Path], References],
) -> None:
    save(way(session, tmp_path), tmp_path / "x.lindi.json")
    found = lindi(tmp_path / "x.lindi.json", data / "session.nwb")
    assert found == lindi_truth


def test_lindi_reads_a_bundle_that_we_write(
    bundle: tuple[References, LocalFolder],
    data: Path,
    lindi: Callable[[Path, Path], Json],
    lindi_truth: Json,
    tmp_path: Path,
) -> None:
    references, base = bundle
    save(references, tmp_path / "x.lindi.d", base=base, skip_unreadable=True)
    found = lindi(tmp_path / "x.lindi.d", data / "session.nwb")
    before = lindi(Path(base.path), data / "session.nwb")
    left_out = {name for name in before if name.startswith("/processing/ecephys/LFP/LFP/data")}
    assert len(left_out) == 2
    assert found == {name: value for name, value in before.items() if name not in left_out}
    assert found.keys() - lindi_truth.keys() == {"/scratch@", "/scratch/added", "/scratch/added@"}
