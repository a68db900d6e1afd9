"""When a presigned URL expires, by the archive's clock. Pure: the clock's readings come in as arguments."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl

__all__ = ["DEFAULT_LIFETIME_S", "ArchiveClock", "expiry_of"]

DEFAULT_LIFETIME_S = 60.0
"""seconds that a URL without a stated expiry is trusted for"""


def expiry_of(query: str) -> float | None:
    """Return when a presigned URL with this query expires, in seconds since the epoch by the signer's clock.

    `X-Amz-Date` + `X-Amz-Expires` (SigV4,
    https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html), else `Expires` (SigV2), else None.
    """
    fields = {name.lower(): value for name, value in parse_qsl(query)}
    try:
        if "x-amz-date" in fields:
            signed = datetime.strptime(fields["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
            return (signed + timedelta(seconds=int(fields["x-amz-expires"]))).timestamp()
        return float(int(fields["expires"]))
    except (KeyError, ValueError, OverflowError):
        return None


class ArchiveClock:
    """The archive's time, in terms of this process's monotonic clock.

    The wall clock of a worker may be wrong; the `Date` headers of the archive's answers are what its signatures
    are made and checked by. A header has whole seconds: it says that the offset (archive's time minus monotonic
    clock) lies in an interval of a second and the answer's travel time. Each answer narrows the interval further.
    Thread-safe.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._low = float("-inf")
        self._high = float("inf")

    def observe(self, date: float, *, sent_at: float, received_at: float) -> None:
        """Take in one `Date` header.

        Parameters
        ----------
        date
            Seconds since the epoch, whole.
        sent_at, received_at
            Seconds, monotonic clock, of request and answer.
        """
        low, high = date - received_at, date + 1.0 - sent_at
        with self._lock:
            self._low, self._high = max(self._low, low), min(self._high, high)
            if self._low > self._high:  # one of the clocks was set, or another server answered: start anew
                self._low, self._high = low, high

    def window(self, moment: float) -> tuple[float, float]:
        """Return the earliest and the latest monotonic time at which the archive's clock reaches `moment`."""
        with self._lock:
            return moment - self._high, moment - self._low
