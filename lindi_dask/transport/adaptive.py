"""What a path gives, learnt from how requests fare: latency, pace, and how many at a time. Pure: clocks come in."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Link", "Sizes", "Window"]

MIB = 2**20


@dataclass(frozen=True, slots=True)
class Sizes:
    """How requests are cut."""

    max_gap: int
    """bytes that may be fetched for nothing between two chunks"""
    size: int
    """bytes of a request"""


class Link:
    """Latency and pace of single requests: a line through (bytes, seconds) of the last ones.

    Parameters
    ----------
    latency_s
        Seconds until the first byte, to begin with.
    bytes_per_s
        Of one request among others, to begin with.
    """

    _MEMORY = 1 - 1 / 64  # weight of all requests so far when a new one comes
    _PRIOR = 4.0  # requests' weight of what was assumed: it also keeps requests of one length from saying nothing
    _WASTE = 40  # a byte fetched for nothing counts so many times: it is the host's and the neighbours' too

    def __init__(self, latency_s: float = 0.05, bytes_per_s: float = 100e6) -> None:
        self._prior = _moments(0.0, latency_s) + _moments(4 * MIB, latency_s + 4 * MIB / bytes_per_s)
        self._seen = _Moments()

    def observe(self, nbytes: int, seconds: float) -> None:
        """Take in a request that went well."""
        self._seen = self._seen * self._MEMORY + _moments(nbytes, seconds)

    @property
    def latency_s(self) -> float:
        """Seconds of a request beside those that its bytes take; between 1 ms and 2 s."""
        return self._line()[0]

    @property
    def bytes_per_s(self) -> float:
        """Pace of one request among others; between 1 MB/s and 1 GB/s."""
        return self._line()[1]

    def expected_s(self, nbytes: int) -> float:
        """Return how long a request should take, in seconds."""
        latency, pace = self._line()
        return latency + nbytes / pace

    def sizes(self) -> Sizes:
        """Return how to cut requests.

        One of twice latency x pace bytes spends a third of its time waiting: shorter ones mostly wait, and far longer
        ones leave decoders idle. A gap is worth a request where its bytes take less than the latency.
        """
        product = self.latency_s * self.bytes_per_s
        return Sizes(
            max_gap=int(min(max(product / self._WASTE, 16 * 1024), 256 * 1024)),
            size=int(min(max(2 * product, 2 * MIB), 8 * MIB)),
        )

    def _line(self) -> tuple[float, float]:
        every = self._seen + self._prior * self._PRIOR
        mean_n, mean_s = every.n / every.weight, every.s / every.weight
        variance = every.nn / every.weight - mean_n**2
        slope = (every.ns / every.weight - mean_n * mean_s) / variance
        slope = min(max(slope, 1e-9), 1e-6)
        return min(max(mean_s - slope * mean_n, 1e-3), 2.0), 1 / slope


@dataclass(frozen=True, slots=True)
class _Moments:
    """Weighted sums over requests of bytes n and seconds s."""

    weight: float = 0.0
    n: float = 0.0
    s: float = 0.0
    nn: float = 0.0
    ns: float = 0.0

    def __add__(self, other: _Moments) -> _Moments:
        return _Moments(
            self.weight + other.weight,
            self.n + other.n,
            self.s + other.s,
            self.nn + other.nn,
            self.ns + other.ns,
        )

    def __mul__(self, by: float) -> _Moments:
        return _Moments(self.weight * by, self.n * by, self.s * by, self.nn * by, self.ns * by)


def _moments(nbytes: float, seconds: float) -> _Moments:
    return _Moments(1.0, nbytes, seconds, nbytes**2, nbytes * seconds)


class Window:
    """How many requests may be under way.

    Begins low and doubles each round while that makes bytes come faster; then grows by one a round while it does not
    make them come slower; halves when the host asks for patience (503 SlowDown, 429), at most once a round. (TCP's slow
    start and additive increase, multiplicative decrease: RFC 5681.) A round is as many answers as may be under way, all
    of them while more were waiting: else the window is not what holds them back.

    Parameters
    ----------
    most
        Requests, at most.
    start
        Requests to begin with.
    """

    _GAIN = 1.1  # of the pace, for a doubling to be worth another one
    _FORGET = 0.97  # of the best pace, each round: paths change

    def __init__(self, most: int, start: int = 16) -> None:
        self.most = most
        self._size = float(min(start, most))
        self._slow_start = True
        self._best = 0.0
        self._round: tuple[float, int, int] | None = None  # since when, answers, bytes
        self._patient_for = 0  # answers, until the next halving

    @property
    def size(self) -> int:
        """Requests that may be under way now."""
        return int(self._size)

    def answered(self, nbytes: int, now: float, *, full: bool) -> None:
        """Take in an answer of `nbytes` at the time `now`; `full`: others were waiting for their turn."""
        self._patient_for -= 1
        if not full:
            self._round = None
            return
        if self._round is None:
            self._round = now, 0, 0
            return
        since, answers, total = self._round
        answers, total = answers + 1, total + nbytes
        self._round = since, answers, total
        if answers >= self.size and now > since:
            self._turn(total / (now - since))
            self._round = now, 0, 0

    def pushed_back(self) -> None:
        """Take in that the host asked for patience."""
        if self._patient_for <= 0:
            self._patient_for = self.size
            self._size = max(self._size / 2, 1.0)
            self._slow_start = False
            self._best = 0.0
            self._round = None

    def _turn(self, pace: float) -> None:
        if self._slow_start and pace > self._best * self._GAIN:
            self._size = min(self._size * 2, self.most)
        elif pace >= self._best:
            self._slow_start = False
            self._size = min(self._size + 1, self.most)
        else:
            self._slow_start = False
        self._best = max(pace, self._best * self._FORGET)
