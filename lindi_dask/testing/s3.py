"""The S3-like host: blobs, under presigned URLs."""

import time
from dataclasses import replace
from functools import partial

from aiohttp import web

from lindi_dask.testing.answers import Answer, Span, for_method, s3_error
from lindi_dask.testing.assets import Entry, Registry
from lindi_dask.testing.conditions import Conditions
from lindi_dask.testing.faults import FaultPlan
from lindi_dask.testing.pacing import Link
from lindi_dask.testing.ranges import read
from lindi_dask.testing.records import Ledger, Request
from lindi_dask.testing.signing import Refusal, Signer, Verdict
from lindi_dask.testing.spoil import spoil
from lindi_dask.testing.wire import Wire

BUCKET = "embedded-archive"


def blob_path(key: str) -> str:
    """Path of a blob on the S3 host, laid out as DANDI does."""
    return f"/{BUCKET}/blobs/{key[:3]}/{key[3:6]}/{key}"


def refuse_authorization(target: str) -> Answer:
    """Refuse a request that has an ``Authorization`` header: this host takes presigned URLs only."""
    message = "Unsupported Authorization Type"
    if "X-Amz-Algorithm=" in target:
        message = (
            "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string "
            "parameter or the Authorization header should be specified"
        )
    # S3 gives the header's value back as ArgumentValue; a key should not be in any answer of ours
    return s3_error(400, "InvalidArgument", message, {"ArgumentName": "Authorization"})


def refuse(refusal: Refusal, *, expired: bool) -> Answer:
    """Refuse a URL."""
    answer = s3_error(refusal.status, refusal.code, refusal.message, refusal.details)
    return replace(answer, error="Expired") if expired else answer


class S3Host:
    """Answers data requests, by what the archive holds and under its conditions."""

    def __init__(
        self, conditions: Conditions, registry: Registry, signer: Signer, faults: FaultPlan, ledger: Ledger
    ) -> None:
        self._conditions = conditions
        self._registry = registry
        self._signer = signer
        self._faults = faults
        self._ledger = ledger
        self._wire = Wire(conditions, Link())

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        now_s, monotonic_s = self._conditions.now(), time.monotonic()
        path = request.raw_path.partition("?")[0]
        if_match = request.headers.get("If-Match")
        entry = self._registry.find_key(path.rpartition("/")[2])
        verdict, good = self._judge(request, entry, now_s)
        fault = self._faults.take("s3", entry.id) if entry is not None and good.error is None else None
        answer = good if fault is None else spoil(fault, good, url=request.raw_path, if_match=if_match)
        part = good.body if isinstance(good.body, Span) and good.status == 206 else None
        answer = for_method(request.method, answer)
        position = self._ledger.add(
            Request(
                at_s=now_s,
                monotonic_s=monotonic_s,
                plane="s3",
                method=request.method,
                path=path,
                status=answer.status_to_send,
                asset_id=None if entry is None else entry.id,
                range=None if part is None else (part.offset, part.nbytes),
                nbytes=answer.nbytes_to_send,
                exchange=verdict.exchange,
                client="" if verdict.exchange is None else self._ledger.client_of(verdict.exchange),
                error=answer.error,
                fault=None if fault is None else fault.kind,
                authorized="Authorization" in request.headers,
                if_match=if_match,
            )
        )
        return await self._wire.send(
            request, answer, latency_s=self._conditions.latency_s, fell_short=partial(self._ledger.amend, position)
        )

    def _judge(self, request: web.BaseRequest, entry: Entry | None, now_s: float) -> tuple[Verdict, Answer]:
        """Judge what the URL is worth, and which answer is due."""
        if "Authorization" in request.headers:
            return Verdict(), refuse_authorization(request.raw_path)
        verdict = self._signer.check(request.method, request.host, request.raw_path, now_s=now_s)
        if verdict.refusal is not None:
            return verdict, refuse(verdict.refusal, expired=verdict.expired)
        path = request.raw_path.partition("?")[0]
        if entry is None or entry.blob is None or path != blob_path(entry.blob.key):
            return verdict, s3_error(404, "NoSuchKey", "The specified key does not exist.")
        headers = request.headers
        return verdict, read(
            entry.blob,
            range_header=headers.get("Range"),
            if_match=headers.get("If-Match"),
            if_none_match=headers.get("If-None-Match"),
            disposition=verdict.disposition,
        )
