"""What `index_hdf5` writes, read back by hand: seek, read, decode with numcodecs, compare with h5py."""

import base64
import json
import math
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import h5py
import numcodecs
import numpy as np
import pytest
from numpy.typing import NDArray

from lindi_dask.errors import UnsupportedArray
from lindi_dask.index import hdf5, index_hdf5

URL = "https://example.org/session.nwb"
SESSION = Path(__file__).parents[1] / "data" / "session.nwb"
LINDI = json.loads((SESSION.parent / "session.expanded.lindi.json").read_text())["refs"]

Options = dict[str, Any]


def read_back(path: Path, refs: dict[str, Any], name: str) -> NDArray[Any]:
    """Read an array of a reference file system by the rules of Zarr v2."""
    meta = refs[f"{name}/.zarray"]
    shape, chunks, dtype = meta["shape"], meta["chunks"], np.dtype(meta["dtype"])
    filters = [numcodecs.get_codec(config) for config in meta["filters"] or []]
    out = np.full(shape, meta["fill_value"], dtype)
    grid = [range(math.ceil(length / size)) for length, size in zip(shape, chunks, strict=True)]
    for index in product(*grid):
        entry = refs.get(f"{name}/" + ".".join(map(str, index)))
        if entry is None:
            continue
        if isinstance(entry, str):
            data = base64.b64decode(entry.removeprefix("base64:"))
        else:
            template, offset, nbytes = entry
            assert template == "{{u1}}"
            data = path.read_bytes()[offset : offset + nbytes]
            assert len(data) == nbytes
        for codec in reversed(filters):
            data = codec.decode(data)
        values = np.frombuffer(data, dtype)
        chunk = np.zeros(chunks, dtype)
        chunk.reshape(-1)[: values.size] = values  # a split dataset's last chunk is short
        where = tuple(slice(i * size, (i + 1) * size) for i, size in zip(index, chunks, strict=True))
        out[where] = chunk[tuple(slice(0, length) for length in out[where].shape)]
    return out


def random(shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    data = np.random.default_rng(1).integers(0, 256, (*shape, np.dtype(dtype).itemsize), dtype="u1")
    if dtype == "?":
        return data[..., 0] > 127
    return (data.astype("f8").sum(-1) - 300).astype(dtype) if "f" in dtype else data.view(dtype)[..., 0]


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def make(data: NDArray[Any], **options: Any) -> Path:
        with h5py.File(tmp_path / "file.h5", "w") as file:
            file.create_dataset("group/x", data=data, **options)
        return tmp_path / "file.h5"

    return make


@pytest.mark.parametrize(
    "options", [{}, {"chunks": (64, 4)}, {"chunks": (64, 4), "compression": "gzip", "shuffle": True}]
)
@pytest.mark.parametrize(
    "dtype", ["?", "i1", "<i2", "<i4", "<i8", "u1", "<u2", "<u4", "<u8", "<f2", "<f4", "<f8", ">i4", ">f8"]
)
def test_every_numeric_dtype_reads_back(write: Callable[..., Path], dtype: str, options: Options) -> None:
    data = random((300, 7), dtype)
    path = write(data, **options)
    back = read_back(path, index_hdf5(path, URL)["refs"], "group/x")
    assert back.dtype == data.dtype
    np.testing.assert_array_equal(back, data)


@pytest.mark.parametrize(
    ("options", "filters"),
    [
        ({}, None),
        ({"shuffle": True}, ["shuffle"]),
        ({"compression": "gzip", "compression_opts": 9}, ["zlib"]),
        ({"fletcher32": True}, ["fletcher32"]),
        ({"compression": "gzip", "shuffle": True}, ["shuffle", "zlib"]),
        ({"compression": "gzip", "shuffle": True, "fletcher32": True}, ["shuffle", "zlib", "fletcher32"]),
    ],
)
def test_filters_are_listed_in_the_order_of_encoding(
    write: Callable[..., Path], options: Options, filters: list[str] | None
) -> None:
    data = random((500, 6), "<i2")
    path = write(data, chunks=(128, 6), **options)
    refs = index_hdf5(path, URL)["refs"]
    found = refs["group/x/.zarray"]["filters"]
    assert (found and [codec["id"] for codec in found]) == filters
    np.testing.assert_array_equal(read_back(path, refs, "group/x"), data)


@pytest.mark.parametrize(
    ("shape", "chunks"),
    [
        ((1000,), (7,)),
        ((1000,), (1000,)),
        ((1000,), (1024,)),
        ((31, 33), (8, 8)),
        ((15, 9, 11), (2, 3, 4)),
        ((9, 200), (1, 200)),
    ],
)
def test_edge_chunks_are_whole(write: Callable[..., Path], shape: tuple[int, ...], chunks: tuple[int, ...]) -> None:
    data = random(shape, "<f4")
    # create_dataset refuses chunks larger than a fixed shape
    path = write(data, chunks=chunks, maxshape=(None,) * len(shape), compression="gzip")
    refs = index_hdf5(path, URL)["refs"]
    assert refs["group/x/.zarray"]["chunks"] == list(chunks)
    np.testing.assert_array_equal(read_back(path, refs, "group/x"), data)


@pytest.mark.parametrize(("rows", "last_nbytes"), [(1000, 6000), (1500, 3000), (999, 5994)])
def test_contiguous_data_are_split_and_the_last_chunk_is_short(
    write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, rows: int, last_nbytes: int
) -> None:
    monkeypatch.setattr(hdf5, "SPLIT_NBYTES", 6005)  # 1,000 rows of 6 bytes, and a bit
    data = random((rows, 3), "<i2")
    path = write(data)
    refs = index_hdf5(path, URL)["refs"]
    assert refs["group/x/.zarray"]["chunks"] == [min(rows, 1000), 3]
    assert refs[f"group/x/{(rows - 1) // 1000}.0"][2] == last_nbytes
    np.testing.assert_array_equal(read_back(path, refs, "group/x"), data)


def test_a_row_longer_than_a_split_is_one_chunk(write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hdf5, "SPLIT_NBYTES", 1)
    path = write(data := random((3, 700), "<u2"))
    refs = index_hdf5(path, URL)["refs"]
    assert refs["group/x/.zarray"]["chunks"] == [1, 700]
    np.testing.assert_array_equal(read_back(path, refs, "group/x"), data)


@pytest.mark.parametrize("shape", [(), (3,), (0,), (4, 0), (10, 12)])
def test_small_data_are_inline(write: Callable[..., Path], shape: tuple[int, ...]) -> None:
    data = random(shape, "<f8")
    path = write(data)
    refs = index_hdf5(path, URL)["refs"]
    assert not any(isinstance(entry, list) for entry in refs.values())
    assert refs.get("group/x/.zattrs") == (None if shape else {"_SCALAR": True})
    np.testing.assert_array_equal(read_back(path, refs, "group/x").reshape(shape), data)


@pytest.mark.parametrize(("fill", "stored"), [(-7.5, -7.5), (math.nan, "NaN"), (-math.inf, "-Infinity")])
@pytest.mark.parametrize("chunks", [None, (100,)])
def test_data_never_written_have_no_entry_but_a_fill_value(
    tmp_path: Path, chunks: tuple[int, ...] | None, fill: float, stored: float | str
) -> None:
    with h5py.File(tmp_path / "file.h5", "w") as file:
        x = file.create_dataset("x", (1000,), "<f4", chunks=chunks, fillvalue=fill)
        if chunks:
            x[250:300] = 1
        expected = x[...]
    refs = index_hdf5(tmp_path / "file.h5", URL)["refs"]
    assert refs["x/.zarray"]["fill_value"] == stored
    assert [key for key in refs if key.startswith("x/") and ".z" not in key] == (["x/2"] if chunks else [])
    refs["x/.zarray"]["fill_value"] = fill
    np.testing.assert_array_equal(read_back(tmp_path / "file.h5", refs, "x"), expected)


@pytest.mark.parametrize("chunks", [None, (100, 2)])
def test_offsets_count_from_the_start_of_the_file_behind_a_user_block(
    tmp_path: Path, chunks: tuple[int, ...] | None
) -> None:
    path = tmp_path / "file.h5"
    data = random((400, 2), "<i4")
    with h5py.File(path, "w", userblock_size=1024) as file:
        file.create_dataset("x", data=data, chunks=chunks)
    np.testing.assert_array_equal(read_back(path, index_hdf5(path, URL)["refs"], "x"), data)


def test_attributes_and_links_have_the_forms_of_lindi(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "file.h5", "w") as file:
        file.attrs["object_id"] = "root-id"
        target = file.create_group("table")
        target.attrs["object_id"] = "table-id"
        file["soft"] = h5py.SoftLink("/table")
        file["table"].attrs.update(
            {
                "array": np.arange(3, dtype="u1"),
                "bytes": np.bytes_(b"abc"),
                "flag": np.True_,
                "nan": math.nan,
                "names": ["a", "b"],
                "number": np.float32(0.5),
                "table": target.ref,
                "text": "µV",
                "empty": h5py.Empty("f4"),
            }
        )
    index = index_hdf5(tmp_path / "file.h5", URL)
    assert json.loads(json.dumps(index, allow_nan=False)) == index
    assert (index["version"], index["templates"]) == (1, {"u1": URL})
    refs = index["refs"]
    assert refs[".zattrs"] == {"object_id": "root-id"}
    assert refs["soft/.zgroup"] == {"zarr_format": 2}
    assert refs["soft/.zattrs"] == {"_SOFT_LINK": {"path": "/table"}}
    assert refs["table/.zattrs"] == {
        "array": [0, 1, 2], "bytes": "abc", "empty": None, "flag": True, "nan": "NaN", "names": ["a", "b"],
        "number": 0.5, "object_id": "table-id", "text": "µV",
        "table": {
            "_REFERENCE":
            {"object_id": "table-id", "path": "/table", "source": ".", "source_object_id": "root-id"},
        },
    }  # fmt: skip


def test_a_session_comes_out_as_from_lindi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All but the compound and its index, and but the Blosc that LINDI puts around inline data."""
    monkeypatch.setattr(hdf5, "SPLIT_NBYTES", 200_000)  # what the sample was made with
    path = tmp_path / "session.nwb"
    path.write_bytes(SESSION.read_bytes())
    compound = "processing/ophys/ImageSegmentation/rois/pixel_mask"
    with h5py.File(path, "r+") as file:
        del file[compound], file[f"{compound}_index"]
    refs = index_hdf5(path, URL)["refs"]
    expected = {key: value for key, value in LINDI.items() if not key.startswith(compound)}
    assert refs.keys() == expected.keys()
    for key, value in expected.items():
        if key.endswith(".zarray"):
            assert refs[key] == {**value, "compressor": None}, key
        elif not isinstance(value, str):
            assert refs[key] == value, key
        else:
            inline, config = value.encode(), expected[key.rsplit("/", 1)[0] + "/.zarray"]["compressor"]
            if inline.startswith(b"base64:"):
                inline = base64.b64decode(inline[7:])
            found = base64.b64decode(refs[key].removeprefix("base64:"))
            assert found == numcodecs.get_codec(config).decode(inline), key


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"data": np.zeros(300, [("x", "<i4"), ("y", "<f4")])}, "its type is"),
        ({"data": np.zeros(300, "<c8")}, "its type is"),
        ({"data": np.zeros(3000, "<i4"), "compression": "lzf"}, "'lzf'"),
        ({"data": np.zeros(3000, "<i4"), "scaleoffset": 0}, "scaleoffset"),
        ({"data": h5py.Empty("<i4")}, "null"),
        ({"shape": (3000,), "dtype": "<i4", "external": "other.bin"}, "other files"),
    ],
)
def test_what_cannot_be_indexed_is_named_with_the_reason(tmp_path: Path, options: Options, reason: str) -> None:
    with h5py.File(tmp_path / "file.h5", "w") as file:
        file.create_dataset("group/odd", **options)
    with pytest.raises(UnsupportedArray, match=rf"^/group/odd cannot be indexed: .*{reason}"):
        index_hdf5(tmp_path / "file.h5", URL)


def test_a_chunk_written_without_its_filters_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "file.h5", "w") as file:
        x = file.create_dataset("x", (2000,), "<i4", chunks=(1000,), compression="gzip")
        x.id.write_direct_chunk((0,), bytes(4000), filter_mask=1)
    with pytest.raises(
        UnsupportedArray, match=r"^/x cannot be indexed: the chunk at \(0,\) was written without its filters"
    ):
        index_hdf5(tmp_path / "file.h5", URL)


def test_a_link_into_another_file_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "file.h5", "w") as file:
        file["away"] = h5py.ExternalLink("other.h5", "/x")
    with pytest.raises(UnsupportedArray, match=r"^/away cannot be indexed: .*other\.h5"):
        index_hdf5(tmp_path / "file.h5", URL)
