from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lindi_dask.errors import InvalidReferences
from lindi_dask.refs.paths import relative_path


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("./blobs/x", "blobs/x"),
        ("blobs/x", "blobs/x"),
        ("./lindi.json", "lindi.json"),
        ("./blobs/a b/0.0", "blobs/a b/0.0"),
        ("./blobs/100%/0", "blobs/100%/0"),
        ("./blobs/神経/0", "blobs/神経/0"),
        ("./blobs/x~", "blobs/x~"),
        ("./blobs/..x", "blobs/..x"),
        ("./blobs/a:b/0", "blobs/a:b/0"),
        ("https://example.org/x", None),
        ("HTTPS://example.org/x", None),
        ("s3://bucket/x", None),
        ("file:///etc/passwd", None),
        ("data:text/plain,x", None),
    ],
)
def test_a_relative_reference_is_a_path_and_an_absolute_one_none(url: str, path: str | None) -> None:
    assert relative_path(url) == path


REFUSED: list[tuple[str, str]] = [
    ("", "empty"),
    (".", "empty"),
    ("./", "empty"),
    ("blobs/", "empty"),
    ("././x", "empty"),
    ("blobs//x", "empty"),
    ("blobs/./x", "empty"),
    ("..", "'..'"),
    ("../x", "'..'"),
    ("./../x", "'..'"),
    ("blobs/../../x", "'..'"),
    ("/etc/passwd", "absolute"),
    ("//host/x", "absolute"),
    (".//etc/passwd", "absolute"),
    ("C:/x", "absolute"),
    ("c:x", "absolute"),
    ("./C:/x", "absolute"),
    ("C:\\x", "backslash"),
    ("blobs\\..\\x", "backslash"),
    ("\\\\host\\share", "backslash"),
    ("%2e%2e/x", "percent"),
    ("blobs/%2Fx", "percent"),
    ("./%00", "percent"),
    ("blobs/\0", "control"),
    ("blobs/x\r\nHost: y", "control"),
    ("blobs/\x7f", "control"),
    ("blobs/\x85", "control"),
    ("blobs/\u2028", "control"),
    ("blobs/\ud800", "control"),
    ("~/x", "~"),
    ("./~user/x", "~"),
    (" https://example.org/x", "empty"),
    ("x" * 1025, "1024 characters"),
]


@pytest.mark.parametrize(("url", "reason"), REFUSED)
def test_a_reference_that_could_lead_elsewhere_is_refused(url: str, reason: str) -> None:
    with pytest.raises(InvalidReferences, match=reason) as caught:
        relative_path(url)
    assert caught.value.key == url[:1024]


@settings(max_examples=300)
@given(st.text(st.sampled_from("./\\~%:2eFabC \0é"), max_size=12))
def test_a_path_that_passes_stays_below_its_folder(url: str) -> None:
    try:
        path = relative_path(url)
    except InvalidReferences:
        return
    if path is None:
        assert ":" in url.partition("/")[0]
        return
    assert url in {path, f"./{path}"}
    assert relative_path(path) == relative_path(f"./{path}") == path
    assert not {"", ".", ".."} & set(path.split("/"))
