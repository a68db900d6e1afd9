"""Downloads small files as a whole, such as reference files, and looks at the start of others."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import BaseError, NotModifiedError, NotSupportedError

from lindi_dask.errors import InvalidReferences, StorageUnavailable
from lindi_dask.retry import READ, RetryPolicy
from lindi_dask.transport.etags import if_none_match, same_etag
from lindi_dask.transport.leased import LeasedStores
from lindi_dask.transport.outcomes import status_of

if TYPE_CHECKING:
    from obstore import GetOptions, GetResult
    from obstore.store import HTTPStore

    from lindi_dask.archive import LeaseCache
    from lindi_dask.types import Asset

__all__ = ["Downloaded", "Start", "download", "peek"]

_TIMEOUT_S = 3600  # of an attempt, its body included; a host that is silent for 30 s ends it sooner
_PIECE = 2**20  # bytes, at least, that come in one piece


@dataclass(frozen=True, slots=True)
class Downloaded:
    """A file, as its host has it."""

    content: bytes = field(repr=False)
    """all of it, with nothing decompressed"""
    etag: str | None
    """as the host writes it, quotes and `W/` included; None if it gives none"""


@dataclass(frozen=True, slots=True)
class Start:
    """The start of a file, as its host has it."""

    content: bytes = field(repr=False)
    """the first bytes, with nothing decompressed"""
    size: int
    """bytes of the whole file"""
    etag: str | None
    """as the host writes it, quotes and `W/` included; None if it gives none"""


async def download(
    asset: Asset, leases: LeaseCache, *, known_etag: str | None = None, limit: int, retry: RetryPolicy = READ
) -> Downloaded | None:
    """Return the whole of a file; None if it is still the one that is known.

    To be run on the process's own loop (`IoLoop`).

    Parameters
    ----------
    asset
        Of an archive, or a plain URL.
    leases
        Of this process.
    known_etag
        Of the content that is here already: a file that still has it is not sent again.
    limit
        Bytes of the file, at most; a larger one is given up as soon as that shows.
    retry
        Bounds of the retries.

    Raises
    ------
    InvalidReferences
        If the file is larger than `limit`.
    LindiError
        If it can't be had, as with ranges.
    """
    stores = LeasedStores(leases, concurrency=1, retry=retry, timeout_s=_TIMEOUT_S)
    return await stores.run(asset, partial(_request, asset=asset, known_etag=known_etag, limit=limit))


async def _request(store: HTTPStore, *, asset: Asset, known_etag: str | None, limit: int) -> Downloaded | None:
    tag = if_none_match(known_etag)
    options: GetOptions = {} if tag is None else {"if_none_match": tag}
    try:
        answer = await obstore.get_async(store, "", options=options)
    except NotModifiedError:
        if tag is None:
            raise
        return None
    size, etag = answer.meta["size"], answer.meta["e_tag"]
    if tag is not None and etag is not None and same_etag(etag, tag):
        return None  # the host knows tags, but not the question
    if size > limit:
        raise _too_large(asset, limit)
    return Downloaded(await _body(answer, asset, size), etag)


async def peek(asset: Asset, leases: LeaseCache, nbytes: int, *, retry: RetryPolicy = READ) -> Start:
    """Return the first bytes of a file, at most `nbytes`, and what its host says of it.

    To be run on the process's own loop (`IoLoop`). Raises the errors of `download`.
    """
    stores = LeasedStores(leases, concurrency=1, retry=retry)
    return await stores.run(asset, partial(_peek, asset=asset, nbytes=nbytes), stop=nbytes)


async def _peek(store: HTTPStore, *, asset: Asset, nbytes: int) -> Start:
    try:
        answer = await obstore.get_async(store, "", options={"range": (0, nbytes)})
    except NotSupportedError:  # a host that knows no ranges: what follows the start is left unread
        answer = await obstore.get_async(store, "")
    except BaseError as error:
        if status_of(error) != 416:
            raise
        return Start(b"", 0, None)  # of a file without a byte there is no range
    size = answer.meta["size"]
    return Start(await _body(answer, asset, min(size, nbytes)), size, answer.meta["e_tag"])


async def _body(answer: GetResult, asset: Asset, wanted: int) -> bytes:
    """Return the first `wanted` bytes of an answer, and read no further; raise `StorageUnavailable` for fewer."""
    pieces: list[bytes] = []
    held = 0
    async for piece in answer.stream(min_chunk_size=min(_PIECE, max(wanted, 1))):
        pieces.append(bytes(piece))
        held += len(piece)
        if held >= wanted:
            break
    if held < wanted:
        raise StorageUnavailable(f"{asset}: the storage host sent {held} bytes where {wanted} were due.")
    content = b"".join(pieces)[:wanted]
    if content.startswith(b"<?xml") and b"<Error>" in content[:512]:
        raise StorageUnavailable(f"{asset}: the storage host answered 200, but sent an error in place of the file.")
    return content


def _too_large(asset: Asset, limit: int) -> InvalidReferences:
    reason = f"it is larger than {limit} bytes"
    return InvalidReferences(f"{asset} is not a reference file: {reason}.", key=None, reason=reason)
