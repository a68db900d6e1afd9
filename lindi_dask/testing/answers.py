"""Answers as values: what will be sent, before anything is."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import Literal
from xml.sax.saxutils import escape

from lindi_dask.testing.blobs import Blob


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a blob, read when it is sent."""

    blob: Blob
    offset: int
    """Bytes, from the start of the blob."""
    nbytes: int
    """Bytes."""

    def __len__(self) -> int:
        return self.nbytes

    def read(self, start: int, nbytes: int) -> bytes:
        """`nbytes` bytes, from `start` bytes after the span's start."""
        return self.blob.read(self.offset + start, nbytes)


@dataclass(frozen=True, slots=True)
class Delivery:
    """How an answer is sent; by default: at once, all of it."""

    wait_s: float = 0.0
    """Pause before the status line, in seconds."""
    raw: bytes | None = None
    """Bytes sent in place of status line, headers and body; the connection then ends as `at_cut` says."""
    cut: int | None = None
    """Bytes of the body, from its start, after which `at_cut` happens; None: never."""
    at_cut: Literal["close", "reset", "pause"] = "close"
    """A clean end of the connection, a TCP reset, or a pause of `pause_s`, after which the rest is sent."""
    pause_s: float = 0.0
    """Seconds."""


PLAIN = Delivery()


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, decided but not sent."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    """All but ``Date`` and ``Content-Length``."""
    body: bytes | Span = b""
    error: str | None = None
    """Why not, in one word, for the records."""
    delivery: Delivery = PLAIN

    @property
    def status_to_send(self) -> int | None:
        """The status; None where no status line is to be sent."""
        return self.status if self.delivery.raw is None else None

    @property
    def nbytes_to_send(self) -> int:
        """Bytes of the body that this means to send."""
        if self.delivery.raw is not None:
            return 0
        if self.delivery.cut is not None and self.delivery.at_cut != "pause":
            return self.delivery.cut
        return len(self.body)


def for_method(method: str, answer: Answer) -> Answer:
    """Leave out the body where HTTP wants none."""
    return replace(answer, body=b"") if method == "HEAD" else answer


def http_date(seconds: float) -> str:
    """Write a Unix time as HTTP does: in whole seconds."""
    return _format_date(int(seconds))


@lru_cache(maxsize=64)
def _format_date(seconds: int) -> str:
    return formatdate(seconds, usegmt=True)


def json_answer(status: int, value: object, headers: Mapping[str, str] | None = None) -> Answer:
    """Answer as Django REST framework does."""
    body = json.dumps(value, separators=(",", ":")).encode()
    error = None if status < 400 else HTTPStatus(status).name
    return Answer(status, {"Content-Type": "application/json", **(headers or {})}, body, error)


def unauthenticated(detail: str = "Authentication credentials were not provided.") -> Answer:
    """Answer 401; the real server asks for a bearer, whatever it takes."""
    return json_answer(401, {"detail": detail}, {"WWW-Authenticate": "Bearer"})


def forbidden() -> Answer:
    """Answer 403."""
    return json_answer(403, {"detail": "You do not have permission to perform this action."})


def html_answer(status: int, headers: Mapping[str, str] | None = None) -> Answer:
    """Answer as Django does where no view is."""
    title = HTTPStatus(status).phrase
    body = (
        f'<!doctype html>\n<html lang="en">\n<head>\n  <title>{title}</title>\n</head>\n<body>\n'
        f"  <h1>{title}</h1><p></p>\n</body>\n</html>\n"
    )
    error = None if status < 400 else HTTPStatus(status).name
    content_type = {"Content-Type": "text/html; charset=utf-8"}
    return Answer(status, {**content_type, **(headers or {})}, body.encode(), error)


def s3_error(
    status: int,
    code: str,
    message: str,
    details: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Answer with S3's XML (https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html)."""
    parts = {"Code": code, "Message": message, **(details or {}), "RequestId": "0" * 16, "HostId": "embedded"}
    elements = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in parts.items())
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error>{elements}</Error>'
    return Answer(status, {"Content-Type": "application/xml", **(headers or {})}, body.encode(), code)


def precondition_failed() -> Answer:
    """Answer an ``If-Match`` that does not."""
    message = "At least one of the pre-conditions you specified did not hold"
    return s3_error(412, "PreconditionFailed", message, {"Condition": "If-Match"})


def content_range(span: Span) -> str:
    """Write ``Content-Range`` for a part of a blob."""
    if span.nbytes == 0:
        return f"bytes */{span.blob.nbytes}"
    return f"bytes {span.offset}-{span.offset + span.nbytes - 1}/{span.blob.nbytes}"
