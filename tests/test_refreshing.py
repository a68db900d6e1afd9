"""References whose asset was replaced: found again by path, the same bytes told from others."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

import lindi_dask as ld
from lindi_dask import errors, process
from lindi_dask.cli.main import commands
from lindi_dask.refs.renaming import renamed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lindi_dask.testing import EmbeddedArchive
    from lindi_dask.testing.assets import Asset

ADDRESS = "dandi://local/000123@draft/sub-1/a.nwb"


@pytest.fixture
def options(embedded_archive: EmbeddedArchive, own_key: Callable[[EmbeddedArchive], dict[str, str]]) -> dict[str, Any]:
    return {"instances": own_key(embedded_archive)}


def write(path: Path, first: int) -> Path:
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=np.arange(first, first + 5000), chunks=(500,), compression="gzip")
        file["small"] = np.arange(3)
    return path


@pytest.fixture
def asset(embedded_archive: EmbeddedArchive, tmp_path: Path) -> Asset:
    return embedded_archive.add(write(tmp_path / "a.nwb", 0), path="sub-1/a.nwb")


def contents(path: Path) -> dict[str, bytes]:
    """Return what a file, or all files of a folder, hold, by their names below it."""
    if path.is_file():
        return {"": path.read_bytes()}
    return {str(one.relative_to(path)): one.read_bytes() for one in path.rglob("*") if one.is_file()}


FORMS: dict[str, dict[str, Any]] = {
    "refs.lindi.json": {},
    "refs.json": {"form": "kerchunk"},
    "refs.parquet": {},
    "refs.lindi.d": {},
}


@pytest.mark.parametrize("form", FORMS)
def test_an_asset_with_the_same_bytes_is_found_again(
    form: str,
    asset: Asset,
    embedded_archive: EmbeddedArchive,
    options: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / form
    ld.index(ADDRESS, **options).save(path, **FORMS[form])
    run = ["refresh", str(path), "--instance", f"local={options['instances']['local']}"]
    before = contents(path)
    assert "Nothing to do" in CliRunner().invoke(commands, run, catch_exceptions=False).output
    new = embedded_archive.replace(asset.id)
    monkeypatch.setattr(process, "_leases", None)  # they have a lease on the old one
    monkeypatch.setattr(process, "_readers", {})
    with pytest.raises(errors.PermissionDenied, match="lindi-dask refresh"):
        ld.open_array(path, "x", **options).compute()
    done = CliRunner().invoke(commands, run, catch_exceptions=False)
    assert f"{ADDRESS}, the same bytes by another URL" in done.output
    np.testing.assert_array_equal(ld.open_array(path, "x", **options).compute(), np.arange(5000))
    assert contents(path).keys() == before.keys()
    assert contents(path.parent).keys() == {"a.nwb", form, *(f"{form}/{name}" for name in before if path.is_dir())} - (
        {form} if path.is_dir() else set()
    )
    for name, content in before.items():
        if name.endswith("json") or not name:
            assert json.loads(contents(path)[name]) == json.loads(content.replace(asset.id.encode(), new.id.encode()))
    assert ld.refresh(path, **options).state == "current"


@pytest.mark.parametrize("form", FORMS)
def test_other_bytes_are_indexed_anew_in_the_same_form(
    form: str, asset: Asset, embedded_archive: EmbeddedArchive, options: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / form
    ld.index(ADDRESS, **options).save(path, **FORMS[form])
    before = contents(path)
    embedded_archive.replace(asset.id, source=write(tmp_path / "b.nwb", 7))
    run = ["refresh", str(path), "--instance", f"local={options['instances']['local']}"]
    done = CliRunner().invoke(commands, run, catch_exceptions=False)
    assert "its bytes have changed: indexed anew" in done.output
    np.testing.assert_array_equal(ld.open_array(path, "x", **options).compute(), np.arange(7, 5007))
    assert contents(path).keys() == before.keys()
    if path.is_file():
        group = [json.loads(text)["refs"][".zgroup"] for text in (before[""], path.read_bytes())]
        assert type(group[0]) is type(group[1])


def test_bytes_that_changed_below_the_same_id_are_indexed_anew(
    asset: Asset, embedded_archive: EmbeddedArchive, options: dict[str, Any], tmp_path: Path
) -> None:
    references = ld.index(ADDRESS, **options)
    references.save(tmp_path / "refs.lindi.json")
    embedded_archive.overwrite(asset.id, write(tmp_path / "b.nwb", 7))
    assert ld.refresh(tmp_path / "refs.lindi.json", **options).state == "changed"


def test_references_that_hold_no_address_take_one(
    asset: Asset, embedded_archive: EmbeddedArchive, options: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "refs.lindi.json"
    ld.index(asset.url, **options).save(path)
    embedded_archive.replace(asset.id)
    with pytest.raises(errors.RefsError, match="--address"):
        ld.refresh(path, **options)
    found = ld.refresh(path, address=ADDRESS, **options)
    assert found.state == "moved"
    assert found.result is not None
    np.testing.assert_array_equal(ld.open_array(found.result, "x", **options).compute(), np.arange(5000))


def test_what_can_not_be_told_to_be_the_same_is_an_error_with_the_command(
    asset: Asset, embedded_archive: EmbeddedArchive, options: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "refs.lindi.json"
    ld.index(ADDRESS, **options).save(path)
    document = json.loads(path.read_text())
    del document["sources"]
    embedded_archive.replace(asset.id)
    with pytest.raises(errors.SourceMismatch, match=f"lindi-dask index '{ADDRESS}' OUT"):
        ld.refresh(document, address=ADDRESS, **options)


def test_what_is_known_of_an_asset_that_stays_is_left_as_it_is(
    asset: Asset, embedded_archive: EmbeddedArchive, options: dict[str, Any], tmp_path: Path
) -> None:
    stays = embedded_archive.add(write(tmp_path / "c.nwb", 3), path="sub-1/c.nwb")
    ld.index(ADDRESS, **options).save(tmp_path / "refs.lindi.json")
    document = json.loads((tmp_path / "refs.lindi.json").read_text())
    document["refs"]["x/0"] = [stays.url, *document["refs"]["x/0"][1:]]
    document["sources"][stays.url] = {"address": "dandi://local/000123@draft/sub-1/c.nwb"}
    embedded_archive.replace(asset.id)
    found = ld.refresh(document, **options)
    assert found.state == "moved"
    assert isinstance(found.result, dict)
    assert found.result["sources"][stays.url] == document["sources"][stays.url]


def test_references_to_no_asset_and_assets_that_are_gone_are_named(
    asset: Asset, embedded_archive: EmbeddedArchive, options: dict[str, Any], tmp_path: Path
) -> None:
    ld.index(tmp_path / "a.nwb", url="https://example.org/a.nwb").save(tmp_path / "other.lindi.json")
    with pytest.raises(errors.RefsError, match="no asset of an archive"):
        ld.refresh(tmp_path / "other.lindi.json", **options)
    path = tmp_path / "refs.lindi.json"
    ld.index(ADDRESS, **options).save(path)
    embedded_archive.add(b"", path="sub-1/b.nwb")
    embedded_archive.remove(asset.id)
    with pytest.raises(errors.AssetNotFound):
        ld.refresh(path, **options)


def test_urls_in_links_templates_and_entries_are_replaced_and_nothing_else() -> None:
    link = {"link_type": "hdf5_dataset", "url": "{{u}}", "name": "x"}
    document: dict[str, Any] = {
        "version": 1,
        "templates": {"u": "https://a/", "part": "/x"},
        "refs": {
            "a/0": ["{{u}}", 0, 4],
            "a/1": ["https://a/", 4, 4],
            "a/2": ["https://b/", 4, 4],
            "a/3": "https://a/",
            "a/.zattrs": {"_EXTERNAL_ARRAY_LINK": link, "note": "https://a/"},
        },
    }
    found = renamed(document, {"https://a/": "https://c/"}, {})
    assert found["templates"] == {"u": "https://c/", "part": "/x"}
    assert found["refs"] == document["refs"] | {"a/1": ["https://c/", 4, 4]}
    old = {"a/0": ["https://a/", 0, 4], ".zgroup": '{"zarr_format": 2}'}
    assert renamed(old, {"https://a/": "https://c/"}, {}) == old | {"a/0": ["https://c/", 0, 4]}
    encoded = {"a/.zattrs": "base64:" + base64.b64encode(json.dumps({"_EXTERNAL_ARRAY_LINK": link}).encode()).decode()}
    assert renamed({**document, "refs": encoded}, {"https://a/": "https://c/"}, {})["refs"].keys() == encoded.keys()
    named = {**document, "sources": {"{{u}}": {"size": 5}}, "indexes": {"b": {"url": "https://a/", "index": "i"}}}
    found = renamed(named, {"https://a/": "https://c/"}, {"https://c/": {"size": 5, "etag": '"e"'}})
    assert found["sources"] == {"https://c/": {"size": 5, "etag": '"e"'}}
    assert found["indexes"] == {"b": {"url": "https://c/", "index": "i"}}
    for url in ("https://a/", "{{h}}/", "https://a/{{i}}"):
        generated = {**document, "templates": {"h": "https://a"}, "refs": {}, "gen": [{"url": url, "key": "b/{{i}}"}]}
        with pytest.raises(errors.InvalidReferences, match="put together"):
            renamed(generated, {"https://a/": "https://c/"}, {})
    document["refs"]["a/4"] = ["https://a{{part}}", 0, 4]
    with pytest.raises(errors.InvalidReferences, match="put together"):
        renamed(document, {"https://a/x": "https://c/"}, {})
