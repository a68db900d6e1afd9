"""Presigned URLs: signed, and checked, by botocore's SigV4.

The rules are those of https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html.
"""

import hmac
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import lru_cache
from urllib.parse import parse_qsl

from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from lindi_dask.testing.conditions import LONGEST_LIFETIME_S

REGION = "us-east-2"
TIMESTAMP = "%Y%m%dT%H%M%SZ"
ISO = "%Y-%m-%dT%H:%M:%SZ"
CLOCK_SKEW_S = 900
"""How far in the future S3 takes a signing time to lie, in seconds."""

_REQUIRED = frozenset(
    f"X-Amz-{name}" for name in ("Algorithm", "Credential", "Date", "Expires", "Signature", "SignedHeaders")
)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why S3 does not take a URL."""

    status: int
    code: str
    """S3's error code."""
    message: str
    details: Mapping[str, str] = field(default_factory=dict)
    """Further elements of S3's XML."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What S3 makes of a URL."""

    refusal: Refusal | None = None
    """None: it takes it."""
    expired: bool = False
    """Whether the URL was good, but is past its time."""
    exchange: int | None = None
    """Number of the exchange that gave the URL; None where the signature does not hold, or is of another's making."""
    disposition: str | None = None
    """What the URL asks ``Content-Disposition`` to be."""
    signed_s: int = 0
    """Signing time: seconds, Unix time."""
    lifetime_s: int = 0
    """Seconds from the signing time until it expires."""


class _QueryAuth(S3SigV4QueryAuth):  # type: ignore[misc]  # botocore has no types
    """botocore's signer of URLs, at a time that is given.

    ``add_auth``, which this stands for, takes the machine's clock, and logs signatures at DEBUG.
    """

    def sign_at(self, request: AWSRequest, timestamp: str) -> None:
        request.context["timestamp"] = timestamp
        self._modify_request_before_signing(request)
        canonical = self.canonical_request(request)
        signature = self.signature(self.string_to_sign(request, canonical), request)
        self._inject_signature_to_request(request, signature)


class Signer:
    """Signs URLs with AWS keys of its own, which are made up, and checks them."""

    def __init__(self) -> None:
        self.credentials = Credentials("AKIA" + secrets.token_hex(8).upper(), secrets.token_urlsafe(30))
        self._checker = _QueryAuth(self.credentials, "s3", REGION)
        # The same bytes have the same signature: a URL is used thousands of times, and only its time passes.
        self._verify_once = lru_cache(maxsize=1024)(self._verify)

    def presign(self, url: str, *, lifetime_s: int, now_s: float, filename: str, exchange: int) -> str:
        """Sign a GET of `url`.

        The exchange's number goes into ``response-content-disposition``, a parameter that DANDI signs
        too, so that no two URLs are the same and each data request tells where its URL is from.

        Parameters
        ----------
        url
            The object's URL, without a query.
        lifetime_s
            Seconds from the signing time until it expires.
        now_s
            Signing time: seconds, Unix time; its fraction is lost.
        filename
            Name for the browser.
        exchange
            Number of the exchange.
        """
        name = re.sub(r"[^\w.+-]", "_", filename, flags=re.ASCII)
        disposition = f'attachment; filename="{name}"; exchange="{exchange}"'
        request = AWSRequest("GET", url, params={"response-content-disposition": disposition})
        auth = _QueryAuth(self.credentials, "s3", REGION, expires=lifetime_s)
        auth.sign_at(request, datetime.fromtimestamp(now_s, UTC).strftime(TIMESTAMP))
        return str(request.url)

    def check(self, method: str, host: str, target: str, *, now_s: float) -> Verdict:
        """Check a request's signature and time.

        Parameters
        ----------
        method
            The HTTP method: it is part of what was signed.
        host
            The ``Host`` header, likewise.
        target
            Path and query, as sent.
        now_s
            Seconds, Unix time, the archive's clock.
        """
        verdict = self._verify_once(method, host, target)
        return verdict if verdict.refusal is not None else _judge_time(verdict, now_s)

    def _verify(self, method: str, host: str, target: str) -> Verdict:
        """Check all but the time."""
        path, _, query = target.partition("?")
        pairs = parse_qsl(query, keep_blank_values=True)
        given = dict(pairs)
        if not given.keys() & _REQUIRED:
            return Verdict(Refusal(403, "AccessDenied", "Access Denied"))
        if problem := _problem(given):
            return Verdict(Refusal(400, "AuthorizationQueryParametersError", problem))
        if given["X-Amz-Credential"].partition("/")[0] != self.credentials.access_key:
            message = "The AWS Access Key Id you provided does not exist in our records."
            return Verdict(Refusal(403, "InvalidAccessKeyId", message))

        # S3 decodes the query and encodes it anew, so that a client may write it in another way.
        request = AWSRequest(
            method, f"http://{host}{path}", params=[pair for pair in pairs if pair[0] != "X-Amz-Signature"]
        )
        request.context["timestamp"] = given["X-Amz-Date"]
        canonical = self._checker.canonical_request(request)
        to_sign = self._checker.string_to_sign(request, canonical)
        signature = self._checker.signature(to_sign, request)
        if not hmac.compare_digest(signature.encode(), given["X-Amz-Signature"].encode()):
            message = (
                "The request signature we calculated does not match the signature you provided. "
                "Check your key and signing method."
            )
            details = {
                "AWSAccessKeyId": self.credentials.access_key,
                "StringToSign": to_sign,
                "SignatureProvided": given["X-Amz-Signature"],
                "CanonicalRequest": canonical,
            }
            return Verdict(Refusal(403, "SignatureDoesNotMatch", message, details))
        return _read_signed(given)


def _problem(given: Mapping[str, str]) -> str | None:
    if missing := _REQUIRED - given.keys():
        return f"Query-string authentication version 4 requires {', '.join(sorted(missing))}."
    if given["X-Amz-Algorithm"] != "AWS4-HMAC-SHA256":
        return 'X-Amz-Algorithm only supports "AWS4-HMAC-SHA256"'
    if not re.fullmatch(r"\d{8}T\d{6}Z", given["X-Amz-Date"], re.ASCII):
        return "X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\""
    expires = given["X-Amz-Expires"]
    if not re.fullmatch(r"\d{1,9}", expires, re.ASCII) or not 1 <= int(expires) <= LONGEST_LIFETIME_S:
        return f"X-Amz-Expires must be between 1 and {LONGEST_LIFETIME_S} seconds"
    return None


def _read_signed(given: Mapping[str, str]) -> Verdict:
    """Read the parameters of a URL whose signature holds, so that they are well-formed."""
    disposition = given.get("response-content-disposition")
    mark = re.search(r'; exchange="(\d+)"$', disposition or "")
    signed = datetime.strptime(given["X-Amz-Date"], TIMESTAMP).replace(tzinfo=UTC)
    return Verdict(
        exchange=int(mark[1]) if mark else None,
        disposition=disposition,
        signed_s=int(signed.timestamp()),
        lifetime_s=int(given["X-Amz-Expires"]),
    )


def _judge_time(verdict: Verdict, now_s: float) -> Verdict:
    if verdict.signed_s > now_s + CLOCK_SKEW_S:
        return replace(verdict, refusal=Refusal(403, "AccessDenied", "Request is not yet valid"))
    expires_s = verdict.signed_s + verdict.lifetime_s
    if now_s <= expires_s:
        return verdict
    details = {
        "X-Amz-Expires": str(verdict.lifetime_s),
        "Expires": datetime.fromtimestamp(expires_s, UTC).strftime(ISO),
        "ServerTime": datetime.fromtimestamp(now_s, UTC).strftime(ISO),
    }
    refusal = Refusal(403, "AccessDenied", "Request has expired", details)
    return replace(verdict, refusal=refusal, expired=True)
