"""What is to be done for each asset of a dandiset, and where the result goes. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from lindi_dask.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from lindi_dask.types import AssetInfo

    Event = dict[str, Any]

__all__ = [
    "BEGUN",
    "DONE",
    "ENDINGS",
    "FAILED",
    "MOVED",
    "Dues",
    "Failure",
    "dues_of",
    "identity_of",
    "last_of",
    "place_of",
    "shares_of",
]

ENDINGS: Final = (".lindi.json", ".json", ".parquet", ".lindi.d")
"""of the references that may be written"""

BEGUN: Final = "begun"
DONE: Final = "done"
MOVED: Final = "moved"
FAILED: Final = "failed"
_MOST_SHARES: Final = 16  # of an asset: each of them reads the file's metadata anew
_LONGEST: Final = 200  # bytes of a part of a path: file systems take 255, with what is put around it


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an asset has no references."""

    kind: str
    """name of the error's class"""
    reason: str
    """what happened, and what to do"""
    attempts: int
    """in the last run"""


def place_of(path: str, ending: str) -> PurePosixPath:
    """Return where the references of an asset go, from the folder of all: no two assets have the same place.

    Raises
    ------
    ConfigurationError
        If the asset's path would lead out of the folder, or into the job's own.
    """
    parts = path.split("/")
    bad = {"", ".", ".."}
    if any(part in bad or "\0" in part or len(part.encode()) > _LONGEST for part in parts) or parts[0].startswith("."):
        raise ConfigurationError(f"The asset's path {path!r} can't be that of a file here: index it by itself.")
    return PurePosixPath(f"{path}{ending}")


def identity_of(info: AssetInfo, settings: Mapping[str, Any]) -> Event:
    """Return what the index of an asset depends on: as long as it is the same, so are the references but for their URL.

    `blob` stands for the file's content, as its ETag does, which takes the archive 20 times as long to list.
    """
    return {"blob": info.blob, "size": info.size, "settings": dict(settings)}


def last_of(events: Iterable[Event]) -> dict[str, Event]:
    """Return the last that became of each asset, by its path."""
    return {event["path"]: event for event in events if event["event"] in {DONE, MOVED, FAILED}}


@dataclass(frozen=True, slots=True)
class Dues:
    """What is to be done."""

    index: list[AssetInfo]
    """have to be indexed, the largest first: so that none of those is begun as the last"""
    move: list[AssetInfo]
    """have another id than their references say: the bytes are the same"""


def dues_of(
    infos: Iterable[AssetInfo],
    last: Mapping[str, Event],
    settings: Mapping[str, Any],
    is_there: Callable[[AssetInfo], bool],
) -> Dues:
    """Return what is to be done.

    Parameters
    ----------
    infos
        All assets.
    last
        What became of them up to now.
    settings
        That references depend on.
    is_there
        Whether an asset's results are where they belong.
    """
    dues = Dues([], [])
    for info in infos:
        event = last.get(info.path, {"event": FAILED})
        same = identity_of(info, settings)
        if event["event"] == FAILED or same != {name: event.get(name) for name in same} or not is_there(info):
            dues.index.append(info)
        elif event["asset"] != info.asset.id:
            dues.move.append(info)
    dues.index.sort(key=lambda info: (-info.size, info.path))
    return dues


def shares_of(size: int, split: int) -> int:
    """Return how many tasks the chunk indexes of an asset's datasets are dealt to; 0: it is one task.

    Parameters
    ----------
    size
        Bytes of the asset.
    split
        Bytes that one task is to take on.
    """
    return min(-(-size // split), _MOST_SHARES) if size > split else 0
