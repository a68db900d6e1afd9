"""What is due, and where results go."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from lindi_dask.batch.plan import dues_of, identity_of, last_of, place_of, shares_of
from lindi_dask.errors import ConfigurationError
from lindi_dask.types import Asset, AssetInfo

SETTINGS = {"ending": ".lindi.json", "release": "1"}


def info_of(path: str, size: int = 10) -> AssetInfo:
    return AssetInfo(Asset(None, path), "000123", "draft", path, size, datetime(2026, 1, 1, tzinfo=UTC), f"blob-{path}")


A, B, C = info_of("a", 1), info_of("b", 3), info_of("c", 2)
DONE = {"event": "done", "path": "a", "asset": "a", **identity_of(A, SETTINGS), "attempt": 1}


def paths(*infos: AssetInfo, last: dict[str, dict[str, object]] | None = None, there: bool = True) -> list[str]:
    dues = dues_of(infos, last or {}, SETTINGS, lambda _: there)
    assert not dues.move
    return [info.path for info in dues.index]


def test_what_was_never_done_is_due_the_largest_first() -> None:
    assert paths(A, B, C) == ["b", "c", "a"]


def test_what_is_done_and_the_same_is_not_due() -> None:
    assert paths(A, B, last={"a": DONE}) == ["b"]


@pytest.mark.parametrize(
    "now",
    [
        replace(A, blob="another content"),
        replace(A, size=2),
    ],
)
def test_what_is_not_the_same_any_more_is_due(now: AssetInfo) -> None:
    assert paths(now, last={"a": DONE}) == ["a"]


@pytest.mark.parametrize("event", ["done", "moved"])
def test_what_has_another_id_and_the_same_content_is_only_given_it(event: str) -> None:
    edited = replace(A, asset=Asset(None, "another id"))
    dues = dues_of([edited, B], {"a": {**DONE, "event": event}}, SETTINGS, lambda _: True)
    assert (dues.index, dues.move) == ([B], [edited])


def test_what_was_done_with_other_settings_or_failed_or_has_lost_its_results_is_due() -> None:
    other = {**DONE, **identity_of(A, {**SETTINGS, "ending": ".parquet"})}
    assert paths(A, last={"a": other}) == ["a"]
    assert paths(A, last={"a": {**DONE, "event": "failed"}}) == ["a"]
    assert paths(A, last={"a": DONE}, there=False) == ["a"]


def test_the_last_event_of_an_asset_counts() -> None:
    failed = {**DONE, "event": "failed"}
    assert last_of([{"event": "started"}, failed, DONE])["a"] == DONE
    assert last_of([DONE, failed, {"event": "ended"}])["a"] == failed


def test_no_two_assets_have_the_same_place() -> None:
    assert str(place_of("sub-1/x.nwb", ".lindi.json")) == "sub-1/x.nwb.lindi.json"
    assert place_of("x", ".lindi.json") != place_of("x.nwb", ".lindi.json")


@pytest.mark.parametrize(
    "path", ["../x.nwb", "a/../../x.nwb", "/x.nwb", "a//x.nwb", "./x", ".job/ledger", "x\0", "", "é" * 101]
)
def test_a_path_that_leads_elsewhere_is_refused(path: str) -> None:
    with pytest.raises(ConfigurationError, match="can't be that of a file here"):
        place_of(path, ".lindi.json")


@pytest.mark.parametrize(("size", "shares"), [(0, 0), (100, 0), (101, 2), (301, 4), (10**6, 16)])
def test_large_assets_are_dealt_to_several_tasks(size: int, shares: int) -> None:
    assert shares_of(size, 100) == shares
