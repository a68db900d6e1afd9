"""`LeaseBroker`: the scheduler's plugin that exchanges assets for the whole cluster."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from distributed import SchedulerPlugin
from distributed.protocol.serialize import Serialize, Serialized, deserialize

from lindi_dask.archive import Resolver, api_key, configured_instances
from lindi_dask.archive.urls import is_asset_id
from lindi_dask.cluster.keys import BrokerKeys
from lindi_dask.cluster.messages import (
    CLOSE,
    LEASES,
    OFFER,
    REFERENCES,
    STATUS,
    TOKENS,
    WANTED,
    Message,
    Sealed,
    Wish,
    error_message,
)
from lindi_dask.cluster.network import HOW_TO_ENCRYPT, is_overheard
from lindi_dask.cluster.relay import ReferenceRelay
from lindi_dask.cluster.shared_leases import Ask, SharedLeases
from lindi_dask.errors import ConfigurationError, LindiError
from lindi_dask.process import BROKER, CountedSource
from lindi_dask.transport import Counters
from lindi_dask.types import Asset

if TYPE_CHECKING:
    from collections.abc import Callable

    from distributed import Scheduler
    from distributed.comm import Comm

    from lindi_dask.transport import Counts
    from lindi_dask.types import Instance

__all__ = ["LeaseBroker"]

_log = logging.getLogger(__name__)

_LONGEST_WAIT_S: Final = 20.0  # of an answer; workers ask again, and so find out when the broker is gone


class LeaseBroker(SchedulerPlugin):  # type: ignore[misc] # distributed has no types
    """Hands out leases to all workers: one exchange an asset and lifetime, whatever the number of workers.

    Pickled it is a table of instances and the path of a key file. Keys are found where the scheduler runs.

    Parameters
    ----------
    own
        Name and API URL of the instances besides those that are built in: the only ones that keys are sent to.
    key_file
        See `BrokerKeys`.
    awaits_tokens
        Whether keys will be sent to it: no lease is handed out before, as that could fail for want of one.
    """

    name = BROKER

    def __init__(
        self, own: tuple[tuple[str, str], ...], key_file: str | None = None, *, awaits_tokens: bool = False
    ) -> None:
        self._own = own
        self._key_file = key_file
        self._awaits_tokens = awaits_tokens

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(LeaseBroker, awaits_tokens=self._awaits_tokens), (self._own, self._key_file)

    def __repr__(self) -> str:
        return "<LeaseBroker>"

    async def start(self, scheduler: Scheduler) -> None:
        """Take up the work, in the place of whatever broker there was: called by the scheduler."""
        scheduler.plugins.pop(BROKER, None)
        self._scheduler = scheduler
        self._instances = {one.name: one for one in configured_instances({k: {"api-url": v} for k, v in self._own})}
        self._keys = BrokerKeys(self._key_file)
        self._counters = Counters()
        self._leases = SharedLeases(CountedSource(Resolver(environ=self._keys), self._counters))
        self._relay = ReferenceRelay(lambda fingerprint: scheduler.log_event(WANTED, {"fingerprint": fingerprint}))
        self._warned = False
        self._handlers: dict[str, Callable[..., Any]] = {
            STATUS: self.status,
            TOKENS: self.take_tokens,
            REFERENCES: self.references,
            OFFER: self.take_references,
            CLOSE: self.end,
        }
        if not self._awaits_tokens:
            self._handlers[LEASES] = self.leases
        for name in (*self._handlers, LEASES):
            scheduler.handlers.pop(name, None)
        scheduler.handlers.update(self._handlers)

    @property
    def counts(self) -> Counts:
        """Exchanges and renewals so far."""
        return self._counters.counts()

    async def leases(self, comm: Comm, wishes: list[list[Any]], wait_s: float) -> list[Message]:
        """Answer a worker's wishes, in their order: handler.

        Parameters
        ----------
        comm
            To the worker.
        wishes
            Messages of `Wish`.
        wait_s
            Seconds that the worker is willing to wait.
        """
        self._warn_if_overheard(comm.peer_address)
        answers: list[Message | None] = []
        asks: list[Ask] = []
        for message in wishes:
            try:
                asks.append(self._checked(Wish.read(message)))
                answers.append(None)
            except LindiError as error:
                answers.append({"error": error_message(error)})
        answered = iter(await self._leases.answer(asks, min(wait_s, _LONGEST_WAIT_S)))
        return [next(answered) if answer is None else answer for answer in answers]

    async def status(self) -> dict[str, Any]:
        """Return what `Distribution.status` shows: handler."""
        counts = self.counts
        return {
            "configuration": {"own": [list(one) for one in self._own], "key_file": self._key_file},
            "instances": {name: self._has_key(one) for name, one in self._instances.items()},
            "exchanges": counts.exchanges,
            "renewals": counts.renewals,
            "references": self._relay.status(),
            **self._leases.status(),
        }

    async def take_tokens(self, comm: Comm, sealed: Serialize | Serialized | Sealed) -> Message:
        """Take keys, by the names of their instances: handler."""
        if is_overheard(comm.peer_address):
            return {"refusal": f"Keys don't cross a network in plain text. {HOW_TO_ENCRYPT}."}
        if isinstance(sealed, Serialized):
            sealed = deserialize(sealed.header, sealed.frames)
        elif isinstance(sealed, Serialize):
            sealed = sealed.data
        tokens = sealed.open()
        self._keys.take({self._instances[name].key_variables[0]: key for name, key in tokens.items()})
        self._handlers[LEASES] = self._scheduler.handlers[LEASES] = self.leases
        return {}

    async def references(self, fingerprint: str) -> Message:
        """Return references for a worker that can't reach them: handler."""
        return await self._relay.get(fingerprint)

    async def take_references(
        self,
        fingerprint: str,
        content: Any,  # noqa: ANN401
        nbytes: int,
        refusal: str | None,
    ) -> None:
        """Take references that a client has: handler."""
        self._relay.offer(fingerprint, content, nbytes, refusal)

    async def end(self) -> None:
        """Stop: handler. Leases that workers have stay good until they expire."""
        for name, handler in self._handlers.items():
            if self._scheduler.handlers.get(name) == handler:
                del self._scheduler.handlers[name]

    def _checked(self, wish: Wish) -> Ask:
        instance = self._instances.get(wish.instance)
        if instance is None or not is_asset_id(wish.asset_id):
            raise ConfigurationError(
                f"The lease broker has no instance {wish.instance[:64]!r}, or this is no asset of it: pass the same "
                "instances= to lindi_dask.distribute as where the references are opened."
            )
        return Ask(Asset(instance, wish.asset_id), wish.have, wish.refused)

    def _has_key(self, instance: Instance) -> bool | str:
        try:
            return api_key(instance, self._keys) is not None
        except ConfigurationError as error:
            return str(error)

    def _warn_if_overheard(self, peer: str) -> None:
        if not self._warned and is_overheard(peer):
            self._warned = True
            _log.warning(
                "Presigned URLs go to the workers in plain text: whoever listens to this network can read these "
                "assets until they expire. %s.",
                HOW_TO_ENCRYPT,
            )
