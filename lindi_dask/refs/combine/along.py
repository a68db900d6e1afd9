"""Parts of one recording, one behind the other along a dimension. Pure.

What lies along it is concatenated; all else has to be the same in all parts, but for what only describes the files.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from lindi_dask.errors import ConfigurationError
from lindi_dask.refs.combine.arrays import add_concatenated, is_small, small_values
from lindi_dask.refs.combine.clock import check_order, check_starts, series_of, shifts_of
from lindi_dask.refs.combine.parts import Chunks, disagreement, trees_of
from lindi_dask.refs.combine.whole import Whole
from lindi_dask.refs.dialect.v2_kinds import shortened
from lindi_dask.refs.manifest import Locations

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lindi_dask.refs.combine.clock import Series
    from lindi_dask.refs.combine.parts import Part, Tree
    from lindi_dask.refs.references import References, SourceTable

__all__ = ["concatenated"]

_log = logging.getLogger(__name__)

_DESCRIPTIVE: Final = frozenset(
    (
        "NAME", "comments", "date_created", "date_modified", "description", "help", "history", "institution", "notes",
        "references", "source", "title",
    )
)  # fmt: skip
"""attributes that say nothing of values; netCDF's `NAME` of a dimension without a variable holds its length"""
_LOOKED_AT_ELSEWHERE: Final = frozenset(("_ARRAY_DIMENSIONS", "object_id"))  # the second is another in each file
_MEANING: Final = frozenset(("data_type", "namespace", "neurodata_type", "nwb_version", "unit", "units"))
_DESCRIBED_IN: Final = ("", "general", "specifications")  # groups whose texts are of the file, and of no sample
_TABLE_TIMES: Final = frozenset(("start_time", "stop_time", "spike_times", "obs_intervals"))


def concatenated(parts: Sequence[Part], *, along: str, drop: Iterable[str]) -> References:
    """Concatenate parts of one recording, in their order.

    Parameters
    ----------
    parts
        One or more.
    along
        Name of the dimension. `time` is also the first dimension of NWB's time series.
    drop
        Paths of groups, arrays and links that are left out.

    Raises
    ------
    PartsDisagree
        If the parts don't fit; it names the array or group, the part and both values.
    ConfigurationError
        If there is nothing along the dimension, or nothing at a path of `drop`.
    LindiError
        Of values that are read.
    """
    trees, sources = trees_of(parts)
    _drop(trees, drop)
    return _Concatenation(trees, sources, along).made()


def _drop(trees: Sequence[Tree], drop: Iterable[str]) -> None:
    gone = [path.strip("/") for path in drop]
    for path in gone:
        if not any(f"{one}/".startswith(f"{path}/") for tree in trees for one in (*tree.nodes, *tree.links) if one):
            raise ConfigurationError(f"drop: there is no /{path} in any part.")
    for tree in trees:
        tree.drop(gone)


class _Concatenation:
    def __init__(self, trees: list[Tree], sources: SourceTable, along: str) -> None:
        self._trees, self._first, self._along = trees, trees[0], along
        self._whole = Whole(sources)
        self._series: list[Series] = []
        self._shifts = [0.0] * len(trees)

    def made(self) -> References:
        trees, first = self._trees, self._first
        self._check_paths()
        axes = self._axes()
        if not axes:
            raise ConfigurationError(
                f"along: there is nothing along {self._along!r} in {first.name}. Name the dimension, or give the parts "
                "names, which makes each a group."
            )
        for path in first.nodes:
            self._check_attributes(path)
        if self._series and len(trees) > 1:
            self._check_series(axes)
        for path, node in first.nodes.items():
            if not first.is_array(path):
                self._whole.add_group(path, node)
            elif path in self._whole.unreadable:
                self._whole.add_array(path, node, _none(first.chunks[path]), padded=None, selection=None)
            elif path in axes:
                is_times = any(path == one.timestamps for one in self._series)
                add_concatenated(self._whole, path, axes[path], trees, self._shifts if is_times else None)
            else:
                if not any(path == one.starting_time for one in self._series):
                    self._check_same(path)
                self._whole.keep(path, node, first, path)
        for path, target in first.links.items():
            self._whole.links.add(path, f"/{target}")
        return self._whole.references()

    # Trees

    def _check_paths(self) -> None:
        first, unreadable = self._first, self._whole.unreadable
        for tree in self._trees:
            for path, reason in tree.unreadable.items():
                unreadable.setdefault(path, f"in {tree.name}, {reason}")
        for tree in self._trees[1:]:
            for one, other in ((first, tree), (tree, first)):
                for path in one.nodes:
                    if path in other.nodes and one.is_array(path) == other.is_array(path):
                        continue
                    if path not in other.nodes and _describes_file(one, path):
                        _log.warning("/%s is in %s only", path, one.name)
                        continue
                    what = "an array" if one.is_array(path) else "a group"
                    raise disagreement(path, tree.name, f"it is {what} in {one.name}, but not in {other.name}")
            for path in first.links.keys() | tree.links.keys():
                ours, theirs = first.links.get(path), tree.links.get(path)
                if ours != theirs and path not in unreadable:
                    reason = f"it is a link to {_shown(theirs)} in {tree.name}, but to {_shown(ours)} in {first.name}"
                    raise disagreement(path, tree.name, reason)

    def _axes(self) -> dict[str, int]:
        """Return the dimension along which arrays are concatenated, by path."""
        axes: dict[str, int] = {}
        for path in self._first.chunks:
            names = self._first.nodes[path].get("dimension_names") or []
            if names.count(self._along) > 1:
                raise disagreement(path, self._first.name, f"{self._along!r} is the name of two of its dimensions")
            if self._along in names:
                axes[path] = names.index(self._along)
        if self._along == "time":
            self._series = series_of(self._first)
            for series in self._series:
                for path in series.along(self._trees):
                    if axes.setdefault(path, 0):
                        raise disagreement(path, self._first.name, "time is not the first of its dimensions")
        return axes

    def _check_series(self, axes: dict[str, int]) -> None:
        trees, whole = self._trees, self._whole
        self._shifts = shifts_of(trees, whole.sources)
        paths = {series.path for series in self._series}
        for series in self._series:
            if whole.unreadable.keys() & {*series.timed, series.starting_time}:
                continue
            for tree in trees:
                rows = {path: tree.nodes[path]["shape"][:1] for path in series.timed}
                wrong = next((path for path in rows if rows[path] != rows[series.rows]), None)
                if wrong is not None:
                    reason = f"in {tree.name} it has {rows[wrong]} rows, but /{series.rows} has {rows[series.rows]}"
                    raise disagreement(wrong, tree.name, reason)
            check_starts(series, trees, self._shifts, whole.sources)
            times = series.timestamps
            if times is not None and all(_is_at_hand(tree, times, whole.sources) for tree in trees):
                check_order(times, trees, self._shifts, whole.sources)
            if self._first.links.get(f"{series.path}/indexed_timeseries") in paths:
                reason = "its data are numbers of samples in a series of the same part"
                raise disagreement(series.path, self._first.name, reason)
        self._check_tables(axes, paths)

    def _check_tables(self, axes: dict[str, int], paths: set[str]) -> None:
        """Raise for tables that mean other times, or other samples, in each part."""
        first = self._first
        for path in first.chunks.keys() - axes.keys() - self._whole.unreadable.keys():
            if any(self._shifts) and path.rpartition("/")[2] in _TABLE_TIMES:
                reason = "the parts count times from other moments, so that these are other times in each of them"
                raise disagreement(path, self._trees[-1].name, reason)
            fields = first.nodes[path]["attributes"].get("_REFERENCE_FIELDS") or []
            if fields:
                values = small_values(first, path, self._whole.sources)
                pointed = {str(one).strip("/") for field in fields for one in values[field].reshape(-1).tolist()}
                if pointed & paths:
                    reason = f"its rows point at samples of /{min(pointed & paths)}, by their numbers in one part"
                    raise disagreement(path, first.name, reason)

    # What has to be the same

    def _check_attributes(self, path: str) -> None:
        first = self._first
        ours = first.nodes[path]["attributes"]
        for tree in self._trees[1:]:
            if path not in tree.nodes or path in self._whole.unreadable:
                continue
            theirs = tree.nodes[path]["attributes"]
            for name in dict.fromkeys((*ours, *theirs)):
                mine, other = (json.dumps(one.get(name), sort_keys=True) for one in (ours, theirs))
                if mine == other or name in _LOOKED_AT_ELSEWHERE:
                    continue
                if name == "_DTYPE" and "object_reference" not in {ours.get(name), theirs.get(name)}:
                    continue  # it repeats the data type, in references of Zarr v2 only
                is_text = isinstance(ours.get(name, ""), str) and isinstance(theirs.get(name, ""), str)
                if name in _DESCRIPTIVE or (not path and is_text and name not in _MEANING):
                    self._log_difference(tree, f"the attribute {name!r} of /{path}")
                    continue
                reason = f"its attribute {name!r} is {shortened(other)} in {tree.name}, but {shortened(mine)}"
                raise disagreement(path, tree.name, f"{reason} in {first.name}")

    def _check_same(self, path: str) -> None:
        first = self._first
        for tree in self._trees[1:]:
            if path not in tree.nodes or self._is_same(path, tree):
                continue
            if _describes_file(first, path):
                self._log_difference(tree, f"/{path}")
                continue
            reason = f"its values in {tree.name} are not those in {first.name}, and it does not lie along {self._along}"
            raise disagreement(path, tree.name, reason)

    def _is_same(self, path: str, tree: Tree) -> bool:
        """Return whether an array is the same as in the first part."""
        first, sources = self._first, self._whole.sources
        ours, theirs = ({**one.nodes[path], "attributes": {}} for one in (first, tree))
        told = ("shape", "data_type", "dimension_names")
        if any(ours.get(name) != theirs.get(name) for name in told):
            return False
        held = [one.chunks[path].is_held(sources) for one in (first, tree)]
        if all(held) and str(ours) == str(theirs):
            here = [(one.chunks[path].places.tolist(), one.chunks[path].data(sources)) for one in (first, tree)]
            if here[0] == here[1]:
                return True
        for one in (first, tree):
            if not is_small(one, path, sources):
                reason = (
                    f"it does not lie along {self._along}, and is too large to be compared (over 1 MiB, or 64 held)"
                )
                raise disagreement(path, tree.name, reason)
        return _equal(*(np.asarray(one.values(path)) for one in (first, tree)))

    def _log_difference(self, tree: Tree, what: str) -> None:
        _log.warning("%s in %s is not that in %s, which is kept", what, tree.name, self._first.name)


def _equal(one: Any, other: Any) -> bool:  # noqa: ANN401 - arrays of any type
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    if one.dtype.kind in "fc":
        return bool(np.array_equal(one, other, equal_nan=True))
    return one.tobytes() == other.tobytes() if one.dtype.kind == "V" else bool(np.array_equal(one, other))


def _describes_file(tree: Tree, path: str) -> bool:
    """Return whether an array is a text that says something of the file, and of no sample."""
    root, parent = tree.nodes[""]["attributes"], path.rpartition("/")[0]
    if "nwb_version" not in root and root.get("neurodata_type") != "NWBFile":
        return False
    is_text = tree.is_array(path) and tree.nodes[path]["attributes"].get("_DTYPE") == "str"
    return is_text and parent.partition("/")[0] in _DESCRIBED_IN and "colnames" not in tree.nodes[parent]["attributes"]


def _is_at_hand(tree: Tree, path: str, sources: SourceTable) -> bool:
    """Return whether an array can be read without a request; one without chunks is held, and may have any shape."""
    return tree.chunks[path].is_held(sources) and is_small(tree, path, sources)


def _none(chunks: Chunks) -> Chunks:
    return Chunks(chunks.grid, chunks.places[:0], Locations.missing(0))


def _shown(target: str | None) -> str:
    return "nothing" if target is None else f"/{target}"
