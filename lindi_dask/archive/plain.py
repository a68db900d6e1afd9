"""Plain URLs: redirects are followed here, each one checked, before the data plane reads where they end.

obstore follows redirects and looks names up by itself, and has no option against either.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final
from urllib.parse import urljoin

import requests

from lindi_dask.archive.expiry import DEFAULT_LIFETIME_S
from lindi_dask.archive.names import Names, is_public_storage
from lindi_dask.archive.urls import is_allowed, split_url
from lindi_dask.errors import LindiError, StorageUnavailable, UrlRefused
from lindi_dask.network import Control, connection_error
from lindi_dask.retry import READ, RetryBudget, RetryPolicy
from lindi_dask.types import Lease

if TYPE_CHECKING:
    from collections.abc import Callable

    from lindi_dask.archive.urls import SplitUrl
    from lindi_dask.types import Asset

__all__ = ["PlainUrls"]

_TIMEOUT_S: Final = (5.0, 30.0)  # to connect, to answer
_MAX_REDIRECTS: Final = 5
_KEPT_S: Final = 300.0  # of a URL that does not redirect; where one ends may be presigned
_REDIRECTS: Final = {301, 302, 303, 307, 308}
_RETRIED: Final = {408, 429, 500, 502, 503, 504}  # they don't say whether the URL redirects


class PlainUrls:
    """Grants "leases" on plain URLs: where one ends, for a minute if it redirects, and for five if it does not.

    Each host is asked for one byte, and again where that fails in a way that may pass. A host, that of the URL or of a
    redirect, must be one that `Asset.allow` has, or be reached by https and have public addresses only. Sends no key.
    Thread-safe; does not pickle.

    Parameters
    ----------
    names
        Looks hosts up.
    retry, budget
        Bounds of the retries of one look, and of those of the process; None: a budget of its own.
    clock, sleep
        Monotonic seconds, and how to wait.
    """

    def __init__(
        self,
        *,
        names: Names | None = None,
        retry: RetryPolicy = READ,
        budget: RetryBudget | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._names = Names() if names is None else names
        self._retry = retry
        self._budget = RetryBudget() if budget is None else budget
        self._clock = clock
        self._sleep = sleep
        self._control: Control | None = None

    def exchange(self, asset: Asset, refused: Lease | None = None) -> Lease:  # noqa: ARG002 - each look is a new one
        """Return where a URL ends. Blocks for as long as the retries take.

        Raises
        ------
        UrlRefused
            If a host on the way may not be read, or there are more than five redirects.
        StorageUnavailable
            If a host gave no answer, after all retries.
        """
        for attempt in self._retry.sync(self._budget, clock=self._clock, sleep=self._sleep):
            with attempt:
                lease = self._look(asset)
                self._budget.succeeded()
                return lease
        raise AssertionError("the retry policy ended without an outcome")

    def _look(self, asset: Asset) -> Lease:
        parts = split_url(asset.id)
        for redirects in range(_MAX_REDIRECTS + 1):
            self._check(parts, asset, redirects)
            location = None if is_public_storage(parts.host) else self._location(parts, asset)
            if location is None:
                now = self._clock()
                until = now + (DEFAULT_LIFETIME_S if redirects else _KEPT_S)
                return Lease(parts.rebuilt, now, until, until)
            parts = _target(parts, location, asset)
        raise _refused(asset, f"it redirects more than {_MAX_REDIRECTS} times")

    def _check(self, parts: SplitUrl, asset: Asset, redirects: int) -> None:
        reason = None
        try:
            if not is_allowed(parts, asset.allow) and self._names.is_private(parts, asset):
                reason = (
                    f"{parts.root} is a name of this machine or of a private network; if it is to be trusted, pass "
                    f"allow=[{parts.root!r}]"
                )
        except UrlRefused as refused:
            reason = refused.reason
        if reason is not None:
            raise _refused(asset, f"it redirects, and {reason}" if redirects else reason)

    def _location(self, parts: SplitUrl, asset: Asset) -> str | None:
        """Ask for one byte; return where the answer redirects to, None if it does not."""
        control = self._control = self._control or Control()
        try:
            with control.get(parts.rebuilt, headers={"Range": "bytes=0-0"}, timeout=_TIMEOUT_S) as response:
                status, location = response.status_code, response.headers.get("Location")
        except requests.RequestException as error:
            # requests' errors hold the request, whose URL may be a presigned one: ours is raised outside this block
            failure: LindiError | None = connection_error(error, f"{asset}: {parts.host}", StorageUnavailable)
        else:
            failure = None
        if failure is not None:
            raise failure
        if status in _RETRIED:
            raise StorageUnavailable(f"{asset}: {parts.host} answered {status}.")
        if status not in _REDIRECTS:
            return None  # a denial, too, is for the read to report
        if not location:
            raise StorageUnavailable(f"{asset}: {parts.host} redirects nowhere.")
        return location


def _target(parts: SplitUrl, location: str, asset: Asset) -> SplitUrl:
    reason = "it redirects to what is no URL"
    try:
        return split_url(urljoin(parts.rebuilt, location))
    except UrlRefused as refused:
        reason = f"it redirects to a URL that can't be used: {refused.reason}"
    except ValueError:
        pass
    raise _refused(asset, reason)


def _refused(asset: Asset, reason: str) -> UrlRefused:
    return UrlRefused(f"{asset} may not be read: {reason}.", reason=reason)
