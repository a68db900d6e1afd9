"""What many tests need: the sample session, and the embedded archive that serves it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lindi_dask.testing import EmbeddedArchive

pytest_plugins = ["lindi_dask.testing.fixtures"]

DATA = Path(__file__).parent / "data"
NUMERIC_ARRAYS = 34
"""of the sample session's 54"""


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
