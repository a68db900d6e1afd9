"""The worker's side: leases and references by the scheduler."""

from __future__ import annotations

import asyncio
import logging
import mmap
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from distributed import WorkerPlugin

from lindi_dask import process
from lindi_dask.archive import configured_instances, settle
from lindi_dask.cluster.messages import GIVEN, LEASES, REFERENCES, Wish, read_error, read_lease
from lindi_dask.errors import AuthenticationError, RefsUnreachable
from lindi_dask.index_file import read_index

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from distributed import Worker

    from lindi_dask.archive import LeaseSource
    from lindi_dask.errors import LindiError
    from lindi_dask.refs import References
    from lindi_dask.types import Asset, Lease

__all__ = ["LeasePlugin", "WorkerLink"]

_log = logging.getLogger(__name__)

_WAIT_S: Final = 10.0  # that the broker may take for an answer, if only "pending"
_LATE_S: Final = 20.0  # after which an answer is not coming any more
_RESTART_S: Final = 5.0  # for a broker that is gone to come back
_PAUSE_S: Final = 0.25
_SHIPPING_S: Final = 300.0


class LeasePlugin(WorkerPlugin):  # type: ignore[misc] # distributed has no types
    """Links each worker, present and to come, to the scheduler's `LeaseBroker`.

    Parameters
    ----------
    own
        Name and API URL of the instances besides those that are built in, as the broker has them.
    """

    name = GIVEN
    idempotent = True

    def __init__(self, own: tuple[tuple[str, str], ...]) -> None:
        self._own = own
        self._link: WorkerLink | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return LeasePlugin, (self._own,)

    def setup(self, worker: Worker) -> None:
        """Link a worker: called by it."""
        instances = configured_instances({name: {"api-url": url} for name, url in self._own})
        self._link = WorkerLink(worker.scheduler, worker.loop.asyncio_loop, frozenset(instances))
        process.join_cluster(self._link)

    def teardown(self, worker: Worker) -> None:  # noqa: ARG002 - distributed's signature
        """Undo `setup`: called by the worker."""
        if self._link is not None:
            process.leave_cluster(self._link)


@dataclass(slots=True)
class _Wanted:
    wish: Wish
    give_up_at: float
    """monotonic seconds, when there is no broker"""
    answer: asyncio.Future[Lease | LindiError | None]
    """None: there is no broker"""
    number: int = 0
    """of the lease that came"""


class WorkerLink:
    """A process's line to the broker. `exchange` and `references` block, and are called by threads.

    Parameters
    ----------
    scheduler
        Its handlers as methods.
    loop
        Of the worker.
    instances
        Those that the broker knows.
    """

    def __init__(self, scheduler: Any, loop: asyncio.AbstractEventLoop, instances: frozenset[Any]) -> None:  # noqa: ANN401
        self._ask: Callable[..., Awaitable[Any]] = getattr(scheduler, LEASES)
        self._fetch: Callable[..., Awaitable[Any]] = getattr(scheduler, REFERENCES)
        self._loop = loop
        self._instances = instances
        self._held: dict[Asset, tuple[Lease, int]] = {}
        self._waiting: list[_Wanted] = []
        self._sending: set[asyncio.Task[None]] = set()
        self._is_lost = False

    def exchange(self, asset: Asset, refused: Lease | None, own: LeaseSource) -> Lease:
        """Return a lease from the broker; from `own` if there is no broker.

        Raises
        ------
        LindiError
            Of the exchange.
        """
        outcome = None
        if asset.instance in self._instances:
            try:
                outcome = asyncio.run_coroutine_threadsafe(self._lease(asset, refused), self._loop).result()
            except (RuntimeError, asyncio.CancelledError):
                _log.debug("%s: the worker's loop has ended", asset)
        return self._alone(asset, own) if outcome is None else settle(outcome)

    def references(self, fingerprint: str) -> References:
        """Return references that a client of the cluster has.

        Raises
        ------
        RefsUnreachable
            If none has them, or what it has can't travel.
        """
        try:
            answer = asyncio.run_coroutine_threadsafe(self._fetched(fingerprint), self._loop).result()
        except (OSError, TimeoutError, RuntimeError, asyncio.CancelledError):
            answer = None
        if answer is None:
            answer = {"refusal": "the cluster's broker does not answer"}
        if "refusal" in answer:
            raise RefsUnreachable(answer["refusal"], fingerprint=fingerprint)
        content = answer["content"]
        mapped = mmap.mmap(-1, len(content))
        mapped[:] = content

        def recover(damage: str) -> References:
            raise RefsUnreachable(f"what came was damaged ({damage})", fingerprint=fingerprint)

        references = read_index(mapped, fingerprint, recover)
        if references is None:
            raise RefsUnreachable(
                "this worker has another version of lindi-dask than the client: install the same",
                fingerprint=fingerprint,
            )
        return references

    def _alone(self, asset: Asset, own: LeaseSource) -> Lease:
        failure: AuthenticationError | None = None
        try:
            return own.exchange(asset)
        except AuthenticationError as error:
            failure = error
        if asset.instance in self._instances:
            why = "The cluster's lease broker does not answer (call lindi_dask.distribute again?)"
        else:
            why = "The cluster's lease broker does not know this instance (pass instances= to lindi_dask.distribute)"
        raise AuthenticationError(f"{why}, so this worker asks with a key of its own. {failure}", **vars(failure))

    async def _fetched(self, fingerprint: str) -> Any:  # noqa: ANN401 - a message
        return await asyncio.wait_for(self._fetch(fingerprint=fingerprint), _SHIPPING_S)

    async def _lease(self, asset: Asset, refused: Lease | None) -> Lease | LindiError | None:
        held, number = self._held.get(asset, (None, None))
        wish = Wish.of(asset, number, refused=refused is not None and refused is held)
        wanted = _Wanted(wish, time.monotonic() + _RESTART_S, self._loop.create_future())
        self._want(wanted)
        outcome = await wanted.answer
        if outcome is not None and not isinstance(outcome, Exception):
            self._held[asset] = outcome, wanted.number
        return outcome

    def _want(self, wanted: _Wanted) -> None:
        """Ask with all that wish for something in the same turn of the loop."""
        self._waiting.append(wanted)
        if len(self._waiting) == 1:
            task = self._loop.create_task(self._send())
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    async def _send(self) -> None:
        batch, self._waiting = self._waiting, []
        sent_at = time.monotonic()
        answers = None
        try:
            messages = [wanted.wish.message() for wanted in batch]
            answers = await asyncio.wait_for(self._ask(wishes=messages, wait_s=_WAIT_S), _LATE_S)
        except (OSError, TimeoutError) as error:
            _log.debug("the lease broker does not answer (%s)", type(error).__name__)
        except BaseException:
            for wanted in batch:
                wanted.answer.set_result(None)
            raise
        if answers is None:  # distributed's answer where there is no such handler, too
            await self._without_broker(batch)
            return
        self._is_lost = False
        received_at = time.monotonic()
        for wanted, answer in zip(batch, answers, strict=True):
            if "pending" in answer:
                wanted.give_up_at = received_at + _RESTART_S
                self._want(wanted)
            elif "lease" in answer:
                wanted.number = answer["lease"]["number"]
                wanted.answer.set_result(read_lease(answer["lease"], sent_at=sent_at, received_at=received_at))
            else:
                wanted.answer.set_result(read_error(answer["error"]))

    async def _without_broker(self, batch: list[_Wanted]) -> None:
        """Wait for it to come back for a while, unless that was in vain lately."""
        if not self._is_lost:
            await asyncio.sleep(_PAUSE_S)
        for wanted in batch:
            if self._is_lost or time.monotonic() >= wanted.give_up_at:
                wanted.answer.set_result(None)
            else:
                self._want(wanted)
        if any(wanted.answer.done() for wanted in batch) and not self._is_lost:
            self._is_lost = True
            _log.warning("the cluster's lease broker does not answer: this worker exchanges for itself")
