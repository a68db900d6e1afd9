"""How this process reaches hosts: through which proxy, and whose certificates it trusts. The same for both planes.

Proxies are those of the environment, read as requests reads it: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`.
Certificates are trusted that the system or certifi trusts, and those of one file besides: `lindi-dask.ca-bundle`, or
else the file in `REQUESTS_CA_BUNDLE`, `CURL_CA_BUNDLE` or `SSL_CERT_FILE`. `.netrc` is never read.
"""

from __future__ import annotations

import http.cookiejar
import os
import secrets
import ssl
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.request import getproxies

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.utils import get_environ_proxies, select_proxy
from urllib3.util.ssl_ import create_urllib3_context

from lindi_dask.config import configured
from lindi_dask.errors import ConfigurationError, ForkedProcessError

if TYPE_CHECKING:
    from obstore.store import ClientConfig

    from lindi_dask.errors import LindiError, UnavailableError

__all__ = ["USER_AGENT", "Control", "connection_error", "data_options", "forked", "proxy_of", "untrusted"]

# What an archive's operators see: which program, and (at random, for one process's life) which process of it
USER_AGENT: Final = f"lindi-dask/{version('lindi-dask')} process/{secrets.token_hex(4)}"

_CA_VARIABLES: Final = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")
_NOWHERE: Final = "http://127.0.0.1:9"  # a proxy that every host is exempt from


def proxy_of(url: str) -> str | None:
    """Return the proxy through which the environment has a URL read, if any."""
    proxy = select_proxy(url, get_environ_proxies(url))
    return f"http://{proxy}" if proxy and "://" not in proxy else proxy or None


class Control:
    """A session of requests for the control plane. Thread-safe as far as requests is; does not pickle.

    It takes nothing from the environment by itself, `.netrc` least of all: requests would put what that holds in the
    place of an `Authorization` header. It keeps no cookies, and follows no redirect.

    Raises
    ------
    ConfigurationError
        If the file of certificates can't be used.
    """

    def __init__(self) -> None:
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.headers["User-Agent"] = USER_AGENT
        self._session.cookies.set_policy(http.cookiejar.DefaultCookiePolicy(allowed_domains=[]))
        self._session.mount("https://", _TrustingAdapter(_context()))

    def get(self, url: str, **options: Any) -> requests.Response:  # noqa: ANN401 - those of requests
        """Send a GET; of the answer only the headers are read. Raises what requests does."""
        proxy = proxy_of(url)
        proxies = {} if proxy is None else {"http": proxy, "https": proxy}
        return self._session.get(url, proxies=proxies, allow_redirects=False, stream=True, **options)


def connection_error(
    error: requests.RequestException | urllib3.exceptions.HTTPError, where: str, kind: type[UnavailableError]
) -> LindiError:
    """Return our error for one of requests' or urllib3's, which holds the request: the key, or a presigned URL.

    Parameters
    ----------
    error
        Of a `get`, or of its body as `raw` gives it.
    where
        Who was asked for what: how the message begins.
    kind
        Of error, if to try again may help.
    """
    match error:
        case requests.exceptions.SSLError() | urllib3.exceptions.SSLError():
            return untrusted(where)
        case requests.exceptions.ProxyError():
            return kind(
                f"{where} can't be reached through the proxy of the environment (HTTPS_PROXY).", unanswered=True
            )
        case requests.exceptions.ConnectTimeout():
            return kind(f"{where} did not take a connection in time.", unanswered=True)
        case requests.exceptions.Timeout() | urllib3.exceptions.TimeoutError():
            return kind(f"{where} did not answer in time.", unanswered=True)
        case _:
            return kind(f"{where} can't be reached ({type(error).__name__}). Is the network up?", unanswered=True)


def untrusted(where: str) -> ConfigurationError:
    """Return the error for a host whose certificate is not trusted."""
    return ConfigurationError(
        f"{where} did not prove who it is (TLS). If it has a certificate of your own authority, set "
        "lindi-dask.ca-bundle, or REQUESTS_CA_BUNDLE, to its file."
    )


def forked() -> ForkedProcessError:
    """Return the error for a process that was forked from one whose threads or connections it would use."""
    return ForkedProcessError(
        "lindi_dask was used before this process was forked, and its threads and connections do not survive a "
        'fork. Start processes with "spawn" or "forkserver" (multiprocessing.set_start_method); '
        "dask.distributed does so by default."
    )


def data_options(url: str) -> ClientConfig:
    """Return obstore's options by which it reaches a URL as `Control` does.

    Raises
    ------
    ConfigurationError
        If the file of certificates can't be used.
    """
    options: ClientConfig = {}
    proxy = proxy_of(url)
    if proxy is not None:
        options["proxy_url"] = proxy
    elif getproxies():
        # It would read the environment itself, by rules that are a little different
        options["proxy_url"], options["proxy_excludes"] = _NOWHERE, "*"
    bundle = _ca_bundle()
    if bundle is not None and url.startswith("https://"):
        options["root_certificate"] = _read(*bundle)
    return options


def _ca_bundle() -> tuple[str, str] | None:
    """Return the file of certificates, and what names it; None if nothing does."""
    option = configured("ca-bundle")
    if option:
        return str(option), "lindi-dask.ca-bundle"
    variable = next((variable for variable in _CA_VARIABLES if os.environ.get(variable)), None)
    return None if variable is None else (os.environ[variable], variable)


def _read(path: str, named_by: str) -> bytes:
    reason = "it holds no certificate in PEM form"
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        content, reason = b"", str(error.strerror)
    if b"-----BEGIN CERTIFICATE-----" not in content:
        raise _unusable(path, named_by, reason)
    return content


def _context() -> ssl.SSLContext:
    """Return what is trusted besides certifi's certificates, which requests adds."""
    bundle = _ca_bundle()
    return _trusting(bundle, b"" if bundle is None else _read(*bundle))


@lru_cache(maxsize=8)  # to load the system's certificates takes 40 ms
def _trusting(bundle: tuple[str, str] | None, _content: bytes) -> ssl.SSLContext:
    context = create_urllib3_context()
    context.load_default_certs()
    if bundle is None:
        return context
    reason = None
    try:
        context.load_verify_locations(bundle[0])
    except (OSError, ssl.SSLError) as error:
        reason = str(error.strerror or error)
    if reason is not None:
        raise _unusable(*bundle, reason)
    return context


def _unusable(path: str, named_by: str, reason: str) -> ConfigurationError:
    return ConfigurationError(
        f"The file of certificates {path} ({named_by}) can't be used: {reason}. It has to be one file in PEM form."
    )


class _TrustingAdapter(HTTPAdapter):
    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        super().__init__()

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401 - as requests calls it
        super().init_poolmanager(*arguments, ssl_context=self._context, **options)

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:  # noqa: ANN401 - likewise
        return super().proxy_manager_for(proxy, ssl_context=self._context, **options)
