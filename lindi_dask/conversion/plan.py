"""What a conversion will write: a document for each node, and what it takes to make each array. Values; no I/O."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from lindi_dask.conversion.layout import amplification

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    Json: TypeAlias = dict[str, Any]
    Way: TypeAlias = Literal["native", "copy", "zarr"]

__all__ = ["ArrayPlan", "Plan", "Shard", "difference"]

_FORMAT: Final = "lindi-dask conversion, version 1"
_BLOCK: Final = 16 * 2**20  # bytes, not compressed, that a task reads and encodes in one go
_SHARED: Final = 16 * 2**20  # bytes of a row of chunks up to which those that blocks cut are unpacked once a process
_IN_FLIGHT: Final = 16 * 2**20  # bytes of the source's chunks that a task may have asked for and not decoded yet
_LOOSER: Final = 1.2  # how many times as large chunks may get that are encoded anew
_THREAD_RATE: Final = 80e6  # bytes a second, not compressed, that a thread may convert
_TEXT_NBYTES: Final = 64  # about as large as a text is in memory

Shard: TypeAlias = tuple[int, int]
"""an object with data: the number of its array in the plan, and its place (C order) in the array's grid of objects"""


@dataclass(frozen=True, slots=True)
class ArrayPlan:
    """How one array is made."""

    path: str
    """without a leading slash"""
    document: Json = field(repr=False)
    """its `zarr.json`"""
    way: Way
    """`native`: encoded here; `copy`: chunks as they are encoded in the source; `zarr`: encoded by zarr"""
    itemsize: int | None
    """bytes of an element; None for text and compounds"""
    source_chunks: tuple[int, ...]
    source_nbytes: int | None
    """bytes of the source's chunks, encoded; None if the references don't say"""

    @property
    def shape(self) -> tuple[int, ...]:
        """Elements along each dimension."""
        return tuple(self.document["shape"])

    @property
    def unit(self) -> tuple[int, ...]:
        """Elements along each dimension of what one object holds."""
        return tuple(self.document["chunk_grid"]["configuration"]["chunk_shape"])

    @property
    def is_sharded(self) -> bool:
        """Whether objects are shards."""
        return bool(self.document["codecs"][0]["name"] == "sharding_indexed")

    @property
    def chunks(self) -> tuple[int, ...]:
        """Elements of an (inner) chunk along each dimension."""
        return tuple(self.document["codecs"][0]["configuration"]["chunk_shape"]) if self.is_sharded else self.unit

    @property
    def codecs(self) -> list[Json]:
        """Of the (inner) chunks."""
        first = self.document["codecs"][0]
        codecs: list[Json] = first["configuration"]["codecs"] if self.is_sharded else self.document["codecs"]
        return codecs

    @property
    def grid(self) -> tuple[int, ...]:
        """Objects along each dimension."""
        return tuple(-(-extent // size) for extent, size in zip(self.shape, self.unit, strict=True))

    @property
    def tasks(self) -> int:
        """How many objects there are: each is made by one task."""
        return math.prod(self.grid)

    @property
    def element_nbytes(self) -> int:
        """Bytes of an element; of text, and of a compound, estimated."""
        return self.itemsize or _TEXT_NBYTES

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return math.prod(self.shape) * self.element_nbytes

    @property
    def amplification(self) -> float:
        """How often a chunk of the source is read, on average."""
        return amplification(self.shape, self.source_chunks, self.unit)

    @property
    def fetched_nbytes(self) -> int:
        """Bytes of the source's chunks that will be read; where their sizes are not known, as large as the elements."""
        return round((self.nbytes if self.source_nbytes is None else self.source_nbytes) * self.amplification)

    @property
    def task_nbytes(self) -> int:
        """Bytes of memory that making one object takes: what is stored of it, two blocks, and chunks that are read."""
        row = self.element_nbytes * math.prod(map(min, self.unit[1:], self.shape[1:]))
        held = row * min(self.unit[0], self.shape[0]) if self.shape else row
        block = row * max((stop - start for start, stop in self.steps(0)), default=0) if self.tasks else 0
        chunk = self.element_nbytes * math.prod(map(min, self.source_chunks, self.shape))
        packing = 1.0 if not self.nbytes or self.source_nbytes is None else min(self.source_nbytes / self.nbytes, 1.0)
        stored = held * (packing if self.way == "copy" else min(_LOOSER * packing, 1.0))
        return round(stored) + (0 if self.way == "copy" else min(2 * block, held)) + max(min(_IN_FLIGHT, held), chunk)

    def steps(self, place: int) -> list[tuple[int, int]]:
        """Return the rows of the blocks that the object at a place is made of, one after the other.

        Some 16 MB of whole (inner) chunks each, where they can be encoded one by one; and, where a row of the source's
        chunks is so large that no process keeps the ones that blocks cut, whole chunks of the source.
        """
        rows = self.region(place)[0] if self.shape else slice(0, 1)
        if self.way != "native" or not self.is_sharded:
            return [(rows.start, rows.stop)]
        row = self.element_nbytes * math.prod(map(min, self.unit[1:], self.shape[1:]))
        unit = self.chunks[0]
        if self.source_chunks[0] * row > _SHARED:
            unit = math.lcm(unit, self.source_chunks[0])
        size = max(_BLOCK // (row * unit), 1) * unit
        first = rows.start // unit * unit + size
        edges = [rows.start, *range(first, rows.stop, size), rows.stop]
        return list(itertools.pairwise(edges))

    def place_key(self, place: int) -> str:
        """Return the key of the object at a place of the grid."""
        numbers = []
        for extent in reversed(self.grid):
            place, number = divmod(place, extent)
            numbers.append(str(number))
        return "/".join([f"{self.path}/c" if self.path else "c", *reversed(numbers)])

    def region(self, place: int) -> tuple[slice, ...]:
        """Return what the object at a place of the grid holds of the array."""
        parts = []
        for extent, size, length in reversed(list(zip(self.shape, self.unit, self.grid, strict=True))):
            place, number = divmod(place, length)
            parts.append(slice(number * size, min((number + 1) * size, extent)))
        return tuple(reversed(parts))


@dataclass(frozen=True)
class Plan:
    """A conversion. Two with the same fingerprint write the same."""

    references: str
    """their fingerprint"""
    request: Json
    """what the user asked for"""
    groups: Mapping[str, Json] = field(repr=False)
    """their documents, by path; the root's (`""`) without what is consolidated"""
    arrays: tuple[ArrayPlan, ...] = field(repr=False)
    left_out: Mapping[str, str] = field(repr=False)
    """links that lead nowhere: why, by path"""

    @property
    def tasks(self) -> int:
        """Objects with data, in all."""
        return sum(array.tasks for array in self.arrays)

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return sum(array.nbytes for array in self.arrays)

    @property
    def fetched_nbytes(self) -> int:
        """Bytes of the source's chunks that will be read."""
        return sum(array.fetched_nbytes for array in self.arrays)

    @property
    def task_nbytes(self) -> int:
        """Bytes of memory that the largest task takes."""
        return max((array.task_nbytes for array in self.arrays), default=0)

    def seconds(self, threads: int) -> float:
        """Return about how long it takes where the network is not the limit."""
        return self.nbytes / (_THREAD_RATE * threads)

    def shards(self) -> Iterator[Shard]:
        """Yield all objects with data, the largest arrays first: what takes longest is not left to the end."""
        order = sorted(range(len(self.arrays)), key=lambda number: (-self.arrays[number].task_nbytes, number))
        for number in order:
            for place in range(self.arrays[number].tasks):
                yield number, place

    def nodes(self) -> dict[str, Json]:
        """Return the document of each node by its path, the root's without what is consolidated."""
        return {**self.groups, **{array.path: array.document for array in self.arrays}}

    def documents(self) -> Iterator[tuple[str, bytes]]:
        """Yield the `zarr.json` of each node with its key: leaves first, the root's last."""
        nodes = self.nodes()
        for path in sorted(nodes, key=lambda path: (-path.count("/"), path)):
            if path:
                yield f"{path}/zarr.json", _encoded(nodes[path])
        below = {path: nodes[path] for path in sorted(nodes) if path}
        consolidated = {"kind": "inline", "must_understand": False, "metadata": below}
        yield "zarr.json", _encoded({**self.groups[""], "consolidated_metadata": consolidated})

    @cached_property
    def fingerprint(self) -> str:
        """Hexadecimal digest of all that decides what is written."""
        return hashlib.sha256(_encoded(self._content())).hexdigest()[:32]

    def _content(self) -> Json:
        arrays = [
            {
                "path": one.path,
                "way": one.way,
                "itemsize": one.itemsize,
                "source_chunks": one.source_chunks,
                "source_nbytes": one.source_nbytes,
                "document": one.document,
            }
            for one in self.arrays
        ]
        return {
            "format": _FORMAT,
            "references": self.references,
            "request": self.request,
            "left_out": dict(self.left_out),
            "groups": dict(self.groups),
            "arrays": arrays,
        }

    def to_json(self) -> bytes:
        """Return the plan as a document."""
        return _encoded({"fingerprint": self.fingerprint, **self._content()})

    @classmethod
    def from_json(cls, data: bytes) -> Plan:
        """Return the plan of a document.

        Raises
        ------
        ValueError
            If it is none of this version, or was edited.
        """
        document = json.loads(data)
        if not isinstance(document, dict) or document.get("format") != _FORMAT:
            raise ValueError(f"it is not a {_FORMAT}")
        arrays = tuple(ArrayPlan(**{**one, "source_chunks": tuple(one["source_chunks"])}) for one in document["arrays"])
        plan = cls(document["references"], document["request"], document["groups"], arrays, document["left_out"])
        if plan.fingerprint != document["fingerprint"]:
            raise ValueError("it is not as it was written: its fingerprint does not fit")
        return plan


def difference(old: Plan, new: Plan) -> list[str]:
    """Return in words what two plans differ in; nothing if they write the same."""
    if old.fingerprint == new.fingerprint:
        return []
    found = []
    if old.references != new.references:
        found.append(f"other references ({old.references[:8]}, now {new.references[:8]})")
    for name in sorted({*old.request, *new.request}):
        before, now = old.request.get(name), new.request.get(name)
        if before != now:
            found.append(f"{name}: {json.dumps(before)}, now {json.dumps(now)}")
    before_of, now_of = ({one.path: one.document for one in plan.arrays} for plan in (old, new))
    changed = [path for path in before_of if path in now_of and before_of[path] != now_of[path]]
    others = sorted(before_of.keys() ^ now_of.keys())
    if changed:
        found.append(f"another layout of {_named(changed)}")
    if others:
        found.append(f"other arrays: {_named(others)}")
    return found or ["other groups or attributes"]


def _named(paths: list[str]) -> str:
    return ", ".join(f"/{path}" for path in paths[:3]) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")


def _encoded(document: Json) -> bytes:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
