"""References -> a session's card: who, when, of whom, what was recorded, and how it is stored. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from lindi_dask.listing import ArrayRow, GroupRow, LinkRow, Row, as_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Clock", "Fact", "Recording", "SessionCard", "SourceState", "Table", "card_as_json", "card_of", "wanted"]

# Where NWB keeps what is said of a session (https://nwb-schema.readthedocs.io/en/latest/format.html#sec-nwbfile)
_FACTS: Final = {
    "session_description": "session_description",
    "experiment_description": "general/experiment_description",
    "session_start_time": "session_start_time",
    "identifier": "identifier",
    "session_id": "general/session_id",
    "experimenter": "general/experimenter",
    "lab": "general/lab",
    "institution": "general/institution",
    "keywords": "general/keywords",
    **{
        name: f"general/subject/{name}"
        for name in ("subject_id", "species", "strain", "genotype", "sex", "age", "date_of_birth", "weight")
    },
}
# What other files say of themselves: https://cfconventions.org, https://wiki.esipfed.org/Attribute_Convention_for_Data_Discovery_1-3
_ATTRIBUTES: Final = ("title", "institution", "source", "summary", "history", "Conventions")
_DEVICES: Final = "general/devices/"
_MOST_VALUES: Final = 1000  # elements: a fact of more is none


@dataclass(frozen=True, slots=True)
class Fact:
    """Something that is said of the session."""

    name: str
    """as in NWB, or the name of the root's attribute"""
    values: tuple[str, ...]
    unreadable: str | None = None
    """why there are no values"""


@dataclass(frozen=True, slots=True)
class Clock:
    """First and last moment that a `timestamps` holds, or a `starting_time`, in seconds from the session's start."""

    first_s: float
    last_s: float


@dataclass(frozen=True, slots=True)
class Recording:
    """A time series."""

    path: str
    """of its group, from the root, without a leading slash"""
    neurodata_type: str | None
    data: ArrayRow
    regular: bool
    """whether it has a rate, and not timestamps"""
    rate: float | None
    """hertz; of timestamps their mean; None if they were not read"""
    starts_s: float | None
    """seconds from the session's start"""
    lasts_s: float | None
    """seconds, from the first sample to one sample past the last"""


@dataclass(frozen=True, slots=True)
class Table:
    """A DynamicTable."""

    path: str
    """from the root, without a leading slash"""
    neurodata_type: str | None
    rows: int
    columns: tuple[str, ...]
    """without the indexes of ragged ones"""


@dataclass(frozen=True, slots=True)
class SourceState:
    """A file that chunks lie in, and whether it can be read."""

    name: str
    """of an asset, or a URL without its query, or a path"""
    access: str
    """"public", "embargoed, open to your key", "embargoed, closed to you", "embargoed" (the archive gave no answer to
    the key), "unknown", "not asked", "plain URL", "local file", "refused" (the URL may not be read)"""
    reason: str | None
    """why it can't be read or is not known, and what to do"""


@dataclass(frozen=True, slots=True)
class SessionCard:
    """What references are of."""

    nwb_version: str | None
    """None: they are of no NWB session"""
    facts: tuple[Fact, ...]
    devices: tuple[str, ...]
    recordings: tuple[Recording, ...]
    tables: tuple[Table, ...]
    arrays: tuple[ArrayRow, ...]
    """all of them"""
    unreadable: tuple[tuple[str, str], ...]
    """path of an array or a link that can't be read, and why"""
    groups: int
    links: int
    sources: tuple[SourceState, ...]
    more_sources: int
    """files besides those in `sources`"""

    @property
    def lasts_s(self) -> float | None:
        """Seconds from the session's start to the end of its last recording; None if no end is known."""
        ends = [one.starts_s + one.lasts_s for one in self.recordings if one.starts_s is not None and one.lasts_s]
        return max(ends, default=None)

    @property
    def nbytes(self) -> int:
        """Bytes of all numeric elements."""
        return sum(array.nbytes or 0 for array in self.arrays)

    @property
    def stored_nbytes(self) -> int:
        """Bytes of all chunks that were counted, encoded."""
        return sum(array.stored.nbytes or 0 for array in self.arrays if array.stored is not None)


def wanted(rows: Sequence[Row]) -> tuple[dict[str, str], list[str]]:
    """Return what has to be read for a card: paths of facts by name, and paths of starting times and timestamps."""
    nodes = {row.path: row for row in rows}
    facts = {}
    for name, path in _FACTS.items():
        array = _array(nodes, path)
        if array is not None and math.prod(array.shape) <= _MOST_VALUES:
            facts[name] = array.path
    clocks = [clock.path for _, _, clock in _series(nodes) if clock.unreadable is None and 0 not in clock.shape]
    return facts, list(dict.fromkeys(clocks))


def card_of(
    rows: Sequence[Row],
    attributes: Mapping[str, Any],
    facts: Sequence[Fact],
    clocks: Mapping[str, Clock],
    sources: Sequence[SourceState],
    *,
    more_sources: int = 0,
) -> SessionCard:
    """Return the card of some references.

    Parameters
    ----------
    rows
        All of `list_rows`.
    attributes
        Of the root.
    facts, clocks
        What was read of `wanted`; clocks by path.
    sources, more_sources
        Files that chunks lie in, and how many others there are.
    """
    nodes = {row.path: row for row in rows}
    version = attributes.get("nwb_version")
    is_nwb = attributes.get("neurodata_type") == "NWBFile"
    own = [] if is_nwb else [Fact(name, (str(attributes[name]),)) for name in _ATTRIBUTES if attributes.get(name)]
    arrays = tuple(row for row in rows if isinstance(row, ArrayRow))
    return SessionCard(
        nwb_version=str(version or "unknown") if is_nwb else None,
        facts=(*facts, *own),
        devices=tuple(_names_below(rows, _DEVICES)),
        recordings=tuple(_recording(group, data, clock, clocks) for group, data, clock in _series(nodes)),
        tables=tuple(_tables(nodes)),
        arrays=arrays,
        unreadable=tuple(
            (row.path, row.unreadable) for row in rows if not isinstance(row, GroupRow) and row.unreadable is not None
        ),
        groups=sum(isinstance(row, GroupRow) for row in rows),
        links=sum(isinstance(row, LinkRow) for row in rows),
        sources=tuple(sources),
        more_sources=more_sources,
    )


def _names_below(rows: Sequence[Row], folder: str) -> list[str]:
    names = [row.path.removeprefix(folder) for row in rows if row.path.startswith(folder)]
    return [name for name in names if "/" not in name]


def _array(nodes: Mapping[str, Row], path: str) -> ArrayRow | None:
    """Return the array at a path, past a link."""
    row = nodes.get(path)
    if isinstance(row, LinkRow) and row.target is not None:
        row = nodes.get(row.target)
    return row if isinstance(row, ArrayRow) else None


def _series(nodes: Mapping[str, Row]) -> list[tuple[GroupRow, ArrayRow, ArrayRow]]:
    """Return groups that are time series, whatever their type: with their data, and their times."""
    found = []
    for row in nodes.values():
        if isinstance(row, GroupRow):
            data = _array(nodes, f"{row.path}/data")
            clock = _array(nodes, f"{row.path}/starting_time") or _array(nodes, f"{row.path}/timestamps")
            if data is not None and data.shape and clock is not None:
                found.append((row, data, clock))
    return found


def _recording(group: GroupRow, data: ArrayRow, clock: ArrayRow, clocks: Mapping[str, Clock]) -> Recording:
    read = clocks.get(clock.path)
    samples = data.shape[0]
    regular = not clock.shape
    rate = clock.rate if regular else None
    if read is not None and not regular and read.last_s > read.first_s:
        rate = (clock.shape[0] - 1) / (read.last_s - read.first_s)
    return Recording(
        path=group.path,
        neurodata_type=group.neurodata_type,
        data=data,
        regular=regular,
        rate=rate,
        starts_s=None if read is None else read.first_s,
        lasts_s=samples / rate if rate else None,
    )


def _tables(nodes: Mapping[str, Row]) -> list[Table]:
    children: dict[str, list[str]] = {}
    for path in nodes:
        if _array(nodes, path) is not None:
            folder, _, name = path.rpartition("/")
            children.setdefault(folder, []).append(name)
    found = []
    for row in nodes.values():
        ids = _array(nodes, f"{row.path}/id")
        if isinstance(row, GroupRow) and ids is not None and ids.neurodata_type == "ElementIdentifiers":
            names = children.get(row.path, [])
            columns = [name for name in names if name != "id" and not _is_index(name, names)]
            found.append(Table(row.path, row.neurodata_type, ids.shape[0] if ids.shape else 0, tuple(columns)))
    return found


def _is_index(name: str, names: Sequence[str]) -> bool:
    return name.endswith("_index") and name.removesuffix("_index") in names


def card_as_json(card: SessionCard) -> dict[str, Any]:
    """Return a card as a JSON object."""
    return {
        "nwb_version": card.nwb_version,
        "facts": {fact.name: list(fact.values) for fact in card.facts if fact.unreadable is None},
        "facts_unreadable": {fact.name: fact.unreadable for fact in card.facts if fact.unreadable is not None},
        "devices": card.devices,
        "lasts_s": card.lasts_s,
        "recordings": [
            {
                "path": f"/{one.path}",
                "neurodata_type": one.neurodata_type,
                "regular": one.regular,
                "rate": one.rate,
                "starts_s": one.starts_s,
                "lasts_s": one.lasts_s,
                "data": as_json(one.data),
            }
            for one in card.recordings
        ],
        "tables": [
            {"path": f"/{one.path}", "neurodata_type": one.neurodata_type, "rows": one.rows, "columns": one.columns}
            for one in card.tables
        ],
        "arrays": len(card.arrays),
        "groups": card.groups,
        "links": card.links,
        "nbytes": card.nbytes,
        "stored_nbytes": card.stored_nbytes,
        "unreadable": [{"path": f"/{path}", "reason": reason} for path, reason in card.unreadable],
        "sources": [{"name": one.name, "access": one.access, "reason": one.reason} for one in card.sources],
        "more_sources": card.more_sources,
    }
