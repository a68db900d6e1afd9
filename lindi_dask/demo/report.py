"""The numbers of a demo, as the screen and the picture show them."""

from dataclasses import dataclass

from lindi_dask.transport import Counts

MB = 1e6


@dataclass(frozen=True, slots=True)
class RunNumbers:
    """One run over the recording, or over a part of it."""

    processes: int
    seconds: float
    """Wall clock."""
    blocks: int
    logical_nbytes: int
    """Bytes of the blocks, decompressed."""
    read: Counts
    """As `lindi_dask.stats` counted it."""

    @property
    def rate_mb_s(self) -> float:
        """Decompressed data, MB (10**6 bytes) a second."""
        return self.logical_nbytes / MB / self.seconds if self.seconds else 0.0


@dataclass(frozen=True, slots=True)
class DemoReport:
    """What a demo did, and whether it was right."""

    title: str
    """The session, for people: one line."""
    shape: tuple[int, int]
    """(samples, channels) of the recording."""
    nbytes: int
    """Bytes of the recording, decompressed."""
    file_nbytes: int
    lease_s: float
    """Seconds for which the archive signs its URLs."""
    pace: str
    """The archive's pace, for people: `"25 ms, 40 MB/s a connection"`."""
    serial: RunNumbers
    cluster: RunNumbers
    renewals: int
    """Of the cluster's run, counted at the archive: see `lindi_dask.testing.renewals`."""
    exact: bool
    """Whether the cluster's result equals that of the file itself, read by h5py, to the last bit."""

    @property
    def speedup(self) -> float:
        """How many times as fast the cluster was, by decompressed bytes a second."""
        return self.cluster.rate_mb_s / self.serial.rate_mb_s if self.serial.rate_mb_s else 0.0
