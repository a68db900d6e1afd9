"""Faults to order: which, how often, for which requests."""

import random
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from lindi_dask.testing.records import Plane

Place = Plane | Literal["listing"]

_ALL: frozenset[Place] = frozenset({"api", "listing", "s3"})
_API: frozenset[Place] = frozenset({"api"})
_LISTING: frozenset[Place] = frozenset({"listing"})
_S3: frozenset[Place] = frozenset({"s3"})
_BODIES: frozenset[Place] = _S3 | _LISTING

KINDS: Mapping[str, frozenset[Place]] = {
    "status": _ALL,
    "reset": _ALL,
    "stall": _ALL,
    "garbage": _ALL,
    "redirect": _ALL,
    "no-location": _API,
    "dead-lease": _API,
    "next": _LISTING,
    "reset-mid-body": _BODIES,
    "stall-mid-body": _BODIES,
    "short-body": _BODIES,
    "short-length": _BODIES,
    "short-range": _S3,
    "whole-file": _S3,
    "error-200": _S3,
    "wrong-range": _S3,
    "changed-etag": _S3,
    "gzip": _S3,
}
"""The kinds of faults, and the hosts that can have them; ``listing`` is the API host where it does not exchange."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What goes wrong, and when. It spoils answers that would have been good.

    A request that would be refused anyway (no key, an expired URL, a range past the end) is left alone and
    counts for nothing here; so do API requests other than downloads, unless the fault is for those (`listing`). Each
    request takes one fault at most: the first one injected that applies.

    ================== =========================================================================================
    kind               what the client sees
    ================== =========================================================================================
    ``status``         `status`, with S3's XML or the API's JSON (`html`: HTML); with `retry_after` if given
    ``reset``          a TCP reset before the status line
    ``stall``          nothing for `delay_s`, then the good answer
    ``garbage``        bytes that are no HTTP, then the end of the connection
    ``redirect``       302 (API) or 307 (S3) to `location`; without one, to the same URL again
    ``no-location``    API: 302 without ``Location``
    ``dead-lease``     API: 302 to a URL that has expired
    ``next``           listing: a page whose next one is at `location`
    ``reset-mid-body`` S3, listing: half of the body, then a TCP reset
    ``stall-mid-body`` S3, listing: half of the body, nothing for `delay_s`, then the rest
    ``short-body``     S3, listing: half of the body, then a clean end, short of ``Content-Length``
    ``short-length``   S3, listing: half of the body, and a ``Content-Length`` to fit; ``Content-Range`` as asked
    ``short-range``    S3: half of the body, ``Content-Length`` and ``Content-Range`` to fit
    ``whole-file``     S3: 200 and the whole file, whatever was asked
    ``error-200``      S3: 200 with an error's XML
    ``wrong-range``    S3: 206 with as many bytes from one byte further on, and a ``Content-Range`` that says so
    ``changed-etag``   S3: another ``ETag``, as if the object had been replaced; 412 with ``If-Match``
    ``gzip``           S3: the body compressed, with ``Content-Encoding: gzip``
    ================== =========================================================================================

    Raises
    ------
    ValueError
        For an unknown kind, or one that this host can't have, for a listing of S3, and for numbers out of range.
    """

    plane: Plane
    """The host that misbehaves."""
    kind: str
    """One of the table's."""
    times: int | None = 1
    """How many answers to spoil; None: until cancelled."""
    skip: int = 0
    """How many good answers to let pass first."""
    probability: float = 1.0
    """Share of the answers (after `skip`) to spoil, drawn at random."""
    seed: int = 0
    """Of the random numbers: the same seed, the same draws."""
    asset_id: str | None = None
    """Only for this asset; None: for any."""
    listing: bool = False
    """Of the API: whether it spoils what is told of dandisets and assets, and not the exchanges."""
    status: int = 503
    """For ``status``."""
    html: bool = False
    """For ``status`` of the API: HTML, as when the application is down."""
    retry_after: str | None = None
    """``Retry-After`` for ``status``: seconds or an HTTP date."""
    location: str | None = None
    """For ``redirect`` and ``next``."""
    delay_s: float = 1.0
    """For the stalls, in seconds."""

    @property
    def place(self) -> Place:
        """Where it strikes."""
        return "listing" if self.listing else self.plane

    def __post_init__(self) -> None:
        if self.listing and self.plane != "api":
            raise ValueError(f"the {self.plane} host lists nothing: leave out listing, or make it a fault of the api")
        if self.place not in KINDS.get(self.kind, ()):
            known = ", ".join(kind for kind, places in KINDS.items() if self.place in places)
            raise ValueError(f"the {self.place} host has no fault {self.kind!r}: it has {known or 'none'}")
        if self.times is not None and self.times < 1:
            raise ValueError(f"times is {self.times}: give 1 or more, or None for no end")
        if not 0 < self.probability <= 1:
            raise ValueError(f"probability is {self.probability}: give more than 0 and at most 1")
        if not 400 <= self.status <= 599:
            raise ValueError(f"status is {self.status}: give one of 400 to 599")
        if self.delay_s < 0 or self.skip < 0:
            raise ValueError("delay_s and skip can't be negative")


class Injection:
    """A fault at work: how often it struck, and its end."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self._lock = threading.Lock()
        self._random = random.Random(fault.seed)  # noqa: S311  # must repeat, not be secret
        self._passed = 0
        self._injected = 0
        self._cancelled = False

    def __repr__(self) -> str:
        return f"<Injection of {self.fault.kind!r} at {self.fault.plane}: {self._injected} so far>"

    @property
    def injected(self) -> int:
        """How many answers were spoiled up to now."""
        return self._injected

    @property
    def is_spent(self) -> bool:
        """Whether it won't strike again."""
        return self._cancelled or self._injected == self.fault.times

    def cancel(self) -> None:
        """Spoil no more answers."""
        self._cancelled = True

    def strike(self, place: Place, asset_id: str | None) -> bool:
        """Whether to spoil this answer; counts it when so."""
        fault = self.fault
        with self._lock:
            if self.is_spent or place != fault.place or fault.asset_id not in {None, asset_id}:
                return False
            if self._passed < fault.skip:
                self._passed += 1
                return False
            if self._random.random() >= fault.probability:
                return False
            self._injected += 1
            return True


class FaultPlan:
    """All injections of an archive; safe to use from threads."""

    def __init__(self) -> None:
        self._injections: list[Injection] = []

    def inject(self, fault: Fault) -> Injection:
        """Set a fault to work."""
        injection = Injection(fault)
        self._injections = [*(old for old in self._injections if not old.is_spent), injection]
        return injection

    def take(self, place: Place, asset_id: str | None) -> Fault | None:
        """Take the fault for this answer, if there is one."""
        for injection in self._injections:
            if injection.strike(place, asset_id):
                return injection.fault
        return None
