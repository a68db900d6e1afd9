"""The DANDI-like API host: it exchanges an asset for a presigned URL, and tells of dandisets and assets."""

import math
import time
from collections import deque
from collections.abc import Callable
from functools import partial

from aiohttp import web

from lindi_dask.testing.answers import Answer, for_method, forbidden, html_answer, json_answer, unauthenticated
from lindi_dask.testing.assets import Entry, Registry
from lindi_dask.testing.conditions import Conditions
from lindi_dask.testing.faults import Fault, FaultPlan
from lindi_dask.testing.listing import answer_dandiset, describe, metadata, refuse_dandiset
from lindi_dask.testing.records import HARMLESS, Ledger, Request
from lindi_dask.testing.routes import Route, parse_path
from lindi_dask.testing.s3 import blob_path
from lindi_dask.testing.signing import Signer
from lindi_dask.testing.spoil import spoil
from lindi_dask.testing.wire import Wire

Presign = Callable[[str, int], str]
"""Takes an object's key and a lifetime in seconds; gives a presigned URL."""


def read_token(authorization: str | None) -> str | None:
    """Read the key out of an ``Authorization`` header, as Django REST framework does.

    Returns
    -------
    str or None
        The key; None where there is none, or for another scheme.

    Raises
    ------
    ValueError
        With the message for the client: the scheme is right and what follows is not.
    """
    words = (authorization or "").split()
    if not words or words[0].lower() != "token":
        return None
    if len(words) == 1:
        raise ValueError("Invalid token header. No credentials provided.")
    if len(words) > 2:
        raise ValueError("Invalid token header. Token string should not contain spaces.")
    return words[1]


def refuse(entry: Entry | None, route: Route, token: str | None) -> Answer | None:
    """Refuse someone whose key is valid, or who has none; None: may pass."""
    if entry is None or route.dandiset not in {None, entry.dandiset}:
        return json_answer(404, {"detail": "No Asset matches the given query."})
    if entry.embargoed and token is None:
        return unauthenticated()
    # an embargoed asset that was replaced is in no version, and without one nobody owns it
    if entry.embargoed and (token not in entry.owners or entry.replaced):
        return forbidden()
    if route.view == "download" and entry.blob is None:
        message = "Unable to provide download link for zarr assets. Please browse the zarr instead."
        return json_answer(400, message)
    return None


class Throttle:
    """So many requests in so long, over a sliding window."""

    def __init__(self) -> None:
        self._taken_s: deque[float] = deque()

    def wait_s(self, limit: tuple[int, float] | None, now_s: float) -> int | None:
        """Take a place for a request; where there is none, whole seconds until there is one.

        Parameters
        ----------
        limit
            Requests, and the window in seconds; None: no limit.
        now_s
            Seconds, monotonic clock.
        """
        if limit is None:
            return None
        number, window_s = limit
        while self._taken_s and self._taken_s[0] <= now_s - window_s:
            self._taken_s.popleft()
        if len(self._taken_s) < number:
            self._taken_s.append(now_s)
            return None
        return max(1, math.ceil(self._taken_s[0] + window_s - now_s))


class ApiHost:
    """Answers control requests, by what the archive holds and under its conditions."""

    def __init__(
        self,
        conditions: Conditions,
        registry: Registry,
        signer: Signer,
        faults: FaultPlan,
        ledger: Ledger,
        *,
        s3_url: str,
        presign: Presign | None = None,
    ) -> None:
        self._conditions = conditions
        self._registry = registry
        self._signer = signer
        self._faults = faults
        self._ledger = ledger
        self._s3_url = s3_url
        self._presign = presign
        self._throttle = Throttle()
        self._wire = Wire(conditions)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        now_s, monotonic_s = self._conditions.now(), time.monotonic()
        path = request.raw_path.partition("?")[0]
        route = parse_path(path)
        entry = None if route is None or route.asset_id is None else self._registry.find(route.asset_id)
        client = request.headers.get("User-Agent", "")
        fault, exchange = None, None
        answer = self._refuse(request, route, entry, monotonic_s)
        if answer is None and route is not None:
            if route.view == "download" and entry is not None:
                fault = self._faults.take("api", entry.id)
                exchange = None if _withholds(fault) else self._ledger.open_exchange(client)
                answer = self._lease(entry, exchange, fault, now_s)
            else:
                answer = self._tell(request, route, entry)
                fault = self._faults.take("listing", route.asset_id) if answer.status == 200 else None
            if fault is not None:
                answer = spoil(fault, answer, url=request.raw_path)
        answer = for_method(request.method, answer or html_answer(404))
        position = self._ledger.add(
            Request(
                at_s=now_s,
                monotonic_s=monotonic_s,
                plane="api",
                method=request.method,
                path=path,
                status=answer.status_to_send,
                asset_id=None if route is None else route.asset_id,
                nbytes=answer.nbytes_to_send,
                exchange=exchange,
                client=client,
                error=answer.error,
                fault=None if fault is None else fault.kind,
                authorized="Authorization" in request.headers,
                if_match=request.headers.get("If-Match"),
            )
        )
        return await self._wire.send(
            request, answer, latency_s=self._conditions.api_latency_s, fell_short=partial(self._ledger.amend, position)
        )

    def _refuse(
        self, request: web.BaseRequest, route: Route | None, entry: Entry | None, monotonic_s: float
    ) -> Answer | None:
        if route is None:
            return html_answer(404)
        if not route.slash:
            path, mark, query = request.raw_path.partition("?")
            return html_answer(301, {"Location": f"{path}/{mark}{query}"})
        try:
            token = read_token(request.headers.get("Authorization"))
        except ValueError as error:
            return unauthenticated(str(error))
        if token is not None and not self._registry.is_valid(token):
            return unauthenticated("Invalid token.")
        if request.method != "GET":
            return json_answer(405, {"detail": f'Method "{request.method}" not allowed.'}, {"Allow": "GET"})
        if wait_s := self._throttle.wait_s(self._conditions.rate_limit, monotonic_s):
            detail = f"Request was throttled. Expected available in {wait_s} seconds."
            return json_answer(429, {"detail": detail}, {"Retry-After": str(wait_s)})
        if route.asset_id is None:
            return refuse_dandiset(self._registry.dandiset(route.dandiset or ""), route, token)
        return refuse(entry, route, token)

    def _tell(self, request: web.BaseRequest, route: Route, entry: Entry | None) -> Answer:
        """Answer what is known of a dandiset or an asset, to someone who may know it."""
        root = f"http://{request.host}"
        if entry is not None:
            about = metadata if route.view == "asset" else describe
            return json_answer(200, about(entry, f"{root}/api"))
        dandiset = self._registry.dandiset(route.dandiset or "")
        if dandiset is None:
            return json_answer(404, {"detail": "No Dandiset matches the given query."})
        return answer_dandiset(dandiset, route, f"{root}{request.raw_path}")

    def _lease(self, entry: Entry, exchange: int | None, fault: Fault | None, now_s: float) -> Answer:
        """Answer 302 with a presigned URL; without an exchange, with one that won't be sent."""
        if entry.blob is None:
            raise TypeError("a Zarr asset has no blob")
        lifetime_s = self._conditions.lifetime_s
        if self._presign is not None:
            return _redirect(self._presign(entry.blob.key, lifetime_s))
        dead = fault is not None and fault.kind == "dead-lease"
        location = self._signer.presign(
            self._s3_url + blob_path(entry.blob.key),
            lifetime_s=lifetime_s,
            now_s=now_s - lifetime_s - 1 if dead else now_s,
            filename=entry.path.rpartition("/")[2],
            exchange=exchange or 0,
        )
        return _redirect(location)


def _redirect(location: str) -> Answer:
    return Answer(302, {"Location": location, "Content-Type": "text/html; charset=utf-8"})


def _withholds(fault: Fault | None) -> bool:
    """Whether the fault keeps the presigned URL from the client."""
    return fault is not None and fault.kind != "dead-lease" and fault.kind not in HARMLESS
