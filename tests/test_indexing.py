"""`ld.index` of assets: found by their address, and what references say of them afterwards."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import lindi_dask as ld
from lindi_dask.errors import (
    AssetNotFound,
    AuthenticationError,
    ConfigurationError,
    LindiError,
    SourceMismatch,
)
from lindi_dask.factory import policy_of
from lindi_dask.indexing import index_asset, share_of_asset
from lindi_dask.refs import Source
from lindi_dask.testing import Fault

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import h5py

    from lindi_dask.testing import Asset, EmbeddedArchive

SERIES = "acquisition/ElectricalSeries/data"
PATH = "sub-1/sub-1_ecephys.nwb"
ADDRESS = f"dandi://local/000123@draft/{PATH}"


@pytest.fixture
def asset(embedded_archive: EmbeddedArchive, data: Path) -> Asset:
    embedded_archive.add(b"no HDF5", path="sub-1/notes.txt")
    return embedded_archive.add(data / "session.nwb", path=PATH)


@pytest.fixture
def instances(
    embedded_archive: EmbeddedArchive, own_key: Callable[[EmbeddedArchive], dict[str, str]]
) -> dict[str, str]:
    return own_key(embedded_archive)


def source_of(references: ld.References) -> Source:
    """The one file that references are of."""
    for manifest in references.manifests.values():
        manifest.locate(manifest.present())  # records of parquet enter theirs when they are read
    sources = [references.sources[number] for number in range(len(references.sources))]
    (source,) = {source for source in sources if source.data is None}
    return source


def etag_of(archive: EmbeddedArchive, asset: Asset) -> str:
    blob = archive._registry.find(asset.id)
    assert blob is not None
    assert blob.blob is not None
    return blob.blob.etag.strip('"')


@pytest.mark.parametrize(
    ("name", "form"),
    [("x.lindi.json", None), ("x.json", "kerchunk"), ("x.parquet", None), ("x.lindi.d", None)],
)
def test_an_asset_is_found_by_its_path_and_every_form_keeps_what_is_known_of_it(
    embedded_archive: EmbeddedArchive,
    instances: dict[str, str],
    asset: Asset,
    session_h5: h5py.File,
    tmp_path: Path,
    name: str,
    form: Any,
) -> None:
    references = ld.index(ADDRESS, instances=instances)
    known = Source(asset.url, asset.nbytes, etag_of(embedded_archive, asset), address=ADDRESS)
    assert source_of(references) == known
    references.save(tmp_path / name, form=form)
    for _ in range(2):  # from the file, then from the index that was made of it
        again = ld.open_store(tmp_path / name, instances=instances).references
        assert source_of(again) == known
    again.save(tmp_path / f"again-{name}", form=form)
    assert source_of(ld.open_store(tmp_path / f"again-{name}", instances=instances).references) == known
    read = ld.open_array(tmp_path / name, SERIES, instances=instances).compute()
    np.testing.assert_array_equal(read, session_h5[SERIES][...])
    reads = [request for request in embedded_archive.requests if request.is_read]
    assert reads[-1].if_match == f'"{known.etag}"'


def test_an_asset_by_its_url_has_size_and_etag_and_costs_no_other_request(
    embedded_archive: EmbeddedArchive, instances: dict[str, str], asset: Asset
) -> None:
    references = ld.index(asset.url, instances=instances)
    assert source_of(references) == Source(asset.url, asset.nbytes, etag_of(embedded_archive, asset))
    assert [request.is_download for request in embedded_archive.requests if request.plane == "api"] == [True]
    first, *others = [request.if_match for request in embedded_archive.requests if request.plane == "s3"]
    assert first is None  # it brings the tag
    assert others
    assert set(others) == {f'"{etag_of(embedded_archive, asset)}"'}


def test_references_for_readers_elsewhere_have_no_etag_of_here(instances: dict[str, str], asset: Asset) -> None:
    url = "https://mirror.example.org/x.nwb"
    assert source_of(ld.index(ADDRESS, url=url, instances=instances)) == Source(url, asset.nbytes)


def test_a_file_that_was_put_in_the_place_of_an_asset_is_not_read_for_it(
    embedded_archive: EmbeddedArchive, instances: dict[str, str], asset: Asset, data: Path
) -> None:
    references = ld.index(ADDRESS, instances=instances)
    content = bytearray((data / "session.nwb").read_bytes())
    content[-1] ^= 1
    embedded_archive.overwrite(asset.id, bytes(content))
    with pytest.raises(SourceMismatch):
        ld.open_array(references, SERIES, instances=instances).compute()


def test_an_asset_that_was_replaced_is_found_by_the_address_in_the_references(
    embedded_archive: EmbeddedArchive, instances: dict[str, str], asset: Asset, session_h5: h5py.File
) -> None:
    old = source_of(ld.index(ADDRESS, instances=instances))
    new = embedded_archive.replace(asset.id)
    again = ld.index(old.address or "", instances=instances)
    assert source_of(again) == replace(old, url=new.url)
    np.testing.assert_array_equal(
        ld.open_array(again, SERIES, instances=instances)[:10].compute(), session_h5[SERIES][:10]
    )


@pytest.mark.usefixtures("asset")
@pytest.mark.parametrize(
    ("address", "kind", "said"),
    [
        ("dandi://local/000123@draft/sub-1/", ConfigurationError, "not the address of one asset"),
        ("dandi://local/000123/sub-1/sub-1_ephys.nwb", AssetNotFound, f"Near it are: '{PATH}'"),
        ("dandi://local/000123/sub-1/x.nwb.zarr", AssetNotFound, "is a Zarr asset"),
        ("dandi://local/000123/sub-1/notes.txt", SourceMismatch, "can't be read as an HDF5 file"),
    ],
)
def test_what_can_t_be_indexed_is_told_so(
    embedded_archive: EmbeddedArchive, instances: dict[str, str], address: str, kind: type[LindiError], said: str
) -> None:
    embedded_archive.add_zarr("sub-1/x.nwb.zarr")
    with pytest.raises(kind, match=said):
        ld.index(address, instances=instances)


@pytest.mark.usefixtures("asset")
def test_a_key_is_needed_and_may_come_from_a_function(
    embedded_archive: EmbeddedArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LOCAL_API_KEY", raising=False)
    instances = {"local": embedded_archive.api_url}
    with pytest.raises(AuthenticationError, match="Set LOCAL_API_KEY"):
        ld.index(ADDRESS, instances=instances)
    keys = {"local": lambda: embedded_archive.owner_token}
    assert source_of(ld.index(ADDRESS, instances=instances, api_keys=keys)).address == ADDRESS


@pytest.mark.usefixtures("asset")
def test_faults_of_the_listing_and_of_the_reads_cost_requests_only(
    embedded_archive: EmbeddedArchive, instances: dict[str, str]
) -> None:
    expected = ld.index(ADDRESS, instances=instances)
    injections = [
        embedded_archive.inject(Fault(plane="api", listing=True, kind="short-length")),
        embedded_archive.inject(Fault(plane="s3", kind="short-body", skip=1)),
    ]
    assert ld.index(ADDRESS, instances=instances).fingerprint == expected.fingerprint
    assert [injection.injected for injection in injections] == [1, 1]


def test_a_size_that_the_storage_does_not_have_is_an_error(
    embedded_archive: EmbeddedArchive, instances: dict[str, str], asset: Asset, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = ld.list_assets(ADDRESS, etags=True, instances=instances)[0]
    embedded_archive.overwrite(asset.id, b"something else")
    monkeypatch.setattr("lindi_dask.indexing.find_asset", lambda *_: found)  # as it was a moment ago
    with pytest.raises(SourceMismatch, match=r"bytes as its archive says, but 14 where they are stored"):
        ld.index(ADDRESS, instances=instances)


def test_no_secret_is_in_what_is_saved(
    embedded_archive: EmbeddedArchive, instances: dict[str, str], asset: Asset, tmp_path: Path
) -> None:
    ld.index(ADDRESS, instances=instances).save(tmp_path / "x.lindi.json")
    text = (tmp_path / "x.lindi.json").read_text()
    assert embedded_archive.owner_token not in text
    assert "X-Amz-" not in text
    assert json.loads(text)["sources"] == {
        asset.url: {"size": asset.nbytes, "etag": f'"{etag_of(embedded_archive, asset)}"', "address": ADDRESS}
    }


def test_shares_of_a_file_are_those_of_one_file_or_an_error(
    embedded_archive: EmbeddedArchive, instances: dict[str, str], asset: Asset, data: Path
) -> None:
    policy = policy_of(instances, None)
    (info,) = ld.list_assets(ADDRESS, instances=instances)
    shares = [share_of_asset(info, policy, 8, number, 2) for number in range(2)]
    made = index_asset(info, policy, 8, shares)
    assert made.fingerprint == ld.index(ADDRESS, instances=instances).fingerprint
    content = bytearray((data / "session.nwb").read_bytes())
    content[-1] ^= 1
    embedded_archive.overwrite(asset.id, bytes(content))
    with pytest.raises(SourceMismatch, match="was replaced while it was indexed"):
        index_asset(info, policy, 8, shares)
