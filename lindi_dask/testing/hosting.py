"""Loopback ports, and the thread that serves them."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future

from aiohttp import web

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

BACKLOG = 1024
"""Connections that may wait to be accepted: a whole cluster comes at once."""

GRACE_S = 0.1
"""How long aiohttp waits for a handler that outlived its connection, in seconds."""

CUT_S = 5.0
"""How long connections have to end at most, in seconds; they take milliseconds."""


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
        servers: list[web.Server] = []
        runners: list[web.ServerRunner] = []
        try:
            for bound, handler in self._sites:
                # no access log: its lines would have presigned URLs in them
                servers.append(web.Server(handler, handler_cancellation=True, access_log=None))
                runners.append(web.ServerRunner(servers[-1], shutdown_timeout=GRACE_S))
                await runners[-1].setup()
                await web.SockSite(runners[-1], bound, backlog=BACKLOG).start()
            self._ready.set_result(asyncio.get_running_loop())
            await self._ending.wait()
        finally:
            # Accept no more, but let those in who are at the door: an asyncio server that is closed while it accepts
            # leaves their sockets open (https://github.com/python/cpython/issues/109564).
            for bound, _ in self._sites:
                asyncio.get_running_loop().remove_reader(bound)
            await _cut(servers)
            for runner in runners:
                await runner.cleanup()
            for bound, _ in self._sites:
                bound.close()


async def _cut(servers: Sequence[web.Server]) -> None:
    """Abort all connections, and wait for the end of what served them.

    A connection that was accepted last becomes known only some turns of the loop later; until then it is a task.
    """
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + CUT_S
    while loop.time() < deadline_s:
        for connection in (connection for server in servers for connection in server.connections):
            if connection.transport is not None:
                connection.transport.abort()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if not others:
            break
        await asyncio.wait(others, timeout=0.01)
    await asyncio.sleep(0)  # the last sockets are closed one turn after their abort
