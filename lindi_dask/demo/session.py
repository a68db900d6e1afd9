"""Write a session in the layout of NWB: ephys that looks, and compresses, like ephys."""

import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import deflate
import h5py
import numpy as np

from lindi_dask.demo.nwb_layout import DATA, write_layout
from lindi_dask.demo.signals import MICROVOLTS_PER_COUNT, REGIONS, Recording, record

SECONDS = 819_200 / 30_000
"""Of the demo's session, seconds: 100 chunks of 1 MiB at the other defaults."""
CHANNELS = 64
RATE_HZ = 30_000.0
SEED = 2026

CHUNK_NBYTES = 2**20
GZIP_LEVEL = 4


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """What `write_session` wrote."""

    path: Path
    shape: tuple[int, int]
    """(samples, channels); int16."""
    chunks: tuple[int, int]
    """(samples, channels) of a chunk."""
    rate_hz: float
    conversion: float
    """Volts a count."""
    regions: tuple[tuple[str, int], ...]
    """Brain regions from the top of the probe: name, first channel."""
    stored_nbytes: int
    """Bytes of the recording in the file, compressed."""
    file_nbytes: int
    """Bytes of the whole file."""
    dataset: str = DATA
    """The recording's path in the file."""

    @property
    def nbytes(self) -> int:
        """Bytes of the recording, decompressed."""
        return 2 * self.shape[0] * self.shape[1]

    @property
    def seconds(self) -> float:
        """Length of the recording."""
        return self.shape[0] / self.rate_hz


def write_session(
    path: str | os.PathLike[str],
    *,
    seconds: float = SECONDS,
    channels: int = CHANNELS,
    rate_hz: float = RATE_HZ,
    seed: int = SEED,
    advance: Callable[[], object] | None = None,
) -> SessionInfo:
    """Write a recording as an NWB-like HDF5 file; memory stays at a few chunks and 1 % of the recording.

    Parameters
    ----------
    path
        The file to write; replaced if it exists.
    seconds, channels, rate_hz
        The recording is int16 of shape (`round(seconds * rate_hz)`, `channels`).
    seed
        The same seed, the same bytes.
    advance
        Called after each chunk of about 1 MiB.

    Raises
    ------
    ValueError
        If there is not one sample, or no channel.
    """
    samples = round(seconds * rate_hz)
    if samples < 1 or channels < 1:
        raise ValueError(f"a session needs a sample and a channel; got {seconds} s of {channels} channels")
    recording = record(samples=samples, channels=channels, rate_hz=rate_hz, seed=seed)
    regions = _regions(channels)
    rows = min(samples, max(1, CHUNK_NBYTES // (2 * channels)))
    with h5py.File(path, "w") as file:
        data = write_layout(
            file, shape=(samples, channels), chunks=(rows, channels), level=GZIP_LEVEL, rate_hz=rate_hz,
            conversion=MICROVOLTS_PER_COUNT * 1e-6, regions=regions, seed=seed,
        )  # fmt: skip
        _write_chunks(data, recording, rows, advance or (lambda: None))
        stored = data.id.get_storage_size()
    return SessionInfo(
        path=Path(path),
        shape=(samples, channels),
        chunks=(rows, channels),
        rate_hz=rate_hz,
        conversion=MICROVOLTS_PER_COUNT * 1e-6,
        regions=regions,
        stored_nbytes=stored,
        file_nbytes=Path(path).stat().st_size,
    )


def _write_chunks(data: h5py.Dataset, recording: Recording, rows: int, advance: Callable[[], object]) -> None:
    """Make and compress chunks in threads, which HDF5's own filters cannot, and write them in their order."""
    threads = os.cpu_count() or 1
    waiting: deque[tuple[int, Future[bytes]]] = deque()

    def write_one() -> None:
        start, encoded = waiting.popleft()
        data.id.write_direct_chunk((start, 0), encoded.result())
        advance()

    with ThreadPoolExecutor(threads) as pool:
        for number, start in enumerate(range(0, data.shape[0], rows)):
            waiting.append((start, pool.submit(_encoded_chunk, recording, number, start, rows, data.shape[0])))
            if len(waiting) > 2 * threads:
                write_one()
        while waiting:
            write_one()


def _encoded_chunk(recording: Recording, number: int, start: int, rows: int, samples: int) -> bytes:
    chunk = recording.chunk(number, start, min(rows, samples - start))
    whole = np.zeros((rows, chunk.shape[1]), np.int16)  # HDF5 stores chunks at the end whole
    whole[: len(chunk)] = chunk
    shuffled = np.ascontiguousarray(whole.view(np.uint8).reshape(-1, 2).T)
    return bytes(deflate.zlib_compress(shuffled, GZIP_LEVEL))


def _regions(channels: int) -> tuple[tuple[str, int], ...]:
    firsts = [(name, round(share * channels)) for name, share in REGIONS]
    stops = [first for _, first in firsts[1:]] + [channels]
    return tuple(region for region, stop in zip(firsts, stops, strict=True) if region[1] < stop)
