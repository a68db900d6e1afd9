"""One request for a range, held to what the references say of the file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import BaseError

from lindi_dask.errors import StorageUnavailable
from lindi_dask.transport.etags import if_match
from lindi_dask.transport.outcomes import contradiction, status_of

if TYPE_CHECKING:
    from obstore import GetOptions
    from obstore.store import HTTPStore

    from lindi_dask.types import Target

__all__ = ["get_range"]


async def get_range(
    store: HTTPStore, *, target: Target, start: int, stop: int | None, unconfirmed: set[Target]
) -> memoryview:
    """One request. Raises what obstore does, `SourceMismatch`, and `StorageUnavailable` for another attempt."""
    if stop is not None and target.etag is None and target.size is None:
        # Nothing is claimed but that the bytes are there: this call is the faster one, and says nothing else
        data = memoryview(await obstore.get_range_async(store, "", start=start, end=stop))
        if len(data) == stop - start:
            return data
        # Where the range reaches behind the end of the file, S3 sends what there is; any other number is a fault
    options: GetOptions = {"range": {"offset": start} if stop is None else (start, stop)}
    tag = if_match(target.etag)
    if tag is not None:
        options["if_match"] = tag
    try:
        answer = await obstore.get_async(store, "", options=options)
        size, etag = answer.meta["size"], answer.meta["e_tag"]
    except BaseError as error:
        if start > 0 or stop is not None or status_of(error) != 416:
            raise
        answer, size, etag = None, 0, None  # of a file without a byte there is no range
    wrong = contradiction(target, size, etag, start, stop)
    if wrong is not None:
        raise wrong
    if tag is not None and if_match(etag) is None:
        unconfirmed.add(target)
    data = memoryview(b"" if answer is None else await answer.bytes_async())
    wanted = (size if stop is None else stop) - start
    if len(data) != wanted:
        raise StorageUnavailable(
            f"{target.asset}: the storage host sent {len(data)} bytes where {wanted} were asked for."
        )
    return data
