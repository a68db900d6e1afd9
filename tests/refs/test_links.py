"""Soft links: where they lead, and what lies behind them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lindi_dask.errors import InvalidReferences
from lindi_dask.refs import References, parse_json
from lindi_dask.refs.links import Links, follow

GROUP = {"zarr_format": 2}
ARRAY = {"zarr_format": 2, "shape": [2], "chunks": [2], "dtype": "|u1", "fill_value": 0, "filters": None, "order": "C"}


def link(target: object) -> dict[str, Any]:
    return {"_SOFT_LINK": {"path": target}}


def parse(links: dict[str, object], *groups: str, **arrays: dict[str, Any]) -> References:
    refs: dict[str, Any] = {".zgroup": GROUP}
    for path, target in links.items():
        refs |= {f"{path}/.zgroup": GROUP, f"{path}/.zattrs": link(target)}
    refs |= {f"{group}/.zgroup": GROUP for group in groups}
    refs |= {f"{path}/.zarray": {**ARRAY, **array} for path, array in arrays.items()}
    return parse_json(json.dumps({"refs": refs}).encode(), "f", name="x.json")


TARGETS: dict[str, tuple[dict[str, object], dict[str, str]]] = {
    "an absolute path": ({"g/l": "/h/i"}, {"g/l": "h/i"}),
    "a path from the group that holds it": ({"h/l": "i"}, {"h/l": "h/i"}),
    "a path up from the group": ({"h/i/l": "../../g"}, {"h/i/l": "g"}),
    "a path up beyond the root": ({"g/l": "../../../g"}, {"g/l": "g"}),
    "a path with empty parts": ({"g/l": "//h/.//i/"}, {"g/l": "h/i"}),
    "the root": ({"g/l": "/"}, {"g/l": ""}),
    "a link to a link": ({"g/l": "/g/m", "g/m": "/h"}, {"g/l": "h", "g/m": "h"}),
    "a path through a link": ({"g/l": "/g/m/i", "g/m": "/h"}, {"g/l": "h/i", "g/m": "h"}),
    "a group above itself": ({"h/i/l": "/h"}, {"h/i/l": "h"}),
}


@pytest.mark.parametrize("name", TARGETS)
def test_a_link_leads_to(name: str) -> None:
    links, expected = TARGETS[name]
    found = parse(links, "g", "h", "h/i")
    assert found.links == expected
    assert not found.unreadable


LOST: dict[str, tuple[dict[str, object], str]] = {
    "nothing": ({"g/l": "/nowhere"}, "it is a soft link to /nowhere, where there is nothing"),
    "itself": ({"g/l": "/g/l"}, "it is a soft link to /g/l, which leads in a circle"),
    "each other": ({"g/l": "/g/m", "g/m": "/g/l"}, "it is a soft link to /g/m, which leads in a circle"),
    "below itself": ({"g/l": "/g/l/x"}, "it is a soft link to /g/l/x, which leads in a circle"),
    "a number": ({"g/l": 5}, "it is a soft link to /g/5, where there is nothing"),
}


@pytest.mark.parametrize("name", LOST)
def test_a_link_to_nowhere_is_listed_with_the_reason(name: str) -> None:
    links, reason = LOST[name]
    found = parse(links, "g")
    assert found.unreadable["g/l"] == reason
    assert "g/l" not in found.links


HIDDEN: dict[str, tuple[dict[str, Any], str]] = {
    "an array at a link's path": ({"g/l/.zarray": ARRAY}, "g/l"),
    "an array below a link": ({"g/l/a/.zarray": ARRAY}, "g/l/a"),
    "a group far below a link": ({"g/l/a/b/.zgroup": GROUP}, "g/l/a/b"),
}


@pytest.mark.parametrize("name", HIDDEN)
def test_what_a_link_would_hide_is_refused(name: str) -> None:
    entries, key = HIDDEN[name]
    refs = {".zgroup": GROUP, "h/.zgroup": GROUP, "g/l/.zgroup": GROUP, "g/l/.zattrs": link("/h"), **entries}
    with pytest.raises(InvalidReferences, match="it lies at or below a soft link") as caught:
        parse_json(json.dumps({"refs": refs}).encode(), "f", name="x.json")
    assert caught.value.key == key


def test_the_root_is_no_link() -> None:
    with pytest.raises(InvalidReferences, match="the root of a file can't be a soft link"):
        parse_json(json.dumps({"refs": {".zgroup": GROUP, ".zattrs": link("/h")}}).encode(), "f", name="x.json")


def test_links_are_written_where_readers_of_nwb_zarr_look_for_them() -> None:
    found = parse({"g/l": "/a", "m": "/g"}, "g", a={})
    assert json.loads(found.metadata["g/zarr.json"])["attributes"] == {
        "_LINKS": [{"name": "l", "source": ".", "path": "/a"}]
    }
    assert json.loads(found.metadata["zarr.json"])["attributes"]["_LINKS"] == [
        {"name": "m", "source": ".", "path": "/g"}
    ]


def test_references_in_attributes_name_the_object_itself() -> None:
    links = Links()
    links.add("g/l", "/h")
    reference = {"_REFERENCE": {"source": ".", "path": "/g/l/i"}}
    nodes: dict[str, Any] = {"g": {"attributes": {"r": reference, "n": 1}}, "h": {"attributes": {}}}
    written = links.written(nodes, {"g/l": "h"})
    assert written["g"]["attributes"]["r"] == {"_REFERENCE": {"source": ".", "path": "/h/i"}}
    assert nodes["g"]["attributes"]["r"] == reference


names = st.sampled_from("abc")
paths = st.lists(names, min_size=1, max_size=4).map("/".join)


@given(path=paths, links=st.dictionaries(paths, paths, max_size=4))
@settings(max_examples=500, deadline=None, derandomize=True)
def test_following_replaces_the_first_link_on_the_way_until_there_is_none(path: str, links: dict[str, str]) -> None:
    found = follow(path, links)
    current: str | None = path
    for _ in range(60):  # far more than the links could need without a circle
        assert current is not None
        above = [link for link in sorted(links, key=len) if f"{current}/".startswith(f"{link}/")]
        if not above:
            break
        current = links[above[0]] + current.removeprefix(above[0])
    else:
        current = None
    assert found == current


def test_a_path_of_a_million_parts_is_not_looked_up_part_by_part() -> None:
    path = "/".join(["a"] * 1_000_000)
    assert follow(path, {"b": "c"}) == path
    assert follow("b/" + "/".join(["a"] * 5000), {"b": "c"}) == "c/" + "/".join(["a"] * 5000)
