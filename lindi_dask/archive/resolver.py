"""The exchange of an asset for a presigned URL: the one place that sends an API key."""

from __future__ import annotations

import math
import os
import threading
import time
from typing import TYPE_CHECKING

import requests
from requests.auth import AuthBase

from lindi_dask.archive.answers import Answer, read_answer
from lindi_dask.archive.expiry import ArchiveClock
from lindi_dask.archive.keys import find_key
from lindi_dask.archive.names import Names
from lindi_dask.errors import ArchiveUnavailable, ConfigurationError, LindiError
from lindi_dask.network import Control
from lindi_dask.retry import EXCHANGE, RetryBudget, RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lindi_dask.archive.keys import Key
    from lindi_dask.types import Asset, Instance, Lease

__all__ = ["Resolver"]

_AT_ONCE = 4  # exchanges of one archive
_TIMEOUT_S = (5.0, 30.0)  # to connect, to answer


class Resolver:
    """Exchanges assets for leases at the archive's API, with retries.

    At most four requests are on their way to one archive at a time. When it asks to wait (`Retry-After`), no other
    exchange is tried there before the time is up. Keys are looked up at each exchange (see `find_key`) and never
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
        self._names = Names()
        self._lock = threading.Lock()
        self._archives: dict[Instance, _Archive] = {}

    def exchange(self, asset: Asset, refused: Lease | None = None) -> Lease:  # noqa: ARG002 - each one is new anyway
        """Return a new lease on `asset`. Blocks for as long as the retries take.

        Raises
        ------
        AccessError
            If the archive does not give the asset to this user.
        ArchiveUnavailable
            If it gave no answer, after all retries.
        """
        for attempt in self._retry.sync(self._budget, clock=self._clock, sleep=self._sleep):
            with attempt:
                lease = self._exchange_once(asset)
                self._budget.succeeded()
                return lease
        raise AssertionError("the retry policy ended without an outcome")

    def _exchange_once(self, asset: Asset) -> Lease:
        instance = asset.instance
        if instance is None:
            raise TypeError("a plain URL needs no exchange")
        with self._lock:
            archive = self._archives.setdefault(instance, _Archive())
        with archive.slots:
            return self._ask(asset, instance, archive)

    def _ask(self, asset: Asset, instance: Instance, archive: _Archive) -> Lease:
        asked_to_wait_s = archive.closed_until - self._clock()
        if asked_to_wait_s > 0:
            raise ArchiveUnavailable(
                f"{asset}: the archive at {instance.api_url} asked to wait.", retry_after_s=asked_to_wait_s
            )
        key = None if self._anonymous else find_key(instance, self._environ)
        sent_at = self._clock()
        failure: LindiError | None = None
        try:
            with self._control.get(
                f"{instance.api_url}/assets/{asset.id}/download/", auth=_TokenAuth(key), timeout=_TIMEOUT_S
            ) as response:
                answer = Answer(
                    status=response.status_code,
                    headers=response.headers,
                    sent_at=sent_at,
                    received_at=self._clock(),
                    key_place=None if key is None else key.place,
                )
        except requests.RequestException as error:
            # requests' errors hold the request, and with it the key: ours is raised outside this block
            failure = _connection_error(error, asset, instance)
        if failure is not None:
            raise failure
        try:
            with archive.lock:
                lease = read_answer(answer, asset, archive.clock)
        except ArchiveUnavailable as unavailable:
            if unavailable.retry_after_s:
                archive.closed_until = max(archive.closed_until, answer.received_at + unavailable.retry_after_s)
            raise
        self._names.check_storage(lease.url, asset)
        return lease


class _Archive:
    """What is known of one archive, and how much may be asked of it at a time."""

    def __init__(self) -> None:
        self.slots = threading.BoundedSemaphore(_AT_ONCE)
        self.lock = threading.Lock()  # of the clock
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


def _connection_error(error: requests.RequestException, asset: Asset, instance: Instance) -> LindiError:
    where = f"{asset}: the archive at {instance.api_url}"
    match error:
        case requests.exceptions.SSLError():
            return ConfigurationError(
                f"{where} did not prove who it is (TLS). If it has a certificate of your own authority, set "
                "lindi-dask.ca-bundle, or REQUESTS_CA_BUNDLE, to its file."
            )
        case requests.exceptions.ProxyError():
            return ArchiveUnavailable(
                f"{where} can't be reached through the proxy of the environment (HTTPS_PROXY).", unanswered=True
            )
        case requests.exceptions.ConnectTimeout():
            return ArchiveUnavailable(
                f"{where} did not take a connection within {_TIMEOUT_S[0]:.0f} s.", unanswered=True
            )
        case requests.exceptions.Timeout():
            return ArchiveUnavailable(f"{where} did not answer within {_TIMEOUT_S[1]:.0f} s.", unanswered=True)
        case _:
            return ArchiveUnavailable(
                f"{where} can't be reached ({type(error).__name__}). Is the network up?", unanswered=True
            )
