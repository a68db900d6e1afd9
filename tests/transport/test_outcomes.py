"""obstore's own errors, from a host on loopback that answers as it is told."""

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
import subprocess
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import obstore
import pytest
from aiohttp import web
from obstore.store import HTTPStore

from lindi_dask.archive.instances import BUILTIN
from lindi_dask.errors import (
    AssetNotFound,
    ConfigurationError,
    InvalidReferences,
    LindiError,
    SourceMismatch,
    StorageUnavailable,
)
from lindi_dask.transport.outcomes import MAX_WHOLE, OBSTORE_ERRORS, Refusal, contradiction, read_failure, status_of
from lindi_dask.types import Asset, LocalFile, Target

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from obstore.store import ClientConfig

SECRET = "planted"
QUERY = f"X-Amz-Credential=AK-{SECRET}&X-Amz-Expires=3600&X-Amz-Signature={SECRET}"
ASSET = Asset(BUILTIN[0], "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0")


def s3_error(status: int, code: str, message: str = "no") -> web.Response:
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>'
    return web.Response(status=status, text=body, content_type="application/xml")


def part(body: bytes, content_range: str | None) -> web.Response:
    return web.Response(status=206, body=body, headers={"Content-Range": content_range} if content_range else {})


async def broken(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(status=206, headers={"Content-Range": "bytes 0-9/1000", "Content-Length": "10"})
    await response.prepare(request)
    await response.write(bytes(5))
    assert request.transport is not None
    request.transport.close()
    return response


async def answer(request: web.Request) -> web.StreamResponse:
    match request.match_info["kind"], request.match_info["detail"]:
        case "status", code:
            return web.Response(status=int(code), text="<html>no</html>")
        case "redirect", code:
            return web.Response(status=int(code))
        case "expired", _:
            return s3_error(403, "AccessDenied", "Request has expired")
        case "s3", what:
            status, _, code = what.partition("-")
            return s3_error(int(status), code)
        case "chunked", _:
            unsized = web.StreamResponse()
            unsized.enable_chunked_encoding()
            await unsized.prepare(request)
            await unsized.write(b"x")
            return unsized
        case "whole", _:
            return web.Response(body=bytes(1000))
        case "part", what:
            return part(bytes(10), what.replace("_", " ").replace("|", "/") if what != "none" else None)
        case "short", _:
            return await broken(request)
        case "garbage", _:
            assert request.transport is not None
            request.transport.write(b"no HTTP at all\r\n\r\n")
            request.transport.close()
        case "reset", _:
            assert request.transport is not None
            request.transport.abort()
        case "stall", _:
            await asyncio.sleep(5)
        case "loop", _:
            raise web.HTTPFound(request.path_qs)
    return web.Response()


@asynccontextmanager
async def host(context: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    application = web.Application()
    application.router.add_get("/{kind}/{detail}", answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    try:
        yield f"{'http' if context is None else 'https'}://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def failure(url: str) -> tuple[BaseException, LindiError | Refusal]:
    """obstore's error for a read of the first ten bytes, and what it comes to."""
    options: ClientConfig = {"allow_http": True, "connect_timeout": "5s", "read_timeout": "1s", "timeout": "5s"}
    store = HTTPStore.from_url(f"{url}?{QUERY}", client_options=options, retry_config={"max_retries": 0})
    try:
        await obstore.get_range_async(store, "", start=0, end=10)
    except OBSTORE_ERRORS as error:
        return error, read_failure(error, ASSET, 0, 10)
    raise AssertionError("the read did not fail")


def assert_no_secret(outcome: LindiError | Refusal) -> None:
    shown = f"{outcome!r} {outcome}"
    if isinstance(outcome, LindiError):
        shown += f"{vars(outcome)} {outcome.__cause__!r} {outcome.__context__!r} {getattr(outcome, '__notes__', '')}"
        assert str(ASSET) in shown
    assert SECRET not in shown
    assert "127.0.0.1" not in shown


ERRORS: dict[str, tuple[type[LindiError], str]] = {
    "s3/404-NoSuchKey": (AssetNotFound, r"no such file any more \(NoSuchKey\)"),
    "status/404": (AssetNotFound, r"no such file any more \(HTTP 404\)"),
    "s3/412-PreconditionFailed": (SourceMismatch, "has changed"),
    "s3/416-InvalidRange": (SourceMismatch, "ends before byte 0"),
    "s3/429-SlowDown": (StorageUnavailable, r"429 \(SlowDown\)"),
    "s3/503-SlowDown": (StorageUnavailable, r"503 \(SlowDown\)"),
    "s3/500-InternalError": (StorageUnavailable, r"500 \(InternalError\)"),
    "status/408": (StorageUnavailable, "answered 408"),
    "status/502": (StorageUnavailable, "answered 502"),
    "status/503": (StorageUnavailable, r"503 \(HTTP 503\)"),
    "status/504": (StorageUnavailable, "answered 504"),
    "s3/400-ExpiredToken": (LindiError, r"answered 400 \(ExpiredToken\)"),
    "status/304": (LindiError, "answered 304"),
    "status/401": (LindiError, "answered 401"),
    "status/405": (LindiError, "answered 405"),
    "status/409": (LindiError, "answered 409"),
    "status/410": (LindiError, "answered 410"),
    "status/418": (LindiError, "answered 418"),
    "status/501": (LindiError, "answered 501"),
    "whole/200": (StorageUnavailable, "whole file"),
    "part/bytes_1-10|1000": (StorageUnavailable, "another range"),
    "part/bytes_0-99|1000": (StorageUnavailable, "another range"),
    "part/none": (StorageUnavailable, "broke the connection off"),
    "part/nonsense": (StorageUnavailable, "broke the connection off"),
    "short/body": (StorageUnavailable, "broke the connection off"),
    "reset/now": (StorageUnavailable, "broke the connection off"),
    "garbage/now": (StorageUnavailable, "broke the connection off"),
    "stall/now": (StorageUnavailable, "stopped answering"),
    "loop/now": (StorageUnavailable, "broke the connection off"),
    "redirect/302": (StorageUnavailable, "broke the connection off"),
}


@pytest.mark.parametrize("path", ERRORS)
async def test_a_failed_read_becomes_the_error_that_says_what_to_do_without_the_url(path: str) -> None:
    kind, message = ERRORS[path]
    async with host() as url:
        _, outcome = await failure(f"{url}/{path}")
    assert type(outcome) is kind
    with pytest.raises(kind, match=message):
        raise outcome
    assert_no_secret(outcome)


def test_404_is_no_error_that_zarr_takes_for_a_missing_chunk() -> None:
    async def run() -> tuple[BaseException, LindiError | Refusal]:
        async with host() as url:
            return await failure(f"{url}/status/404")

    error, outcome = asyncio.run(run())
    assert isinstance(error, FileNotFoundError)
    assert not isinstance(outcome, OSError)


REFUSALS: dict[str, Refusal] = {
    "expired/now": Refusal(expired=True, code="AccessDenied"),
    "s3/403-ExpiredToken": Refusal(expired=True, code="ExpiredToken"),
    "s3/403-AccessDenied": Refusal(expired=False, code="AccessDenied"),
    "s3/403-SignatureDoesNotMatch": Refusal(expired=False, code="SignatureDoesNotMatch"),
    "status/403": Refusal(expired=False, code="HTTP 403"),
}


@pytest.mark.parametrize("path", REFUSALS)
async def test_403_is_a_refusal_that_tells_expired_from_denied(path: str) -> None:
    async with host() as url:
        _, outcome = await failure(f"{url}/{path}")
    assert outcome == REFUSALS[path]
    assert_no_secret(outcome)


async def test_a_host_that_nobody_listens_at_cannot_be_reached() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    _, outcome = await failure(f"http://127.0.0.1:{port}/x")
    assert type(outcome) is StorageUnavailable
    assert "can't be reached" in str(outcome)
    assert_no_secret(outcome)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate")
async def test_a_host_with_a_certificate_of_its_own_is_a_matter_of_configuration(tmp_path: Path) -> None:
    request = "req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
    command = ["openssl", *request.split(), "-keyout", "key.pem", "-out", "certificate.pem"]
    await asyncio.to_thread(subprocess.run, command, cwd=tmp_path, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate.pem", tmp_path / "key.pem")
    async with host(context) as url:
        _, outcome = await failure(f"{url}/whole/200")
    assert type(outcome) is ConfigurationError
    assert "lindi-dask.ca-bundle" in str(outcome)
    assert_no_secret(outcome)


async def test_obstores_own_errors_do_hold_the_secret() -> None:
    """So that a test above that finds none has looked for it in the right place."""
    async with host() as url:
        error, _ = await failure(f"{url}/status/503")
    assert SECRET in str(error)


async def test_a_host_that_does_not_say_how_long_a_file_is_is_not_asked_again() -> None:
    async with host() as url:
        store = HTTPStore.from_url(f"{url}/chunked/x?{QUERY}", client_options={"allow_http": True})
        with pytest.raises(OBSTORE_ERRORS) as caught:
            await obstore.get_async(store, "")
    outcome = read_failure(caught.value, ASSET)
    assert type(outcome) is LindiError
    assert "does not say how long" in str(outcome)
    assert_no_secret(outcome)


@pytest.mark.parametrize(("path", "status"), [("status/416", 416), ("s3/503-SlowDown", 503), ("reset/now", None)])
async def test_the_status_of_an_error_is_known_if_there_was_one(path: str, status: int | None) -> None:
    async with host() as url:
        error, _ = await failure(f"{url}/{path}")
    assert status_of(error) == status


TAG = '"abc"'
# What the references claim (etag, size), what there is (size, etag), what is read -> the error
SOURCES: list[tuple[str | None, int | None, int, str | None, int, int | None, type[LindiError] | None]] = [
    (None, None, 100, None, 0, 100, None),
    (None, None, 100, TAG, 90, 100, None),
    (None, None, 100, TAG, 90, 101, SourceMismatch),
    (None, None, 100, None, 100, None, None),
    (None, None, 100, None, 101, None, SourceMismatch),
    (None, 100, 100, None, 0, 10, None),
    (None, 101, 100, TAG, 0, 10, SourceMismatch),
    (None, 99, 100, TAG, 0, None, SourceMismatch),
    (None, 0, 0, None, 0, None, None),
    ("abc", None, 100, TAG, 0, 10, None),
    ("W/abc", None, 100, TAG, 0, 10, None),
    (TAG, None, 100, 'W/"abc"', 0, 10, None),
    (TAG, None, 100, None, 0, 10, None),
    (TAG, None, 100, '"abd"', 0, 10, SourceMismatch),
    ("W/abc", None, 100, '"abd"', 0, None, SourceMismatch),
    (TAG, 100, 100, TAG, 0, 10, None),
    (TAG, 100, 100, '"abd"', 0, 10, SourceMismatch),
    (None, None, MAX_WHOLE, None, 0, None, None),
    (None, None, MAX_WHOLE + 7, None, 7, None, None),
    (None, None, MAX_WHOLE + 1, None, 0, None, InvalidReferences),
    (None, None, 2**40, None, 2**39, None, InvalidReferences),
    (None, None, 2**40, None, 0, 2**32 - 2, None),
]


@pytest.mark.parametrize("asset", [ASSET, LocalFile("/data/x")], ids=["asset", "file"])
@pytest.mark.parametrize(("claimed_etag", "claimed_size", "size", "etag", "start", "stop", "error"), SOURCES)
def test_a_source_is_held_against_what_the_references_claim_and_no_more(
    asset: Asset | LocalFile,
    claimed_etag: str | None,
    claimed_size: int | None,
    size: int,
    etag: str | None,
    start: int,
    stop: int | None,
    error: type[LindiError] | None,
) -> None:
    found = contradiction(Target(asset, claimed_etag, claimed_size), size, etag, start, stop)
    assert type(found) is (error or type(None))
    assert found is None or str(found).startswith(f"{asset}: ")
