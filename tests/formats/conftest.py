"""Samples that other packages wrote, read by us and by fsspec with zarr-python."""

from __future__ import annotations

import gzip
import json
import shutil
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr
from fsspec.implementations.reference import ReferenceFileSystem  # type: ignore[import-untyped]
from zarr.storage import FsspecStore

if TYPE_CHECKING:
    from collections.abc import Callable

ASSET = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0"
URL = f"https://api.dandiarchive.org/api/assets/{ASSET}/download/"


@pytest.fixture(scope="session")
def peers(data: Path) -> Path:
    """The folder of the samples."""
    return data / "peers"


@pytest.fixture(scope="session")
def session_file(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The session in a folder of its own, of the asset's name: what a template makes of the name may be the path."""
    return Path(shutil.copy(data / "session.nwb", tmp_path_factory.mktemp(ASSET, numbered=False)))


@pytest.fixture(scope="session")
def here(session_file: Path) -> dict[str, Any]:
    """The options by which references may point at `session_file`."""
    return {"allow": [f"{session_file.parent}/"]}


@pytest.fixture(scope="session")
def document(peers: Path, session_file: Path) -> Callable[..., dict[str, Any]]:
    """Reads a sample in JSON, its URL replaced: by `session_file`, or by another one."""

    def read(name: str, to: str = "") -> dict[str, Any]:
        content: dict[str, Any] = json.loads(_rewritten(peers / name, to or str(session_file)))
        return content

    return read


@pytest.fixture
def place(peers: Path, session_file: Path, tmp_path: Path) -> Callable[..., Path]:
    """Copies a sample, a file or a folder, its URL replaced: by `session_file`, or by another one."""

    def copy(name: str, to: str = "", *, under: str | None = None) -> Path:
        to = to or str(session_file)
        copied = tmp_path / (under or name)
        if (peers / name).is_dir():
            shutil.copytree(peers / name, copied)
            for path in copied.rglob("*"):
                if path.name == "refs.json" or (path.suffix == ".parq" and path.is_file()):
                    path.write_bytes(_rewritten(path, to))
        else:
            content = _rewritten(peers / name, to)
            copied.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        return copied

    return copy


def _rewritten(path: Path, to: str) -> bytes:
    if path.suffix == ".parq":
        return _rewritten_record(path, to)
    content = path.read_bytes()
    text = json.dumps(json.loads(gzip.decompress(content) if path.suffix == ".gz" else content))
    text = text.replace(URL, to).replace(URL.replace(ASSET, "{{c}}"), to.replace(ASSET, "{{c}}"))
    return text.encode()


def _rewritten_record(path: Path, to: str) -> bytes:
    """Return a parquet file with all as it was but the URL: types, which columns may be null, a dictionary or none."""
    file = pq.ParquetFile(path)
    table = file.read()
    at = table.schema.get_field_index("path")
    urls = pa.array([to if url == URL else url for url in table["path"].to_pylist()], pa.string())
    table = table.set_column(at, pa.field("path", pa.string()), urls)
    encodings = file.metadata.row_group(0).column(at).encodings
    written = BytesIO()
    dictionary = ["path"] if "RLE_DICTIONARY" in encodings else False
    pq.write_table(table.replace_schema_metadata(None), written, compression="zstd", use_dictionary=dictionary)
    return written.getvalue()


@pytest.fixture(scope="session")
def by_fsspec() -> Callable[..., dict[str, zarr.Array[Any]]]:
    """Opens the arrays of references to local files with fsspec and zarr-python, by path."""

    def opened(references: Any, zarr_format: Literal[2, 3] = 2, **options: Any) -> dict[str, zarr.Array[Any]]:
        files = ReferenceFileSystem(references, asynchronous=True, remote_protocol="file", **options)
        store = FsspecStore(files, read_only=True, path="")
        group = zarr.open_group(store, mode="r", zarr_format=zarr_format, use_consolidated=False)
        # zarr 3.1 does not list all of such a store
        known = files.references.zmetadata if hasattr(files.references, "zmetadata") else files.references
        nodes = {key.rpartition("/")[0] for key in known if key.endswith(("/.zarray", "/zarr.json"))}
        found = {path: group[path] for path in nodes}
        return {path: node for path, node in found.items() if isinstance(node, zarr.Array)}

    return opened


@pytest.fixture(scope="session")
def arrays() -> Callable[[zarr.Group], dict[str, zarr.Array[Any]]]:
    """All arrays of a group, by path."""

    def below(group: zarr.Group) -> dict[str, zarr.Array[Any]]:
        return {path: node for path, node in group.members(max_depth=None) if isinstance(node, zarr.Array)}

    return below


@pytest.fixture(scope="session")
def assert_same() -> Callable[[zarr.Array[Any], zarr.Array[Any]], None]:
    """Compares all of an array of ours with fsspec's: shape, kind of elements, each value, attributes."""

    def check(ours: zarr.Array[Any], theirs: zarr.Array[Any]) -> None:
        expected: Any = np.asarray(theirs[...], dtype=theirs.dtype)
        found: Any = np.asarray(ours[...], dtype=ours.dtype)
        assert found.shape == expected.shape
        if expected.dtype.kind in "OTU":  # text, of zarr's kind or of Python's
            assert found.tolist() == expected.tolist()
        else:
            assert found.dtype == expected.dtype
            np.testing.assert_array_equal(found, expected)
        added = {"_DTYPE", "_ARRAY_DIMENSIONS"} - {name for name in theirs.attrs if name == "_DTYPE"}
        assert _without(ours, added) == _without(theirs, added)

    return check


def _without(array: zarr.Array[Any], names: set[str]) -> dict[str, Any]:
    return {name: value for name, value in array.attrs.asdict().items() if name not in names}


@pytest.fixture(scope="session")
def is_truth() -> Callable[[zarr.Array[Any], h5py.Dataset], bool]:
    """Tells whether an array holds what h5py reads of the dataset."""

    def equal(array: zarr.Array[Any], truth: h5py.Dataset) -> bool:
        found = np.asarray(array[...]).tolist()
        if h5py.check_ref_dtype(truth.dtype) is not None:
            return bool(found == [truth.file[reference].name for reference in truth[...]])
        text = h5py.check_string_dtype(truth.dtype) is not None
        expected = np.asarray(truth.asstr()[()] if text else truth[()])
        return bool(found == expected.tolist() and array.shape == expected.shape)

    return equal
