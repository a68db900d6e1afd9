"""What the archive remembers of every request."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

Plane = Literal["api", "s3"]

HARMLESS = frozenset({"stall", "stall-mid-body"})
"""Faults after which the client still has every byte, if it waited."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request, as the archive saw and answered it. It holds no key and no query."""

    at_s: float
    """Arrival: seconds, Unix time, the archive's clock."""
    monotonic_s: float
    """Arrival: seconds, ``time.monotonic()`` of the archive's process."""
    plane: Plane
    """Which host was asked."""
    method: str
    """The HTTP method."""
    path: str
    """The path, without the query."""
    status: int | None
    """The HTTP status answered; None where the connection broke before there was one."""
    asset_id: str | None = None
    """The asset, where one is known by the path."""
    range: tuple[int, int] | None = None
    """Offset from the start of the file and length, both in bytes, of the range asked for; None: the whole."""
    nbytes: int = 0
    """Bytes of the body that were handed to the connection."""
    exchange: int | None = None
    """Number of the exchange: the one that this was (API), or that gave the URL (S3); counted from 1."""
    client: str = ""
    """``User-Agent`` of the API request; for a data request that of the exchange that gave its URL."""
    error: str | None = None
    """Why not, in one word: S3's error code; ``Expired`` for a presigned URL that is past its time."""
    fault: str | None = None
    """Kind of the fault that was injected."""
    authorized: bool = False
    """Whether an ``Authorization`` header was there (never its value)."""
    if_match: str | None = None
    """The ``If-Match`` header, as sent."""

    @property
    def is_download(self) -> bool:
        """Whether this asked the API to exchange an asset for a presigned URL."""
        return self.plane == "api" and self.path.endswith("/download/")

    @property
    def is_read(self) -> bool:
        """Whether this was a data request that was answered with the data, all of it."""
        whole = self.range is None or self.nbytes == self.range[1]
        harmless = self.fault is None or self.fault in HARMLESS
        return self.plane == "s3" and self.status in {200, 206} and whole and harmless


def count(requests: Sequence[Request]) -> dict[str, int]:
    """Counters over records.

    Returns
    -------
    dict
        ``exchanges`` (302 with a presigned URL), ``exchanges_refused`` (any other answer to a download
        request), ``reads`` and ``read_bytes`` (data requests answered with all the data), ``expired``
        (data requests refused because their URL was past its time), ``reads_refused`` (all data requests
        that were not answered with data, the expired ones included), ``faults`` (injected, both hosts).
    """
    data = [request for request in requests if request.plane == "s3"]
    reads = [request for request in data if request.is_read]
    downloads = [request for request in requests if request.is_download]
    exchanges = sum(request.exchange is not None for request in downloads)
    return {
        "exchanges": exchanges,
        "exchanges_refused": len(downloads) - exchanges,
        "reads": len(reads),
        "read_bytes": sum(request.nbytes for request in reads),
        "reads_refused": len(data) - len(reads),
        "expired": sum(request.error == "Expired" for request in data),
        "faults": sum(request.fault is not None for request in requests),
    }


class Ledger:
    """The records of one archive, in the order in which answers were decided. It grows without bound.

    A record is there before the first byte of its answer, so that a client that has its answer finds
    the record.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: list[Request] = []
        self._clients: list[str] = []

    def open_exchange(self, client: str) -> int:
        """Open an exchange by `client`; its number, counted from 1."""
        with self._lock:
            self._clients.append(client)
            return len(self._clients)

    def client_of(self, exchange: int) -> str:
        """Who made that exchange."""
        return self._clients[exchange - 1]

    def add(self, request: Request) -> int:
        """Keep a record; its position is for `amend`."""
        with self._lock:
            self._requests.append(request)
            return len(self._requests) - 1

    def amend(self, position: int, nbytes: int) -> None:
        """Correct how many bytes went out, when the connection ended early."""
        with self._lock:
            self._requests[position] = replace(self._requests[position], nbytes=nbytes)

    def snapshot(self) -> tuple[Request, ...]:
        """All records up to now."""
        with self._lock:
            return tuple(self._requests)
