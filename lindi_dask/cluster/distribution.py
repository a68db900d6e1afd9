"""What `distribute` returns: the cluster's end of it, as the client sees it."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Self

from distributed.protocol import to_serialize

from lindi_dask.cluster.broker import LeaseBroker
from lindi_dask.cluster.link import LeasePlugin
from lindi_dask.cluster.messages import CLOSE, GIVEN, STATUS, TOKENS, Sealed
from lindi_dask.cluster.network import HOW_TO_ENCRYPT, is_overheard
from lindi_dask.cluster.offers import Offers
from lindi_dask.cluster.panel import panel
from lindi_dask.errors import ConfigurationError
from lindi_dask.process import BROKER

if TYPE_CHECKING:
    from collections.abc import Callable

    from distributed import Client, Scheduler

__all__ = ["Distribution"]


class Distribution:
    """A cluster whose scheduler hands out leases: what `distribute` returns. Also a context manager."""

    def __init__(self, client: Client, own: tuple[tuple[str, str], ...], key_file: str | None) -> None:
        self._client = client
        self._own = own
        self._key_file = key_file
        self._offers: Offers | None = None

    async def start(self, tokens: dict[str, str | Callable[[], str]]) -> Self:
        """Start the broker, if it does not run so already, and link the workers to it."""
        client = self._client
        keys = self._opened(tokens)
        wanted = {"own": [list(one) for one in self._own], "key_file": self._key_file}
        status = await self._state()
        if status is not None and status["configuration"] != wanted:
            await self._undo()
            status = None
        if status is None:
            failure = None
            try:
                await client.register_plugin(LeaseBroker(self._own, self._key_file, awaits_tokens=bool(keys)))
            except (ImportError, AttributeError) as error:
                failure = ConfigurationError(
                    f"The scheduler did not take the lease broker ({error}): install the same lindi-dask there as here."
                )
            if failure is not None:
                raise failure
        await client.register_plugin(LeasePlugin(self._own))
        self._offers = Offers(client)
        if keys:
            answer = await self._call(TOKENS, sealed=to_serialize(Sealed(keys)))
            if answer is None or "refusal" in answer:
                raise ConfigurationError(f"tokens: {answer['refusal'] if answer else 'the scheduler is gone.'}")
        await self._warn_if_overheard()
        return self

    def _opened(self, tokens: dict[str, str | Callable[[], str]]) -> dict[str, str]:
        """Return the keys, if they may be sent to the scheduler."""
        address = self._client.scheduler.address
        if tokens and is_overheard(address):
            raise ConfigurationError(
                f"tokens: the way to the scheduler at {address} is not encrypted, and keys don't cross a network in "
                f"plain text. Put the key into its environment, or into a file there (key_file=). Or: {HOW_TO_ENCRYPT}."
            )
        return {name: token() if callable(token) else token for name, token in tokens.items()}

    async def _warn_if_overheard(self) -> None:
        workers = (await self._client.scheduler.identity(n_workers=-1))["workers"]
        remote = sorted(address for address in workers if is_overheard(address))
        if remote:
            warnings.warn(
                f"Leases go to {len(remote)} workers on other machines in plain text ({remote[0]}, for one): whoever "
                f"listens to this network can read these assets until the leases expire. {HOW_TO_ENCRYPT}.",
                stacklevel=2,
            )

    def status(self) -> dict[str, Any]:
        """Return what there is to see, in values that JSON has.

        Returns
        -------
        dict
            `instances`: whether a key was sent, or is in the key file or the environment, by name (or why it can't be
            used). `exchanges`, `renewals`: how many.
            `assets`: for each its `asset`, `age_s` and `expires_in_s` of its lease (None: it has none), `exchanges`,
            `waiting` (requests of workers that wait for an exchange now), `error`. `waits`: how many leases were
            `asked` for, and `median_ms`, `p99_ms`, `longest_ms` that the last 1,000 answers took, exchanges included.
            `references`: `fingerprint` and `nbytes` of those that are kept for workers.
            Empty after `close()`.
        """
        found: dict[str, Any] = self._client.sync(self._status)
        return found

    def close(self) -> Any:  # noqa: ANN401 - None, or what an asynchronous client awaits
        """Undo `distribute`: workers get their leases with keys of their own from now on."""
        return self._client.sync(self._undo)

    async def _status(self) -> dict[str, Any]:
        return await self._state() or {}

    async def _undo(self) -> None:
        if self._offers is not None:
            self._offers.close()
            self._offers = None
        if await self._state() is None:
            return
        await self._call(CLOSE)
        await self._client.unregister_scheduler_plugin(BROKER)
        await self._client.unregister_worker_plugin(GIVEN)

    async def _state(self) -> dict[str, Any] | None:
        """Return what the broker says of itself; None if there is none."""
        try:
            # To ask for a handler that isn't there would put a traceback into the scheduler's log
            if not await self._client.run_on_scheduler(_has_broker):
                return None
        except (OSError, AttributeError, ImportError):
            return None
        status: dict[str, Any] | None = await self._call(STATUS)
        return status

    async def _call(self, handler: str, **arguments: Any) -> Any:  # noqa: ANN401 - messages
        """Call a handler of the scheduler's; None if it has no such handler, or is gone."""
        try:
            return await getattr(self._client.scheduler, handler)(**arguments)
        except (OSError, AttributeError):  # the client has no scheduler once it is closed
            return None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._undo()

    def __repr__(self) -> str:
        return panel({} if self._client.asynchronous else self.status())


def _has_broker(dask_scheduler: Scheduler) -> bool:
    """On the scheduler: return whether a broker is at work."""
    return STATUS in dask_scheduler.handlers
