"""What is in a dandiset, asked over loopback."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
import requests

from lindi_dask.archive import asking, dandisets
from lindi_dask.archive.addresses import Address, parse_address
from lindi_dask.archive.asking import Archives
from lindi_dask.archive.dandisets import asset_info, file_of, find_asset, list_assets
from lindi_dask.archive.instances import make_instance
from lindi_dask.errors import (
    AccessError,
    ArchiveUnavailable,
    AssetNotFound,
    AuthenticationError,
    ConfigurationError,
    DandisetNotFound,
    LindiError,
    PermissionDenied,
    UrlRefused,
)
from lindi_dask.retry import RetryPolicy
from lindi_dask.testing import EmbeddedArchive, Fault
from lindi_dask.types import Asset

if TYPE_CHECKING:
    from collections.abc import Callable

QUICK = RetryPolicy(attempts=4, total_s=20, first_s=0.01, cap_s=0.02, retry_on=ArchiveUnavailable)
PATHS = ["sub-1/sub-1_ecephys.nwb", "sub-1/sub-1_ophys.nwb", "sub-10/sub-10.nwb", "sub-2/deep/er/x.nwb", "x.json"]


@pytest.fixture
def archives(embedded_archive: EmbeddedArchive) -> Archives:
    return Archives(environ={"LOCAL_API_KEY": embedded_archive.owner_token}, retry=QUICK)


@pytest.fixture
def address(embedded_archive: EmbeddedArchive) -> Callable[..., Address]:
    instance = make_instance("local", embedded_archive.api_url)
    return lambda text="000123@draft": parse_address(f"dandi://local/{text}", (instance,))


@pytest.fixture
def filled(embedded_archive: EmbeddedArchive) -> EmbeddedArchive:
    for path in PATHS:
        embedded_archive.add(path.encode(), path=path)
    return embedded_archive


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("", PATHS),
        ("/sub-1/", PATHS[:2]),
        ("/sub-*/*.nwb", PATHS[:3]),
        ("/sub-*/**/*.nwb", PATHS[:4]),
        ("/**/*.nwb", PATHS[:4]),
        ("/sub-[!1]/**", PATHS[3:4]),
        ("/x.json", PATHS[4:]),
    ],
)
def test_what_lies_at_an_address_is_listed_by_path(
    filled: EmbeddedArchive, archives: Archives, address: Callable[..., Address], path: str, expected: list[str]
) -> None:
    found = list_assets(address(f"000123@draft{path}"), archives)
    assert [info.path for info in found] == expected
    assert [info.size for info in found] == [len(path) for path in expected]
    assert all((info.dandiset, info.version, info.etag) == ("000123", "draft", None) for info in found)
    assert len(filled.requests) == 1


def test_an_asset_is_told_of_as_s3_has_it(
    embedded_archive: EmbeddedArchive, archives: Archives, address: Callable[..., Address]
) -> None:
    added = embedded_archive.add(b"content", path="sub-1/a [1].nwb")
    other = embedded_archive.add(b"other", path="sub-1/A [1].nwb")
    info = find_asset(address("000123@draft/sub-1/a%20%5B1%5D.nwb"), archives)
    assert info.asset == Asset(address().instance, added.id)
    assert (info.path, info.size, info.zarr) == (added.path, 7, None)
    assert abs((info.modified - datetime.now(UTC)).total_seconds()) < 60
    assert info.url == added.url
    assert info.address == "dandi://local/000123@draft/sub-1/a %5B1].nwb"
    assert find_asset(parse_address(info.address, (address().instance,)), archives) == info
    assert pickle.loads(pickle.dumps(info)) == info
    lease = _redirect_of(embedded_archive, added.url)
    assert info.blob is not None
    assert info.blob in lease
    by_id = asset_info(info.asset, archives)
    assert (by_id.etag, by_id.size, by_id.blob, by_id.path) == (info.etag, 7, info.blob, info.path)
    assert (by_id.dandiset, by_id.version, by_id.address) == (None, None, None)
    assert info.etag == "9a0364b9e99bb480dd25e1f0284c8555"  # S3's tag of a small object: the MD5 of its bytes
    assert list_assets(address(), archives, etags=True)[0].asset.id == other.id


def _redirect_of(archive: EmbeddedArchive, url: str) -> str:
    headers = {"Authorization": f"token {archive.owner_token}"}
    with requests.Session() as session:
        session.trust_env = False
        return session.get(url, headers=headers, allow_redirects=False, timeout=5).headers["Location"]


@pytest.mark.parametrize("etags", [False, True])
def test_more_assets_than_a_page_has_are_all_listed_once(
    embedded_archive: EmbeddedArchive, archives: Archives, address: Callable[..., Address], etags: bool
) -> None:
    paths = [f"sub-{number // 10:03}/{number:04}.nwb" for number in range(1203)]
    for path in reversed(paths):
        embedded_archive.add(b"x", path=path)
    found = list_assets(address(), archives, etags=etags)
    assert [info.path for info in found] == paths
    assert len({info.asset.id for info in found}) == 1203
    assert len(embedded_archive.requests) == (7 + 2 if etags else 2 + 2)  # once more, without metadata
    assert {info.etag is not None for info in found} == {etags}


def test_without_a_version_the_newest_published_one_is_meant_or_else_the_draft(
    embedded_archive: EmbeddedArchive, archives: Archives, address: Callable[..., Address]
) -> None:
    embedded_archive.add(b"x", path="a.nwb", embargoed=False)
    assert [info.version for info in list_assets(address("000123"), archives)] == ["draft"]
    embedded_archive.publish("0.230101.1234")
    embedded_archive.publish("0.240101.1234")
    embedded_archive.add(b"y", path="b.nwb", embargoed=False)
    newest = list_assets(address("000123"), archives)
    assert [(info.path, info.version) for info in newest] == [("a.nwb", "0.240101.1234")]
    assert len(list_assets(address("000123@draft"), archives)) == 2
    assert len(list_assets(address("000123@0.230101.1234"), archives)) == 1


class Telling(Archives):
    """Is told something of a dandiset, and nothing else."""

    def __init__(self, dandiset: dict[str, Any]) -> None:
        super().__init__(environ={})
        self.dandiset = dandiset

    def ask(self, instance: Any, path: str, *_: Any, **__: Any) -> Any:
        return self.dandiset if path == "/dandisets/000123/" else {"count": 0, "next": None, "results": []}


@pytest.mark.parametrize(
    "newest",
    [
        {"version": "0.230101"},
        {"version": "....."},
        {"version": "0.230101.1234/../../x"},
        {"version": "0.230101.1234-rc1"},
        {"version": 3},
        {},
        "0.230101.1234",
        False,
    ],
)
def test_a_published_version_of_another_form_is_not_taken_for_none(
    address: Callable[..., Address], newest: object
) -> None:
    with pytest.raises(AccessError, match="something else than a dandiset"):
        list_assets(address("000123"), Telling({"most_recent_published_version": newest}))
    with pytest.raises(AccessError, match="something else than a dandiset"):
        list_assets(address("000123"), Telling({}))
    for known in (None, {"version": "0.230101.1234"}):
        assert list_assets(address("000123"), Telling({"most_recent_published_version": known})) == []


def test_an_asset_that_was_replaced_is_found_again_by_its_path(
    filled: EmbeddedArchive, archives: Archives, address: Callable[..., Address]
) -> None:
    old = find_asset(address(f"000123@draft/{PATHS[0]}"), archives)
    edited = filled.replace(old.asset.id)
    with pytest.raises(PermissionDenied, match="was replaced"):
        asset_info(old.asset, archives)
    new = find_asset(parse_address(old.address or "", (address().instance,)), archives)
    assert (new.asset.id, new.etag, new.size, new.blob) == (edited.id, old.etag, old.size, old.blob)
    filled.replace(new.asset.id, b"other bytes")
    changed = find_asset(address(f"000123@draft/{PATHS[0]}"), archives)
    assert changed.etag != old.etag
    assert changed.size == 11


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        ("000999@draft", DandisetNotFound, "has no dandiset 000999"),
        ("000999", DandisetNotFound, "no such dandiset"),
        ("000123@0.230101.1234", DandisetNotFound, "has no version 0.230101.1234. It has a draft."),
        ("000123@draft/sub-1/sub-1_ephys.nwb", AssetNotFound, "Near it are: 'sub-1/sub-1_ecephys.nwb'"),
        ("000123@draft/sub_1/sub-1_ecephys.nwb", AssetNotFound, "Near it are: 'sub-1/sub-1_ecephys.nwb'"),
        ("000123@draft/sub-10", AssetNotFound, "Near it are: 'sub-10/'"),
        ("000123@draft/sub-1/*.h5", AssetNotFound, "'sub-1/sub-1_ecephys.nwb', 'sub-1/sub-1_ophys.nwb'"),
        ("000123@draft/Q/", AssetNotFound, "There are, for example: 'sub-1/sub-1_ecephys.nwb'"),
        ("000123@draft/SUB-10/sub-10.nwb", AssetNotFound, "Near it are: 'sub-10/sub-10.nwb'"),
    ],
)
@pytest.mark.usefixtures("filled")
def test_what_is_not_there_is_told_with_what_is(
    archives: Archives, address: Callable[..., Address], text: str, kind: type[LindiError], said: str
) -> None:
    with pytest.raises(LindiError) as caught:
        list_assets(address(text), archives)
    assert type(caught.value) is kind
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("pattern", "asked"), [("sub-1/*.h5", 2), ("*.h5", 2), ("Q/", 3), ("sub-1/sub-1_ephys.nwb", 2), ("q.nwb", 2)]
)
def test_what_is_near_costs_a_request_and_another_where_there_is_nothing(
    filled: EmbeddedArchive, archives: Archives, address: Callable[..., Address], pattern: str, asked: int
) -> None:
    with pytest.raises(AssetNotFound):
        list_assets(address(f"000123@draft/{pattern}"), archives)
    assert len(filled.requests) == asked


def test_an_empty_version_is_an_empty_list_but_has_no_asset(
    embedded_archive: EmbeddedArchive, archives: Archives, address: Callable[..., Address]
) -> None:
    asset = embedded_archive.add(b"x", embargoed=False)
    embedded_archive.publish("0.230101.1234")
    embedded_archive.remove(asset.id)
    assert list_assets(address(), archives) == []
    with pytest.raises(AssetNotFound, match="no assets at all"):
        list_assets(address("000123@draft/a.nwb"), archives)
    with pytest.raises(DandisetNotFound, match=r"the last version that was published is 0\.230101\.1234"):
        list_assets(address("000123@0.999999.0000"), archives)


def test_a_pattern_is_no_asset_and_a_zarr_asset_no_file(
    filled: EmbeddedArchive, archives: Archives, address: Callable[..., Address]
) -> None:
    filled.add_zarr("sub-1/x.nwb.zarr")
    with pytest.raises(ConfigurationError, match=r"lindi-dask ls 'dandi://local/000123@draft/sub-1/'"):
        find_asset(address("000123@draft/sub-1/"), archives)
    info = find_asset(address("000123@draft/sub-1/x.nwb.zarr"), archives)
    assert info.zarr is not None
    with pytest.raises(AssetNotFound, match=r"draft/sub-1/x\.nwb\.zarr is a Zarr asset"):
        file_of(info)
    with pytest.raises(AssetNotFound, match="is a Zarr asset"):
        file_of(asset_info(info.asset, archives))
    assert file_of(find_asset(address(f"000123@draft/{PATHS[0]}"), archives)).blob is not None


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("text", ["000123@draft", "000123", f"000123@draft/{PATHS[0]}"])
def test_an_embargoed_dandiset_is_shown_to_its_owners(
    embedded_archive: EmbeddedArchive, address: Callable[..., Address], text: str
) -> None:
    with pytest.raises(AuthenticationError, match=r"this dandiset is embargoed.* Set LOCAL_API_KEY") as nobody:
        list_assets(address(text), Archives(environ={}, retry=QUICK))
    assert nobody.value.variable == "LOCAL_API_KEY"
    assert str(nobody.value).endswith("in the process that lists it.")
    stranger = embedded_archive.stranger_token
    for key, kind, said in [
        (stranger, PermissionDenied, "denies this dandiset to the owner of the key in LOCAL_API_KEY"),
        ("no-such-key", AuthenticationError, "does not know the key in LOCAL_API_KEY"),
    ]:
        with pytest.raises(kind, match=said) as refused:
            list_assets(address(text), Archives(environ={"LOCAL_API_KEY": key}, retry=QUICK))
        assert "worker" not in str(refused.value)
        assert key not in f"{refused.value!r} {vars(refused.value)} {refused.value.__context__!r}"
    assert len(embedded_archive.requests) == 3  # none was tried again
    assert len(list_assets(address(text), Archives(environ={"LOCAL_API_KEY": embedded_archive.owner_token}))) >= 1


def test_a_public_dandiset_needs_no_key(embedded_archive: EmbeddedArchive, address: Callable[..., Address]) -> None:
    embedded_archive.add(b"x", embargoed=False)
    assert len(list_assets(address("000123"), Archives(environ={}))) == 1
    assert {request.authorized for request in embedded_archive.requests} == {False}


FAULTS = [
    {"kind": "status", "status": 503, "retry_after": "0.01"},
    {"kind": "status", "status": 500, "html": True},
    {"kind": "reset"},
    {"kind": "garbage"},
    {"kind": "reset-mid-body"},
    {"kind": "short-body"},
    {"kind": "short-length"},  # JSON that ends in the midst
]


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: "-".join(map(str, fault.values())))
def test_a_fault_costs_a_request_and_one_that_stays_is_an_error(
    embedded_archive: EmbeddedArchive,
    archives: Archives,
    address: Callable[..., Address],
    monkeypatch: pytest.MonkeyPatch,
    fault: dict[str, Any],
) -> None:
    monkeypatch.setattr(dandisets, "_PAGE_SIZE", 2)
    injection = embedded_archive.inject(Fault(plane="api", listing=True, skip=1, times=2, **fault))
    assert [info.path for info in list_assets(address(), archives)] == PATHS
    assert injection.injected == 2
    assert len(embedded_archive.requests) == 2 * 3 + 2
    embedded_archive.inject(Fault(plane="api", listing=True, times=None, **fault))
    with pytest.raises(ArchiveUnavailable, match="Gave up after 4 attempts") as caught:
        list_assets(address(), archives)
    shown = f"{caught.value!r} {vars(caught.value)} {caught.value.__context__!r} {caught.value.__cause__!r}"
    assert embedded_archive.owner_token not in shown


@pytest.mark.usefixtures("filled")
def test_a_listing_waits_as_long_as_it_is_asked_to(
    embedded_archive: EmbeddedArchive, archives: Archives, address: Callable[..., Address]
) -> None:
    embedded_archive.inject(Fault(plane="api", listing=True, kind="status", status=429, retry_after="1"))
    assert len(list_assets(address(), archives)) == len(PATHS)
    refused, good = embedded_archive.requests
    assert (refused.status, good.status) == (429, 200)
    assert good.monotonic_s - refused.monotonic_s >= 1


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("where", ["other host", "other path", "other dandiset", "no url"])
def test_a_next_page_that_lies_elsewhere_is_not_asked_for(
    embedded_archive: EmbeddedArchive,
    make_archive: Callable[..., EmbeddedArchive],
    archives: Archives,
    address: Callable[..., Address],
    where: str,
) -> None:
    evil = make_archive()
    location = {
        "other host": f"{evil.api_url}/dandisets/000123/versions/draft/assets/?page=2",
        "other path": f"{embedded_archive.api_url}/assets/?page=2",
        "other dandiset": f"{embedded_archive.api_url}/dandisets/000124/versions/draft/assets/?page=2",
        "no url": "javascript:alert(1)",
    }[where]
    embedded_archive.inject(Fault(plane="api", listing=True, kind="next", location=location))
    with pytest.raises(UrlRefused, match="the archive's next page is not read"):
        list_assets(address(), archives)
    assert evil.requests == ()
    assert len(embedded_archive.requests) == 1


@pytest.mark.usefixtures("filled")
def test_a_redirect_of_a_listing_is_not_followed(
    make_archive: Callable[..., EmbeddedArchive],
    embedded_archive: EmbeddedArchive,
    archives: Archives,
    address: Callable[..., Address],
) -> None:
    evil = make_archive()
    embedded_archive.inject(Fault(plane="api", listing=True, kind="redirect", location=f"{evil.api_url}/x/"))
    with pytest.raises(AccessError, match="answered 302, which is not an answer"):
        list_assets(address(), archives)
    assert evil.requests == ()


@pytest.mark.usefixtures("filled")
def test_a_page_that_leads_to_itself_ends(
    embedded_archive: EmbeddedArchive, archives: Archives, address: Callable[..., Address]
) -> None:
    url = f"{embedded_archive.api_url}/dandisets/000123/versions/draft/assets/?order=path"
    embedded_archive.inject(Fault(plane="api", listing=True, kind="next", location=url, times=None))
    with pytest.raises(ArchiveUnavailable, match="changed each time that it was listed"):
        list_assets(address(), archives)
    assert len(embedded_archive.requests) == 4 * 2


@pytest.mark.usefixtures("filled")
def test_a_page_is_read_up_to_a_bound(
    embedded_archive: EmbeddedArchive,
    archives: Archives,
    address: Callable[..., Address],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dandisets, "_MAX_NBYTES", 1000)
    with pytest.raises(AccessError, match="too large, or packed"):
        list_assets(address(), archives)
    assert len(embedded_archive.requests) == 1


@pytest.mark.usefixtures("filled")
def test_a_page_that_trickles_in_is_given_up_and_asked_for_again(
    embedded_archive: EmbeddedArchive,
    archives: Archives,
    address: Callable[..., Address],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert len(list_assets(address(), archives)) == len(PATHS)
    monkeypatch.setattr(asking, "_BODY_S", 0.5)
    embedded_archive.inject(Fault(plane="api", listing=True, kind="stall-mid-body", delay_s=1))
    assert len(list_assets(address(), archives)) == len(PATHS)
    assert len(embedded_archive.requests) == 3


class Changing(Archives):
    """Has something done to the archive after some requests."""

    def __init__(self, change: Callable[[], object], times: int, key: str) -> None:
        super().__init__(environ={"LOCAL_API_KEY": key}, retry=QUICK)
        self.change, self.times = change, times

    def ask(self, *arguments: Any, **options: Any) -> Any:
        answer = super().ask(*arguments, **options)
        if self.times and answer.get("previous") is None:
            self.times -= 1
            self.change()
        return answer


def test_a_dandiset_that_changes_while_it_is_listed_is_listed_anew(
    embedded_archive: EmbeddedArchive, address: Callable[..., Address], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dandisets, "_PAGE_SIZE", 2)
    assets = [embedded_archive.add(b"x", path=f"{number}.nwb") for number in range(9)]

    def remove() -> None:
        embedded_archive.remove(assets.pop(0).id)  # what follows moves up, over the border between two pages

    found = list_assets(address(), Changing(remove, 2, embedded_archive.owner_token))
    assert [info.path for info in found] == [f"{number}.nwb" for number in range(2, 9)]
    with pytest.raises(ArchiveUnavailable, match="changed each time") as caught:
        list_assets(address(), Changing(remove, 9, embedded_archive.owner_token))
    assert caught.value.attempts == 3


@pytest.mark.parametrize(("etags", "sizes"), [(False, (2, 2)), (True, (2, 2)), (True, (9, 2)), (True, (2, 9))])
def test_an_asset_that_is_renamed_while_it_is_listed_hides_no_other(
    embedded_archive: EmbeddedArchive,
    address: Callable[..., Address],
    monkeypatch: pytest.MonkeyPatch,
    etags: bool,
    sizes: tuple[int, int],
) -> None:
    monkeypatch.setattr(dandisets, "_PAGE_SIZE", sizes[0])
    monkeypatch.setattr(dandisets, "_PAGE_SIZE_WITH_ETAGS", sizes[1])
    first, *_ = [embedded_archive.add(b"x", path=f"{number}.nwb") for number in range(6)]

    def rename() -> None:  # 2.nwb gets on the first page, which was read; there are as many as before
        embedded_archive.remove(first.id)
        embedded_archive.add(b"x", path="9.nwb")

    found = list_assets(address(), Changing(rename, 1, embedded_archive.owner_token), etags=etags)
    # All within one answer may also be as it was before
    names = ["0", "1", "2", "3", "4", "5"] if sizes[1] == 9 else ["1", "2", "3", "4", "5", "9"]
    assert [info.path for info in found] == [f"{name}.nwb" for name in names]
    assert {info.etag is not None for info in found} == {etags}


def test_more_assets_than_a_page_has_are_of_one_moment(
    embedded_archive: EmbeddedArchive, address: Callable[..., Address], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dandisets, "_PAGE_SIZE", 2)
    assets = [embedded_archive.add(b"x", path=f"{number}.nwb") for number in range(6)]

    def swap() -> None:  # no border moves, and there are as many as before
        for asset, path in ((assets[0], "9.nwb"), (assets[5], "0a.nwb")):
            embedded_archive.remove(asset.id)
            embedded_archive.add(b"x", path=path)

    found = list_assets(address(), Changing(swap, 1, embedded_archive.owner_token))
    assert [info.path for info in found] == [f"{name}.nwb" for name in ("0a", "1", "2", "3", "4", "9")]


def entry(**changed: Any) -> dict[str, Any]:
    good = {
        "asset_id": "0F1E2D3C-4B5A-6978-8796-A5B4C3D2E1F0",
        "blob": "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f1",
        "zarr": None,
        "path": "a.nwb",
        "size": 1,
        "modified": "2026-03-01T12:00:00.123456Z",
        "metadata": {"digest": {"dandi:dandi-etag": "0" * 32 + "-1"}},
    }
    return {**good, **changed}


def test_an_entry_is_read_strictly() -> None:
    instance = make_instance("local", "http://127.0.0.1:8901/api")
    good = dandisets._info(entry(), instance, "x")
    assert (good.asset.id, good.etag) == ("0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0", "0" * 32 + "-1")
    assert dandisets._info(entry(metadata={"digest": {"dandi:dandi-etag": 'x"\r\n'}}), instance, "x").etag is None
    for changed in (
        {"asset_id": "../../users/me"},
        {"asset_id": None},
        {"path": ""},
        {"path": 3},
        {"size": "1"},
        {"size": -1},
        {"size": 2**70},
        {"size": True},
        {"modified": "yesterday"},
        {"modified": "2026-03-01T12:00:00"},
        {"blob": None},
        {"zarr": "z"},
        {"blob": 3},
    ):
        with pytest.raises(AccessError):
            dandisets._info(entry(**changed), instance, "x")
