"""The conditions under which the archive answers; all can be changed while it runs."""

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

LONGEST_LIFETIME_S = 604_800
"""The most that S3 lets a presigned URL live, in seconds (a week)."""


def _lifetime(value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= LONGEST_LIFETIME_S:
        raise ValueError(
            f"lifetime_s is {value!r}: X-Amz-Expires is a whole number of seconds, 1 to {LONGEST_LIFETIME_S}"
        )


def _not_negative(value: float) -> None:
    if value < 0:
        raise ValueError(f"a latency is at least 0 seconds, not {value!r}")


def _pace(value: float | None) -> None:
    if value is not None and value <= 0:
        raise ValueError(f"the pace is {value!r} bytes a second: give a positive number, or None for no limit")


def _rate_limit(value: tuple[int, float] | None) -> None:
    if value is not None and not (len(value) == 2 and value[0] >= 1 and value[1] > 0):
        raise ValueError(f"rate_limit is {value!r}: give (requests, seconds), or None for no limit")


def _anything(_value: float) -> None:
    pass


_CHECKS: Mapping[str, Callable[[Any], None]] = {
    "lifetime_s": _lifetime,
    "latency_s": _not_negative,
    "api_latency_s": _not_negative,
    "bytes_per_s": _pace,
    "stream_bytes_per_s": _pace,
    "clock_offset_s": _anything,
    "rate_limit": _rate_limit,
}


class Conditions:
    """How the archive answers. Every attribute may be set at any time, from any thread.

    Parameters
    ----------
    lifetime_s
        For how long presigned URLs are signed (``X-Amz-Expires``), in whole seconds. The signing time
        has whole seconds too, so that a URL lives up to a second less than this.
    latency_s
        Pause before each response of the S3 host, in seconds.
    api_latency_s
        Pause before each response of the API host, in seconds.
    bytes_per_s
        The pace of the one link that all connections of the S3 host share, in bytes a second; None: as
        fast as it goes.
    stream_bytes_per_s
        The pace of each response of the S3 host, in bytes a second: one connection alone is no faster than
        this, many together are. None: no limit.
    clock_offset_s
        By how much the archive's clock is ahead of ``time.time()``, in seconds. Dates, signing times and
        expiry follow it.
    rate_limit
        ``(requests, seconds)``: the API host answers 429 beyond it; None: no limit.

    Raises
    ------
    ValueError
        For a value that no archive could have, at construction and at setting.
    AttributeError
        At setting something that is no condition, so that a typo does not pass for a slow link.
    """

    lifetime_s: int
    latency_s: float
    api_latency_s: float
    bytes_per_s: float | None
    stream_bytes_per_s: float | None
    clock_offset_s: float
    rate_limit: tuple[int, float] | None

    def __init__(
        self,
        *,
        lifetime_s: int = 3,
        latency_s: float = 0.0,
        api_latency_s: float = 0.0,
        bytes_per_s: float | None = None,
        stream_bytes_per_s: float | None = None,
        clock_offset_s: float = 0.0,
        rate_limit: tuple[int, float] | None = None,
    ) -> None:
        self.lifetime_s = lifetime_s
        self.latency_s = latency_s
        self.api_latency_s = api_latency_s
        self.bytes_per_s = bytes_per_s
        self.stream_bytes_per_s = stream_bytes_per_s
        self.clock_offset_s = clock_offset_s
        self.rate_limit = rate_limit

    if not TYPE_CHECKING:  # type checkers take it as leave to set anything

        def __setattr__(self, name: str, value: object) -> None:
            if not name.startswith("_"):
                if name not in _CHECKS:
                    raise AttributeError(f"an archive has no condition {name!r}; there are: {', '.join(_CHECKS)}")
                _CHECKS[name](value)
            super().__setattr__(name, value)

    def now(self) -> float:
        """Read the archive's clock: Unix time, in seconds."""
        return time.time() + self.clock_offset_s
