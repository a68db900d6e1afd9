"""The block scanner beside `json.loads`: the same entries, or the same refusal, wherever blocks are cut."""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lindi_dask.errors import InvalidReferences
from lindi_dask.refs import json_reader
from lindi_dask.refs import scan as module
from lindi_dask.refs.json_reader import DuplicateKeyError, JsonReader, deeper_than, unique_object
from lindi_dask.refs.scan import METADATA, Scan, scan

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hypothesis.strategies import DrawFn, SearchStrategy

quick = settings(max_examples=150, deadline=None, derandomize=True)


@pytest.fixture(params=[16, 64, 2**14], ids=lambda size: f"blocks of {size}")
def _blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks and windows so small that their ends fall everywhere."""
    with_blocks(monkeypatch, request.param)


def with_blocks(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(module, "_SMALL_BLOCK", size)
    monkeypatch.setattr(module, "_LARGE_BLOCK", 3 * size)
    monkeypatch.setattr(json_reader, "_WINDOW", max(size // 2, 8))
    monkeypatch.setattr(module, "_PENDING", 4)


def entries(found: Scan) -> Counter[str]:
    """All entries, each as text, however the scanner holds them."""
    urls = list(found.urls)
    held = [*found.documents.items(), *found.loose]
    for run in found.runs:
        rows = zip(run.coordinates.tolist(), run.urls.tolist(), run.offsets.tolist(), run.lengths.tolist(), strict=True)
        for coordinates, url, offset, length in rows:
            name = run.separator.join(map(str, coordinates))
            held.append((f"{run.folder}/{name}" if run.folder else name, [urls[url], offset, length]))
    assert found.count == len(held)
    return Counter(map(repr, held))


class Pairs(list[tuple[str, Any]]):
    """An object with all its keys, also those that stand there twice."""


def plain(text: str) -> tuple[Counter[str], dict[str, Any]]:
    """What json makes of it: the entries, and the members besides them."""
    pairs = json.loads(text, object_pairs_hook=Pairs)
    refs = next((value for key, value in pairs if key == "refs"), None)
    members = {} if refs is None else {key: unpaired(value) for key, value in pairs if key != "refs"}
    return Counter(repr((key, unpaired(value))) for key, value in (pairs if refs is None else refs)), members


def unpaired(value: Any) -> Any:
    if isinstance(value, Pairs):
        return {key: unpaired(item) for key, item in value}
    return [unpaired(item) for item in value] if isinstance(value, list) else value


# Documents

URLS = ["{{u}}", "https://h/a?b=[1]", "x\\y", 'a],"b/0":["', "é", "\u2028", "", "]"]
numbers = st.one_of(
    st.integers(0, 99),
    st.sampled_from(
        [0, 2**31, 2**32 - 2, 2**32 - 1, 2**32, 2**53, 2**63 - 2**32, 2**63 - 1, 2**63, 2**64, -1, -(2**63)]
    ),
)
references = st.tuples(st.sampled_from(URLS), numbers, numbers).map(list)
plain_references = st.tuples(st.sampled_from(URLS[:2]), st.integers(0, 2**40), st.integers(0, 2**20)).map(list)
others: SearchStrategy[Any] = st.one_of(
    st.sampled_from(["base64:AAAA", "plain", 'with "quotes", ]', "é\U0001f600\\", "", None, True, 7, 1.5, -0.0]),
    st.sampled_from([["{{u}}"], ["u", 1.0, 2], ["u", True, 2], ["u", 1, 2, 3], [], {}, [[1]], ["u", "1", 2]]),
    st.dictionaries(st.sampled_from("abé"), st.one_of(st.integers(), st.text(max_size=3)), max_size=3),
)
folders = st.sampled_from(["", "a/", "a/b/", "é/", "a/1/", "x y/", "a\\/", "0/", 'q"/'])
names = st.one_of(
    st.integers(0, 12).map(str),
    st.tuples(st.integers(0, 12), st.integers(0, 1)).map(lambda pair: f"{pair[0]}.{pair[1]}"),
    st.tuples(st.integers(0, 12), st.integers(0, 1)).map(lambda pair: f"{pair[0]}/{pair[1]}"),
    st.sampled_from(["c/0/1", "c/3", "c", "01", "1.", ".1", "1..2", "-1", "1" * 12, "1\n2", "\u0661", "", "refs"]),
)
documents: SearchStrategy[Any] = st.sampled_from(
    [{"zarr_format": 2}, {"shape": [1], "n": {"m": [{}, "]"]}}, "{}", 'text, "]"', 1, None, []]
)


member_values: SearchStrategy[Any] = st.sampled_from(
    [1, 1.5, {"u": "https://h/{{x}}"}, [], [{"key": "a/{{i}}"}], "]", {"a": ["u", 1, 2]}]
)
mistakes = st.sampled_from([b"", b'"', b"\\", b",", b"]", b"}", b"{", b"[", b"0", b":", b"e", b"\xff", b"-"])


@st.composite
def members(draw: DrawFn) -> dict[str, Any]:
    """Entries in runs of the same kind, as files have them."""
    found: dict[str, Any] = {}
    for _ in range(draw(st.integers(0, 5))):
        folder = draw(folders)
        match draw(st.sampled_from(["run", "run", "loose", "document", "any"])):
            case "run":
                for i in range(draw(st.integers(1, 14))):
                    found[f"{folder}{i}.0"] = draw(plain_references)
            case "loose":
                found[folder + draw(names)] = draw(others)
            case "document":
                found[folder + draw(st.sampled_from(sorted(METADATA)))] = draw(documents)
            case _:
                for name in draw(st.lists(names, max_size=4)):
                    found[folder + name] = draw(references)
    return found


@st.composite
def texts(draw: DrawFn) -> str:
    """Documents in every style that JSON allows."""
    refs = draw(members())
    outer: list[tuple[str, Any]] = [("refs", refs)]
    for name in draw(st.lists(st.sampled_from(["version", "templates", "gen", "more"]), unique=True, max_size=3)):
        outer.insert(draw(st.integers(0, len(outer))), (name, draw(member_values)))
    styles = st.sampled_from([None, 0, 1, 2, "\t"])
    ascii_only, indent = draw(st.booleans()), draw(styles)
    separators = draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,\r\n ", "\t:\n")]))
    text = json.dumps(dict(outer), indent=indent, separators=separators, ensure_ascii=ascii_only)
    text = text.replace("\n", draw(st.sampled_from(["\n", "\r\n"])))
    begins, ends = (
        draw(st.sampled_from(["", " ", "\r\n" * 40])),
        draw(st.sampled_from(["", "\n", " \r\n\t", "\n" * 70])),
    )
    return f"{begins}{text}{ends}"


@pytest.mark.parametrize("size", [16, 48, 200])
@given(text=texts())
@quick
def test_a_document_has_the_entries_and_members_that_json_finds(size: int, text: str) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        with_blocks(monkeypatch, size)
        found = scan(text.encode(), "x.json")
    expected, others = plain(text)
    assert entries(found) == expected
    assert found.members == {"refs": True, **others}


@pytest.mark.parametrize("size", [16, 48, 200])
@given(refs=members().filter(lambda refs: refs and "/" in next(iter(refs)) and "refs" not in refs))
@quick
def test_a_document_of_version_0_is_all_entries(size: int, refs: dict[str, Any]) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        with_blocks(monkeypatch, size)
        text = json.dumps(refs, indent=1)
        found = scan(text.encode(), "x.json")
    assert entries(found) == plain(text)[0]
    assert found.members == {}


@pytest.mark.parametrize("size", [16, 48])
@given(text=texts(), data=st.data())
@quick
def test_what_json_refuses_is_refused_and_nothing_else_is(size: int, text: str, data: st.DataObject) -> None:
    content = bytearray(text.encode())
    for _ in range(data.draw(st.integers(1, 2))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + data.draw(st.integers(0, 3))] = data.draw(mistakes)
    refused = accepted = None
    try:
        accepted = json.loads(bytes(content), object_pairs_hook=unique_refs)
    except (ValueError, RecursionError) as error:
        refused = error
    found = None
    with pytest.MonkeyPatch.context() as monkeypatch:
        with_blocks(monkeypatch, size)
        try:
            found = scan(bytes(content), "x.json")
        except InvalidReferences:
            assert refused is not None or not isinstance(accepted, dict) or repeats(content)
            return
    assert refused is None
    assert found is not None
    if "refs" in found.members and found.members["refs"] is True:
        assert entries(found) == plain(content.decode())[0]


def unique_refs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return dict(pairs)


def repeats(content: bytearray) -> bool:
    """Whether an object repeats a key."""
    try:
        json.loads(bytes(content), object_pairs_hook=unique_object)
    except DuplicateKeyError:
        return True
    return False


# Wherever a block ends

CUT = json.dumps(
    {
        "version": 1.5e-3,
        "refs": {
            ".zgroup": {"zarr_format": 2},
            **{f"a/{i}.0": ["{{u}}", 10 * i, 10] for i in range(9)},
            "é/.zattrs": {"text": '],"\u00e9\U0001f600\\'},
            **{f"b/{i}/1": ["{{u}}", 10 * i, 10] for i in range(9)},
            "c/0": 'base64:],"',
        },
        "templates": {"u": "https://h"},
        "n": -12.5e2,
    },
    ensure_ascii=False,
)


@pytest.mark.parametrize("size", range(2, 130))
def test_a_document_is_the_same_wherever_its_blocks_end(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with_blocks(monkeypatch, size)
    monkeypatch.setattr(json_reader, "_WINDOW", size)
    found = scan(CUT.encode(), "x.json")
    assert entries(found) == plain(CUT)[0]
    assert found.members == {"version": 1.5e-3, "refs": True, "templates": {"u": "https://h"}, "n": -1250.0}


@pytest.mark.usefixtures("_blocks")
def test_each_beginning_of_a_document_is_refused() -> None:
    content = CUT.encode()
    for length in range(len(content)):
        with pytest.raises(InvalidReferences, match="is not a reference file: it is not JSON"):
            scan(content[:length], "x.json")


def test_most_of_a_plain_file_is_read_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    refs = {".zgroup": {"zarr_format": 2}, **{f"a/{i}.0": ["{{u}}", i, 10] for i in range(10_000)}}
    slow: list[str] = []
    original = JsonReader.next_key

    def next_key(self: Any, *, first: bool) -> str | None:
        slow.append("")
        return original(self, first=first)

    monkeypatch.setattr(JsonReader, "next_key", next_key)
    assert scan(json.dumps({"refs": refs}, indent=2).encode(), "x.json").count == 10_001
    assert len(slow) < 600


# Keys that stand there twice


def twice(first: str, second: str, between: int) -> str:
    filling = "".join(f'"f/{i}.0": ["u", {i}, 1], ' for i in range(between))
    return f'{{"refs": {{"d/.zgroup": {{}}, {first}, {filling}{second}}}}}'


FAST, TEXT, DOCUMENT = '"a/0": ["u", 1, 2]', '"a/0": "base64:AAAA"', '"a/.zattrs": {}'
SPELLED = r'"a\u002f0": ["u", 3, 4]'


@pytest.mark.parametrize("between", [0, 1, 30])
@pytest.mark.parametrize(("first", "second"), list(itertools.product([FAST, SPELLED], repeat=2)))
@pytest.mark.usefixtures("_blocks")
def test_references_of_one_key_are_all_kept_so_that_the_array_can_refuse_them(
    first: str, second: str, between: int
) -> None:
    text = twice(first, second, between)
    assert entries(scan(text.encode(), "x.json")) == plain(text)[0]


@pytest.mark.parametrize("between", [0, 1, 30])
@pytest.mark.parametrize(
    ("first", "key"),
    [(TEXT, "a/0"), (r'"a\/0": null', "a/0"), (DOCUMENT, "a/.zattrs"), (r'"a\u002f.zattrs": {}', "a/.zattrs")],
)
@pytest.mark.usefixtures("_blocks")
def test_other_entries_of_one_key_are_refused(first: str, key: str, between: int) -> None:
    second = {"a/0": TEXT, "a/.zattrs": DOCUMENT}[key]
    with pytest.raises(InvalidReferences, match=re.escape(f"the key {key!r} stands there twice")) as caught:
        scan(twice(first, second, between).encode(), "x.json")
    assert caught.value.key == key


REPEATED = {
    "a member": ('{"refs": {}, "version": 1, "version": 1}', "the key 'version' stands there twice", "version"),
    "refs": ('{"refs": {}, "refs": {}}', "the key 'refs' stands there twice", "refs"),
    "refs, spelled otherwise": (r'{"refs": {}, "\u0072efs": {}}', "the key 'refs' stands there twice", "refs"),
    "within a document": ('{"refs": {"a/.zattrs": {"b": {"c": 1, "c": 1}}}}', "the key 'c' stands there twice", None),
    "within a member": ('{"refs": {}, "templates": {"u": "", "u": ""}}', "the key 'u' stands there twice", "templates"),
}


@pytest.mark.parametrize("name", REPEATED)
@pytest.mark.usefixtures("_blocks")
def test_a_key_that_stands_there_twice_is_named(name: str) -> None:
    text, reason, key = REPEATED[name]
    with pytest.raises(InvalidReferences, match=re.escape(reason)) as caught:
        scan(text.encode(), "x.json")
    assert caught.value.key == (key or "a/.zattrs")


# Documents that are none

LONG = "1" * 5000
BROKEN = {
    "nothing": (b"", "it ends too early"),
    "blanks": (b" \n" * 50, "it ends too early"),
    "a byte order mark": (b"\xef\xbb\xbf{}", "begins with a byte order mark"),
    "UTF-16": ('{"refs": {}}'.encode("utf-16"), "begins with a byte order mark"),
    "UTF-16 without a mark": ('{"refs": {}}'.encode("utf-16-le"), "it is not JSON"),
    "Latin-1": ('{"refs": {"é/0": ["u", 1, 2]}}'.encode("latin-1"), "not UTF-8 text at byte"),
    "half a character": (b'{"refs": {"a/0": "\xc3"}}', "not UTF-8 text at byte"),
    "a surrogate": (b'{"refs": {"a/0": "\xed\xa0\x80"}}', "not UTF-8 text at byte"),
    "something behind it": (b'{"refs": {}} x', "something stands behind its end"),
    "another document behind it": (b'{"refs": {}}{"refs": {}}', "something stands behind its end"),
    "a zero behind it": (b'{"refs": {}}\0', "something stands behind its end"),
    "a list": (b"[]", "no object called 'refs'"),
    "a number": (b"-1", "no object called 'refs'"),
    "a word": (b"null", "no object called 'refs'"),
    "no JSON": (b"<html>", "an object ('{') is missing at byte 0"),
    "a comma at the end": (b'{"refs": {"a/0": ["u", 1, 2],}}', "a key is missing"),
    "a comma at the end of entries": (b'{"refs": {"a/0": "b",}}', "a key is missing"),
    "no comma": (b'{"refs": {"a/0": ["u", 1, 2] "a/1": ["u", 1, 2]}}', "a comma is missing"),
    "two commas": (b'{"refs": {"a/0": ["u", 1, 2],, "a/1": ["u", 1, 2]}}', "a key is missing"),
    "a comma first": (b'{"refs": {, "a/0": ["u", 1, 2]}}', "a key is missing"),
    "a key without quotes": (b"{refs: {}}", "a key is missing"),
    "a key of a number": (b'{"refs": {1: ["u", 1, 2]}}', "a key is missing"),
    "a comma in place of a colon": (b'{"refs", {}}', "a colon is missing"),
    "a bare line break in a text": (b'{"refs": {"a/0": "b\n"}}', "Invalid control character"),
    "a leading zero": (b'{"refs": {"a/0": ["u", 01, 2]}}', "it is not JSON"),
    "5,000 digits": (f'{{"refs": {{"a/0": ["u", {LONG}, 2]}}}}'.encode(), "a number with too many digits"),
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.usefixtures("_blocks")
def test_a_document_that_is_none_is_refused_with_the_place(name: str) -> None:
    content, reason = BROKEN[name]
    with pytest.raises(InvalidReferences, match=re.escape(reason)) as caught:
        scan(content, "x.json")
    assert str(caught.value).startswith("x.json is not a reference file: ")
    assert str(caught.value).endswith(". Fetch it again, or make it anew.")


def test_an_error_of_syntax_is_found_without_the_rest_of_a_large_file() -> None:
    class Counting(bytes):
        def __getitem__(self, at: Any) -> Any:
            reads.append(at.stop - at.start)
            return bytes(super().__getitem__(at))

    reads: list[int] = []
    with pytest.raises(InvalidReferences, match="it is not JSON"):
        scan(Counting(b'{"refs": {"a/.zattrs": {"b" 1' + b" " * 2**24), "x.json")
    assert sum(reads) < 2**18


DEEP = {
    "lists": b"[" * 100_000,
    "objects": b'{"a":' * 100_000,
    "lists that end": b"[" * 100_000 + b"]" * 100_000,
    "33 levels": b"[" * 33 + b"]" * 33,
}


@pytest.mark.parametrize("name", DEEP)
@pytest.mark.parametrize("key", ["a/.zattrs", "a/0", "gen", "templates"])
@pytest.mark.usefixtures("_blocks")
def test_deep_nesting_is_refused_wherever_it_stands(name: str, key: str) -> None:
    value = DEEP[name]
    content = b'{"refs": {"%s": %s}}' if "/" in key else b'{"refs": {}, "%s": %s}'
    with pytest.raises(InvalidReferences, match="nested too deeply") as caught:
        scan(content % (key.encode(), value), "x.json")
    assert caught.value.key == key


@pytest.mark.parametrize("levels", range(6))
def test_depth_is_that_of_lists_and_objects(levels: int) -> None:
    value: Any = 1
    for level in range(levels):
        value = [value, 2] if level % 2 else {"a": value}
    assert [deeper_than(value, depth) for depth in range(1, 8)] == [levels > depth for depth in range(1, 8)]


# What takes too much memory


def limits() -> Iterator[tuple[str, int, bytes, str]]:
    many = ",".join(f'"a{i}/.zgroup": {{}}' for i in range(8))
    yield "MAX_ENTRIES", 5, b'{"refs": {%s}}' % many.encode(), "more than 5 entries"
    yield "_MAX_DOCUMENTS", 5, b'{"refs": {%s}}' % many.encode(), "more than 5 documents of metadata"
    loose = ",".join(f'"a/{i}": "x"' for i in range(8))
    yield "_MAX_LOOSE", 5, b'{"refs": {%s}}' % loose.encode(), "more than 5 entries besides plain references"
    yield "_MAX_VALUE", 64, b'{"refs": {"a/0": "%s"}}' % (b"x" * 300), "in the entry 'a/0' a value is larger than"
    yield "MAX_VALUES", 20, b'{"refs": {}, "gen": [%s]}' % (b"[]," * 500), "'gen' there are more than 20 values"


@pytest.mark.parametrize(("limit", "value", "content", "reason"), list(limits()), ids=lambda value: str(value)[:16])
def test_a_document_that_would_fill_the_memory_is_refused(
    limit: str, value: int, content: bytes, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_blocks(monkeypatch, 64)
    monkeypatch.setattr(module if hasattr(module, limit) else json_reader, limit, value)
    with pytest.raises(InvalidReferences, match=re.escape(reason)):
        scan(content, "x.json")
