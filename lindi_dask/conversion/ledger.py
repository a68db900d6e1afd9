"""What a conversion's ledger says of its objects.

`done` says that an object is stored: array and place, bytes (null: all fill value, no object), digest, seconds of each
step. `failed` and `set_aside` have the reason, `started` and `ended` what a run was, `sample` what was read and held
meanwhile. All but `done` are for reports only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lindi_dask.jobs.ledger import events_of

if TYPE_CHECKING:
    from pathlib import Path

    from lindi_dask.conversion.plan import Shard

__all__ = ["Stored", "stored_of"]


@dataclass(frozen=True, slots=True)
class Stored:
    """An object that is done."""

    nbytes: int | None
    """None: all of its block holds the fill value, and there is no object"""
    digest: str
    """SHA-256, hexadecimal"""


def stored_of(path: Path) -> dict[Shard, Stored]:
    """Return what a ledger says is done, by (array, place); the last line about an object holds."""
    done: dict[Shard, Stored] = {}
    for event in events_of(path):
        if event["event"] == "done":
            done[event["array"], event["place"]] = Stored(event["nbytes"], event["digest"])
    return done
