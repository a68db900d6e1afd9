"""Sessions as groups, wherever their files lie: all that they have, with links and references to objects."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
import xarray as xr
import zarr
from parts_on_disk import CHUNKED, DATA, RATE, Recording, numbers, opened, raw, read

import lindi_dask as ld
from lindi_dask.errors import ConfigurationError, PartsDisagree, UnsupportedArray, UrlRefused

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lindi_dask.testing import EmbeddedArchive

Json = dict[str, Any]


def test_files_beside_the_references_and_in_bundles_are_found_from_anywhere(data: Path, tmp_path: Path) -> None:
    folder, tar = data / "session.amended.lindi.d", data / "session.amended.lindi.tar"
    truth = np.asarray(ld.open_array(folder, "scratch/added"))
    whole = ld.combine({"folder": folder, "tar": tar, "again": folder / "lindi.json"})
    whole.save(tmp_path / "out.lindi.json", skip_unreadable=True)
    for name in ("folder", "tar", "again"):
        found = ld.open_array(tmp_path / "out.lindi.json", f"{name}/scratch/added", allow=[f"{data}/"])
        np.testing.assert_array_equal(found, truth)
    with pytest.raises(UrlRefused, match="allow="):
        ld.open_array(tmp_path / "out.lindi.json", "tar/scratch/added").compute()


def test_hdf5_files_are_parts_without_a_reference_file(tmp_path: Path) -> None:
    values = numbers(2000)
    parts = [
        Recording(values[first : first + 1000], start=first / RATE, storage=CHUNKED).write(tmp_path / f"{first}.nwb")
        for first in (0, 1000)
    ]
    np.testing.assert_array_equal(read(ld.combine(parts), DATA, tmp_path), values)


def test_what_lindi_left_out_is_in_the_whole_with_expand(
    embedded_archive: EmbeddedArchive, own_key: Callable[..., Json], data: Path, session_h5: h5py.File
) -> None:
    lfp, url = "processing/ecephys/LFP/LFP/data", embedded_archive.add(data / "session.nwb").url
    document = json.loads((data / "session.lindi.json").read_text()) | {"templates": {"u1": url}}
    document["refs"][f"{lfp}/.zattrs"]["_EXTERNAL_ARRAY_LINK"]["url"] = url
    instances = own_key(embedded_archive)
    with pytest.raises(UnsupportedArray, match="expand=True"):
        ld.open_array(ld.combine({"a": document}, instances=instances), f"a/{lfp}")
    whole = ld.combine({"a": document}, instances=instances, expand=True)
    found = ld.open_array(whole, f"a/{lfp}", instances=instances)[:100]
    np.testing.assert_array_equal(found, session_h5[lfp][:100])


def test_a_dict_with_relative_urls_is_refused(data: Path) -> None:
    document = json.loads((data / "session.amended.lindi.d" / "lindi.json").read_text())
    with pytest.raises(UrlRefused, match="a dict lies in no folder"):
        ld.combine({"a": document})


def test_embargoed_parts_are_read_by_the_key_and_relative_to_their_own_urls(
    embedded_archive: EmbeddedArchive, own_key: Callable[..., Json], tmp_path: Path
) -> None:
    instances = own_key(embedded_archive)
    values = numbers(3000)
    urls = []
    for i in (0, 1):
        one = Recording(values[i * 1500 :][:1500], start=i * 1.5, storage=CHUNKED).write(tmp_path / f"{i}.nwb")
        urls.append(embedded_archive.add(one).url)
        ld.index(urls[-1], instances=instances).save(tmp_path / f"{i}.lindi.json")
    files = [tmp_path / f"{i}.lindi.json" for i in (0, 1)]
    before = ld.stats()
    ld.combine(files, instances=instances).save(tmp_path / "whole.lindi.json")
    assert (ld.stats() - before).requests == 0
    assert embedded_archive.owner_token not in (tmp_path / "whole.lindi.json").read_text()
    found = ld.open_array(tmp_path / "whole.lindi.json", DATA, instances=instances)
    np.testing.assert_array_equal(found, values)


def test_parts_that_say_different_things_of_one_file_are_an_error_without_its_signature(tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(bytes(600))
    url = "https://bucket.example.org/x.bin?X-Amz-Signature=abc123"
    one, other = raw(url, 300), raw(url, 300)
    one["sources"], other["sources"] = {url: {"size": 600}}, {url: {"size": 700}}
    with pytest.raises(PartsDisagree, match=r"https://bucket\.example\.org/x\.bin has 700") as caught:
        ld.combine({"a": one, "b": other})
    assert "abc123" not in str(caught.value) + repr(vars(caught.value))
    address = "dandi://dandi/000123@draft/x.bin"
    other["sources"] = {url: {"address": address}}
    sources = ld.combine({"a": one, "b": other}).sources
    found = [sources[i] for i in range(len(sources)) if sources[i].data is None]
    assert [(source.size, source.address) for source in found] == [(600, address)]


def test_sessions_become_groups_with_all_that_they_have(
    data: Path, tmp_path: Path, session_h5: h5py.File, assert_equal_to_h5py: Callable[..., None]
) -> None:
    session = ld.index(data / "session.nwb")
    whole = ld.combine({"day-1": session, "day-2": session})
    members: Json = dict(opened(session, data).members(max_depth=None))
    for name in (None, "x.lindi.json", "x.parquet"):
        refs: Any = whole if name is None else tmp_path / name
        if name is not None:
            whole.save(refs)
        group = opened(refs, data, "day-2")
        assert dict(group.members(max_depth=None)).keys() == members.keys()
        electrodes = "general/extracellular_ephys/electrodes/group"
        expected = [f"/day-2{session_h5[reference].name}" for reference in session_h5[electrodes][...]]
        assert group[electrodes][...].tolist() == expected
        for path, node in members.items():
            if isinstance(node, zarr.Array) and node.attrs.get("_DTYPE") != "object_reference":
                assert_equal_to_h5py(group[path], session_h5[path])
            if "table" in node.attrs:
                pointed = node.attrs["table"]["_REFERENCE"]["path"]
                assert group[path].attrs["table"]["_REFERENCE"]["path"] == f"/day-2{pointed}"


def test_links_references_and_compounds_lead_to_the_same_group(tmp_path: Path) -> None:
    parts = {}
    for name in ("a", "long-name"):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file["x/data"] = np.arange(3) + len(name)
            file["x/soft"] = h5py.SoftLink("data")
            file["hard"] = file["x"]
            rows = np.zeros(3, [("start", "<i4"), ("target", h5py.ref_dtype), ("label", "S3")])
            rows["start"], rows["label"] = [1, 2, 3], [b"p", b"q", b"r"]
            rows["target"] = [file["x"].ref, file.ref, h5py.Reference()]
            file["rows"] = rows
            file["refs"] = np.array([file["x/data"].ref, h5py.Reference()], h5py.ref_dtype)
            file.attrs["to"] = file["x"].ref
            file["x"].attrs.create("many", [file["rows"].ref, file.ref], dtype=h5py.ref_dtype)
        parts[name] = ld.index(tmp_path / f"{name}.h5")
    whole = ld.combine(parts)
    for name in parts:
        group = opened(whole, tmp_path, name)
        assert group["hard/data"][...].tolist() == group["x/soft"][...].tolist() == [len(name) + i for i in range(3)]
        home = group.attrs["to"]["_REFERENCE"]["path"]
        assert home in {f"/{name}/x", f"/{name}/hard"}
        assert group["refs"][...].tolist() == [f"{home}/data", ""]
        rows = group["rows"][...]
        assert rows["target"].tolist() == [home, f"/{name}", ""]
        assert rows["start"].tolist() == [1, 2, 3]
        assert [bytes(label) for label in rows["label"]] == [b"p", b"q", b"r"]
        many = group["x"].attrs["many"]
        assert [one["_REFERENCE"]["path"] for one in many] == [f"/{name}/rows", f"/{name}"]


def test_xarray_opens_sessions_as_one_tree(tmp_path: Path) -> None:
    values = numbers(2000)
    refs = {
        "one": Recording(values, storage=CHUNKED).index(tmp_path / "a.nwb"),
        "two": Recording(values[:700], start=9.0, started="2026-01-02T08:00:00+00:00").index(tmp_path / "b.nwb"),
    }
    whole = ld.combine(refs)
    tree = xr.open_datatree(whole, engine="lindi", allow=[f"{tmp_path}/"])  # type: ignore[arg-type] # not only paths
    assert tree["one/acquisition/Raw"].sizes["time"] == 2000
    second: Any = tree["two/acquisition/Raw"]
    assert second["time"].attrs["since"] == "2026-01-02T08:00:00+00:00"
    assert second["time"].values[0] == 9.0
    np.testing.assert_allclose(second["data"], values[:700] * 1e-6, rtol=1e-6)
    joined = ld.combine({"both": ld.combine([refs["one"]]), "two": refs["two"]})
    np.testing.assert_array_equal(read(joined, f"both/{DATA}", tmp_path), values)


@pytest.mark.parametrize("name", ["", "a/b", "..", "a\\b", "a\nb"])
def test_a_name_that_no_group_can_have_is_refused(tmp_path: Path, name: str) -> None:
    one = Recording(numbers(10)).index(tmp_path / "a.nwb")
    with pytest.raises(ConfigurationError, match="can't be the name of a group"):
        ld.combine({name: one})


def test_options_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    one = Recording(numbers(10)).index(tmp_path / "a.nwb")
    for refs, options, said in (
        ([], {}, "nothing to combine"),
        ({1: one}, {}, "must be text"),
        ("a.json", {}, "pass a list"),
        (one, {}, "pass a list"),
        ([one], {"drop": ["none"]}, "there is no /none"),
        ({"a": one}, {"drop": ["x"]}, "groups keep all"),
    ):
        with pytest.raises(ConfigurationError, match=said):
            ld.combine(refs, **options)  # type: ignore[arg-type] # that is what is tested
