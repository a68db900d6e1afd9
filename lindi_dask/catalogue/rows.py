"""Cards of sessions -> rows of the catalogue: one a dataset, and what there is of each kind. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    Json = dict[str, Any]

__all__ = ["Kind", "Session", "kinds_of", "rows_of", "session_of"]


@dataclass(frozen=True, slots=True)
class Session:
    """What an asset holds, in a line."""

    path: str
    """of the asset"""
    references: str
    """their path, from the folder of the catalogue"""
    session: str | None
    """its id, or else its identifier"""
    subject: str | None
    species: str | None
    start: str | None
    """ISO 8601, as it is written in the file"""
    size: int
    """bytes of the asset"""
    nbytes: int
    """bytes of all numeric elements"""
    lasts_s: float | None
    """seconds, from the session's start to the end of its last recording; None if that is not known"""
    series: tuple[Json, ...]
    """its rows that are the data of a time series"""
    arrays: int
    unreadable: tuple[tuple[str, str], ...]
    """path of an array or a link that can't be read, and why"""


@dataclass(slots=True)
class Kind:
    """Time series that have the type and the layout in common."""

    neurodata_type: str | None
    dtype: str | None
    chunks: tuple[int, ...]
    codec: str
    series: int = 0
    nbytes: int = 0
    """bytes of elements"""
    stored_nbytes: int = 0
    """bytes, encoded"""
    rates: set[float] = field(default_factory=set)
    """hertz"""

    @property
    def ratio(self) -> float | None:
        """How many times as large the elements are as what is stored of them."""
        return self.nbytes / self.stored_nbytes if self.stored_nbytes else None


def rows_of(card: Json) -> Iterator[Json]:
    """Yield a row for each array of an asset.

    Parameters
    ----------
    card
        Of a session, in values that JSON has, with its `path`, `asset` and `arrays`.
    """
    facts = card["facts"]
    groups = {one["path"]: one for one in card["recordings"]}
    types = {one["path"]: one["neurodata_type"] for one in [*card["recordings"], *card["tables"]]}
    data = {recording["data"]["path"]: path for path, recording in groups.items()}
    for array in card["arrays"]:
        path = array["path"]
        recording = groups.get(data.get(path, ""), {})
        yield {
            "asset_path": card["path"],
            "asset_id": card["asset"],
            "session": _first(facts, "session_id", "identifier"),
            "session_start": _first(facts, "session_start_time"),
            "subject": _first(facts, "subject_id"),
            "species": _first(facts, "species"),
            "path": path,
            "neurodata_type": recording.get("neurodata_type") or array["neurodata_type"],
            "parent_type": types.get(path.rpartition("/")[0]),
            "shape": list(array["shape"]),
            "dtype": array["dtype"],
            "chunks": list(array["chunk_shape"]),
            "chunk_count": array["chunks_listed"],
            "codec": "+".join(array["codecs"]),
            "ratio": array["ratio"],
            "unit": array["unit"],
            "rate_hz": recording.get("rate") if recording else array["rate"],
            "start_s": recording.get("starts_s"),
            "duration_s": recording.get("lasts_s"),
            "is_series": bool(recording),
            "nbytes": array["nbytes"],
            "stored_nbytes": array["stored_nbytes"],
            "unreadable": array["unreadable"],
        }


def session_of(card: Json) -> Session:
    """Return what the page says of an asset."""
    facts = card["facts"]
    rows = list(rows_of(card))
    return Session(
        path=card["path"],
        references=card["references"],
        session=_first(facts, "session_id", "identifier"),
        subject=_first(facts, "subject_id"),
        species=_first(facts, "species"),
        start=_first(facts, "session_start_time"),
        size=card["size"],
        nbytes=card["nbytes"],
        lasts_s=card["lasts_s"],
        series=tuple(row for row in rows if row["is_series"]),
        arrays=len(rows),
        unreadable=tuple((one["path"], one["reason"]) for one in card["unreadable"]),
    )


def kinds_of(sessions: Iterable[Session]) -> list[Kind]:
    """Return what kinds of time series there are, those with the most bytes first."""
    kinds: dict[tuple[Any, ...], Kind] = {}
    for session in sessions:
        for row in session.series:
            key = (row["neurodata_type"], row["dtype"], tuple(row["chunks"]), row["codec"])
            kind = kinds.setdefault(key, Kind(*key))
            kind.series += 1
            # Of both, or of neither: else the ratio would say nothing
            if row["nbytes"] is not None and row["stored_nbytes"] is not None:
                kind.nbytes += row["nbytes"]
                kind.stored_nbytes += row["stored_nbytes"]
            if row["rate_hz"] is not None:
                kind.rates.add(round(row["rate_hz"], 3))
    return sorted(kinds.values(), key=lambda kind: -kind.nbytes)


def _first(facts: Json, *names: str) -> str | None:
    """Return the first of some facts that there is."""
    for name in names:
        values = facts.get(name)
        if values and values[0]:
            return str(values[0])
    return None
