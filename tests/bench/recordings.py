"""The files that are read, in the archive, and the references that each reader takes."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

import h5py
import numpy as np
import requests
from kerchunk.hdf import SingleHdf5ToZarr  # type: ignore[import-untyped]
from readers.task import Given, Task
from talk import Talker

from lindi_dask.hdf5 import index_hdf5
from lindi_dask.refs.write.forms import to_lindi

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from readers.task import Way

__all__ = ["CHANNELS", "ROW_NBYTES", "Archive", "Recording", "sized"]

CHANNELS = 64
ROW_NBYTES = 2 * CHANNELS  # int16
BLOCK_NBYTES = 16 * 2**20  # of dask blocks
PIECE_ROWS = 2**15  # written at a time
CHANNEL = 3


def sized(nbytes: int) -> str:
    return f"{nbytes >> 20} MiB" if nbytes >= 2**20 else f"{nbytes >> 10} KiB"


def write(path: Path, nbytes: int, chunk_nbytes: int, *, compressed: bool) -> None:
    """Write a random walk in each channel, as a recording is: HDF5's shuffle and gzip halve it, about."""
    rows = chunk_nbytes // ROW_NBYTES
    rng = np.random.default_rng(1)
    options: dict[str, Any] = {"compression": 4, "shuffle": True} if compressed else {}
    with h5py.File(path, "w") as file:
        data = file.create_dataset("data", (nbytes // ROW_NBYTES, CHANNELS), "<i2", chunks=(rows, CHANNELS), **options)
        piece = max(rows, PIECE_ROWS)
        for at in range(0, len(data), piece):
            walk = np.cumsum(rng.normal(0, 4, (min(piece, len(data) - at), CHANNELS)), axis=0)
            data[at : at + piece] = (walk % 4096).astype("<i2")


@dataclass(frozen=True, slots=True)
class Recording:
    """A file in the archive: rows x channels of int16."""

    given: Given
    rows: int
    chunk_nbytes: int
    """logical"""
    stored: NDArray[np.int64]
    """bytes that each chunk has in the file"""

    @property
    def nbytes(self) -> int:
        """Logical size of the array."""
        return self.rows * ROW_NBYTES

    def task(self, way: Way, *, threads: int, windows: int = 0, window_rows: int = 0) -> Task:
        """Return what to read of the whole array; windows lie at places that are the same in each run, in order."""
        places = np.sort(np.random.default_rng(2).integers(0, self.rows - window_rows, windows)).tolist()
        block = max(BLOCK_NBYTES, self.chunk_nbytes) // ROW_NBYTES
        return Task(way, 0, self.rows, threads, block, CHANNEL, tuple(places), window_rows)

    def touched(self, task: Task) -> tuple[int, int]:
        """Return how many chunks a task has to read, and their bytes; those of several calls once for each."""
        rows = self.chunk_nbytes // ROW_NBYTES
        spans = [(task.start, task.stop)]
        if task.places:
            spans = [(place, place + task.window_rows) for place in task.places]
        chunks = np.concatenate([np.arange(start // rows, -(-stop // rows)) for start, stop in spans])
        if task.way == "at once":
            chunks = np.unique(chunks)
        return len(chunks), int(self.stored[chunks].sum())


class Archive:
    """The embedded archive, and what is in it. A context manager.

    Parameters
    ----------
    folder
        For files and references.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._talker = Talker([sys.executable, "-m", "serve"])
        greeting = self._talker.receive()
        self._api_url, self._key = greeting["api_url"], greeting["key"]
        self.environ: dict[str, str] = greeting["environ"]
        """by which lindi_dask in other processes has the key"""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._talker.close()

    def set_latency(self, latency_ms: float) -> None:
        self._talker.ask({"latency_ms": latency_ms})

    def count(self) -> tuple[int, int]:
        """Return the requests for data since the last call, and the bytes that were sent."""
        answer = self._talker.ask({"count": True})
        return answer["requests"], answer["nbytes"]

    def record(self, name: str, nbytes: int, chunk_nbytes: int, *, compressed: bool = True) -> Recording:
        """Write a file, take it in, and write all references to it."""
        path = self._folder / f"{name}.h5"
        write(path, nbytes, chunk_nbytes, compressed=compressed)
        url = self._talker.ask({"add": str(path)})["url"]
        exchanged = requests.get(
            url, headers={"Authorization": f"token {self._key}"}, allow_redirects=False, timeout=30
        )
        presigned = exchanged.headers["Location"]
        lindi = document(path, url)
        lindi["refs"]["data/.zattrs"] = {"_ARRAY_DIMENSIONS": ["time", "channel"]}  # xarray asks for names
        given = Given(
            file=str(path),
            url=url,
            presigned=presigned,
            api_url=self._api_url,
            key=self._key,
            lindi=self._save(f"{name}.lindi.json", lindi),
            lindi_presigned=self._save(f"{name}.presigned.lindi.json", document(path, presigned)),
            kerchunk=self._save(f"{name}.kerchunk.json", kerchunk(path, presigned)),
            kerchunk_bare=self._save(f"{name}.bare.kerchunk.json", kerchunk(path, presigned.partition("?")[0])),
        )
        count = nbytes // chunk_nbytes
        stored = np.array([lindi["refs"][f"data/{i}.0"][2] for i in range(count)], np.int64)
        return Recording(given, nbytes // ROW_NBYTES, chunk_nbytes, stored)

    def _save(self, name: str, references: dict[str, Any]) -> str:
        path = self._folder / name
        path.write_text(json.dumps(references))
        return str(path)


def document(path: Path, url: str) -> dict[str, Any]:
    """Return LINDI's document of a file."""
    found: dict[str, Any] = json.loads(b"".join(to_lindi(index_hdf5(path, url))))
    return found


def kerchunk(path: Path, url: str) -> dict[str, Any]:
    with path.open("rb") as file:
        references: dict[str, Any] = SingleHdf5ToZarr(file, url=url).translate()
    return references


def as_message(given: Given | Task) -> dict[str, Any]:
    return asdict(given)
