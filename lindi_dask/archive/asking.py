"""Requests to the APIs of archives: the one place that sends an API key."""

from __future__ import annotations

import math
import os
import threading
import time
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import urlencode

import requests
import urllib3
from requests.auth import AuthBase

from lindi_dask.archive.answers import Answer
from lindi_dask.archive.expiry import ArchiveClock
from lindi_dask.archive.keys import find_key
from lindi_dask.errors import ArchiveUnavailable, LindiError
from lindi_dask.network import Control, connection_error, forked
from lindi_dask.retry import EXCHANGE, RetryBudget, RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lindi_dask.archive.keys import Key
    from lindi_dask.types import Instance

    T = TypeVar("T")

__all__ = ["Archives"]

_AT_ONCE: Final = 4  # requests to one archive
_TIMEOUT_S = (5.0, 30.0)  # to connect, to answer
_BODY_S: Final = 60.0  # for an answer's body, all of it
_PIECE: Final = 2**16  # bytes of a body that are read at a time, at most


class Archives:
    """Asks the APIs of archives, with retries.

    At most four requests are on their way to one archive at a time. When it asks to wait (`Retry-After`), nothing else
    is asked there before the time is up. Keys are looked up at each request (see `find_key`) and never
    kept. Thread-safe; does not pickle.

    Parameters
    ----------
    environ
        Where the API keys are.
    anonymous
        Whether to send no key, whatever there is.
    retry
        Bounds of the retries.
    budget
        Of all retries of this process; None: an own one.
    clock, sleep
        Monotonic seconds, and how to wait.
    """

    def __init__(
        self,
        *,
        environ: Mapping[str, str] = os.environ,
        anonymous: bool = False,
        retry: RetryPolicy = EXCHANGE,
        budget: RetryBudget | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._environ = environ
        self._anonymous = anonymous
        self._retry = retry
        self._budget = RetryBudget() if budget is None else budget
        self._clock = clock
        self._sleep = sleep
        self._control = Control()
        self._lock = threading.Lock()
        self._archives: dict[Instance, _Archive] = {}
        self._pid: int | None = None  # of the process that first asked

    def ask(
        self,
        instance: Instance,
        path: str,
        name: str,
        read: Callable[[Answer, ArchiveClock], T],
        *,
        query: Mapping[str, str] | None = None,
        limit: int = 0,
    ) -> T:
        """Return what an answer means. Blocks for as long as the retries take.

        Parameters
        ----------
        instance
            The archive.
        path
            Of the API, from its base URL on; with a slash at both ends.
        name
            How messages call what is asked for.
        read
            Says what an answer means, by that archive's clock; what it raises as `ArchiveUnavailable` is tried again.
        query
            Fields of the URL's query.
        limit
            Bytes of the body, at most, that `read` gets; 0: it gets none.

        Raises
        ------
        ArchiveUnavailable
            If there was no answer, after all retries.
        ConfigurationError
            If the archive does not prove who it is, or there is no key that can be sent.
        ForkedProcessError
            In a process that was forked from one that had asked: both would read from the same connections.
        LindiError
            What `read` raises.
        """
        if self._pid not in {None, os.getpid()}:
            raise forked()
        url = f"{instance.api_url}{path}{'?' if query else ''}{urlencode(query or {})}"
        for attempt in self._retry.sync(self._budget, clock=self._clock, sleep=self._sleep):
            with attempt:
                with self._lock:
                    self._pid = os.getpid()
                    archive = self._archives.setdefault(instance, _Archive())
                with archive.slots:
                    meaning = self._ask_once(instance, url, name, read, limit, archive)
                self._budget.succeeded()
                return meaning
        raise AssertionError("the retry policy ended without an outcome")

    def _ask_once(
        self,
        instance: Instance,
        url: str,
        name: str,
        read: Callable[[Answer, ArchiveClock], T],
        limit: int,
        archive: _Archive,
    ) -> T:
        asked_to_wait_s = archive.closed_until - self._clock()
        if asked_to_wait_s > 0:
            raise ArchiveUnavailable(
                f"{name}: the archive at {instance.api_url} asked to wait.", retry_after_s=asked_to_wait_s
            )
        key = None if self._anonymous else find_key(instance, self._environ)
        sent_at = self._clock()
        failure: LindiError | None = None
        try:
            with self._control.get(
                url, auth=_TokenAuth(key), timeout=_TIMEOUT_S, headers={"Accept-Encoding": "identity"}
            ) as response:
                received_at = self._clock()
                answer = Answer(
                    status=response.status_code,
                    headers=response.headers,
                    sent_at=sent_at,
                    received_at=received_at,
                    key_place=None if key is None else key.place,
                    body=self._body(response, limit, received_at + _BODY_S),
                )
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            # These errors hold the request, and with it the key: ours is raised outside this block
            failure = connection_error(error, f"{name}: the archive at {instance.api_url}", ArchiveUnavailable)
        if failure is not None:
            raise failure
        try:
            return read(answer, archive.clock)
        except ArchiveUnavailable as unavailable:
            if unavailable.retry_after_s:
                archive.closed_until = max(archive.closed_until, answer.received_at + unavailable.retry_after_s)
            raise

    def _body(self, response: requests.Response, limit: int, until: float) -> bytes | None:
        """Return the body of a good answer; None if it is too large, packed, or not wanted."""
        if (
            not limit
            or response.status_code != 200
            or response.headers.get("Content-Encoding", "identity") != "identity"
        ):
            return None
        body = bytearray()
        # What there is: to wait for a whole piece would put off the look at the clock for as long as bytes trickle in
        while piece := response.raw.read1(_PIECE, decode_content=False):
            body += piece
            if len(body) > limit:
                return None
            if self._clock() > until:
                raise requests.Timeout
        return bytes(body)


class _Archive:
    """What is known of one archive, and how much may be asked of it at a time."""

    def __init__(self) -> None:
        self.slots = threading.BoundedSemaphore(_AT_ONCE)
        self.clock = ArchiveClock()
        self.closed_until = -math.inf  # seconds, monotonic clock


class _TokenAuth(AuthBase):
    """Sets the key, or none."""

    def __init__(self, key: Key | None) -> None:
        self._key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._key is not None:
            request.headers["Authorization"] = f"token {self._key.value}"
        return request
