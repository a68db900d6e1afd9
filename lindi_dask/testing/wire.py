"""Sending an answer, whole or broken."""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from functools import partial

from aiohttp import web

from lindi_dask.testing.answers import Answer, Span, http_date
from lindi_dask.testing.conditions import Conditions
from lindi_dask.testing.pacing import PIECE_NBYTES, Link

UNPACED_PIECE_NBYTES = 1024 * 1024
"""Pieces of a body go out in this size, in bytes, when nothing paces them."""


class Wire:
    """Sends the answers of one host.

    Parameters
    ----------
    conditions
        The archive's clock and pace.
    link
        What the host's connections share; None: their pace is not limited.
    """

    def __init__(self, conditions: Conditions, link: Link | None = None) -> None:
        self._conditions = conditions
        self._link = link

    async def send(
        self, request: web.BaseRequest, answer: Answer, *, latency_s: float, fell_short: Callable[[int], None]
    ) -> web.StreamResponse:
        """Send `answer` after `latency_s` seconds, as its delivery says.

        `fell_short` is called with the number of bytes of the body that went out, when the client left, or the
        archive stopped, before all those that were meant to.
        """
        sending = _Sending(request, answer, partial(self._pace, Link()) if self._is_paced() else None)
        try:
            if wait_s := latency_s + answer.delivery.wait_s:
                await asyncio.sleep(wait_s)
            return await sending.run({**answer.headers, "Date": http_date(self._conditions.now())})
        finally:
            if sending.sent < answer.nbytes_to_send:
                fell_short(sending.sent)

    def _is_paced(self) -> bool:
        rates = (self._conditions.bytes_per_s, self._conditions.stream_bytes_per_s)
        return self._link is not None and rates != (None, None)

    async def _pace(self, stream: Link, nbytes: int) -> None:
        now_s = asyncio.get_running_loop().time()
        wait_s = stream.reserve(nbytes, bytes_per_s=self._conditions.stream_bytes_per_s, now_s=now_s)
        if self._link is not None:
            shared_s = self._link.reserve(nbytes, bytes_per_s=self._conditions.bytes_per_s, now_s=now_s)
            wait_s = max(wait_s, shared_s)
        if wait_s:
            await asyncio.sleep(wait_s)


class _Sending:
    """One answer on its way."""

    def __init__(self, request: web.BaseRequest, answer: Answer, pace: Callable[[int], Awaitable[None]] | None) -> None:
        self.sent = 0
        """Bytes of the body that were handed to the connection."""
        self._request = request
        self._answer = answer
        self._pace = pace
        self._piece_nbytes = UNPACED_PIECE_NBYTES if pace is None else PIECE_NBYTES

    async def run(self, headers: dict[str, str]) -> web.StreamResponse:
        status, body, delivery = self._answer.status, self._answer.body, self._answer.delivery
        if delivery.raw is not None:
            return _send_raw(self._request, delivery.raw, reset=delivery.at_cut == "reset")
        if self._pace is None and delivery.cut is None and len(body) <= self._piece_nbytes:
            self.sent = len(body)
            return web.Response(status=status, headers=headers, body=_part(body, 0, len(body)))
        response = web.StreamResponse(status=status, headers=headers)
        response.content_length = len(body)
        try:
            await self._stream(response)
        except ConnectionError:  # the client left
            response.force_close()
        return response

    async def _stream(self, response: web.StreamResponse) -> None:
        delivery, nbytes = self._answer.delivery, len(self._answer.body)
        await response.prepare(self._request)
        await self._send_until(response, nbytes if delivery.cut is None else delivery.cut)
        if delivery.cut is None:
            return
        if delivery.at_cut == "pause":
            await asyncio.sleep(delivery.pause_s)
            await self._send_until(response, nbytes)
            return
        response.force_close()
        if delivery.at_cut == "reset":
            _reset(self._request)

    async def _send_until(self, response: web.StreamResponse, end: int) -> None:
        while self.sent < end:
            part = _part(self._answer.body, self.sent, min(self._piece_nbytes, end - self.sent))
            if self._pace is not None:
                await self._pace(len(part))
            await response.write(part)
            self.sent += len(part)


def _part(body: bytes | Span, start: int, nbytes: int) -> bytes:
    return body[start : start + nbytes] if isinstance(body, bytes) else body.read(start, nbytes)


def _send_raw(request: web.BaseRequest, raw: bytes, *, reset: bool) -> web.Response:
    """Write past aiohttp, and end the connection; what is returned goes nowhere."""
    if reset:
        _reset(request)
    elif request.transport is not None:
        request.transport.write(raw)
        request.transport.close()
    return web.Response()


def _reset(request: web.BaseRequest) -> None:
    if request.transport is None:  # the client went first
        return
    # a socket that does not linger ends with RST, where others end with FIN
    connection = request.transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.transport.abort()
