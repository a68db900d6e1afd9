"""What many tests need: the sample session, and the embedded archive that serves it."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask
import h5py
import numpy as np
import pytest

from lindi_dask.private_files import warn_once

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import zarr

    from lindi_dask.testing import EmbeddedArchive

pytest_plugins = ["lindi_dask.testing.fixtures"]

DATA = Path(__file__).parent / "data"
READER = Path(__file__).parent / "lindi_reader" / "read.py"
WRITER = READER.with_name("write.py")
LINDI_PYTHON = Path(os.environ.get("LINDI_PYTHON", Path(__file__).parent.parent / ".venv-lindi" / "bin" / "python"))

Json = dict[str, Any]


@pytest.fixture(autouse=True)
def _each_warning_anew() -> None:
    warn_once.cache_clear()


@pytest.fixture(autouse=True)
def index_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for the index cache of this test and of the processes that it starts, in place of the user's."""
    folder = tmp_path / "cache" / "index"
    monkeypatch.setenv("DASK_LINDI_DASK__INDEX_CACHE", str(folder))
    with dask.config.set({"lindi-dask.index-cache": str(folder)}):
        yield folder


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of the sample files."""
    return DATA


@pytest.fixture(scope="session")
def session_h5() -> Iterator[h5py.File]:
    """The sample session as HDF5: what is true."""
    with h5py.File(DATA / "session.nwb") as file:
        yield file


@pytest.fixture
def session_refs() -> Callable[..., dict[str, Any]]:
    """Makes the sample session's LINDI document, its URLs replaced."""

    def refs(url: str, name: str = "session.expanded.lindi.json") -> dict[str, Any]:
        document: dict[str, Any] = json.loads((DATA / name).read_text("utf-8"))
        document["templates"] = {"u1": url}
        return document

    return refs


@pytest.fixture
def own_key(monkeypatch: pytest.MonkeyPatch) -> Callable[[EmbeddedArchive], dict[str, str]]:
    """Puts an owner's key into the environment; returns the `instances=` option for the archive."""

    def use(archive: EmbeddedArchive) -> dict[str, str]:
        monkeypatch.setenv("LOCAL_API_KEY", archive.owner_token)
        return {"local": archive.api_url}

    return use


@pytest.fixture(scope="session")
def assert_equal_to_h5py() -> Callable[[zarr.Array[Any], h5py.Dataset], None]:
    """Compares all of a zarr array with an HDF5 dataset: shape, kind of elements, and each value."""

    def check(array: zarr.Array[Any], truth: h5py.Dataset) -> None:
        assert array.shape == truth.shape
        values: Any = np.asarray(array[...], dtype=array.dtype)
        if h5py.check_ref_dtype(truth.dtype) is not None:
            assert array.attrs["_DTYPE"] == "object_reference"
            assert values.tolist() == [truth.file[reference].name for reference in truth[...]]
        elif h5py.check_string_dtype(truth.dtype) is not None:
            assert array.attrs["_DTYPE"] == "str"
            assert values.tolist() == truth.asstr()[...] if truth.shape == () else truth.asstr()[...].tolist()
        else:
            assert values.dtype == truth.dtype
            np.testing.assert_array_equal(values, truth[...])

    return check


@pytest.fixture(scope="session")
def lindi() -> Callable[[Path, Path], Json]:
    """Describes a reference file as LINDI reads it."""

    def describe(references: Path, hdf5: Path) -> Json:
        found: Json = json.loads(_by_lindi(READER, references, hdf5))
        return found

    return describe


@pytest.fixture(scope="session")
def lindi_refs() -> Callable[[Path, str], Json]:
    """Makes the reference file system of an HDF5 file by LINDI itself, for readers that find the file at a URL."""

    def make(hdf5: Path, url: str) -> Json:
        refs: Json = json.loads(_by_lindi(WRITER, hdf5, url))
        return refs

    return make


def _by_lindi(script: Path, *arguments: object) -> str:
    if not LINDI_PYTHON.is_file():
        pytest.fail(f"LINDI has no environment at {LINDI_PYTHON}: make .venv-lindi, or set LINDI_PYTHON")
    command = [str(LINDI_PYTHON), str(script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def lindi_truth(session_h5: h5py.File) -> Json:
    """The sample session as `lindi` would describe it if it read what h5py does."""
    spec = importlib.util.spec_from_file_location("lindi_reader", READER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: Json = json.loads(json.dumps(module.described(session_h5)))
    assert len(found) == 180  # datasets, and the attributes of all nodes, also behind links
    return found
