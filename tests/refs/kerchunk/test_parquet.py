from __future__ import annotations

import json
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lindi_dask.errors import ConfigurationError, InvalidReferences, StorageUnavailable
from lindi_dask.refs.kerchunk import parquet_footer
from lindi_dask.refs.kerchunk.parquet import RecordManifest, parse_zmetadata
from lindi_dask.refs.kerchunk.parquet_records import encode_record
from lindi_dask.refs.manifest import MISSING, WHOLE
from lindi_dask.refs.references import INLINE, Source, SourceTable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

fsspec = pytest.importorskip("fsspec")
pa = pytest.importorskip("pyarrow")
pc = pytest.importorskip("pyarrow.compute")
pq = pytest.importorskip("pyarrow.parquet")
pd = pytest.importorskip("pandas")
reference = pytest.importorskip("fsspec.implementations.reference")
kerchunk_df = pytest.importorskip("kerchunk.df")
pytest.importorskip("fastparquet")

# pandas says so at each use; fsspec still writes with it by default
pytestmark = pytest.mark.filterwarnings("ignore:The 'fastparquet' engine is deprecated")

Value = bytes | tuple[str] | tuple[str, int, int]
quick = settings(max_examples=60, deadline=None, derandomize=True)
URL = "https://example.org/session.nc"


def folder(root: Path) -> Callable[[str], bytes | None]:
    return lambda name: (root / name).read_bytes() if (root / name).exists() else None


def manifest(content: bytes | None, grid: tuple[int, ...] = (4,), size: int = 4, **options: Any) -> RecordManifest:
    options.setdefault("sources", SourceTable())
    return RecordManifest("a", grid, size, lambda _: content, **options)


def located(manifest: RecordManifest, place: int) -> Value | None:
    """What a manifest says of one chunk, in the words of kerchunk's JSON."""
    found = manifest.locate(np.array([place], np.uint64))
    number, offset, length = int(found.sources[0]), int(found.offsets[0]), int(found.lengths[0])
    if number == MISSING:
        return None
    source = manifest._sources[number]
    if source.data is not None:
        return bytes(source.data[offset : offset + length])
    return (source.url,) if length == WHOLE else (source.url, offset, length)


def zarray(*shape: int) -> str:
    return json.dumps({"zarr_format": 2, "shape": shape, "chunks": [1] * len(shape), "dtype": "<i4", "fill_value": 0})


def parquet(columns: dict[str, Any], **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink, **{"compression": "zstd", **options})
    return bytes(sink.getvalue())


def columns(**changes: Any) -> dict[str, Any]:
    """Four good rows: a range, a whole file, bytes, nothing; with changes."""
    good = {
        "path": pa.array([URL, URL, None, None]),
        "offset": pa.array([5, 0, 0, 0], pa.int64()),
        "size": pa.array([7, 0, 0, 0], pa.int64()),
        "raw": pa.array([None, None, b"abc", None], pa.binary()),
    }
    return {key: value for key, value in {**good, **changes}.items() if value is not None}


# .zmetadata


def test_zmetadata_has_documents_and_the_rows_of_a_record() -> None:
    parsed = parse_zmetadata(b'{"metadata": {".zgroup": {"zarr_format": 2}}, "record_size": 10, "more": 1}')
    assert parsed.documents == {".zgroup": {"zarr_format": 2}}
    assert parsed.record_size == 10


ZMETADATA_FAULTS = {
    b"": "not JSON",
    b"\xff\xfe\xfd": "not UTF-8",
    b"[1]": "'metadata'",
    b"{": "not JSON",
    b"[" * 100_000: "too deeply",
    b'{"record_size": 1}': "'metadata'",
    b'{"metadata": [], "record_size": 1}': "'metadata'",
    b'{"metadata": {}}': "'record_size'",
    b'{"metadata": {}, "record_size": 0}': "'record_size'",
    b'{"metadata": {}, "record_size": -1}': "'record_size'",
    b'{"metadata": {}, "record_size": 1.0}': "'record_size'",
    b'{"metadata": {}, "record_size": true}': "'record_size'",
    b'{"metadata": {}, "record_size": "1"}': "'record_size'",
    b'{"metadata": {}, "record_size": 20000001}': "'record_size'",
    b'{"metadata": {}, "record_size": ' + b"1" * 5000 + b"}": "not JSON",
    b'{"metadata": {}, "record_size": 1, "record_size": 2}': "'record_size' stands there twice",
    b'{"metadata": {"a": {}, "a": {}}, "record_size": 1}': "'a' stands there twice",
    b'{"metadata": {"a": {"b": 1, "b": 1}}, "record_size": 1}': "'b' stands there twice",
    b'{"metadata": {"a": "{}"}, "record_size": 1}': "'a' is not a JSON object",
    b'{"metadata": {"a": {"b": ' + b"[" * 40 + b"]" * 40 + b'}}, "record_size": 1}': "'a' is nested too deeply",
}


@pytest.mark.parametrize(("content", "reason"), ZMETADATA_FAULTS.items(), ids=range(len(ZMETADATA_FAULTS)))
def test_a_zmetadata_that_breaks_the_format_is_refused_with_the_reason(content: bytes, reason: str) -> None:
    with pytest.raises(InvalidReferences, match=reason) as caught:
        parse_zmetadata(content)
    assert caught.value.key == ".zmetadata"
    assert caught.value.__context__ is None


def test_what_a_zmetadata_says_of_files_is_taken_as_it_is_and_checked() -> None:
    said = b'{"metadata": {}, "record_size": 1, "sources": {"{{u}}/x": {"size": %s, "etag": "\\"tag\\""}}}'
    assert parse_zmetadata(said % b"3").sources == {"{{u}}/x": Source("{{u}}/x", 3, "tag")}
    with pytest.raises(InvalidReferences, match="its size -1 is not a number of bytes"):
        parse_zmetadata(said % b"-1")


# What others write


REFS: dict[str, dict[str, Any]] = {  # by array: its shape, and kerchunk's entries by chunk
    "ranges": {"shape": (45,), **{str(i): [URL, 10 * i, 10] for i in (*range(10), *range(30, 43))}},
    "files": {"shape": (3,), "0": ["https://example.org/0"], "2": ["https://example.org/2", 0, 0]},
    "inline": {"shape": (4,), "0": "base64:AAEC", "1": "text", "3": ""},
    "both": {"shape": (4,), "0": "base64:AAEC", "1": ["other.nc", 2**40, 2**32 - 2]},
    "many": {"shape": (20,), **{str(i): [f"https://example.org/{i}.nc", i, 5] for i in range(20)}},
    "scalar": {"shape": (), "0": [URL, 3, 4]},
    "group/plane": {"shape": (2, 3), "1.2": [URL, 3, 4], "0.1": [URL, 1, 2]},
}


def expected(entry: Any) -> Value | None:
    if isinstance(entry, list):
        return (entry[0],) if entry[1:] in ([], [0, 0]) else tuple(entry)
    return entry if entry is None else kerchunk_df._proc_raw(entry)


def write_with_mapper(root: Path, engine: str) -> None:
    filesystem = fsspec.filesystem("file")
    mapper = reference.LazyReferenceMapper.create(str(root), fs=filesystem, record_size=10, engine=engine)
    for path, array in REFS.items():
        mapper[f"{path}/.zarray"] = zarray(*array["shape"])
        for name, entry in array.items():
            if name != "shape":
                mapper[f"{path}/{name}"] = entry
    mapper.flush()


def write_with_kerchunk(root: Path) -> None:
    refs = {f"{path}/.zarray": zarray(*array["shape"]) for path, array in REFS.items()}
    refs |= {f"{path}/{name}": e for path, array in REFS.items() for name, e in array.items() if name != "shape"}
    kerchunk_df.refs_to_dataframe(refs, str(root), record_size=10)


WRITERS: dict[str, Callable[[Path], None]] = {
    "fsspec, fastparquet": lambda root: write_with_mapper(root, "fastparquet"),
    "fsspec, pyarrow": lambda root: write_with_mapper(root, "pyarrow"),
    "kerchunk": write_with_kerchunk,
}


@pytest.mark.parametrize("writer", WRITERS)
def test_every_chunk_is_where_the_real_writer_put_it(tmp_path: Path, writer: str) -> None:
    WRITERS[writer](tmp_path)
    metadata = parse_zmetadata((tmp_path / ".zmetadata").read_bytes())
    assert {key.rpartition("/")[0] for key in metadata.documents if key.endswith(".zarray")} == set(REFS)
    for path, array in REFS.items():
        read = RecordManifest(path, array["shape"], 10, folder(tmp_path), SourceTable(), sparse=True)
        assert sorted(read.names()) == sorted(array.keys() - {"shape"})
        for place in range(int(np.prod(array["shape"], dtype=int))):
            name = ".".join(map(str, np.unravel_index(place, array["shape"]))) or "0"
            assert located(read, place) == expected(array.get(name)), (path, name)


@pytest.mark.parametrize("writer", WRITERS)
def test_real_writers_leave_out_records_in_between_that_have_no_chunk(tmp_path: Path, writer: str) -> None:
    WRITERS[writer](tmp_path)
    assert sorted(path.name for path in (tmp_path / "ranges").iterdir()) == [
        "refs.0.parq",
        "refs.3.parq",
        "refs.4.parq",
    ]


def test_a_category_of_paths_is_read_without_an_object_a_row(tmp_path: Path) -> None:
    frame = pd.DataFrame({"path": pd.Categorical([URL] * 1000), "offset": range(1000), "size": 1})
    frame.to_parquet(tmp_path / "refs.0.parq", engine="fastparquet", compression="zstd", index=False)
    seen: list[str] = []

    def source(path: str) -> Source:
        seen.append(path)
        return Source("expanded")

    read = manifest((tmp_path / "refs.0.parq").read_bytes(), (1000,), 1000, source=source)
    assert located(read, 999) == ("expanded", 999, 1)
    assert seen == [URL]


OLD_RECORDS: dict[str, dict[str, Any]] = {  # as kerchunk wrote them in 2023: 3 rows of 10, no empty columns
    "no bytes": {"path": [URL, None, URL], "offset": [5, 0, 0], "size": [7, 0, 0]},
    "bytes only": {"raw": [b"a", b"", b"c"]},
    "both": {"path": [URL, None, None], "offset": [5, 0, 0], "size": [7, 0, 0], "raw": [None, b"b", None]},
}
OLD_CHUNKS: dict[str, list[Value | None]] = {
    "no bytes": [(URL, 5, 7), None, (URL,)],
    "bytes only": [b"a", b"", b"c"],
    "both": [(URL, 5, 7), b"b", None],
}


@pytest.mark.parametrize("record", OLD_RECORDS)
def test_older_writers_left_out_empty_columns_and_rows_behind_the_grid(tmp_path: Path, record: str) -> None:
    frame = pd.DataFrame(
        {k: pd.Series(v, dtype=None if k in {"offset", "size"} else object) for k, v in OLD_RECORDS[record].items()}
    )
    frame.to_parquet(
        tmp_path / "r", engine="fastparquet", object_encoding={"raw": "bytes", "path": "utf8"}, index=False
    )
    read = manifest((tmp_path / "r").read_bytes(), (3,), 10)
    assert [located(read, place) for place in range(3)] == OLD_CHUNKS[record]


# A dictionary from places to locations


@st.composite
def arrays(draw: st.DrawFn) -> tuple[tuple[int, ...], int, dict[int, Value]]:
    grid = tuple(draw(st.lists(st.integers(0, 6), max_size=2)))
    places = st.integers(0, int(np.prod(grid, dtype=int)) - 1) if 0 not in grid else st.nothing()
    url = st.sampled_from(("a", "b/c", "file:///\u00e9?x=1"))
    ranges = st.tuples(url, st.integers(0, 2**62), st.integers(0, 2**32 - 2)).filter(
        lambda range_: range_[1:] != (0, 0)
    )
    value = ranges | st.tuples(url) | st.binary(max_size=9) | st.binary(max_size=3).map(lambda tail: b"base64:" + tail)
    return grid, draw(st.integers(1, 20)), draw(st.dictionaries(places, value))


def encode(chunks: dict[int, Value], first: int, size: int) -> bytes:
    rows = {place - first: value for place, value in chunks.items() if first <= place < first + size}
    paths = sorted({value[0] for value in rows.values() if isinstance(value, tuple)})
    codes, offsets, lengths = np.full(size, -1), np.zeros(size, np.uint64), np.zeros(size, np.uint32)
    for row, value in rows.items():
        if isinstance(value, tuple):
            codes[row] = paths.index(value[0])
            offsets[row], lengths[row] = value[1:] if len(value) == 3 else (0, WHOLE)
    return encode_record(paths, codes, offsets, lengths, {r: v for r, v in rows.items() if isinstance(v, bytes)})


@given(arrays(), st.data())
@quick
def test_it_is_a_dictionary_from_places_to_locations(
    array: tuple[tuple[int, ...], int, dict[int, Value]], data: st.DataObject
) -> None:
    grid, size, chunks = array
    total = int(np.prod(grid, dtype=int))
    reads: Counter[str] = Counter()
    filled = {place // size for place in chunks}

    def read(name: str) -> bytes | None:
        reads[name] += 1
        number = int(name.removeprefix("a/refs.").removesuffix(".parq"))
        return encode(chunks, number * size, size) if number in filled else None

    records = RecordManifest("a", grid, size, read, SourceTable(), sparse=True)
    asked = data.draw(st.lists(st.integers(0, total - 1), max_size=20)) if total else []
    found = records.locate(np.array(asked, np.uint64))
    assert reads == Counter({f"a/refs.{place // size}.parq" for place in asked})
    assert [bool(source == MISSING) for source in found.sources] == [place not in chunks for place in asked]
    assert [located(records, place) for place in asked] == [chunks.get(place) for place in asked]
    assert records.present().tolist() == sorted(chunks)
    assert set(reads.values()) <= {1}


@pytest.mark.parametrize("engine", ["fastparquet", "pyarrow"])
@given(array=arrays())
@settings(max_examples=15, deadline=None, derandomize=True)
def test_fsspec_reads_what_is_encoded_here(
    tmp_path_factory: pytest.TempPathFactory, engine: str, array: tuple[tuple[int, ...], int, dict[int, Value]]
) -> None:
    grid, size, chunks = array
    root = tmp_path_factory.mktemp("folder")
    (root / "a").mkdir()
    (root / ".zmetadata").write_text(
        json.dumps({"metadata": {"a/.zarray": json.loads(zarray(*grid))}, "record_size": size}), "utf-8"
    )
    total = int(np.prod(grid, dtype=int))
    for first in range(0, total, size):
        (root / f"a/refs.{first // size}.parq").write_bytes(encode(chunks, first, size))
    mapper = reference.LazyReferenceMapper(str(root), fs=fsspec.filesystem("file"), engine=engine)
    # with pandas 3 and pyarrow, fsspec takes a null for a path, and can't make a file system of it
    filesystem = reference.ReferenceFileSystem(mapper, skip_instance_cache=True) if engine == "fastparquet" else None
    for place in range(total):
        key = "a/" + (".".join(map(str, np.unravel_index(place, grid))) or "0")
        value = chunks.get(place)
        if value is None:
            found = mapper.get(key, [float("nan")])
            assert isinstance(found[0], float)
            assert np.isnan(found[0])
        elif isinstance(value, bytes):
            assert kerchunk_df._proc_raw(mapper[key]) == value
            assert filesystem is None or filesystem.cat_file(key) == value
        else:
            assert tuple(mapper[key]) == value
            assert all(isinstance(number, np.integer) for number in mapper[key][1:])


def test_what_can_not_be_said_in_a_record_is_not_encoded() -> None:
    def encode_row(code: int, offset: int, length: int, raw: dict[int, bytes]) -> bytes:
        return encode_record(["a"], np.array([code]), np.array([offset], np.uint64), np.array([length], np.uint32), raw)

    for row, reason in {
        (0, 1, 2, True): "both bytes and a path",
        (0, 0, 0, False): "0 bytes from offset 0",
        (0, 1, WHOLE, False): "a whole file begins at offset 0",
    }.items():
        with pytest.raises(InvalidReferences, match=reason):
            encode_row(*row[:3], {0: b""} if row[3] else {})


# Sources


def test_chunks_of_a_file_share_one_source_and_inline_chunks_another() -> None:
    sources = SourceTable()
    known = sources.add(Source(URL))
    read = manifest(parquet(columns()), sources=sources)
    found = read.locate(np.arange(4, dtype=np.uint64))
    assert found.sources.tolist() == [known, known, known + 1, MISSING]
    assert found.sources[2] != INLINE
    assert len(sources) == known + 2


def test_equal_inline_chunks_are_held_once() -> None:
    raw = pa.DictionaryArray.from_arrays(pa.array([0] * 4000, pa.int32()), pa.array([b"x" * 2**20]))
    read = manifest(parquet({"raw": raw}), (4000,), 4000)
    found = read.locate(np.array([0, 3999], np.uint64))
    data = read._sources[int(found.sources[0])].data
    assert data is not None
    assert len(data) == 2**20


def test_an_array_of_the_root_has_its_records_there() -> None:
    names: list[str] = []

    def read(name: str) -> bytes:
        names.append(name)
        return parquet(columns())

    assert located(RecordManifest("", (4,), 4, read, SourceTable()), 2) == b"abc"
    assert names == ["refs.0.parq"]


# Records that are absent


def test_an_absent_record_is_an_error_unless_the_folder_is_said_to_be_sparse() -> None:
    with pytest.raises(InvalidReferences, match=r"'a/refs\.0\.parq'.*not there.*lost") as caught:
        located(manifest(None), 0)
    assert caught.value.key == "a/refs.0.parq"
    assert located(manifest(None, sparse=True), 0) is None


def test_a_read_that_fails_is_no_missing_chunk_and_is_tried_again() -> None:
    answers: list[bytes | None] = [None, parquet(columns())]

    def read(_: str) -> bytes | None:
        answer = answers.pop(0)
        if answer is None:
            raise StorageUnavailable("down")
        return answer

    records = RecordManifest("a", (4,), 4, read, SourceTable(), sparse=True)
    with pytest.raises(StorageUnavailable):
        located(records, 2)
    assert located(records, 2) == b"abc"


def test_an_absurd_grid_costs_the_records_that_are_asked_for() -> None:
    reads: list[str] = []

    def read(name: str) -> bytes:
        reads.append(name)
        return parquet(columns())

    records = RecordManifest("a", (2**31, 2**31), 4, read, SourceTable())
    assert located(records, 2**62 - 2) == b"abc"
    assert reads == [f"a/refs.{2**60 - 1}.parq"]
    with pytest.raises(InvalidReferences, match="too many to list"):
        records.present()


# Threads


def test_threads_that_want_the_same_record_read_it_once_and_others_do_not_wait() -> None:
    reads: Counter[str] = Counter()
    both = threading.Barrier(2, timeout=30)  # two records must be on their way at the same time
    content = parquet(columns())

    def read(name: str) -> bytes:
        reads[name] += 1
        both.wait()
        return content

    records = RecordManifest("a", (8,), 4, read, SourceTable())
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda place: located(records, place), [2, 6] * 4))
    assert found == [b"abc"] * 8
    assert reads == {"a/refs.0.parq": 1, "a/refs.1.parq": 1}


# Hostile records


ROW_FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "offset null": ({"offset": pa.array([5, None, 0, 0])}, r"row 1 \(the chunk 'a/1'\): its offset is null"),
    "size null": ({"size": pa.array([5, 0, 0, None])}, r"row 3 \(the chunk 'a/3'\): its size is null"),
    "offset negative": ({"offset": pa.array([-1, 0, 0, 0])}, "row 0 .* its offset is negative or too large"),
    "size negative": ({"size": pa.array([7, -1, 0, 0])}, "row 1 .* its size is negative or too large"),
    "offset huge": ({"offset": pa.array([2**63 - 1, 0, 0, 0])}, "row 0 .* its offset is negative or too large"),
    "offset huger": ({"offset": pa.array([2**63, 0, 0, 0], pa.uint64())}, "its offset is negative or too large"),
    "size huge": ({"size": pa.array([2**32 - 1, 0, 0, 0])}, "row 0 .* its size is negative or too large"),
    "both": ({"raw": pa.array([None, b"a", None, None])}, "row 1 .* both bytes and a path"),
    "neither": ({"size": pa.array([7, 0, 0, 1])}, "row 3 .* an offset or a size, but no path"),
    "path empty": ({"path": pa.array([URL, "", None, None])}, "row 1 .* its path is empty"),
    "base64": ({"raw": pa.array([None, None, None, b"base64:?"])}, "row 3 .* is not base64"),
    "large": ({"raw": pa.array([None, None, bytes(2**26 + 1), None])}, "row 2 .* more than 64 MiB"),
}
FILE_FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "offset float": ({"offset": pa.array([0.0] * 4)}, "column 'offset' has the type double"),
    "size text": ({"size": pa.array(["1"] * 4)}, "column 'size' has the type string"),
    "path bytes": ({"path": pa.array([b"a"] * 4)}, "column 'path' has the type .*binary"),
    "path number": ({"path": pa.array([1] * 4)}, "column 'path' has the type int64"),
    "raw number": ({"raw": pa.array([1] * 4)}, "column 'raw' has the type int64"),
    "raw list": ({"raw": pa.array([[b"a"]] * 4)}, "column 'raw' has the type list"),
    "path struct": ({"path": pa.array([{"path": "a"}] * 4)}, "column 'path' has the type struct"),
    "no path": ({"path": None}, "but not path, offset and size"),
    "no offset": ({"offset": None}, "but not path, offset and size"),
    "no size": ({"size": None}, "but not path, offset and size"),
    "nothing": ({"path": None, "offset": None, "size": None, "raw": None, "x": pa.array([1] * 4)}, "but not path"),
}


@pytest.mark.parametrize("fault", [*ROW_FAULTS, *FILE_FAULTS])
def test_a_record_that_breaks_the_format_is_refused_with_file_row_and_reason(fault: str) -> None:
    changes, reason = {**ROW_FAULTS, **FILE_FAULTS}[fault]
    sources = SourceTable()
    with pytest.raises(InvalidReferences, match=reason) as caught:
        located(manifest(parquet(columns(**changes)), sources=sources), 0)
    assert "'a/refs.0.parq'" in str(caught.value)
    assert caught.value.key == "a/refs.0.parq"
    assert caught.value.__context__ is None
    assert len(sources) == 1


def test_the_table_of_faults_has_all_of_them() -> None:
    assert (len(ZMETADATA_FAULTS), len(ROW_FAULTS), len(FILE_FAULTS)) == (20, 12, 11)


def test_text_that_is_not_utf_8_is_refused() -> None:
    path = pa.array([b"\xff", None, None, None], pa.binary()).view(pa.string())
    with pytest.raises(InvalidReferences, match="UTF8"):
        located(manifest(parquet(columns(path=path, size=pa.array([7, 0, 0, 0])))), 0)


@pytest.mark.parametrize(("grid", "size"), [((5,), 5), ((9,), 5), ((4,), 3), ((3,), 2)])
def test_a_record_with_another_number_of_rows_is_refused(grid: tuple[int, ...], size: int) -> None:
    with pytest.raises(InvalidReferences, match=f"it has 4 rows instead of {size}"):
        located(manifest(parquet(columns()), grid, size), 0)


def test_a_chunk_behind_the_grid_is_refused() -> None:
    with pytest.raises(
        InvalidReferences, match=r"row 2 \(behind the last chunk of 'a'\): the grid has no place for it"
    ):
        located(manifest(parquet(columns()), (2,), 4), 0)


def test_rows_are_counted_before_any_column_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    content = parquet({"raw": pa.nulls(1_000_000, pa.binary())})
    monkeypatch.setattr(pq, "ParquetFile", None)
    with pytest.raises(InvalidReferences, match="it has 1,000,000 rows instead of 4"):
        located(manifest(content), 0)


@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_a_bomb_is_refused_before_it_is_unpacked(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    values = pa.array([bytes([i]) * 2**16 for i in range(4)], pa.binary())
    content = parquet(columns(raw=values, path=pa.nulls(4, pa.string())), data_page_version=version)
    assert len(content) < 2**13
    monkeypatch.setattr(parquet_footer, "_MAX_NBYTES", 2**17)
    monkeypatch.setattr(pq, "ParquetFile", None)
    with pytest.raises(InvalidReferences, match="unpacks to more than"):
        located(manifest(content), 0)


@pytest.mark.parametrize(("encoding", "number"), [("DELTA_BYTE_ARRAY", 7), ("DELTA_LENGTH_BYTE_ARRAY", 6)])
def test_values_that_could_grow_from_the_one_before_are_refused(encoding: str, number: int) -> None:
    content = parquet(columns(), use_dictionary=False, column_encoding={"raw": encoding})
    with pytest.raises(InvalidReferences, match=f"a page has the encoding {number}"):
        located(manifest(content), 0)


ENCODINGS: dict[str, dict[str, Any]] = {
    "plain": {"use_dictionary": False},
    "differences": {"use_dictionary": False, "column_encoding": {"offset": "DELTA_BINARY_PACKED"}},
    "row groups": {"row_group_size": 1},
    "pages": {"data_page_size": 1, "write_batch_size": 1},
    "version 2": {"data_page_version": "2.0"},
    "snappy": {"compression": "snappy"},
    "gzip": {"compression": "gzip"},
    "not packed": {"compression": "none"},
    "index": {"write_page_index": True, "write_page_checksum": True},
}


@pytest.mark.parametrize("options", ENCODINGS.values(), ids=ENCODINGS)
def test_other_encodings_of_the_same_rows_read_alike(options: dict[str, Any]) -> None:
    read = manifest(parquet(columns(more=pa.array([1, 2, 3, 4])), **options))
    assert [located(read, place) for place in range(4)] == [(URL, 5, 7), (URL,), b"abc", None]


@pytest.mark.parametrize("kind", ["string", "large_string", "dictionary"])
def test_other_types_of_text_read_alike(kind: str) -> None:
    path = columns()["path"]
    cast = path.dictionary_encode() if kind == "dictionary" else path.cast(getattr(pa, kind)())
    read = manifest(parquet(columns(path=cast, offset=pa.array([5, 0, 0, 0], pa.int32()))))
    assert [located(read, place) for place in range(4)] == [(URL, 5, 7), (URL,), b"abc", None]


@pytest.mark.parametrize("writer", ["pyarrow", "fastparquet"])
def test_a_broken_file_is_refused_or_read_and_never_ends_the_process(tmp_path: Path, writer: str) -> None:
    columns_ = pa.table(columns()).to_pandas()
    columns_.to_parquet(tmp_path / "r", engine=writer, compression="zstd", index=False)
    content = (tmp_path / "r").read_bytes()
    broken = [content[:n] for n in range(len(content))]
    broken += [
        content[:i] + bytes([byte ^ bit]) + content[i + 1 :] for i, byte in enumerate(content) for bit in (1, 128)
    ]
    refused = 0
    for piece in broken:
        try:
            manifest(piece).locate(np.arange(4, dtype=np.uint64))
        except InvalidReferences as error:
            assert error.__context__ is None  # noqa: PT017 - the loop counts
            refused += 1
    assert refused >= len(content)  # each that was cut off, at least


def test_no_parquet_reader_is_a_matter_of_installing_one(monkeypatch: pytest.MonkeyPatch) -> None:
    content = parquet(columns())
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigurationError, match=r'pip install "lindi-dask\[parquet\]"') as caught:
        located(manifest(content), 0)
    assert caught.value.__context__ is None
