"""LINDI's JSON: a Zarr v2 hierarchy as a reference file system (https://github.com/NeurodataWithoutBorders/lindi)."""

from __future__ import annotations

import base64
import contextlib
import json
import logging
from typing import Any, Final

from lindi_dask.errors import InvalidReferences
from lindi_dask.refs.dialect import ArrayPlan, array_document, group_document, link_target
from lindi_dask.refs.manifest import ChunkManifest
from lindi_dask.refs.references import INLINE, References
from lindi_dask.refs.templates import expand

__all__ = ["parse_lindi"]

_log = logging.getLogger(__name__)

_ARRAY, _GROUP, _ATTRIBUTES = ".zarray", ".zgroup", ".zattrs"
_MAX_LENGTH: Final = 2**32 - 1  # bytes of one chunk; zarr-python's codecs stop at 2 GiB
_MAX_OFFSET: Final = 2**63 - 1


def parse_lindi(document: object, fingerprint: str) -> References:
    """Turn a LINDI document into references.

    Parameters
    ----------
    document
        The JSON, parsed: an object with `refs` and perhaps `templates`.
    fingerprint
        Of the file's content.

    Raises
    ------
    InvalidReferences
        If the document or one of its entries breaks the format; it names the entry.
    """
    if not isinstance(document, dict) or not isinstance(document.get("refs"), dict):
        raise _invalid(None, "the document has no object called 'refs'")
    if not all(isinstance(key, str) for key in document["refs"]):
        raise _invalid("refs", "its keys are not all strings")
    templates = document.get("templates") or {}
    if not isinstance(templates, dict) or not all(isinstance(value, str) for value in templates.values()):
        raise _invalid("templates", "it is not an object of names and strings")
    return _Builder(document["refs"], templates, fingerprint).build()


class _Builder:
    """One pass over the entries: metadata first, then chunks into columns."""

    def __init__(self, refs: dict[str, Any], templates: dict[str, str], fingerprint: str) -> None:
        self._refs = refs
        self._templates = templates
        self._fingerprint = fingerprint
        self._nodes: dict[str, dict[str, Any]] = {}  # v3 documents by path
        self._plans: dict[str, ArrayPlan] = {}
        self._unreadable: dict[str, str] = {}
        self._columns: dict[str, tuple[ChunkManifest, list[int], list[int], list[int], list[int]]] = {}
        self._sources: dict[str, int] = {"": INLINE}
        self._inline = bytearray()

    def build(self) -> References:
        for key in self._refs:
            path, _, name = key.rpartition("/")
            if name == _ARRAY:
                self._add_array(path, key)
            elif name == _GROUP:
                self._add_group(path)
        self._nodes.setdefault("", group_document(self._attributes("")))
        for key, value in self._refs.items():
            if key.rpartition("/")[2] not in {_ARRAY, _GROUP, _ATTRIBUTES, ".zmetadata"}:
                self._add_chunk(key, value)
        manifests = {
            path: ChunkManifest.build(grid.grid, places, sources, offsets, lengths)
            for path, (grid, places, sources, offsets, lengths) in self._columns.items()
        }
        return References(
            fingerprint=self._fingerprint,
            metadata=_documents(self._nodes),
            manifests=manifests,
            padded={path: plan.raw_nbytes for path, plan in self._plans.items() if plan.raw_nbytes is not None},
            sources=tuple(self._sources),
            inline=bytes(self._inline),
            unreadable=self._unreadable,
        )

    def _add_group(self, path: str) -> None:
        attributes = self._attributes(path)
        target = link_target(attributes)
        if target is None:
            self._nodes.setdefault(path, group_document(attributes))
        else:
            self._unreadable[path] = f"it is a soft link to {target}: open that path instead"

    def _add_array(self, path: str, key: str) -> None:
        reason = None
        try:
            plan = array_document(self._object(key), self._attributes(path))
        except ValueError as error:
            reason = str(error)
        if reason is not None:
            raise _invalid(key, reason)
        self._nodes[path] = plan.document
        self._plans[path] = plan
        if plan.unreadable is not None:
            self._unreadable[path] = plan.unreadable
        self._columns[path] = (ChunkManifest.build(plan.grid, [], [], [], []), [], [], [], [])

    def _add_chunk(self, key: str, value: object) -> None:
        path, name, plan = self._array_of(key)
        if plan is None:
            self._location(key, value)  # an entry that belongs to nothing does no harm, unless it is broken
            _log.warning("the reference %r belongs to no array and is left out", key)
            return
        grid, places, sources, offsets, lengths = self._columns[path]
        if plan.separator != "." and "." in name:
            raise _invalid(key, f"chunk keys of this array are separated by {plan.separator!r}")
        place = grid.place(name.replace(plan.separator, "."))
        if place is None:
            raise _invalid(key, f"the array has no such chunk: its grid is {list(plan.grid)}")
        source, offset, length = self._location(key, value)
        if plan.raw_nbytes is not None and plan.unreadable is None and length != plan.raw_nbytes:
            last = plan.grid[0] - 1 if plan.grid else -1
            if not (length == plan.tail_nbytes and place == last):
                raise _invalid(key, f"it has {length} bytes, but an uncompressed chunk here has {plan.raw_nbytes}")
        places.append(place)
        sources.append(source)
        offsets.append(offset)
        lengths.append(length)

    def _array_of(self, key: str) -> tuple[str, str, ArrayPlan | None]:
        """Return the array that a chunk's key belongs to, and the chunk's name in it (which may hold slashes)."""
        path, _, name = key.rpartition("/")
        while path not in self._plans and path:
            path, _, more = path.rpartition("/")
            name = f"{more}/{name}"
        return path, name, self._plans.get(path)

    def _location(self, key: str, value: object) -> tuple[int, int, int]:
        match value:
            case [str(url), offset, length] if type(offset) is int and type(length) is int:
                if not 0 <= offset <= _MAX_OFFSET - length or not 0 <= length <= _MAX_LENGTH:
                    raise _invalid(key, f"offset {offset} or length {length} is out of bounds")
                url = expand(url, self._templates, key=key)
                return self._sources.setdefault(url, len(self._sources)), offset, length
            case [str()]:
                raise _invalid(key, "references to whole files can't be read yet: give offset and length")
            case str() | dict():
                data = _inline_bytes(key, value)
                self._inline += data
                return INLINE, len(self._inline) - len(data), len(data)
            case _:
                raise _invalid(key, "an entry is [url, offset, length] with whole numbers, or a string")

    def _attributes(self, path: str) -> dict[str, Any]:
        key = f"{path}/{_ATTRIBUTES}" if path else _ATTRIBUTES
        return self._object(key) if key in self._refs else {}

    def _object(self, key: str) -> dict[str, Any]:
        value = self._refs[key]
        if isinstance(value, str):
            try:
                value = json.loads(_inline_bytes(key, value))
            except (ValueError, RecursionError):
                value = None
        if not isinstance(value, dict):
            raise _invalid(key, "it is not a JSON object")
        return value


def _inline_bytes(key: str, value: str | dict[str, Any]) -> bytes:
    if isinstance(value, dict):
        return json.dumps(value).encode()
    coded, data = value.startswith("base64:"), None
    with contextlib.suppress(ValueError):  # base64's errors and UTF-8's are of this kind
        data = base64.b64decode(value.removeprefix("base64:"), validate=True) if coded else value.encode()
    if data is None:
        what = "what follows 'base64:' is not base64" if coded else "it is not text: it holds half a character"
        raise _invalid(key, what)
    return data


def _documents(nodes: dict[str, dict[str, Any]]) -> dict[str, bytes]:
    """All `zarr.json`s; groups that are only implied by paths get one, and the root's consolidates the rest."""
    for path in list(nodes):
        while path:
            path = path.rpartition("/")[0]  # noqa: PLW2901 - walks up to the root
            nodes.setdefault(path, group_document({}))
    below = {path: nodes[path] for path in sorted(nodes) if path}
    consolidated = {"kind": "inline", "must_understand": False, "metadata": below}
    documents = {path: json.dumps(document).encode() for path, document in nodes.items()}
    documents[""] = json.dumps({**nodes[""], "consolidated_metadata": consolidated}).encode()
    return {f"{path}/zarr.json" if path else "zarr.json": document for path, document in documents.items()}


def _invalid(key: str | None, reason: str) -> InvalidReferences:
    what = "This is not a LINDI reference file" if key is None else f"The entry {key!r} is not valid"
    return InvalidReferences(f"{what}: {reason}.", key=key, reason=reason)
