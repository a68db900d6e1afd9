"""References that one process of a cluster has and another lacks, passed on by the scheduler."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ReferenceRelay"]

_LIMIT: Final = 512 * 2**20  # bytes kept, and the last ones whatever their size
_PATIENCE_S: Final = 60.0  # for a client to send what it has
_NOBODY: Final = (
    "no client of the cluster has them any more (those that called lindi_dask.distribute were asked): open them again"
)


class ReferenceRelay:
    """Asks the clients for references that a worker wants, keeps them for the next one. Of one event loop.

    Parameters
    ----------
    ask
        Tells all clients that references of this fingerprint are wanted.
    """

    def __init__(self, ask: Callable[[str], None]) -> None:
        self._ask = ask
        self._kept: OrderedDict[str, tuple[Any, int]] = OrderedDict()  # an index file, still serialized, and its bytes
        self._wanted: dict[str, asyncio.Future[dict[str, Any]]] = {}

    async def get(self, fingerprint: str) -> dict[str, Any]:
        """Return a message with the `content` of references, or the `refusal`: why they can't be had."""
        if fingerprint in self._kept:
            self._kept.move_to_end(fingerprint)
            return {"content": self._kept[fingerprint][0]}
        arrival = self._wanted.get(fingerprint)
        if arrival is None:
            arrival = self._wanted[fingerprint] = asyncio.get_running_loop().create_future()
            self._ask(fingerprint)
        try:
            return await asyncio.wait_for(asyncio.shield(arrival), _PATIENCE_S)
        except TimeoutError:
            self._wanted.pop(fingerprint, None)
            return {"refusal": _NOBODY}

    def offer(self, fingerprint: str, content: Any, nbytes: int, refusal: str | None) -> None:  # noqa: ANN401
        """Take references that somebody waits for, or why they can't be had; others are not kept."""
        arrival = self._wanted.pop(fingerprint, None)
        if arrival is None:
            return
        if refusal is not None:
            arrival.set_result({"refusal": refusal})
            return
        self._kept[fingerprint] = content, nbytes
        while len(self._kept) > 1 and sum(nbytes for _, nbytes in self._kept.values()) > _LIMIT:
            self._kept.popitem(last=False)
        arrival.set_result({"content": content})

    def status(self) -> list[dict[str, Any]]:
        """Return what is kept: `fingerprint` and `nbytes` of each."""
        return [{"fingerprint": name, "nbytes": nbytes} for name, (_, nbytes) in self._kept.items()]
