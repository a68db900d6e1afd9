"""References and what a user asks for -> a plan. Pure."""

from __future__ import annotations

import json
import math
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final

from zarr.core.metadata import ArrayV3Metadata

from lindi_dask.conversion.codecs import CRC32C, default_codecs, native_codec, sharding, without_checksum
from lindi_dask.conversion.layout import Layout, asked_layout, shrunk
from lindi_dask.conversion.plan import ArrayPlan, Plan
from lindi_dask.errors import ConfigurationError, RefsError, UnsupportedArray
from lindi_dask.listing import ArrayRow, list_rows, near
from lindi_dask.refs.dialect.v2_kinds import NUMERIC

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from lindi_dask.refs import References

    Json = dict[str, Any]

__all__ = ["make_plan", "request_of"]

_ITEMSIZES: Final = {name: int(code[1:]) for code, name in NUMERIC.items()}
_TEXT_NBYTES: Final = 64  # about as large as a text, or a row of a compound, is in memory
_MAX_AMPLIFICATION: Final = 3.0
_OWN: Final = "lindi-dask."  # codecs that only decode
_OPTIONS: Final = frozenset(("chunks", "shards", "codecs"))


def request_of(
    include: str | Iterable[str] | None,
    exclude: str | Iterable[str] | None,
    layout: Mapping[str, Mapping[str, Any]] | None,
) -> Json:
    """Return what a user asks for, in the form that is kept.

    Raises
    ------
    ConfigurationError
        If it makes no sense.
    """
    asked = {}
    for pattern, options in (layout or {}).items():
        strange = sorted(set(options) - _OPTIONS)
        if strange:
            raise ConfigurationError(
                f"layout[{pattern!r}] has no option {strange[0]!r}: {', '.join(sorted(_OPTIONS))}."
            )
        asked[pattern.strip("/")] = json.loads(json.dumps(dict(options)))
    return {"include": _patterns(include), "exclude": _patterns(exclude), "layout": asked}


def _patterns(patterns: str | Iterable[str] | None) -> list[str]:
    listed = [patterns] if isinstance(patterns, str) else list(patterns or ())
    return [pattern.strip("/") for pattern in listed]


def make_plan(references: References, request: Json, *, task_memory: float = math.inf) -> Plan:
    """Return what the conversion of references will write.

    Parameters
    ----------
    references
        The source.
    request
        From `request_of`.
    task_memory
        Bytes that one task may take: shards whose size was not asked for are made smaller until they do with it.

    Raises
    ------
    ConfigurationError
        If nothing is selected, a layout does not go with its array, or tasks would take more memory or read the source
        more than three times.
    UnsupportedArray
        For a selected array that can't be read.
    """
    root: Json = json.loads(references.metadata["zarr.json"])
    nodes: dict[str, Json] = root.pop("consolidated_metadata")["metadata"]
    chosen = _selected(nodes, request)
    for path, reason in references.unreadable.items():
        if path in chosen:
            raise UnsupportedArray(
                f"/{path} can't be converted: {reason}. To leave it out, exclude it.", path=path, reason=reason
            )
    chosen_groups = {path: nodes[path] for path in nodes if path in chosen and nodes[path]["node_type"] == "group"}
    rows = {row.path: row for row in list_rows(references) if isinstance(row, ArrayRow) and row.path in chosen}
    arrays = [_array(nodes[path], row, request["layout"], task_memory) for path, row in rows.items()]
    if not arrays and not chosen_groups:
        wanted = (request["include"] or [""])[0]
        raise ConfigurationError(f"Nothing is selected by {wanted!r}. {near(wanted, nodes)}")
    return Plan(
        references=references.fingerprint,
        request=request,
        groups={path: _pruned(group, references, chosen) for path, group in {"": root, **chosen_groups}.items()},
        arrays=tuple(arrays),
        left_out={path: reason for path, reason in references.unreadable.items() if path not in nodes},
    )


# What is selected


def _selected(nodes: Mapping[str, Json], request: Json) -> set[str]:
    """Return the paths of nodes that are converted, the groups around them included."""
    wanted = [
        path
        for path in nodes
        if (not request["include"] or _matches(path, request["include"])) and not _matches(path, request["exclude"])
    ]
    around = {"/".join(parts[:n]) for parts in (path.split("/") for path in wanted) for n in range(1, len(parts))}
    return {*wanted, *around}


def _matches(path: str, patterns: Iterable[str]) -> bool:
    return any(_is_match(path, pattern) for pattern in patterns)


def _is_match(path: str, pattern: str) -> bool:
    """Return whether a pattern names a path or something above it; `*` stands for slashes too."""
    return not pattern or path.startswith(f"{pattern}/") or fnmatchcase(path, pattern)


def _pruned(group: Json, references: References, chosen: set[str]) -> Json:
    """Return a group's document without links to what is left out."""
    links = group.get("attributes", {}).get("_LINKS")
    if not isinstance(links, list):
        return group

    def is_kept(link: object) -> bool:
        match link:
            case {"path": str(path)}:
                target = path.strip("/")
                return not target or target in chosen or references.links.get(target) in chosen
        return True

    kept = [link for link in links if is_kept(link)]
    attributes = {name: value for name, value in group["attributes"].items() if name != "_LINKS"}
    return {**group, "attributes": {**attributes, "_LINKS": kept} if kept else attributes}


# One array


def _array(node: Json, row: ArrayRow, layouts: Mapping[str, Json], task_memory: float) -> ArrayPlan:
    if row.unreadable is not None:
        raise RefsError(f"/{row.path} can't be converted: {row.unreadable}. To leave it out, exclude it.")
    asked: Json = {}
    for pattern, options in layouts.items():
        if _is_match(row.path, pattern):
            asked |= options
    itemsize = _ITEMSIZES.get(node["data_type"]) if isinstance(node["data_type"], str) else None
    source = tuple(node["chunk_grid"]["configuration"]["chunk_shape"])
    reason = None
    try:
        codecs, chunks = _codecs(node, itemsize, source, asked)
        if itemsize is None:
            asked = {"shards": False, **asked}  # text of no fixed size can't be planned in shards
        layout = asked_layout(row.shape, itemsize or _TEXT_NBYTES, source, chunks, asked.get("shards"))
    except ValueError as error:
        reason = str(error)
    if reason is not None:
        raise ConfigurationError(f"layout of /{row.path}: {reason}.")
    while True:
        plan = _planned(node, row, itemsize, source, layout, codecs)
        if plan.task_nbytes <= task_memory:
            break
        smaller = None if asked.get("shards") is not None else shrunk(layout)
        if smaller is None:
            raise ConfigurationError(
                f"One task of /{row.path} would take {plan.task_nbytes / 2**20:,.0f} MiB of memory, but may take "
                f"{task_memory / 2**20:,.0f}. Give workers more memory or fewer threads, or ask for smaller shards."
            )
        layout = smaller
    if plan.amplification > _MAX_AMPLIFICATION:
        raise ConfigurationError(
            f"/{row.path}: with objects of {plan.unit}, each of its chunks of {source} would be read "
            f"{plan.amplification:.1f} times. Ask for shards of whole chunks, or give workers more memory."
        )
    if "codecs" in asked:
        _check_codecs(plan)
    return plan


def _codecs(
    node: Json, itemsize: int | None, source: tuple[int, ...], asked: Json
) -> tuple[list[Json], Sequence[int] | None]:
    """Return the codecs of (inner) chunks, and the chunks that are asked for."""
    wanted = asked.get("codecs")
    chunks: Sequence[int] | None = asked.get("chunks")
    if wanted == "source" and not any(codec["name"].startswith(_OWN) for codec in node["codecs"]):
        return [*without_checksum(node["codecs"]), CRC32C], source if chunks is None else chunks
    if isinstance(wanted, list):
        return wanted, chunks
    if wanted not in {None, "source"}:
        raise ValueError(f"codecs are a list of Zarr v3 codecs, or 'source', not {wanted!r}")
    return default_codecs(itemsize, is_text=node["data_type"] == "string"), chunks


def _planned(
    node: Json, row: ArrayRow, itemsize: int | None, source: tuple[int, ...], layout: Layout, codecs: list[Json]
) -> ArrayPlan:
    document = {
        **node,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(layout.unit)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "codecs": codecs if layout.shards is None else [sharding(layout.chunks, codecs)],
    }
    same = codecs in (node["codecs"], [*node["codecs"], CRC32C]) and layout.chunks == source
    if same and not any(codec["name"].startswith(_OWN) for codec in node["codecs"]):
        way = "copy"
    else:
        way = "zarr" if itemsize is None or native_codec(codecs) is None else "native"
    stored = None if row.stored is None else row.stored.nbytes
    return ArrayPlan(row.path, document, way, itemsize, source, stored)  # type: ignore[arg-type] # one of three words


def _check_codecs(plan: ArrayPlan) -> None:
    reason = None
    try:
        ArrayV3Metadata.from_dict(plan.document)
    except (ValueError, TypeError, KeyError) as error:
        reason = f"{type(error).__name__}: {error}"
    if reason is not None:
        raise ConfigurationError(f"codecs of /{plan.path} are not ones that zarr takes ({reason}).")
