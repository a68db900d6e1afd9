"""Proxies, certificates and .netrc on both planes: a plain URL is looked at by requests, and then read by obstore."""

from __future__ import annotations

import select
import socket
import socketserver
import ssl
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from lindi_dask.archive import LeaseCache, Resolver, UrlPolicy
from lindi_dask.archive.instances import make_instance
from lindi_dask.errors import ConfigurationError, LindiError, StorageUnavailable, UrlRefused
from lindi_dask.network import Control
from lindi_dask.retry import RetryPolicy
from lindi_dask.transport import IoLoop, download

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lindi_dask.testing import EmbeddedArchive

CONTENT = bytes(range(256)) * 40
ONCE = RetryPolicy(attempts=1, total_s=20, first_s=0.01, cap_s=0.01, retry_on=StorageUnavailable)
PLANES = {"requests": "process/", "obstore": "lindi-dask"}


class Site(BaseHTTPRequestHandler):
    """Sends one file, or its first byte."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.agents.append(self.headers["User-Agent"])  # type: ignore[attr-defined]
        self.server.authorizations.append(self.headers["Authorization"])  # type: ignore[attr-defined]
        one = self.headers["Range"] == "bytes=0-0"
        body = CONTENT[:1] if one else CONTENT
        self.send_response(206 if one else 200)
        if one:
            self.send_header("Content-Range", f"bytes 0-0/{len(CONTENT)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Proxy(socketserver.BaseRequestHandler):
    """Opens a tunnel for CONNECT, to this machine whatever the name; passes a plain GET on."""

    def handle(self) -> None:
        head = b""
        while b"\r\n\r\n" not in head and (more := self.request.recv(65536)):
            head += more
        method, target, _ = head.split(b"\r\n")[0].decode().split(" ")
        self.server.asked.append((method, target))  # type: ignore[attr-defined]
        authority = target.removeprefix("http://").split("/")[0]
        with socket.create_connection(("127.0.0.1", int(authority.rpartition(":")[2])), timeout=10) as upstream:
            if method == "CONNECT":
                self.request.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            else:
                upstream.sendall(head)
            pipes = {self.request: upstream, upstream: self.request}
            while True:
                for ready in select.select(list(pipes), [], [], 10)[0] or [None]:
                    data = b"" if ready is None else ready.recv(65536)
                    if not data or ready is None:
                        return
                    pipes[ready].sendall(data)


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True


@contextmanager
def serving(server: Any) -> Iterator[Any]:
    server.agents, server.authorizations, server.asked = [], [], []
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def bundle(authority: trustme.CA, tmp_path: Path) -> str:
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    return str(tmp_path / "authority.pem")


@pytest.fixture
def secure(authority: trustme.CA) -> Iterator[Any]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "session.example").configure_cert(context)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    with serving(server) as running:
        yield running


@pytest.fixture
def plain() -> Iterator[Any]:
    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Site)) as running:
        yield running


@pytest.fixture
def proxy() -> Iterator[Any]:
    with serving(Server(("127.0.0.1", 0), Proxy)) as running:
        running.url = f"http://127.0.0.1:{running.server_address[1]}"
        yield running


def read(url: str, *allow: str) -> bytes:
    asset = UrlPolicy((), allow).asset(url)
    found = IoLoop().submit(download(asset, LeaseCache(Resolver()), limit=2**20, retry=ONCE)).result(30)
    assert found is not None
    return found.content


def read_from(server: Any, scheme: str, host: str = "localhost") -> bytes:
    origin = f"{scheme}://{host}:{server.server_address[1]}/"
    return read(f"{origin}session.nwb", origin)


def assert_both_planes(server: Any) -> None:
    assert len(server.agents) == 2
    assert all(mark in agent for mark, agent in zip(PLANES.values(), server.agents, strict=True))


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
def test_both_planes_trust_the_authority_that_the_environment_names(
    variable: str, secure: Any, bundle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, bundle)
    assert read_from(secure, "https") == CONTENT
    assert_both_planes(secure)


def test_both_planes_trust_the_authority_of_the_option(secure: Any, bundle: str, tmp_path: Path) -> None:
    import dask  # noqa: PLC0415 - the configuration of this test alone

    with dask.config.set({"lindi-dask.ca-bundle": bundle}):
        assert read_from(secure, "https") == CONTENT
    assert_both_planes(secure)
    broken = tmp_path / "broken.pem"
    broken.write_text("no certificate")
    for path in (broken, tmp_path / "absent.pem", tmp_path):
        with (
            dask.config.set({"lindi-dask.ca-bundle": str(path)}),
            pytest.raises(ConfigurationError, match=r"lindi-dask\.ca-bundle"),
        ):
            Control()


def test_a_host_of_an_unknown_authority_is_not_read(secure: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"did not prove who it is.*REQUESTS_CA_BUNDLE"):
        read_from(secure, "https")
    assert not secure.agents


def test_both_planes_go_through_a_proxy_that_looks_names_up(
    secure: Any, proxy: Any, bundle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", bundle)
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    assert read_from(secure, "https", "session.example") == CONTENT  # a name that only the proxy knows
    assert_both_planes(secure)
    assert proxy.asked == [("CONNECT", f"session.example:{secure.server_address[1]}")] * 2


def test_plain_http_goes_through_its_own_proxy(plain: Any, proxy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", proxy.url.removeprefix("http://"))
    assert read_from(plain, "http") == CONTENT
    assert_both_planes(plain)
    assert [method for method, _ in proxy.asked] == ["GET"] * 2


@pytest.mark.parametrize("exempt", ["localhost", ".localhost,localhost", "*", "other.example, localhost"])
def test_hosts_that_are_exempt_are_reached_past_the_proxy_on_both_planes(
    exempt: str, secure: Any, proxy: Any, bundle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", bundle)
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    monkeypatch.setenv("NO_PROXY", exempt)
    assert read_from(secure, "https") == CONTENT
    assert_both_planes(secure)
    assert not proxy.asked


def test_netrc_is_never_read(
    plain: Any, embedded_archive: EmbeddedArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine localhost login a password planted\nmachine 127.0.0.1 login a password planted\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    assert read_from(plain, "http") == CONTENT
    assert plain.authorizations == [None, None]
    instance = make_instance("local", embedded_archive.api_url)
    asset = UrlPolicy((instance,)).asset(embedded_archive.add(b"x").url)
    assert Resolver(environ={"LOCAL_API_KEY": embedded_archive.owner_token}).exchange(asset)
    public = UrlPolicy((instance,)).asset(embedded_archive.add(b"x", embargoed=False).url)
    assert Resolver(environ={}).exchange(public)
    assert [request.authorized for request in embedded_archive.requests] == [True, False]


LOOK_ALIKES = [
    "http://{host}.evil.example:{port}/api",
    "http://{host}@evil.example:{port}/api",
    "http://evil.example:{port}\\@{host}/api",
    "http://{host}%2eevil.example:{port}/api",
    "http://127.0.0.1:{other}/api",
    "http://localhost:{other}/api",
    "http://loc\u0430lhost:{other}/api",
    "http://user:pass@127.0.0.1:{other}/api",
    "http://127.1:{other}/api",
    "https://127.0.0.1:{other}/api",
    "http://127.0.0.1:{other}/%61pi",
]


@pytest.mark.parametrize("form", LOOK_ALIKES)
def test_the_key_goes_to_no_look_alike_of_the_archive(
    form: str, plain: Any, proxy: Any, embedded_archive: EmbeddedArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All names lead to `plain`, by a proxy that takes each for this machine; what it is sent has no key."""
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    instance = make_instance("local", embedded_archive.api_url)
    added = embedded_archive.add(b"x")
    host = embedded_archive.api_url.removeprefix("http://").partition(":")[0]
    port = plain.server_address[1]
    api = form.format(host=host, port=port, other=port)
    url = f"{api}/assets/{added.id}/download/"
    allow = (f"http://127.0.0.1:{port}/", f"http://localhost:{port}/", f"http://{host}.evil.example:{port}/")
    leases = LeaseCache(Resolver(environ={"LOCAL_API_KEY": embedded_archive.owner_token}))
    try:
        asset = UrlPolicy((instance,), allow).asset(url)
        assert asset.instance is None
        IoLoop().submit(download(asset, leases, limit=2**20, retry=ONCE)).result(30)
    except LindiError as error:
        assert isinstance(error, UrlRefused | StorageUnavailable)  # noqa: PT017 - either way, nothing was sent
    assert plain.authorizations in ([], [None, None])
    assert not embedded_archive.requests


def test_the_archive_s_own_host_by_its_other_spellings_does_get_the_key(embedded_archive: EmbeddedArchive) -> None:
    """So that a test above that finds no key has looked for one that could be sent."""
    instance = make_instance("local", embedded_archive.api_url.replace("127.0.0.1", "localhost"))
    added = embedded_archive.add(b"x")
    resolver = Resolver(environ={"LOCAL_API_KEY": embedded_archive.owner_token})
    for host in ("LOCALHOST", "localhost."):
        asset = UrlPolicy((instance,)).asset(added.url.replace("127.0.0.1", host))
        assert asset.instance is instance
        assert resolver.exchange(asset)
    assert all(request.authorized for request in embedded_archive.requests)
    assert len(embedded_archive.requests) == 2
