"""The client's side of references that workers can't reach."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from distributed.protocol import to_serialize

from lindi_dask.cluster.messages import OFFER, WANTED
from lindi_dask.errors import LindiError
from lindi_dask.factory import references_here
from lindi_dask.index_cache import is_cacheable
from lindi_dask.index_file import lay_out

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Offers"]


class Offers:
    """Sends references that were opened in this process to workers that ask for them.

    Parameters
    ----------
    client
        Hears what is wanted, and sends it.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._sending: set[asyncio.Task[None]] = set()
        client.subscribe_topic(WANTED, self._hear)

    def close(self) -> None:
        """Send no more."""
        self._client.unsubscribe_topic(WANTED)

    def _hear(self, event: tuple[float, dict[str, Any]]) -> None:
        """Start sending: called on the client's event loop, which must not wait."""
        task = asyncio.get_running_loop().create_task(self._send(event[1]["fingerprint"]))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _send(self, fingerprint: str) -> None:
        content, refusal = await asyncio.to_thread(_content, fingerprint)
        if content is None and refusal is None:
            return  # another client may have them
        offer = getattr(self._client.scheduler, OFFER)
        nbytes = 0 if content is None else len(content)
        await offer(fingerprint=fingerprint, content=to_serialize(content), nbytes=nbytes, refusal=refusal)


def _content(fingerprint: str) -> tuple[bytes | None, str | None]:
    """Return references as the bytes of an index file, or why they can't travel; neither if they are not here."""
    try:
        references = references_here(fingerprint)
        if references is None:
            return None, None
        if not is_cacheable(references):
            return None, (
                "they hold presigned URLs, which are secrets, or are read piece by piece (parquet): workers have to "
                "reach the file themselves"
            )
        return b"".join(lay_out(references)), None
    except (LindiError, TypeError, MemoryError) as error:
        return None, f"the client can't send them ({type(error).__name__})"
