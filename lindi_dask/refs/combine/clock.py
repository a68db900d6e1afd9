"""The time axis of NWB sessions that follow each other: https://nwb-schema.readthedocs.io, TimeSeries. Pure.

All times of a session are seconds from its `timestamps_reference_time`, which is `session_start_time` if not given. A
series has `timestamps`, or a `starting_time` and a rate, which leaves no room for a gap.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from lindi_dask.refs.combine.arrays import small_values
from lindi_dask.refs.combine.parts import disagreement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lindi_dask.refs.combine.parts import Tree
    from lindi_dask.refs.references import SourceTable

__all__ = ["Series", "check_order", "check_starts", "series_of", "shifts_of"]

_CLOCKS: Final = ("timestamps_reference_time", "session_start_time")  # of the root; the first that is there counts
_TOLERANCE: Final = 0.1  # of the time between two samples
_TIMED: Final = ("data", "timestamps", "control")
_UNTIMED: Final = frozenset(
    (
        "channel_conversion", "control_description", "dimension", "electrodes", "external_file", "feature_units",
        "features", "field_of_view", "rois", "source_channels", "starting_time",
    )
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Series:
    """A time series."""

    path: str
    """of its group"""
    rows: str
    """path of the array that says how many samples there are, past links"""
    timed: tuple[str, ...]
    """paths of arrays that must have a row a sample, past links"""
    others: tuple[str, ...]
    """paths of arrays that the schema does not know, past links"""
    timestamps: str | None
    """path, past links"""
    starting_time: str | None
    """path, past links"""

    def along(self, trees: Sequence[Tree]) -> list[str]:
        """Return the paths of arrays along time; of those that the schema does not know, if they have as many rows."""
        rows = [tree.nodes[self.rows]["shape"][0] for tree in trees]
        fit = [path for path in self.others if [tree.nodes[path]["shape"][:1] for tree in trees] == [[n] for n in rows]]
        return [*self.timed, *(fit if max(rows) > 1 else ())]


def series_of(tree: Tree) -> list[Series]:
    """Return the time series: groups with data and times, whatever their types are called."""
    found = []
    for path, node in tree.nodes.items():
        if tree.is_array(path) or "colnames" in node["attributes"]:  # a table may have a column "timestamps"
            continue
        members = {name: target for name, target in tree.members(path).items() if tree.is_array(target)}
        start = members.get("starting_time")
        has_rate = start is not None and "rate" in tree.nodes[start]["attributes"]
        timed = "timestamps" in members or has_rate
        if not timed or not ("data" in members or node["attributes"].get("neurodata_type")):
            continue
        along = [members[name] for name in _TIMED if name in members and tree.nodes[members[name]]["shape"]]
        if along:
            others = [one for name, one in members.items() if name not in _UNTIMED and one not in along]
            timestamps = members.get("timestamps")
            start = None if timestamps is not None else start
            found.append(Series(path, along[0], tuple(along), tuple(others), timestamps, start))
    return found


def shifts_of(trees: Sequence[Tree], sources: SourceTable) -> list[float]:
    """Return how many seconds each part's times have to be put forward to count from where those of the first do.

    Raises
    ------
    PartsDisagree
        If the moments that they count from can't be compared, or are more or less than one.
    LindiError
        Of values that are read.
    """
    found: list[tuple[str, str]] = []
    for tree in trees:
        path = next((name for name in _CLOCKS if tree.is_array(name) and name not in tree.unreadable), None)
        found.append(("", "") if path is None else (path, str(_one_value(tree, path, sources))))
    texts = [text for _, text in found]
    if len(set(texts)) == 1:
        return [0.0] * len(trees)
    moments = [_moment(text) for text in texts]
    for tree, (path, text), moment in zip(trees, found, moments, strict=True):
        first = moments[0]
        if moment is None or first is None or (moment.tzinfo is None) != (first.tzinfo is None):
            reason = f"{tree.name} counts times from {text!r}, but {trees[0].name} from {texts[0]!r}: what lies between"
            raise disagreement(path or _CLOCKS[1], tree.name, f"{reason} them can't be told")
    return [(moment - moments[0]).total_seconds() for moment in moments]  # type: ignore[operator] # none is None


def _moment(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def check_starts(series: Series, trees: Sequence[Tree], shifts: Sequence[float], sources: SourceTable) -> None:
    """Raise for a series at a fixed rate whose parts don't follow each other without a gap.

    Raises
    ------
    PartsDisagree
        If they don't, by more than a tenth of a sample (it names the gap), or if a start is not one number.
    LindiError
        Of values that are read.
    """
    path = series.starting_time
    if path is None:
        return
    rate = _number(trees[0].nodes[path]["attributes"].get("rate"))
    if rate is None or rate <= 0:
        raise disagreement(series.path, trees[0].name, "its starting_time has no rate that is a positive number")
    first, rows = 0.0, 0
    for i, (tree, shift) in enumerate(zip(trees, shifts, strict=True)):
        start = _number(_one_value(tree, path, sources))
        if start is None:
            raise disagreement(series.path, tree.name, f"the starting_time of {tree.name} is not a finite number")
        if i == 0:
            first = start + shift
        gap = start + shift - (first + rows / rate)
        if abs(gap) * rate > _TOLERANCE:
            what = "after" if gap > 0 else "before"
            reason = (
                f"{tree.name} starts {abs(gap):.6g} s {what} the end of the parts in front of it, which a "
                f"starting_time and one rate ({rate:g} Hz) can't say"
            )
            raise disagreement(series.path, tree.name, reason)
        rows += tree.nodes[series.rows]["shape"][0]


def check_order(path: str, trees: Sequence[Tree], shifts: Sequence[float], sources: SourceTable) -> None:
    """Raise for timestamps of which a part's first are before the last of those in front of it."""
    last = -math.inf
    for tree, shift in zip(trees, shifts, strict=True):
        values: Any = np.asarray(small_values(tree, path, sources), float).reshape(-1) + shift
        if len(values) and values[0] < last:
            reason = f"{tree.name} starts at {values[0]:.6f} s, before the last of those in front of it ({last:.6f} s)"
            raise disagreement(path, tree.name, f"{reason}. Give the parts in the order of time")
        if len(values):
            last = float(values[-1])


def _one_value(tree: Tree, path: str, sources: SourceTable) -> Any:  # noqa: ANN401 - of any type
    shape = tree.nodes[path]["shape"]
    if math.prod(shape) != 1:
        raise disagreement(path, tree.name, f"it has the shape {shape} in {tree.name}, but has to be one value")
    return small_values(tree, path, sources).item()


def _number(value: Any) -> float | None:  # noqa: ANN401 - whatever an attribute has
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if is_number else None
