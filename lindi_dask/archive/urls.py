"""Which URLs may be read, and what they stand for: assets, plain URLs, local files. Pure: no look-ups, no requests."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

from lindi_dask.errors import UrlRefused
from lindi_dask.types import Asset, BundleFile, LocalFile, LocalFolder, RemoteFolder, Target

if TYPE_CHECKING:
    from lindi_dask.refs.references import Source
    from lindi_dask.types import Base, Instance

__all__ = ["SplitUrl", "UrlPolicy", "check_prefix", "is_allowed", "is_asset_id", "is_private_address", "split_url"]

_AUTHORITY = re.compile(r"(?:\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?")
_UUID = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_DOWNLOAD = re.compile(rf"/(?:dandisets/[^/]+/versions/[^/]+/)?assets/({_UUID})/download/?")
_DEFAULT_PORT = {"http": 80, "https": 443}
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")  # a host whose last label is one is read as an IPv4 address: 127.1, 0x7f.1
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")  # outside it are, among others, IPv4 addresses in disguise
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # https://www.rfc-editor.org/rfc/rfc6052
_SHOWN = 200
_USER = re.compile(r"(^|[/\\])[^/\\@]*@")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html; S3's certificate does not hold
# for the host of a bucket with a dot in its name
_S3_BUCKET = re.compile(r"(?!xn--)[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
_GS_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")  # https://cloud.google.com/storage/docs/buckets#naming
_LEFT_AS_IS = "%/:@!$&'()*+,;=?"  # in relative URLs, besides letters, digits and "-._~"


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
        return _is_private(address)

    @property
    def _bracketed(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host

    @property
    def _address(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
        try:
            return ipaddress.ip_address(self.host)
        except ValueError:
            return None


def is_asset_id(text: str) -> bool:
    """Return whether a text is an asset's id as `Asset` has it: a UUID in lower case."""
    return re.fullmatch(_UUID, text) is not None and text == text.lower()


def is_private_address(text: str) -> bool:
    """Return whether an address that a name stands for is this machine, or in a network that the internet can't reach.

    Where a network has only IPv6, its resolver writes public IPv4 addresses below 64:ff9b::/96: those are looked into.
    """
    address = ipaddress.ip_address(text.partition("%")[0])  # behind it is the interface of a link-local address
    if address.version == 6 and address in _NAT64:
        address = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return _is_private(address)


def _is_private(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    if address.version == 6 and (address not in _GLOBAL_UNICAST or address.sixtofour is not None):
        return True
    return not address.is_global or address.is_multicast


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
    """what may be read besides https to public hosts: URL prefixes such as `http://127.0.0.1:8000/`, and local folders,
    `/data/` or `file:///data/`"""

    def target(self, source: Source, base: Base) -> Target:
        """Return what a source of the references is read from.

        Besides the URLs that `asset` takes, these stand for something: relative ones, for files in the folder that the
        references lie in; absolute paths and `file://`, for local files below one of `allow`; `s3://` and `gs://`, for
        public objects, which are read over https without credentials; and `""`, for the bundle.

        Parameters
        ----------
        source
            Not one whose `data` are here.
        base
            Where the references lie.

        Returns
        -------
        Target
            Where a local file really lies is not looked at here, but when it is opened: see `LocalFile.within`.

        Raises
        ------
        UrlRefused
            If it may not be read. The message names the URL, without its query, and the remedy.
        """
        if source.data is not None:
            raise TypeError("the bytes of this source are here already")
        try:
            return Target(self._place(source.url, base), source.etag, source.size)
        except UrlRefused as refused:
            reason = refused.reason
        raise UrlRefused(f"The URL {_shown(source.url)} in the references may not be read: {reason}.", reason=reason)

    def _place(self, url: str, base: Base) -> Asset | LocalFile:
        if url == "":
            if isinstance(base, BundleFile):
                return base.file
            raise _refused("it is empty, which stands for the bundle that references lie in, and these lie in none")
        if any(c < " " or c == "\x7f" or "\ud800" <= c <= "\udfff" for c in url):
            raise _refused("it holds a control character or half a character")
        scheme = _SCHEME.match(url)
        if scheme is None:
            return self._local(url) if url.startswith("/") else self._relative(url, base)
        match scheme[1].lower():
            case "file":
                return self._local(_file_path(url))
            case "s3":
                bucket, key = _object(url, _S3_BUCKET)
                return self.asset(f"https://{bucket}.s3.amazonaws.com/{key}")
            case "gs" | "gcs":
                bucket, key = _object(url, _GS_BUCKET)
                return self.asset(f"https://storage.googleapis.com/{bucket}/{key}")
            case _:
                return self.asset(url)

    def _local(self, path: str) -> LocalFile:
        if path.startswith("//"):
            raise _refused("it has neither a scheme nor a folder")
        if not self._folders:
            folder = path.rpartition("/")[0] or "/"
            raise _refused(
                f"it is a local path outside of the references' own folder; if it is to be trusted, pass "
                f"allow=[{folder!r}]"
            )
        return LocalFile(path, self._folders)

    def _relative(self, url: str, base: Base) -> Asset | LocalFile:
        match base:
            case LocalFolder(path):
                return LocalFile(f"{path.rstrip('/')}/{url.removeprefix('./')}", (path, *self._folders))
            case RemoteFolder(folder):
                return self._below(url, split_url(folder))
            case BundleFile():
                raise _refused("it is relative, but the bundle that the references lie in has no such file")
            case None:
                raise _refused(
                    "it is relative, and a dict lies in no folder that it could start from; give it in full, or save "
                    "the references to a file"
                )

    def _below(self, url: str, base: SplitUrl) -> Asset:
        url = quote(url.partition("#")[0], safe=_LEFT_AS_IS)
        if "%2e" in url.lower():
            raise _refused("it is relative and has a dot written as %2e")
        folder = replace(base, path=base.path if base.path.endswith("/") else f"{base.path}/", query="")
        joined = f"{folder.rebuilt}{url.removeprefix('./')}"
        if not _has_prefix(split_url(joined), folder):
            raise _refused("it is relative and leads out of the folder that the references lie in")
        return self.asset(joined)

    @property
    def _folders(self) -> tuple[str, ...]:
        return tuple(folder for folder in map(_local_prefix, self.allow) if folder is not None)

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
        is_allowed(parts, self.allow)
        return Asset(None, parts.rebuilt, self.allow)


def is_allowed(parts: SplitUrl, allow: tuple[str, ...]) -> bool:
    """Return whether a plain URL has a prefix that the user allowed; if not, it must be https to a public host.

    Raises
    ------
    UrlRefused
        If it may not be read. The message names the remedy.
    """
    prefixes = (prefix for prefix in allow if _local_prefix(prefix) is None)
    if any(_has_prefix(parts, split_url(prefix)) for prefix in prefixes):
        return True
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
    return False


def check_prefix(prefix: str) -> None:
    """Raise `UrlRefused` for what makes no sense in `UrlPolicy.allow`."""
    folder = _local_prefix(prefix)
    if folder is None:
        split_url(prefix)
    elif not folder.startswith("/") or folder.startswith("//") or "\0" in folder:
        raise _refused("it is not an absolute path")


def _local_prefix(prefix: str) -> str | None:
    """Return the path of a local prefix; None for that of a URL."""
    if prefix.startswith("/"):
        return prefix
    return _file_path(prefix) if prefix[:7].lower() == "file://" else None


def _file_path(url: str) -> str:
    """Return the path of a file URL (https://www.rfc-editor.org/rfc/rfc8089)."""
    host, slash, path = url[len("file:") :].removeprefix("//").partition("/")
    if not url[len("file:") :].startswith("//") or host.lower() not in {"", "localhost"} or not slash:
        raise _refused("it is a file URL without an absolute path (file:///folder/name)")
    if "?" in path or "#" in path:
        raise _refused("it is a file URL with a query or a fragment; write them in a name as %3F and %23")
    decoded = unquote(path)
    if any(c < " " or c in {"\x7f", "\ufffd"} for c in decoded):  # the last stands for what is not UTF-8
        raise _refused("it is a file URL of a name with control characters, or one that is not UTF-8")
    return f"/{decoded}"


def _object(url: str, buckets: re.Pattern[str]) -> tuple[str, str]:
    """Return the bucket of an object store's URL, and the key as it stands in an https URL."""
    bucket, _, key = url.partition("://")[2].partition("/")
    if not buckets.fullmatch(bucket):
        raise _refused(
            "its bucket is not one whose name can stand in a public https URL; if the object has one, give that"
        )
    if not key or any(part in {".", ".."} for part in key.split("/")):
        raise _refused("its key is empty, or has a part '.' or '..', which no https URL can have")
    return bucket, quote(key, safe="/~")


def _has_prefix(parts: SplitUrl, prefix: SplitUrl) -> bool:
    if parts.origin != prefix.origin or ".." in re.split(r"[/\\]", unquote(parts.path)):
        return False
    folder = prefix.path if prefix.path.endswith("/") else f"{prefix.path}/"
    return parts.path == prefix.path or parts.path.startswith(folder)


def _shown(url: str) -> str:
    """Return a URL, whatever it holds, as it can be shown: no query, which may be a signature, and no user."""
    return ascii(_USER.sub(r"\1", re.split(r"[?#]", url, maxsplit=1)[0])[:_SHOWN])


def _refused(reason: str) -> UrlRefused:
    return UrlRefused(f"A URL in the references may not be read: {reason[:_SHOWN]}.", reason=reason)
