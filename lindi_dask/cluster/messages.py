"""What travels between workers, scheduler and clients: leases, errors, wishes. Pure.

A lease is a presigned URL and the seconds that it has left, since the clocks of two machines have nothing in common.
Errors are answered, never raised: distributed logs what a handler raises, and sends its context along.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

from lindi_dask import errors
from lindi_dask.errors import LindiError
from lindi_dask.types import Lease

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lindi_dask.types import Asset

__all__ = ["CLOSE", "GIVEN", "LEASES", "OFFER", "REFERENCES", "STATUS", "TOKENS", "WANTED", "Sealed", "Wish"]

GIVEN: Final = "lindi-dask-leases"
"""the workers' plugin"""
WANTED: Final = "lindi-dask-references-wanted"
"""topic of the events by which clients hear which references a worker lacks"""

# Names of the scheduler's handlers
LEASES: Final = "lindi_dask_leases"
STATUS: Final = "lindi_dask_status"
TOKENS: Final = "lindi_dask_tokens"
REFERENCES: Final = "lindi_dask_references"
OFFER: Final = "lindi_dask_offer"
CLOSE: Final = "lindi_dask_close"

Message = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Wish:
    """What a worker wants of the broker: a lease on an asset."""

    instance: str
    """by its name; the broker knows its URL"""
    asset_id: str
    have: int | None = None
    """number of the lease that the worker has, which it wants one after if there is any"""
    refused: bool = False
    """whether the storage host did not take that lease"""

    @classmethod
    def of(cls, asset: Asset, have: int | None, *, refused: bool) -> Self:
        """Return the wish for a lease on an asset of an instance."""
        if asset.instance is None:
            raise TypeError("a plain URL needs no lease")
        return cls(asset.instance.name, asset.id, have, refused)

    def message(self) -> list[Any]:
        """Return what travels."""
        return [self.instance, self.asset_id, self.have, self.refused]

    @classmethod
    def read(cls, message: list[Any]) -> Self:
        """Return the wish in a message."""
        instance, asset_id, have, refused = message
        return cls(str(instance), str(asset_id), have, bool(refused))


class Sealed:
    """A secret on its one way to the scheduler; whatever prints it, shows nothing."""

    def __init__(self, content: Mapping[str, str]) -> None:
        self._content = dict(content)

    def open(self) -> dict[str, str]:
        """Return the secret."""
        return self._content

    def __repr__(self) -> str:
        return "<sealed>"


def lease_message(lease: Lease, number: int, now: float) -> Message:
    """Return a lease as it travels, `now` being a reading of the clock that its times are of."""
    return {
        "url": lease.url,
        "number": number,
        "expires_in_s": lease.expires_at - now,
        "dead_in_s": lease.dead_at - now,
    }


def read_lease(message: Message, *, sent_at: float, received_at: float) -> Lease:
    """Return the lease in a message, its times by the clock of this process.

    Parameters
    ----------
    message
        Of `lease_message`.
    sent_at, received_at
        Seconds, monotonic clock: when the broker was asked, and when it had answered. Its reading lies between.
    """
    return Lease(message["url"], received_at, sent_at + message["expires_in_s"], received_at + message["dead_in_s"])


def error_message(error: LindiError) -> Message:
    """Return an error as it travels."""
    return {"kind": type(error).__name__, "text": str(error), "attributes": dict(vars(error))}


def read_error(message: Message) -> LindiError:
    """Return the error in a message."""
    kind = getattr(errors, message["kind"], None) if message["kind"] in errors.__all__ else None
    error: LindiError = (kind or LindiError)(message["text"], **message["attributes"])
    return error
