"""Loopback ports, and the thread that serves them."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import Future

from aiohttp import web

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

BACKLOG = 1024
"""Connections that may wait to be accepted: a whole cluster comes at once."""

GRACE_S = 0.1
"""How long a handler that was cancelled has to end, in seconds."""


class Port:
    """A loopback port that stays ours between two times of service.

    While nothing serves it, a bound socket that does not listen holds it: clients are refused, and neither
    another program nor a client's own end of a connection takes the number.

    Parameters
    ----------
    number
        0: whichever is free.

    Raises
    ------
    OSError
        The port is taken.
    """

    def __init__(self, number: int = 0) -> None:
        self._holder = _bind(number)
        self.number: int = self._holder.getsockname()[1]

    def lend(self) -> socket.socket:
        """Lend the bound socket, to listen on; the borrower closes it."""
        return self._holder

    def take_back(self) -> None:
        """Hold the port again, after the borrower closed its socket."""
        self._holder = _bind(self.number)

    def release(self) -> None:
        """Let go of the port for good."""
        self._holder.close()


def _bind(number: int) -> socket.socket:
    holder = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", number))
    except OSError:
        holder.close()
        raise
    return holder


class ServerThread:
    """Serves sites in one daemon thread with one event loop.

    Parameters
    ----------
    sites
        Bound sockets, which this closes in the end, and what answers on each.
    """

    def __init__(self, sites: Sequence[tuple[socket.socket, Handler]]) -> None:
        self._sites = sites
        self._ready: Future[asyncio.AbstractEventLoop] = Future()
        self._ending = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="embedded-archive", daemon=True)

    def start(self) -> None:
        """Serve; return when all ports listen. What goes wrong until then is raised here."""
        self._thread.start()
        self._ready.result()

    def stop(self) -> None:
        """Cut all connections, close all ports, and wait for the thread's end."""
        loop = self._ready.result()
        # the loop is closed when the thread ended of itself
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(self._ending.set)
        self._thread.join()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            if self._ready.done():
                raise
            self._ready.set_exception(error)

    async def _serve(self) -> None:
        async with contextlib.AsyncExitStack() as stack:
            for bound, handler in self._sites:
                await stack.enter_async_context(_site(bound, handler))
            self._ready.set_result(asyncio.get_running_loop())
            await self._ending.wait()


@contextlib.asynccontextmanager
async def _site(bound: socket.socket, handler: Handler) -> AsyncIterator[None]:
    # no access log: its lines have presigned URLs in them
    server = web.Server(handler, handler_cancellation=True, access_log=None)
    runner = web.ServerRunner(server, shutdown_timeout=GRACE_S)
    await runner.setup()
    site = web.SockSite(runner, bound, backlog=BACKLOG)
    try:
        await site.start()
        yield
    finally:
        await site.stop()
        for connection in server.connections:
            if connection.transport is not None:
                connection.transport.abort()
        await runner.cleanup()
        bound.close()
