"""Which URLs may be read, and which of them are assets of an archive. Pure: no look-ups, no requests."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from lindi_dask.errors import UrlRefused
from lindi_dask.types import Asset

if TYPE_CHECKING:
    from lindi_dask.types import Instance

__all__ = ["SplitUrl", "UrlPolicy", "split_url"]

_AUTHORITY = re.compile(r"(?:\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?")
_UUID = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_DOWNLOAD = re.compile(rf"/(?:dandisets/[^/]+/versions/[^/]+/)?assets/({_UUID})/download/?")
_DEFAULT_PORT = {"http": 80, "https": 443}
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")  # a host whose last label is one is read as an IPv4 address: 127.1, 0x7f.1
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")  # outside it are, among others, IPv4 addresses in disguise
_SHOWN = 200


@dataclass(frozen=True, slots=True)
class SplitUrl:
    """The parts of an http(s) URL that were checked; only `rebuilt` is ever sent."""

    scheme: str
    host: str
    """lower case, without a trailing dot; IPv6 without brackets"""
    port: int
    path: str
    """starts with a slash"""
    query: str

    @property
    def origin(self) -> tuple[str, str, int]:
        """Scheme, host and port: two URLs of one origin reach the same server."""
        return self.scheme, self.host, self.port

    @property
    def rebuilt(self) -> str:
        """The URL, put together from the parts that were checked."""
        port = "" if self.port == _DEFAULT_PORT[self.scheme] else f":{self.port}"
        query = f"?{self.query}" if self.query else ""
        return f"{self.scheme}://{self._bracketed}{port}{self.path}{query}"

    @property
    def root(self) -> str:
        """The origin as a URL, with its port: what a user would allow."""
        return f"{self.scheme}://{self._bracketed}:{self.port}/"

    @property
    def is_loopback(self) -> bool:
        """Whether the host is this machine by its literal name or address."""
        address = self._address
        return self.host == "localhost" if address is None else address.is_loopback

    @property
    def is_private(self) -> bool:
        """Whether the host is, literally, this machine or in a network that the internet can't reach."""
        address = self._address
        if address is None:
            return self.host == "localhost" or self.host.endswith((".localhost", ".local", ".internal"))
        if address.version == 6 and (address not in _GLOBAL_UNICAST or address.sixtofour is not None):
            return True
        return not address.is_global or address.is_multicast

    @property
    def _bracketed(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host

    @property
    def _address(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
        try:
            return ipaddress.ip_address(self.host)
        except ValueError:
            return None


def split_url(url: str) -> SplitUrl:
    r"""Take an http(s) URL apart, strictly.

    URL parsers disagree about user info, backslashes, percent signs and non-ASCII characters in the authority
    (`https://api.dandiarchive.org\@evil.org/`), so a URL with any of these is refused.

    Raises
    ------
    UrlRefused
        With the rule that it breaks; the message shows neither user nor query.
    """
    if any(c <= " " or c in {"\x7f", "\\"} or "\ud800" <= c <= "\udfff" for c in url):
        raise _refused("it holds a blank, a control character, half a character or a backslash")
    scheme, separator, rest = url.partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in _DEFAULT_PORT:
        raise _refused("it is neither https nor http")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if not _AUTHORITY.fullmatch(authority):
        raise _refused("its host is not a plain name or address")
    reason = None
    try:
        parts = urlsplit(f"{scheme}://{rest}")
        host, port = parts.hostname or "", parts.port
    except ValueError:
        reason = "its host or port is not valid"
    if reason is not None:
        raise _refused(reason)
    if parts.netloc != authority:
        raise _refused("its host is not a plain name or address")
    host = _canonical(host)
    if not host:
        raise _refused("its host is not a plain name or address")
    return SplitUrl(
        scheme=scheme,
        host=host,
        port=_DEFAULT_PORT[scheme] if port is None else port,
        path=parts.path or "/",
        query=parts.query,
    )


def _canonical(host: str) -> str:
    """Return a host in its one form; "" for one that is neither a name nor an address as it is commonly written."""
    host = host.removesuffix(".")
    labels = host.split(".")
    if ":" in host or _NUMBER.fullmatch(labels[-1]):
        try:
            return str(ipaddress.ip_address(host))
        except ValueError:
            return ""
    return host if all(labels) else ""


@dataclass(frozen=True, slots=True)
class UrlPolicy:
    """What the URLs of a reference file may point at."""

    instances: tuple[Instance, ...]
    """archives whose download URLs are exchanged for leases"""
    allow: tuple[str, ...] = ()
    """URL prefixes that may be read besides https to public hosts, such as `http://127.0.0.1:8000/`"""

    def asset(self, url: str) -> Asset:
        """Return what a URL of the references stands for.

        A download URL of an instance (flat, or below `/dandisets/`, with or without the trailing slash) is that asset.
        Any other https URL to a public host stands for itself.

        Raises
        ------
        UrlRefused
            If the URL may not be read. The message names the remedy.
        """
        parts = split_url(url)
        for instance in self.instances:
            api = split_url(instance.api_url)
            if parts.origin == api.origin and parts.path.startswith(f"{api.path}/"):
                match = _DOWNLOAD.fullmatch(parts.path.removeprefix(api.path))
                if match is None:
                    raise _refused(
                        f"it points at {instance.name}'s API, but not at an asset's download "
                        "(.../assets/<id>/download/)"
                    )
                return Asset(instance, match[1].lower())
        if any(_has_prefix(parts, split_url(prefix)) for prefix in self.allow):
            return Asset(None, parts.rebuilt)
        origin = parts.root
        if parts.scheme != "https":
            raise _refused(
                f"{origin} is plain http; if it is to be trusted, pass allow=[{origin!r}], and if it is an archive, "
                "register it as an instance"
            )
        if parts.is_private:
            raise _refused(
                f"{origin} is this machine or a private network; if it is to be trusted, pass allow=[{origin!r}]"
            )
        return Asset(None, parts.rebuilt)


def _has_prefix(parts: SplitUrl, prefix: SplitUrl) -> bool:
    if parts.origin != prefix.origin or ".." in re.split(r"[/\\]", unquote(parts.path)):
        return False
    folder = prefix.path if prefix.path.endswith("/") else f"{prefix.path}/"
    return parts.path == prefix.path or parts.path.startswith(folder)


def _refused(reason: str) -> UrlRefused:
    return UrlRefused(f"A URL in the references may not be read: {reason[:_SHOWN]}.", reason=reason)
