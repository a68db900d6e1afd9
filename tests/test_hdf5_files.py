"""HDF5 files that are opened as they are: indexed once, found again by what identifies them, never mixed up."""

from __future__ import annotations

import os
import pickle
import shutil
import sys
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
import xarray as xr
import zarr
from distributed import Client, LocalCluster

import lindi_dask as ld
from lindi_dask import errors
from lindi_dask.hdf5 import local

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lindi_dask.testing import EmbeddedArchive
    from lindi_dask.testing.assets import Asset

SERIES = "acquisition/ElectricalSeries/data"


@pytest.fixture
def options(embedded_archive: EmbeddedArchive, own_key: Callable[[EmbeddedArchive], dict[str, str]]) -> dict[str, Any]:
    return {"instances": own_key(embedded_archive)}


@pytest.fixture
def asset(embedded_archive: EmbeddedArchive, data: Path) -> Asset:
    return embedded_archive.add(data / "session.nwb", path="sub-1/session.nwb")


@pytest.fixture
def indexed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was indexed in this process."""
    done: list[str] = []
    for name in ("index_hdf5", "index_remote"):
        make = getattr(local, name)

        def noted(what: Any, *rest: Any, make: Callable[..., Any] = make) -> Any:
            done.append(str(getattr(what, "name", what)))
            return make(what, *rest)

        monkeypatch.setattr(local, name, noted)
    monkeypatch.setattr("lindi_dask.hdf5.index_hdf5", local.index_hdf5)
    return done


def test_all_arrays_of_a_local_file_equal_h5py(
    data: Path, session_h5: h5py.File, indexed: list[str], assert_equal_to_h5py: Callable[..., None]
) -> None:
    for _ in range(2):
        group = ld.open_group(data / "session.nwb")
        arrays = {path: node for path, node in group.members(max_depth=None) if isinstance(node, zarr.Array)}
        assert len(arrays) == 54
        for path, array in arrays.items():
            assert_equal_to_h5py(array, session_h5[path])
    assert len(indexed) == 1, "the second time it was in the index cache"


def test_a_local_file_that_is_written_anew_is_another(tmp_path: Path) -> None:
    path = tmp_path / "file.nwb"
    with h5py.File(path, "w") as file:
        file["x"] = np.arange(2000)
    before = ld.StoreFactory(path)
    sent = pickle.dumps(before)
    assert ld.open_array(before, "x").sum().compute() == 1999 * 1000
    with h5py.File(path, "w") as file:
        file["x"] = np.arange(2000) + 1
    os.utime(path, (1e9, 1e9))
    after = ld.StoreFactory(path)
    assert after.fingerprint != before.fingerprint
    assert ld.open_array(after, "x").sum().compute() == 1999 * 1000 + 2000
    shutil.rmtree(os.environ["DASK_LINDI_DASK__INDEX_CACHE"])
    with pytest.raises(errors.RefsChanged, match="Open it again"):
        pickle.loads(sent).load()


@pytest.mark.parametrize("change", [lambda path: os.utime(path, (1e9, 1e9)), os.remove])
def test_a_file_that_changes_while_it_is_opened_is_an_error(
    change: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file.nwb"
    with h5py.File(path, "w") as file:
        file["x"] = np.arange(2000)
    make = local.index_hdf5

    def slow(*given: Any) -> Any:
        made = make(*given)
        change(path)
        return made

    monkeypatch.setattr("lindi_dask.hdf5.index_hdf5", slow)
    with pytest.raises(errors.RefsChanged, match="while it was opened"):
        ld.open_store(path)


@pytest.mark.parametrize("by", ["url", "address", "address of the draft"])
def test_an_embargoed_asset_is_indexed_once(
    by: str,
    asset: Asset,
    embedded_archive: EmbeddedArchive,
    options: dict[str, Any],
    session_h5: h5py.File,
    indexed: list[str],
) -> None:
    place = {"url": asset.url, "address": "dandi://local/000123/sub-1/session.nwb"}.get(
        by, "dandi://local/000123@draft/sub-1/session.nwb"
    )
    np.testing.assert_array_equal(ld.open_array(place, SERIES, **options).compute(), session_h5[SERIES][:])
    assert len(indexed) == 1
    before = len([one for one in embedded_archive.requests if one.plane == "s3"])
    again = ld.StoreFactory(place, **options)
    again.load()
    assert len(indexed) == 1
    assert len([one for one in embedded_archive.requests if one.plane == "s3"]) - before == 1, "a look at its start"
    assert asset.id in str(again._location)
    assert len(pickle.dumps(again)) < 2048


def test_the_engine_opens_an_asset_as_its_reference_file(
    asset: Asset, data: Path, options: dict[str, Any], session_refs: Callable[..., dict[str, Any]]
) -> None:
    tree = xr.open_datatree("dandi://local/000123/sub-1/session.nwb", engine="lindi", **options)
    refs: Any = session_refs(asset.url)
    known = xr.open_dataset(refs, engine="lindi", group="acquisition/ElectricalSeries", **options).load()
    assert len(list(tree.subtree)) > 10
    xr.testing.assert_identical(tree["acquisition/ElectricalSeries"]["data"].load(), known["data"])
    here = xr.open_dataset(data / "session.nwb", engine="lindi", group="acquisition/ElectricalSeries").load()
    xr.testing.assert_identical(here, known)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="hdmf-zarr of this form wants Python 3.12")
def test_pynwb_opens_an_asset(asset: Asset, options: dict[str, Any], session_h5: h5py.File) -> None:
    session = ld.open_nwb(asset.url, **options)
    np.testing.assert_array_equal(session.acquisition["ElectricalSeries"].data[:], session_h5[SERIES][:])


def test_an_asset_whose_bytes_change_meanwhile_is_an_error_and_then_another(
    embedded_archive: EmbeddedArchive, options: dict[str, Any], tmp_path: Path
) -> None:
    for number in range(2):
        with h5py.File(tmp_path / f"{number}.nwb", "w") as file:
            file["x"] = np.arange(2000) + number
    asset = embedded_archive.add(tmp_path / "0.nwb")
    first = ld.StoreFactory(asset.url, **options)
    embedded_archive.overwrite(asset.id, tmp_path / "1.nwb")
    with pytest.raises(errors.RefsChanged, match="while it was opened"):
        first.load()
    assert ld.open_array(asset.url, "x", **options).sum().compute() == 1999 * 1000 + 2000


@pytest.mark.usefixtures("asset")
def test_a_zarr_asset_and_a_path_that_is_not_there_are_named(
    embedded_archive: EmbeddedArchive, options: dict[str, Any]
) -> None:
    embedded_archive.add_zarr("sub-1/session.nwb.zarr")
    with pytest.raises(errors.AssetNotFound, match="is a Zarr asset"):
        ld.open_store("dandi://local/000123@draft/sub-1/session.nwb.zarr", **options)
    with pytest.raises(errors.AssetNotFound, match=r"sub-1/session\.nwb"):
        ld.open_store("dandi://local/000123@draft/sub-1/sesion.nwb", **options)
    with pytest.raises(errors.ConfigurationError, match="not the address of one asset"):
        ld.open_store("dandi://local/000123@draft/sub-*/session.nwb", **options)


def test_without_h5py_it_says_what_to_install(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(errors.ConfigurationError, match=r"lindi-dask\[index\]"):
        ld.open_store(data / "session.nwb")


def test_what_only_begins_as_hdf5_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x.nwb").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(2000))
    with pytest.raises(errors.SourceMismatch, match="can't be read as an HDF5 file"):
        ld.open_store(tmp_path / "x.nwb")


def test_workers_of_a_cluster_get_the_index_from_the_client(
    asset: Asset, options: dict[str, Any], session_h5: h5py.File, tmp_path: Path
) -> None:
    """They have neither a key nor the client's index cache, and h5py would fail them."""
    own = {"LOCAL_API_KEY": "", "DASK_LINDI_DASK__INDEX_CACHE": str(tmp_path / "workers")}
    array = ld.open_array(asset.url, SERIES, chunks={0: "32 KiB"}, **options)
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, env=own) as cluster,
        Client(cluster) as client,
    ):
        ld.distribute(client, **options)
        client.run(_hide_h5py)
        np.testing.assert_array_equal(array.compute(), session_h5[SERIES][:])


def _hide_h5py() -> None:
    sys.modules["h5py"] = None  # type: ignore[assignment]
