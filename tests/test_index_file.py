from __future__ import annotations

import binascii
import gc
import itertools
import json
import math
import mmap
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lindi_dask.errors import RefsChanged
from lindi_dask.index_cache import open_index, write_index
from lindi_dask.index_file import _PREFIX, lay_out
from lindi_dask.refs.manifest import MISSING, WHOLE, ColumnManifest, LazyManifest
from lindi_dask.refs.references import INLINE, References, Source, SourceTable
from lindi_dask.refs.zarrshadow.selections import Selection

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypothesis.strategies import DrawFn

FINGERPRINT = "0123456789abcdef" * 2
INLINE_BYTES = bytes(range(256)) * 4
quick = settings(max_examples=60, deadline=None, derandomize=True)


def documents(paths: list[str], attributes: dict[str, Any] | None = None) -> dict[str, bytes]:
    """As the parsers make them: the root's has all of them."""
    nodes = {path: {"node_type": "array", "attributes": {"name": path, "unit": "\u00b5V"}} for path in paths}
    root = {
        "node_type": "group",
        "attributes": attributes or {},
        "consolidated_metadata": {"kind": "inline", "metadata": {path: nodes[path] for path in sorted(nodes)}},
    }
    made = {f"{path}/zarr.json": json.dumps(node).encode() for path, node in nodes.items()}
    return {**made, "zarr.json": json.dumps(root).encode()}


def references(
    manifests: dict[str, ColumnManifest],
    *,
    metadata: dict[str, bytes] | None = None,
    sources: tuple[Source, ...] = (Source("https://example.org/a.nwb", size=5, etag="e"), Source("b.nwb")),
    fingerprint: str = FINGERPRINT,
) -> References:
    return References(
        fingerprint=fingerprint,
        metadata=documents(list(manifests)) if metadata is None else metadata,
        manifests=manifests,
        padded={"raw": 2**40},
        selections={"inline": Selection(770, ((0, 768), (769, 770)))},
        sources=SourceTable((Source("", data=memoryview(INLINE_BYTES)), *sources)),
        links={"link": "a/b"},
        unreadable={"odd": "it is \u0661"},
    )


def sample() -> References:
    """Dense and sparse, inline and not, constant columns and others."""
    n = np.arange(40)
    return references(
        {
            "dense": ColumnManifest.build((8, 5), n, 1 + n % 2, 1000 * n, 7 + n),
            "constant": ColumnManifest.build((40,), n, np.full(40, 2), 64 * n, np.full(40, 64)),
            "sparse": ColumnManifest.build((2**31, 2**31), [2**61, 5, 77], [1, 2, 1], [1, 2, 3], [4, WHOLE, 6]),
            "holes": ColumnManifest.build((10,), [1, 4, 9], [1, 1, 2], [5, 6, 7], [1, 2, 3]),
            "inline": ColumnManifest.build((3,), [0, 2, 1], [INLINE, INLINE, 1], [10, 20, 30], [4, 5, 6]),
            "scalar": ColumnManifest.build((), [0], [INLINE], [3], [9]),
            "empty": ColumnManifest.build((0, 4), [], [], [], []),
            "none": ColumnManifest.build((100,), [], [], [], []),
        }
    )


Content = dict[str, Any]


def content(found: References) -> Content:
    """All that references say, sources by what they are: two that say the same are equal."""
    chunks = {}
    for path, manifest in found.manifests.items():
        places = manifest.present()
        at = manifest.locate(places)
        chunks[path] = (
            manifest.grid,
            [
                (place, *located(found.sources[source], offset, length))
                for place, source, offset, length in zip(
                    places.tolist(), at.sources.tolist(), at.offsets.tolist(), at.lengths.tolist(), strict=True
                )
            ],
        )
    return {
        "chunks": chunks,
        "metadata": list(found.metadata.items()),
        "rest": (found.fingerprint, found.padded, found.selections, found.links, found.unreadable),
    }


def located(source: Source, offset: int, length: int) -> tuple[Any, ...]:
    if source.data is not None:
        return (bytes(source.data[offset : offset + length]),)
    return source.url, source.size, source.etag, offset, length


def never() -> References:
    raise AssertionError("parsed again")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "one.lindi-index"


@st.composite
def manifests(draw: DrawFn) -> ColumnManifest:
    grid = draw(st.one_of(st.lists(st.integers(0, 6), max_size=3).map(tuple), st.just((2**40, 2**22))))
    total = math.prod(grid)
    places = draw(st.sets(st.integers(0, total - 1), max_size=30)) if total else set()
    n = len(places)

    def column(values: st.SearchStrategy[int]) -> list[int]:
        return draw(st.one_of(st.lists(values, min_size=n, max_size=n), values.map(lambda value: [value] * n)))

    lengths = column(st.one_of(st.integers(0, 2**32 - 2), st.just(WHOLE)))
    return ColumnManifest.build(grid, sorted(places), column(st.integers(0, 2)), column(st.integers(0, 2**63)), lengths)


@given(st.lists(manifests(), max_size=4), st.data())
@quick
def test_what_is_opened_is_what_was_written(drawn: list[ColumnManifest], data: st.DataObject) -> None:
    names = data.draw(
        st.lists(st.text("ab/.\u00fc\"'", min_size=1), min_size=len(drawn), max_size=len(drawn), unique=True)
    )
    written = references(dict(zip(names, drawn, strict=True)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.lindi-index"
        write_index(written, path)
        opened = open_index(path, FINGERPRINT, never)
    assert opened is not None
    assert content(opened) == content(written)
    for name, manifest in written.manifests.items():
        total = math.prod(manifest.grid)
        asked = data.draw(st.lists(st.integers(0, total - 1), max_size=10)) if total else []
        places = np.array(asked, np.uint64)
        found, expected = opened.manifests[name].locate(places), manifest.locate(places)
        assert found.sources.tolist() == expected.sources.tolist()
        listed = expected.sources != MISSING
        assert found.offsets[listed].tolist() == expected.offsets[listed].tolist()
        assert found.lengths[listed].tolist() == expected.lengths[listed].tolist()
        assert list(itertools.islice(opened.manifests[name].names(), 50)) == list(
            itertools.islice(manifest.names(), 50)
        )


@pytest.mark.parametrize(
    "metadata",
    [
        documents(["b", "a/x", "a.b", "a"], {"text": '{"zarr_format": 3}'}),
        {**documents(["a", "b"]), "zarr.json": b'{"not": "consolidated"}'},
        {"zarr.json": b"{}"},
        {},
        {"zarr.json": b"{}", "a/zarr.json": b""},
    ],
    ids=["consolidated", "root without the others", "root alone", "nothing", "empty document"],
)
def test_documents_come_back_to_the_last_byte(path: Path, metadata: dict[str, bytes]) -> None:
    write_index(references({}, metadata=metadata), path)
    opened = open_index(path, FINGERPRINT, never)
    assert opened is not None
    assert list(opened.metadata.items()) == list(metadata.items())


def test_documents_that_the_root_repeats_are_kept_once(path: Path) -> None:
    metadata = documents([f"group/array{i}" for i in range(2000)])
    write_index(references({}, metadata=metadata), path)
    once = sum(map(len, metadata.values())) - len(metadata["zarr.json"])
    assert path.stat().st_size < 1.8 * once  # with the table of documents; twice would be more than 2


def test_a_column_that_is_the_same_for_all_chunks_takes_no_room(path: Path) -> None:
    n = np.arange(100_000)
    same = ColumnManifest.build((len(n),), n, np.ones(len(n)), 64 * n, np.full(len(n), 64))
    write_index(references({"a": same}), path)
    assert path.stat().st_size < 8 * len(n) + 4096
    opened = open_index(path, FINGERPRINT, never)
    assert opened is not None
    assert content(opened) == content(references({"a": same}))


def test_sections_are_aligned_to_64_bytes() -> None:
    pieces = list(lay_out(sample()))
    ends = list(itertools.accumulate(map(len, pieces)))
    assert [end % 64 for end in ends[2::2]] == [0] * len(ends[2::2])


def test_each_byte_of_the_header_that_is_flipped_is_noticed(path: Path) -> None:
    write_index(sample(), path)
    good = path.read_bytes()
    _, _, _, header_nbytes, _ = _PREFIX.unpack_from(good)
    for at in range(_PREFIX.size + header_nbytes):
        path.write_bytes(good[:at] + bytes([good[at] ^ 1 << at % 8]) + good[at + 1 :])
        assert open_index(path, FINGERPRINT, never) is None
    # the version and the magic say that the file is another's; all else that it is damaged
    path.write_bytes(good[:-1] + b"x")
    assert open_index(path, FINGERPRINT, sample) is not None


def test_a_damaged_section_never_gives_wrong_data(path: Path) -> None:
    expected = content(sample())
    write_index(sample(), path)
    good = path.read_bytes()
    _, _, _, header_nbytes, _ = _PREFIX.unpack_from(good)
    rebuilt = refused = 0
    for at in range(_PREFIX.size + header_nbytes, len(good), 7):
        calls: list[None] = []

        def rebuild(calls: list[None] = calls) -> References:
            calls.append(None)
            return sample()

        path.write_bytes(good[:at] + bytes([good[at] ^ 0x10]) + good[at + 1 :])
        opened = open_index(path, FINGERPRINT, rebuild)
        if opened is None:  # the documents are checked at opening
            refused += 1
        else:
            assert content(opened) == expected
            assert len(calls) <= 1
            rebuilt += len(calls)
        if calls or opened is None:
            assert not path.exists()
    assert refused > 20
    assert rebuilt > 50


def test_damaged_bytes_of_inline_chunks_are_noticed(path: Path) -> None:
    write_index(sample(), path)
    good = path.read_bytes()
    at = good.index(INLINE_BYTES)
    path.write_bytes(good[: at + 700] + b"\0" + good[at + 701 :])
    opened = open_index(path, FINGERPRINT, sample)
    assert opened is not None
    assert content(opened) == content(sample())


def test_an_array_without_inline_chunks_does_not_look_at_their_bytes(path: Path) -> None:
    write_index(sample(), path)
    good = path.read_bytes()
    path.write_bytes(good.replace(INLINE_BYTES, bytes(len(INLINE_BYTES))))
    opened = open_index(path, FINGERPRINT, never)
    assert opened is not None
    assert len(opened.manifests["dense"].present()) == 40


def test_all_damaged_arrays_are_parsed_again_at_once(path: Path) -> None:
    write_index(sample(), path)
    good = bytearray(path.read_bytes())
    good[-600:] = bytes(600)
    path.write_bytes(good)
    calls: list[None] = []

    def rebuild() -> References:
        calls.append(None)
        return sample()

    opened = open_index(path, FINGERPRINT, rebuild)
    assert opened is not None
    assert content(opened) == content(sample())
    assert content(opened) == content(sample())
    assert len(calls) == 1


def test_what_parsing_again_raises_is_passed_on_and_tried_again(path: Path) -> None:
    write_index(sample(), path)
    good = path.read_bytes()
    path.write_bytes(good[:-64] + bytes([good[-64] ^ 1]) + good[-63:])
    other = references({}, sources=(Source("other.nwb"),))
    answers: list[Callable[[], References]] = [refuse, lambda: other, lambda: references({})]

    def rebuild() -> References:
        return answers.pop(0)()

    opened = open_index(path, FINGERPRINT, rebuild)
    assert opened is not None
    with pytest.raises(RefsChanged, match="gone"):
        content(opened)
    for _ in range(2):
        with pytest.raises(RefsChanged, match="not as it was"):
            content(opened)
    assert not answers


def refuse() -> References:
    raise RefsChanged("gone", expected="a", found="b")


def test_a_file_that_ends_too_early_is_noticed_at_opening(path: Path) -> None:
    write_index(sample(), path)
    good = path.read_bytes()
    for length in range(0, len(good), 97):
        path.write_bytes(good[:length])
        assert open_index(path, FINGERPRINT, never) is None
        assert not path.exists() or length < len(_PREFIX.format)
        path.unlink(missing_ok=True)
    path.write_bytes(good + b"\0")
    assert open_index(path, FINGERPRINT, never) is None


def test_opening_does_not_depend_on_the_number_of_chunks(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[int] = []

    def crc32(data: bytes, start: int = 0) -> int:
        checked.append(len(data))
        return binascii.crc32(data, start)

    n = np.arange(1_000_000)
    write_index(references({"a": ColumnManifest.build((len(n),), n, 1 + n % 2, 64 * n, 7 + n)}), path)
    monkeypatch.setattr("lindi_dask.index_file.zlib.crc32", crc32)
    opened = open_index(path, FINGERPRINT, never)
    assert opened is not None
    assert sum(checked) < 4096
    opened.manifests["a"].locate(np.array([3], np.uint64))
    assert sum(checked) > 16 * len(n)
    at = len(checked)
    opened.manifests["a"].locate(np.array([4], np.uint64))
    assert len(checked) == at


def test_the_pages_stay_mapped_when_the_file_is_removed(path: Path) -> None:
    write_index(sample(), path)
    opened = open_index(path, FINGERPRINT, never)
    path.unlink()
    assert opened is not None
    assert content(opened) == content(sample())


def test_nothing_that_is_mapped_can_be_written_to(path: Path) -> None:
    write_index(sample(), path)
    opened = open_index(path, FINGERPRINT, never)
    assert opened is not None
    data = opened.sources[INLINE].data
    assert data is not None
    assert data.readonly
    assert data.obj.__class__ is mmap.mmap
    with pytest.raises(ValueError, match="read-only"):
        opened.manifests["sparse"].present()[0] = 1


def test_lazy_manifests_are_not_written() -> None:
    made = references({"a": ColumnManifest.build((1,), [0], [1], [0], [1])})
    lazy = references({"a": LazyManifest((1,), lambda: made.manifests["a"])})  # type: ignore[dict-item]
    with pytest.raises(TypeError, match="not in columns"):
        list(lay_out(lazy))


def test_no_handle_is_left_open(path: Path) -> None:
    write_index(sample(), path)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        opened = open_index(path, FINGERPRINT, never)
        assert opened is not None
        content(opened)
        del opened
    gc.collect()
    assert len(list(Path("/proc/self/fd").iterdir())) <= before
