"""What host names stand for: whether a name leads to this machine or a private network."""

from __future__ import annotations

import re
import socket
import threading
import time
from typing import TYPE_CHECKING, Final

from lindi_dask.archive.urls import is_private_address, split_url
from lindi_dask.errors import ArchiveUnavailable, StorageUnavailable, UrlRefused
from lindi_dask.network import proxy_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from lindi_dask.archive.urls import SplitUrl
    from lindi_dask.types import Asset

__all__ = ["Names", "is_public_storage"]

_KEPT_S: Final = 60.0
# S3's REST hosts (not those of its web sites) and Google's redirect to nothing but themselves. In a cloud's own
# network, their names may stand for private addresses
_PUBLIC_STORAGE: Final = re.compile(r"(?:[a-z0-9.-]+\.)?s3(?:\.[a-z0-9-]+)?\.amazonaws\.com|storage\.googleapis\.com")


def is_public_storage(host: str) -> bool:
    """Return whether a host is one of the large object stores, which nobody but their operators can redirect."""
    return _PUBLIC_STORAGE.fullmatch(host) is not None


class Names:
    """Looks names up, and remembers for a minute what they stood for. Thread-safe.

    Parameters
    ----------
    lookup
        Returns the addresses of a host and port, or raises `OSError`; blocks.
    clock
        Monotonic seconds.
    """

    def __init__(
        self,
        lookup: Callable[[str, int], set[str]] | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lookup = lookup or _addresses
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[str, tuple[float, bool]] = {}

    def is_private(self, parts: SplitUrl, asset: Asset) -> bool:
        """Return whether one of the addresses of a host is private; False where a proxy is in use, which looks it up.

        Raises
        ------
        StorageUnavailable
            If the name can't be looked up.
        """
        if parts.is_private:
            return True
        if is_public_storage(parts.host) or proxy_of(parts.rebuilt) is not None:
            return False
        now = self._clock()
        with self._lock:
            until, private = self._known.get(parts.host, (now, False))
        if until > now:
            return private
        try:
            private = any(map(is_private_address, self._lookup(parts.host, parts.port)))
        except (OSError, UnicodeError):
            until = -1.0
        if until < 0:
            raise StorageUnavailable(f"{asset}: the host {parts.host} can't be looked up. Is the network up?")
        with self._lock:
            if len(self._known) > 1000:
                self._known.clear()
            self._known[parts.host] = now + _KEPT_S, private
        return private

    def check_storage(self, url: str, asset: Asset) -> None:
        """Refuse a private host that an archive, which is not private itself, redirects to.

        Raises
        ------
        UrlRefused
            If it does.
        ArchiveUnavailable
            If a name can't be looked up: the exchange is worth another attempt.
        """
        parts, failure = split_url(url), None
        try:
            if asset.instance is None or not self.is_private(parts, asset):
                return
            if self.is_private(split_url(asset.instance.api_url), asset):
                return
        except StorageUnavailable as error:
            failure = ArchiveUnavailable(str(error), unanswered=True)
        if failure is not None:
            raise failure
        reason = f"the archive redirected to {parts.root}, which is this machine or a private network"
        raise UrlRefused(f"{asset}: {reason}; that is not followed.", reason=reason)


def _addresses(host: str, port: int) -> set[str]:
    return {str(address[0]) for *_, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
