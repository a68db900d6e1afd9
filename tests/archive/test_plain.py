"""Plain URLs on real hosts of loopback: where redirects lead, and where they are refused."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

import pytest
from aiohttp import web

from lindi_dask.archive import LeaseCache, Resolver
from lindi_dask.archive.names import Names
from lindi_dask.archive.plain import PlainUrls
from lindi_dask.errors import LindiError, StorageUnavailable, UrlRefused
from lindi_dask.retry import RetryPolicy
from lindi_dask.testing.hosting import Port, ServerThread
from lindi_dask.types import Asset

if TYPE_CHECKING:
    from collections.abc import Iterator


class Host:
    """Redirects `/to/<status>/<URL>`; answers `/status/<status>`; keeps what was asked of it."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str | None]] = []
        """path, and `Authorization`, of each request"""
        self.ranges: set[str | None] = set()
        self.port = Port()
        self.url = f"http://127.0.0.1:{self.port.number}/"
        self._thread = ServerThread([(self.port.lend(), self._handle)])

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.path_qs.lstrip("/")
        self.asked.append((path, request.headers.get("Authorization")))
        self.ranges.add(request.headers.get("Range"))
        if path == "loop":
            return web.Response(status=302, headers={"Location": "/loop"})
        if path == "nowhere":
            return web.Response(status=302)
        if path.startswith("to/"):
            _, status, url = path.split("/", 2)
            return web.Response(status=int(status), headers={"Location": url})
        return web.Response(status=int(path.split("/")[1]) if path.startswith("status/") else 206, body=b"x")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.stop()
        self.port.release()


@pytest.fixture
def host() -> Iterator[Host]:
    with Host() as host:
        yield host


@pytest.fixture
def other() -> Iterator[Host]:
    with Host() as other:
        yield other


QUICK = RetryPolicy(attempts=3, total_s=10, first_s=0.01, cap_s=0.02, retry_on=StorageUnavailable)


def end(url: str, *allow: str) -> str:
    return PlainUrls(retry=QUICK).exchange(Asset(None, url, allow)).url


def test_a_url_that_does_not_redirect_is_asked_for_one_byte_and_read_as_it_is(host: Host) -> None:
    assert end(f"{host.url}data?x=1", host.url) == f"{host.url}data?x=1"
    assert host.asked == [("data?x=1", None)]
    assert host.ranges == {"bytes=0-0"}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_between_allowed_hosts_is_followed(host: Host, other: Host, status: int) -> None:
    assert end(f"{host.url}to/{status}/{other.url}data", host.url, other.url) == f"{other.url}data"
    assert end(f"{host.url}to/{status}//data", host.url) == f"{host.url}data"


def test_a_lease_on_where_a_url_ends_is_short_and_one_look_serves_many(host: Host) -> None:
    plain = PlainUrls(clock=lambda: 100.0)
    assert plain.exchange(Asset(None, f"{host.url}data", (host.url,))).expires_at == 400.0
    assert plain.exchange(Asset(None, f"{host.url}to/302//data", (host.url,))).expires_at == 160.0
    leases = LeaseCache(Resolver(environ={}))
    host.asked.clear()
    for _ in range(10):
        leases.get(Asset(None, f"{host.url}data", (host.url,)))
    assert len(host.asked) == 1


def test_the_host_of_a_redirect_is_held_to_the_same_rules_and_never_asked(host: Host, other: Host) -> None:
    refused = {
        other.url: "plain http",
        f"https://127.0.0.1:{other.port.number}/": "private network",
        f"https://localhost:{other.port.number}/": "private network",
        f"https://2130706433:{other.port.number}/": "not a plain name",
        f"https://0x7f.1:{other.port.number}/": "not a plain name",
        "https://[::ffff:127.0.0.1]/": "not a plain name",
        "https://169.254.169.254/latest/meta-data/": "private network",
        "file:///etc/passwd": "neither https nor http",
        "ftp://host.example/": "neither https nor http",
        f"https://user@127.0.0.1:{other.port.number}/": "not a plain name",
    }
    for location, reason in refused.items():
        for hops in range(2):
            url = f"{host.url}{hops * 'to/302//'}to/302/{location}?X-Amz-Signature=planted"
            with pytest.raises(UrlRefused, match=reason) as caught:
                end(url, host.url)
            assert "it redirects" in caught.value.reason
            assert str(host.port.number) in str(caught.value)
            assert "planted" not in repr(caught.value)
    assert not other.asked


def test_a_name_that_stands_for_this_machine_is_refused_before_it_is_asked(host: Host) -> None:
    looked_up = []

    def lookup(name: str, _: int) -> set[str]:
        looked_up.append(name)
        return {"127.0.0.1"}

    url = f"https://intranet.example:{host.port.number}/x?X-Amz-Signature=planted"
    with pytest.raises(UrlRefused, match=r"pass allow=\['https://intranet\.example") as caught:
        PlainUrls(names=Names(lookup)).exchange(Asset(None, url))
    assert "planted" not in repr(caught.value)
    redirecting = Asset(None, f"{host.url}to/302/{url}", (host.url,))
    with pytest.raises(UrlRefused, match=r"it redirects, and https://intranet\.example"):
        PlainUrls(names=Names(lookup)).exchange(redirecting)
    assert looked_up == ["intranet.example"] * 2
    assert len(host.asked) == 1


def test_five_redirects_are_followed_and_not_a_sixth(host: Host) -> None:
    assert end(f"{host.url}{5 * 'to/302//'}data", host.url) == f"{host.url}data"
    assert len(host.asked) == 6
    with pytest.raises(UrlRefused, match="more than 5 times"):
        end(f"{host.url}{6 * 'to/302//'}data", host.url)
    host.asked.clear()
    with pytest.raises(UrlRefused, match="more than 5 times"):
        end(f"{host.url}loop", host.url)
    assert len(host.asked) == 6


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 416])
def test_a_denial_is_left_to_the_read_to_report(host: Host, status: int) -> None:
    assert end(f"{host.url}status/{status}", host.url) == f"{host.url}status/{status}"


@pytest.mark.parametrize("path", ["status/429", "status/500", "status/503", "nowhere"])
def test_what_does_not_say_where_the_url_ends_is_tried_again_until_it_is_given_up(host: Host, path: str) -> None:
    with pytest.raises(StorageUnavailable, match="Gave up after 3 attempts") as caught:
        end(f"{host.url}{path}", host.url)
    assert caught.value.attempts == len(host.asked) == 3


def test_a_host_that_is_down_is_worth_another_attempt_and_its_query_is_not_shown() -> None:
    port = Port()
    with ExitStack() as stack:
        stack.callback(port.release)
        url = f"http://127.0.0.1:{port.number}/"
        with pytest.raises(StorageUnavailable, match="can't be reached") as caught:
            end(f"{url}x?X-Amz-Signature=planted", url)
    error: BaseException | None = caught.value
    while error is not None:
        assert "planted" not in f"{error!r}{vars(error)}"
        error = error.__context__


def test_the_object_stores_that_redirect_to_themselves_only_are_not_asked() -> None:
    url = "https://bucket.s3.amazonaws.com/blobs/x"
    names = Names(lambda *_: pytest.fail("looked up"))
    assert PlainUrls(names=names).exchange(Asset(None, url)).url == url


def test_an_error_of_the_look_is_told_to_all_that_wait(host: Host) -> None:
    leases = LeaseCache(Resolver(environ={}))
    asset = Asset(None, f"{host.url}loop", (host.url,))
    outcomes = [leases.request(asset).result(10) for _ in range(5)]
    assert all(isinstance(outcome, LindiError) for outcome in outcomes)
    assert len(host.asked) == 6
