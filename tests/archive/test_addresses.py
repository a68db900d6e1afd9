"""Addresses of dandisets, and what their patterns mean."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lindi_dask.archive.addresses import Address, is_address, parse_address
from lindi_dask.archive.instances import BUILTIN, make_instance
from lindi_dask.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

LOCAL = make_instance("local", "http://127.0.0.1:8901/api")
INSTANCES = (*BUILTIN, LOCAL)
ONE = "sub-1/sub-1_ecephys.nwb"


def parsed(text: str) -> Address:
    return parse_address(text, INSTANCES)


@pytest.mark.parametrize(
    ("text", "instance", "dandiset", "version", "pattern", "path"),
    [
        ("dandi://dandi/000123", "dandi", "000123", None, "", None),
        ("dandi://dandi/000123/", "dandi", "000123", None, "", None),
        ("dandi://DANDI/000123@draft", "dandi", "000123", "draft", "", None),
        (f"dandi://local/000123@draft/{ONE}", "local", "000123", "draft", ONE, ONE),
        (f"dandi://dandi-sandbox/000123//{ONE}", "dandi-sandbox", "000123", None, ONE, ONE),
        (
            "dandi://dandi/000123@0.230101.1234/sub-*/**/*.nwb",
            "dandi",
            "000123",
            "0.230101.1234",
            "sub-*/**/*.nwb",
            None,
        ),
        ("dandi://dandi/000123/sub-1/", "dandi", "000123", None, "sub-1/", None),
        ("dandi://dandi/000123/a%20b%2Fc%2Bd", "dandi", "000123", None, "a b/c+d", "a b/c+d"),
        ("dandi://dandi/000123/a%2A%5Bx%5D", "dandi", "000123", None, "a[*][[]x]", "a*[x]"),
        ("dandi://dandi/000123/100%", "dandi", "000123", None, "100%", "100%"),
        ("dandi://dandi/000123/a[b.nwb", "dandi", "000123", None, "a[b.nwb", "a[b.nwb"),
        ("https://dandiarchive.org/dandiset/000123", "dandi", "000123", None, "", None),
        ("https://dandiarchive.org/dandiset/000123/draft/files", "dandi", "000123", "draft", "", None),
        ("https://dandiarchive.org/#/dandiset/000123/0.230101.1234", "dandi", "000123", "0.230101.1234", "", None),
        (
            "https://dandiarchive.org/dandiset/000123/draft/files?location=sub-1%2Fa%2520%2Ab&page=2",
            "dandi",
            "000123",
            "draft",
            "sub-1/a%20[*]b/",
            None,
        ),
        ("https://dandi.emberarchive.org/dandiset/000123/draft", "ember-dandi", "000123", "draft", "", None),
    ],
)
def test_an_address_has_its_parts(
    text: str, instance: str, dandiset: str, version: str | None, pattern: str, path: str | None
) -> None:
    found = parsed(text)
    assert is_address(text)
    assert (found.instance.name, found.dandiset, found.version) == (instance, dandiset, version)
    assert (found.pattern, found.path) == (pattern, path)
    assert parsed(str(found)) == found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("dandi://dandi/123", "has the form dandi://INSTANCE/000123"),
        ("dandi://dandi/000123@latest/a.nwb", "has the form"),
        ("dandi:/dandi/000123", "has the form"),
        ("dandi://elsewhere/000123", "no instance 'elsewhere'; there are dandi, dandi-sandbox"),
        ("https://dandiarchive.org/about", "has the form"),
        ("http://dandiarchive.org/dandiset/000123", "has the form"),
        ("https://dandiarchive.org@evil.example/dandiset/000123", "has the form"),
        ("https://evil.example/dandiset/000123", "has the form"),
        ("dandi://dandi/000123/a%00b", "control character"),
        ("dandi://dandi/000123/a\x1b[2J", "not all text"),
        ("dandi://dandi/000123/" + "a" * 5000, "too long"),
    ],
)
def test_what_is_no_address_is_told_so(text: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        parsed(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://b.s3.amazonaws.com/k.nwb?X-Amz-Signature=planted", "'https://b.s3.amazonaws.com/k.nwb'"),
        ("https://me:planted@dandiarchive.org/dandiset/000123", "'https://dandiarchive.org/dandiset/000123'"),
        ("https://me:p@planted@dandiarchive.org#planted", "'https://dandiarchive.org'"),
        ("https://dandiarchive.org/#/about?token=planted", "'https://dandiarchive.org/about'"),
        ("https://dandiarchive.org/dandiset/000123/draft/files?location=%00&token=planted", "dandiset/000123/draft"),
        ("https://linc.example?planted", "'https://linc.example'"),
        ("dandi://elsewhere/000123/a?.nwb", "'dandi://elsewhere/000123/a?.nwb'"),
    ],
)
def test_a_message_shows_no_user_and_no_query_of_a_url(text: str, shown: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parsed(text)
    assert shown in str(caught.value)
    assert "planted" not in f"{caught.value!r} {vars(caught.value)} {caught.value.__context__!r}"


@pytest.mark.parametrize(
    "text", ["session.lindi.json", "https://example.org/x.json", "s3://b/k", "/dandi://x", "https://["]
)
def test_paths_and_other_urls_are_no_addresses(text: str) -> None:
    assert not is_address(text)


@pytest.mark.parametrize(
    ("pattern", "takes", "leaves"),
    [
        ("", ["a", "a/b"], []),
        ("a/", ["a/b", "a/b/c"], ["a", "ab/c", "b/a/c"]),
        ("a/**", ["a/b", "a/b/c"], ["a", "ab/c"]),
        ("*.nwb", ["a.nwb", ".nwb"], ["a/b.nwb", "a.NWB", "a.nwb.zarr"]),
        ("**/*.nwb", ["a.nwb", "a/b.nwb", "a/b/c.nwb"], ["a.nwb/b"]),
        ("sub-*/**/x", ["sub-1/x", "sub-/a/b/x"], ["x", "sub-1/a", "a/sub-1/x"]),
        ("a/**/b/**/c", ["a/b/c", "a/b/b/c/c", "a/x/b/y/c"], ["a/c", "a/b/c/d"]),
        ("s?b", ["sub", "s*b"], ["sb", "s/b", "suub"]),
        ("sub-[0-2]", ["sub-0", "sub-2"], ["sub-3", "sub-[0-2]"]),
        ("sub-[!0-2]", ["sub-3", "sub-!"], ["sub-0", "sub-"]),
        ("a**b", ["ab", "axb"], ["a/b"]),
        ("a[*]", ["a*"], ["ab"]),
    ],
)
def test_a_pattern_takes_what_it_should(pattern: str, takes: Sequence[str], leaves: Sequence[str]) -> None:
    address = Address(LOCAL, "000123", "draft", pattern)
    assert [path for path in [*takes, *leaves] if address.matches(path)] == list(takes)


def by_hand(pattern: str, path: str) -> bool:
    """What the module's docstring says, character by character."""
    tokens: list[str] = []
    if pattern == "" or pattern.endswith("/"):
        pattern += "**"
    parts = pattern.split("/")
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        if part == "**":
            tokens += ["below"] if last else ["folders"]
        else:
            tokens += re.findall(r"\[![^\]]\]|\[[^\]]\]|.", part)
            tokens += [] if last else ["/"]

    @cache
    def rest(token: int, at: int) -> bool:
        if token == len(tokens):
            return at == len(path)
        match tokens[token]:
            case "below":
                return at < len(path)
            case "folders":
                after = [i + 1 for i in range(at, len(path)) if path[i] == "/"]
                return any(rest(token + 1, i) for i in [at, *after])
            case "*":
                end = path.find("/", at)
                return any(rest(token + 1, i) for i in range(at, (len(path) if end < 0 else end) + 1))
            case _ if at == len(path):
                return False
            case "?":
                return path[at] != "/" and rest(token + 1, at + 1)
            case one if len(one) == 3:
                return path[at] == one[1] and rest(token + 1, at + 1)
            case one if len(one) == 4:
                return path[at] not in {one[2], "/"} and rest(token + 1, at + 1)
            case one:
                return path[at] == one and rest(token + 1, at + 1)

    return rest(0, 0)


PIECES = ["a", "b", "A", " ", ".", "*", "?", "**", "/", "/", "[a]", "[!b]", "[*]", "[ ]", "**/", "/**/"]
NAMES = st.lists(st.text("abAB .*", min_size=1, max_size=4), min_size=1, max_size=5).map("/".join)


@given(st.lists(st.sampled_from(PIECES), max_size=8).map("".join), NAMES)
@example("a/**", "a")
@example("**/a", "a")
@example("[ ]", " ")
@example(" a", " a")
def test_a_pattern_means_what_is_written_of_it_and_the_server_gives_no_less(pattern: str, path: str) -> None:
    if "//" in pattern or pattern.startswith("/"):
        return
    address = Address(LOCAL, "000123", "draft", pattern)
    assert address.matches(path) == by_hand(pattern, path)
    if address.matches(path) and address.server_glob is not None:
        assert served(address.server_glob, path)


@given(st.text("ab*?[]!%/ µ", min_size=1, max_size=12))
def test_every_path_has_an_address(path: str) -> None:
    if path.startswith("/") or path.endswith("/"):
        return
    quoted = re.sub(r"[%*?\[]", lambda found: f"%{ord(found[0]):02X}", path)
    address = parsed(f"dandi://local/000123@draft/{quoted}")
    assert address.path == path
    assert address.matches(path)
    assert parsed(str(address)) == address
    assert address.server_glob is None or served(address.server_glob, path)


def served(glob: str, path: str) -> bool:
    """Whether the archive's API takes a path for its own `glob`."""
    assert glob.strip()
    return re.fullmatch(re.escape(glob.strip()).replace(r"\*", ".*"), path, re.IGNORECASE) is not None


@pytest.mark.parametrize(
    ("pattern", "asked"),
    [
        ("", None),
        ("**", None),
        ("sub-1/a.nwb", "sub-1/a.nwb"),
        ("sub-1/", "sub-1/*"),
        ("sub-*/**/*.nwb", "sub-*/*.nwb"),
        ("sub-[0-9]?/x[[]", "sub-*/x["),
        ("**/*.nwb", "*.nwb"),
    ],
)
def test_what_the_server_is_asked_for_is_narrow(pattern: str, asked: str | None) -> None:
    assert Address(LOCAL, "000123", "draft", pattern).server_glob == asked


def test_a_pattern_of_many_asterisks_is_told_at_once() -> None:
    assert not Address(LOCAL, "000123", "draft", "*a" * 40 + "/**" * 40 + "/b").matches("a" * 400 + "/c" * 200)
