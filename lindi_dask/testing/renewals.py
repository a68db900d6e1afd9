"""How many exchanges renewed a lease in mid-job."""

from collections.abc import Iterable

from lindi_dask.testing.records import Request


def count_renewals(requests: Iterable[Request]) -> int:
    """Count the exchanges that a client made between its own reads of an asset.

    An exchange counts when its client had read data of the asset before it, and read data of the asset after it
    through this or a later exchange of its own. Reads that were still under way on an older lease prove nothing,
    and neither does a client's first exchange, nor one whose lease was never used nor followed by one that was.

    Parameters
    ----------
    requests
        Records in the order of their answers, as ``EmbeddedArchive.requests`` has them.
    """
    has_read: set[tuple[str, str]] = set()
    waiting: dict[tuple[str, str], list[int]] = {}
    renewals = 0
    for request in requests:
        if request.asset_id is None or request.exchange is None:
            continue
        who = (request.client, request.asset_id)
        if request.is_download:
            if who in has_read:
                waiting.setdefault(who, []).append(request.exchange)
        elif request.is_read:
            has_read.add(who)
            pending = waiting.get(who, [])
            renewals += sum(exchange <= request.exchange for exchange in pending)
            waiting[who] = [exchange for exchange in pending if exchange > request.exchange]
    return renewals
