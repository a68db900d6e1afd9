"""Where those that convert write, and what: Zarr v3 in shards of about 100 MB. Needs zarr and numpy."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import zarr
from zarr.codecs import BloscCodec, Crc32cCodec

if TYPE_CHECKING:
    from readers.task import Task

__all__ = ["CHUNK_ROWS", "SHARD_ROWS", "Output", "created", "place"]

CHUNK_ROWS, SHARD_ROWS = 20_000, 800_000
_folders: list[Path] = []


def place() -> Path:
    """Return where an output is to come; the last one is removed."""
    while _folders:
        shutil.rmtree(_folders.pop())
    _folders.append(Path(tempfile.mkdtemp()))
    return _folders[-1] / "out.zarr"


def created(out: Path, task: Task, channels: int) -> zarr.Array[Any]:
    """Make the array that is to be written, by zarr."""
    return zarr.create_array(
        str(out),
        name="data",
        shape=(task.stop - task.start, channels),
        dtype="int16",
        chunks=(CHUNK_ROWS, channels),
        shards=(SHARD_ROWS, channels),
        compressors=compressors(),
    )


def compressors() -> list[Any]:
    return [BloscCodec(typesize=2, cname="zstd", clevel=5, shuffle="bitshuffle"), Crc32cCodec()]


class Output:
    """What was written: read, by zarr, when the time is taken."""

    def __init__(self, out: Path) -> None:
        self._array: Any = zarr.open_array(str(out), path="data", mode="r")

    def __len__(self) -> int:
        return int(self._array.shape[0])

    def __getitem__(self, rows: slice) -> Any:
        return self._array[rows]
