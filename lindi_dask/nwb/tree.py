"""The groups and arrays of references, by their metadata alone. Pure."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from zarr.core.dtype import get_data_type_from_json

from lindi_dask.refs import follow

if TYPE_CHECKING:
    from lindi_dask.refs import References

__all__ = ["ArrayNode", "Tree", "number", "text"]


@dataclass(frozen=True, slots=True)
class ArrayNode:
    """An array."""

    path: str
    """of the array itself, past links, without a leading slash"""
    document: dict[str, Any]
    """Zarr v3 metadata"""
    attributes: dict[str, Any]
    """its own, references to objects as paths"""

    @property
    def shape(self) -> tuple[int, ...]:
        """Elements along each dimension."""
        return tuple(self.document["shape"])

    @property
    def chunks(self) -> tuple[int, ...]:
        """Elements of a chunk along each dimension."""
        return tuple(self.document["chunk_grid"]["configuration"]["chunk_shape"])

    @property
    def ndim(self) -> int:
        """How many dimensions there are."""
        return len(self.document["shape"])

    @property
    def size(self) -> int:
        """How many elements there are."""
        return math.prod(self.document["shape"])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the elements; of text, that of objects."""
        return _dtype(json.dumps(self.document["data_type"], sort_keys=True))

    @property
    def kind(self) -> str:
        """NWB's name of what it is, or nothing."""
        return text(self.attributes.get("neurodata_type"))


class Tree:
    """What references hold, group by group; soft links count as what they point at.

    Parameters
    ----------
    references
        In the internal dialect.
    """

    def __init__(self, references: References) -> None:
        self._references = references
        self._documents: dict[str, dict[str, Any]] = {}

    @cached_property
    def _members(self) -> tuple[dict[str, dict[str, str]], dict[str, dict[str, str]]]:
        """Groups and arrays, links included: name -> path of what is there, by the path of the group that holds it."""
        arrays: dict[str, dict[str, str]] = {}
        groups: dict[str, dict[str, str]] = {}
        manifests, links = self._references.manifests, self._references.links
        paths = [key.removesuffix("zarr.json").rstrip("/") for key in self._references.metadata]
        for path, target in [*((path, path) for path in paths), *links.items()]:
            if path:
                parent, _, name = path.rpartition("/")
                (arrays if target in manifests else groups).setdefault(parent, {})[name] = target
        return groups, arrays

    def groups(self, path: str) -> dict[str, str]:
        """Return the groups in a group: name -> path; that of a link is elsewhere than below it."""
        return self._members[0].get(path, {})

    def arrays(self, path: str) -> dict[str, ArrayNode]:
        """Return the arrays in a group, by name."""
        return {name: self.array(target) for name, target in self._members[1].get(path, {}).items()}

    def below(self, path: str) -> list[str]:
        """Return a group's path and those of all groups below it, each after the one that holds it."""
        found, waiting = [], [path]
        while waiting:
            one = waiting.pop()
            found.append(one)
            inside = f"{one}/" if one else ""
            waiting += [target for name, target in self.groups(one).items() if target == f"{inside}{name}"][::-1]
        return found

    def links(self, path: str) -> dict[str, str]:
        """Return the links to groups in a group: name -> path."""
        inside = f"{path}/" if path else ""
        return {name: target for name, target in self.groups(path).items() if target != f"{inside}{name}"}

    def broken(self, path: str) -> dict[str, str]:
        """Return why links in a group lead nowhere, by name."""
        inside = f"{path}/" if path else ""
        return {
            one.removeprefix(inside): reason
            for one, reason in self._references.unreadable.items()
            if one.startswith(inside)
            and "/" not in one.removeprefix(inside)
            and f"{one}/zarr.json" not in self._references.metadata
        }

    def array(self, path: str) -> ArrayNode:
        """Return the array at a path, which has to be there."""
        document = self._document(path)
        return ArrayNode(path, document, _plain(document.get("attributes", {})))

    def find(self, path: object) -> str | None:
        """Return the path of the group at a path, past links; None if there is none."""
        end = follow(path.strip("/"), self._references.links) if isinstance(path, str) else None
        known = end is not None and f"{end}/zarr.json".lstrip("/") in self._references.metadata
        return end if known and end not in self._references.manifests else None

    def attributes(self, path: str) -> dict[str, Any]:
        """Return the attributes of a group, references to objects as paths."""
        return _plain(self._document(path).get("attributes", {}))

    def kind(self, path: str) -> str:
        """Return NWB's name of what a group is, or nothing."""
        return text(self.attributes(path).get("neurodata_type"))

    def _document(self, path: str) -> dict[str, Any]:
        if path not in self._documents:
            # By json, as the documents may hold NaN
            document = json.loads(self._references.metadata[f"{path}/zarr.json".lstrip("/")])
            document.pop("consolidated_metadata", None)
            self._documents[path] = document
        return self._documents[path]


def text(value: object) -> str:
    """Return a value that is text; else nothing."""
    return value if isinstance(value, str) else ""


def number(value: object) -> float | None:
    """Return a finite number; None for all else."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if is_number else None  # type: ignore[arg-type]


def _plain(attributes: dict[str, Any]) -> dict[str, Any]:
    """Return attributes without the dialect's own, and with paths for references."""
    plain = {}
    for name, value in attributes.items():
        match value:
            case {"_REFERENCE": {"path": str(path)}}:
                plain[name] = path
            case _ if not name.startswith("_"):
                plain[name] = value
    return plain


@lru_cache(256)
def _dtype(document: str) -> np.dtype[Any]:
    dtype: np.dtype[Any] = get_data_type_from_json(json.loads(document), zarr_format=3).to_native_dtype()
    return np.dtype(object, metadata={"element_type": str}) if dtype.kind in "TO" else dtype
