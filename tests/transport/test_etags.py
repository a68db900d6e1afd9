from __future__ import annotations

import pytest

from lindi_dask.transport.etags import if_match, if_none_match, same_etag

# As a host or a reference file writes it -> If-Match, If-None-Match
TAGS: dict[str, tuple[str | None, str | None]] = {
    '"abc"': ('"abc"', '"abc"'),
    "abc": ('"abc"', '"abc"'),
    ' "abc" ': ('"abc"', '"abc"'),
    '"0f343b0931126a20f133d67c2b018a3b-12"': ('"0f343b0931126a20f133d67c2b018a3b-12"',) * 2,
    'W/"abc"': (None, '"abc"'),
    "W/abc": (None, '"abc"'),
    "": (None, None),
    '""': (None, None),
    "*": ('"*"', '"*"'),
    'a"b': (None, None),
    'a", "b': (None, None),
    "a\r\nX-Evil: 1": (None, None),
    "a b": (None, None),
    "\u00e9": (None, None),
    "a\x00": (None, None),
    "a" * 2000: (None, None),
}


@pytest.mark.parametrize("etag", TAGS)
def test_a_tag_becomes_a_header_that_any_client_can_send_or_none(etag: str) -> None:
    assert (if_match(etag), if_none_match(etag)) == TAGS[etag]


def test_no_tag_is_no_header() -> None:
    assert if_match(None) is None
    assert if_none_match(None) is None


@pytest.mark.parametrize("other", ['"abc"', "abc", 'W/"abc"', " abc"])
def test_quotes_and_weakness_make_no_other_state(other: str) -> None:
    assert same_etag('"abc"', other)
    assert same_etag(other, "abc")


@pytest.mark.parametrize("other", ['"abd"', "ABC", "", 'w/"abc"', "abc-1"])
def test_any_other_difference_does(other: str) -> None:
    assert not same_etag('"abc"', other)
