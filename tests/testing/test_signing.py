from __future__ import annotations

import time
from typing import TYPE_CHECKING
from urllib.parse import unquote_plus, urlsplit
from xml.etree import ElementTree as ET

import botocore.session
import pytest
import requests
from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.config import Config

from lindi_dask.testing import Fault
from lindi_dask.testing.signing import REGION, Signer

if TYPE_CHECKING:
    from collections.abc import Callable

    from lindi_dask.testing import Asset, EmbeddedArchive


def code_of(answer: requests.Response) -> tuple[int, str | None, str | None]:
    root = ET.fromstring(answer.content)
    return answer.status_code, root.findtext("Code"), root.findtext("Message")


def test_a_presigned_url_gives_a_range(session: requests.Session, url: str, content: bytes) -> None:
    answer = session.get(url, headers={"Range": "bytes=100-199"})
    assert (answer.status_code, answer.content) == (206, content[100:200])


@pytest.mark.parametrize(
    ("what", "to"),
    [
        ("&X-Amz-Signature=", "&X-Amz-Signature=0"),
        ("X-Amz-Expires=3600", "X-Amz-Expires=604800"),
        ("X-Amz-SignedHeaders=host", "X-Amz-SignedHeaders=host%3Brange"),
        ("session.nwb", "another.nwb"),
        ("us-east-2", "us-east-1"),
        ("?", "?versionId=1&"),
        ("/blobs/", "/blobz/"),
        ("/blobs/", "//blobs/"),
    ],
)
def test_a_url_tampered_with_does_not_match(session: requests.Session, url: str, what: str, to: str) -> None:
    tampered = url.replace(what, to, 1)
    assert tampered != url
    status, code, _ = code_of(session.get(tampered))
    assert (status, code) == (403, "SignatureDoesNotMatch")


def test_one_object_s_signature_does_not_open_another(
    embedded_archive: EmbeddedArchive, session: requests.Session, exchange: Callable[..., str], url: str
) -> None:
    other = exchange(embedded_archive, embedded_archive.add(b"other"))
    mixed = f"{other.partition('?')[0]}?{url.partition('?')[2]}"
    assert code_of(session.get(mixed))[:2] == (403, "SignatureDoesNotMatch")


def test_another_archive_s_url_is_no_good(
    make_archive: Callable[..., EmbeddedArchive], session: requests.Session, url: str, embedded_archive: EmbeddedArchive
) -> None:
    elsewhere = url.replace(embedded_archive.s3_url, make_archive().s3_url)
    assert code_of(session.get(elsewhere))[:2] == (403, "InvalidAccessKeyId")


def test_an_unsigned_request_is_denied(session: requests.Session, url: str) -> None:
    assert code_of(session.get(url.partition("?")[0])) == (403, "AccessDenied", "Access Denied")


def test_half_a_signature_is_a_bad_request(session: requests.Session, url: str) -> None:
    status, code, message = code_of(session.get(url.replace("X-Amz-Date", "X-Amz-Day")))
    assert (status, code) == (400, "AuthorizationQueryParametersError")
    assert "X-Amz-Date" in (message or "")


def test_an_expired_url_is_told_so(embedded_archive: EmbeddedArchive, session: requests.Session, url: str) -> None:
    embedded_archive.clock_offset_s = 3601
    answer = session.get(url, headers={"Range": "bytes=0-9"})
    assert code_of(answer) == (403, "AccessDenied", "Request has expired")
    root = ET.fromstring(answer.content)
    assert (root.findtext("Expires") or "z") < (root.findtext("ServerTime") or "")
    assert embedded_archive.counts()["expired"] == 1
    assert embedded_archive.requests[-1].exchange == 1

    embedded_archive.clock_offset_s = 0
    assert session.get(url).status_code == 200


def test_a_url_signed_in_the_future_is_not_valid_yet(
    embedded_archive: EmbeddedArchive, session: requests.Session, url: str
) -> None:
    embedded_archive.clock_offset_s = -1000
    assert code_of(session.get(url)) == (403, "AccessDenied", "Request is not yet valid")


def test_a_lifetime_counts_from_the_whole_second() -> None:
    signer = Signer()
    url = signer.presign("http://127.0.0.1:1/b/k", lifetime_s=2, now_s=1000.9, filename="f", exchange=7)
    target = url.removeprefix("http://127.0.0.1:1")
    alive = [signer.check("GET", "127.0.0.1:1", target, now_s=now).refusal is None for now in (1000.9, 1002.0, 1002.1)]
    assert alive == [True, True, False]
    assert signer.check("GET", "127.0.0.1:1", target, now_s=1002.1).exchange == 7


def test_a_presigned_url_and_an_authorization_header_exclude_each_other(
    embedded_archive: EmbeddedArchive, session: requests.Session, url: str
) -> None:
    answer = session.get(url, headers={"Authorization": f"token {embedded_archive.owner_token}"})
    status, code, message = code_of(answer)
    assert (status, code) == (400, "InvalidArgument")
    assert (message or "").startswith("Only one auth mechanism allowed")
    assert embedded_archive.owner_token not in answer.text
    assert embedded_archive.requests[-1].authorized


@pytest.mark.parametrize("method", ["HEAD", "PUT", "DELETE"])
def test_a_url_signed_for_get_is_good_for_nothing_else(session: requests.Session, url: str, method: str) -> None:
    assert session.request(method, url).status_code == 403


def test_a_url_is_signed_for_one_host(session: requests.Session, url: str) -> None:
    assert session.get(url, headers={"Host": "localhost:1"}).status_code == 403


def test_a_query_that_was_encoded_in_another_way_is_the_same(session: requests.Session, url: str) -> None:
    path, _, query = url.partition("?")
    assert "%20" in query
    assert session.get(f"{path}?{query.replace('%20', '+')}").status_code == 200
    assert session.get(f"{path}?{'&'.join(reversed(query.split('&')))}").status_code == 200


def test_what_botocore_s_own_signer_signs_passes(
    embedded_archive: EmbeddedArchive, session: requests.Session, url: str
) -> None:
    request = AWSRequest("GET", url.partition("?")[0])
    S3SigV4QueryAuth(embedded_archive._signer.credentials, "s3", REGION, expires=60).add_auth(request)
    assert session.get(request.url).status_code == 200


def test_what_an_s3_client_presigns_passes(
    embedded_archive: EmbeddedArchive, session: requests.Session, url: str
) -> None:
    keys = embedded_archive._signer.credentials
    client = botocore.session.Session().create_client(
        "s3",
        region_name=REGION,
        endpoint_url=embedded_archive.s3_url,
        aws_access_key_id=keys.access_key,
        aws_secret_access_key=keys.secret_key,
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
    )
    bucket, _, key = urlsplit(url).path[1:].partition("/")
    presigned = client.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": key}, ExpiresIn=60)
    client.close()
    assert session.get(presigned).status_code == 200


def test_a_file_s_name_cannot_break_out_of_the_url(
    embedded_archive: EmbeddedArchive, session: requests.Session, exchange: Callable[..., str]
) -> None:
    asset = embedded_archive.add(b"x", path='sub-1/a "b"; exchange="9"\r\nX: y&é.nwb')
    url = exchange(embedded_archive, asset)
    answer = session.get(url)
    assert answer.status_code == 200
    assert answer.headers["Content-Disposition"] in unquote_plus(url)
    assert embedded_archive.requests[-1].exchange == 1


def test_a_second_look_at_a_url_still_sees_the_time() -> None:
    signer = Signer()
    url = signer.presign("http://h/b/k", lifetime_s=1, now_s=time.time(), filename="f", exchange=1)
    target = url.removeprefix("http://h")
    verdicts = [signer.check("GET", "h", target, now_s=time.time() + later) for later in (0, 5, 0)]
    assert [verdict.expired for verdict in verdicts] == [False, True, False]


def test_no_key_and_no_signature_is_in_what_the_archive_remembers_or_logs(
    embedded_archive: EmbeddedArchive,
    session: requests.Session,
    asset: Asset,
    exchange: Callable[..., str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level("DEBUG"):
        url = exchange(embedded_archive, asset)
        embedded_archive.inject(Fault(plane="s3", kind="reset-mid-body"))
        with pytest.raises(requests.RequestException):
            session.get(url)
        session.get(url)
        session.get(url + "0")
        session.get(asset.url, headers={"Authorization": "token wrong-key"})
    logged = "".join(record.getMessage() for record in caplog.records if not record.name.startswith("urllib3"))
    remembered = logged + repr(embedded_archive.requests) + repr(embedded_archive) + repr(asset)
    for secret in (embedded_archive.owner_token, "X-Amz", "wrong-key", embedded_archive._signer.credentials.access_key):
        assert secret not in remembered
