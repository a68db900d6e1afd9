"""Good answers into bad ones, a kind of fault each. Pure, but for the reading of a body that is to be compressed."""

import gzip
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from http import HTTPStatus

from lindi_dask.testing.answers import (
    Answer,
    Delivery,
    Span,
    content_range,
    html_answer,
    json_answer,
    precondition_failed,
    s3_error,
)
from lindi_dask.testing.faults import Fault

NO_HTTP = b"\x15\x03\x03\x00\x02\x02\x46 this is no HTTP\r\n\r\n"

S3_CODES: Mapping[int, str] = {
    403: "AccessDenied",
    404: "NoSuchKey",
    408: "RequestTimeout",
    412: "PreconditionFailed",
    416: "InvalidRange",
    500: "InternalError",
    503: "SlowDown",
}


def spoil(fault: Fault, good: Answer, *, url: str, if_match: str | None = None) -> Answer:
    """Make the bad answer that `fault` says out of the good one.

    Parameters
    ----------
    fault
        What goes wrong.
    good
        The answer that is due.
    url
        What was asked for, path and query: where a redirect without a location leads.
    if_match
        The request's ``If-Match`` header.
    """
    match fault.kind:
        case "status":
            return _failure(fault)
        case "redirect":
            status = 302 if fault.plane == "api" else 307
            return Answer(status, {"Location": fault.location or url}, error="redirect")
        case "stall":
            return replace(good, delivery=Delivery(wait_s=fault.delay_s))
        case "stall-mid-body":
            delivery = Delivery(cut=len(good.body) // 2, at_cut="pause", pause_s=fault.delay_s)
            return replace(good, delivery=delivery)
        case "next":
            return _next(good, fault.location or url)
        case "changed-etag" if if_match is not None:
            return precondition_failed()
        case kind:
            return _SPOILERS[kind](good)


def _failure(fault: Fault) -> Answer:
    headers = {} if fault.retry_after is None else {"Retry-After": fault.retry_after}
    phrase = HTTPStatus(fault.status).phrase
    if fault.plane == "s3":
        code = S3_CODES.get(fault.status, phrase.replace(" ", ""))
        return s3_error(fault.status, code, phrase, headers=headers)
    if fault.html:
        return html_answer(fault.status, headers)
    return json_answer(fault.status, {"detail": phrase}, headers)


def _reset(good: Answer) -> Answer:
    return replace(good, delivery=Delivery(raw=b"", at_cut="reset"))


def _garbage(good: Answer) -> Answer:
    return replace(good, delivery=Delivery(raw=NO_HTTP))


def _no_location(good: Answer) -> Answer:
    return replace(good, headers=_without(good, "Location"))


def _dead_lease(good: Answer) -> Answer:
    return good  # the API host signed it in the past


def _reset_mid_body(good: Answer) -> Answer:
    return replace(good, delivery=Delivery(cut=len(good.body) // 2, at_cut="reset"))


def _short_body(good: Answer) -> Answer:
    return replace(good, delivery=Delivery(cut=len(good.body) // 2))


def _next(good: Answer, location: str) -> Answer:
    if not isinstance(good.body, bytes):
        raise TypeError("a page of a listing is no part of a file")
    return replace(good, body=json.dumps({**json.loads(good.body), "next": location}).encode())


def _short_length(good: Answer) -> Answer:
    if isinstance(good.body, bytes):
        return replace(good, body=good.body[: len(good.body) // 2])
    span = _span(good)
    return replace(good, body=replace(span, nbytes=span.nbytes // 2))


def _short_range(good: Answer) -> Answer:
    return _ranged(good, replace(_span(good), nbytes=len(good.body) // 2))


def _whole_file(good: Answer) -> Answer:
    blob = _span(good).blob
    return Answer(200, _without(good, "Content-Range"), Span(blob, 0, blob.nbytes))


def _error_200(_good: Answer) -> Answer:
    message = "We encountered an internal error. Please try again."
    return replace(s3_error(500, "InternalError", message), status=200)


def _wrong_range(good: Answer) -> Answer:
    span = _span(good)
    if span.offset + span.nbytes < span.blob.nbytes:
        return _ranged(good, replace(span, offset=span.offset + 1))
    if span.offset > 0:
        return _ranged(good, replace(span, offset=span.offset - 1))
    # the whole file was asked for: there is no other range of that size
    return _ranged(good, replace(span, offset=1, nbytes=span.nbytes - 1))


def _changed_etag(good: Answer) -> Answer:
    other = hashlib.md5(good.headers["ETag"].encode(), usedforsecurity=False).hexdigest()
    return replace(good, headers={**good.headers, "ETag": f'"{other}"'})


def _gzip(good: Answer) -> Answer:
    span = _span(good)
    body = gzip.compress(span.read(0, span.nbytes), compresslevel=1)
    return replace(good, headers={**good.headers, "Content-Encoding": "gzip"}, body=body)


def _ranged(good: Answer, span: Span) -> Answer:
    return replace(good, status=206, headers={**good.headers, "Content-Range": content_range(span)}, body=span)


def _without(good: Answer, header: str) -> dict[str, str]:
    return {name: value for name, value in good.headers.items() if name != header}


def _span(good: Answer) -> Span:
    if not isinstance(good.body, Span):
        raise TypeError(f"an answer {good.status} of the S3 host without a part of a file")
    return good.body


_SPOILERS: Mapping[str, Callable[[Answer], Answer]] = {
    "reset": _reset,
    "garbage": _garbage,
    "no-location": _no_location,
    "dead-lease": _dead_lease,
    "reset-mid-body": _reset_mid_body,
    "short-body": _short_body,
    "short-length": _short_length,
    "short-range": _short_range,
    "whole-file": _whole_file,
    "error-200": _error_200,
    "wrong-range": _wrong_range,
    "changed-etag": _changed_etag,
    "gzip": _gzip,
}
