"""The documents of a reference file (`.zarray`, `zarr.json` ...) before and after they are translated. Pure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from lindi_dask.errors import InvalidReferences
from lindi_dask.refs.dialect.v2 import group_document
from lindi_dask.refs.dialect.v2_kinds import shortened
from lindi_dask.refs.inline import inline_bytes
from lindi_dask.refs.json_reader import MAX_VALUES, DuplicateKeyError, deeper_than, unique_object

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lindi_dask.refs.references import References

__all__ = [
    "MAX_INLINE",
    "add_implied_groups",
    "attributes_key",
    "attributes_of",
    "check_key",
    "document_object",
    "documents_of",
    "invalid_entry",
    "node_below",
    "nodes_of",
    "with_consolidated",
]

MAX_INLINE: Final = 2**26
"""bytes of one inline value"""

_MAX_DEPTH: Final = 32  # of a document
_MAX_KEY: Final = 2**13  # characters
_MAX_LEVELS: Final = 100  # groups within each other


def with_consolidated(documents: dict[str, Any]) -> dict[str, Any]:
    """Add what only `.zmetadata` has; a document that stands by itself is what counts."""
    consolidated = documents.pop(".zmetadata", None)
    if consolidated is None:
        return documents
    below = document_object(".zmetadata", consolidated).get("metadata")
    if not isinstance(below, dict):
        raise invalid_entry(".zmetadata", "it has no object called 'metadata'")
    return {**below, **documents}


def attributes_key(path: str) -> str:
    """Return the key of the attributes of the v2 node at a path."""
    return f"{path}/.zattrs" if path else ".zattrs"


def attributes_of(documents: Mapping[str, Any], path: str) -> dict[str, Any]:
    """Return the attributes of the v2 node at a path; {} for none."""
    value = documents.get(attributes_key(path))
    return {} if value is None else document_object(attributes_key(path), value)


def document_object(key: str, value: Any) -> dict[str, Any]:  # noqa: ANN401 - whatever the file has
    """Return a document as an object; `InvalidReferences` for one that is none."""
    if isinstance(value, str):
        value = _parsed(key, inline_bytes(key, value, limit=MAX_INLINE))
    if not isinstance(value, dict):
        raise invalid_entry(key, "it is not a JSON object")
    return value


def _parsed(key: str, data: bytes) -> object:
    """Return what a document that is text says; None if it is not JSON."""
    if sum(map(data.count, (b",", b"[", b"{"))) > MAX_VALUES:
        raise invalid_entry(key, f"it has more than {MAX_VALUES:,} values")
    value, reason = None, None
    try:
        value = json.loads(data, object_pairs_hook=unique_object)
    except DuplicateKeyError as error:
        reason = f"its key {error.args[0]!r} stands there twice"
    except (ValueError, RecursionError):
        return None
    if deeper_than(value, _MAX_DEPTH):
        reason = "its lists and objects are nested too deeply"
    if reason is not None:
        raise invalid_entry(key, reason)
    return value


def check_key(key: str) -> None:
    """Refuse keys of which paths up to the root would take up too much, or which take too long to look up."""
    if len(key) > _MAX_KEY or key.count("/") > _MAX_LEVELS:
        reason = f"its key has more than {_MAX_KEY} characters, or more than {_MAX_LEVELS} groups within each other"
        raise invalid_entry(shortened(key), reason)


def node_below(nodes: Mapping[str, Any], arrays: Mapping[str, Any]) -> str | None:
    """Return the path of a node below one of the arrays, or None."""
    for path in nodes:
        above = path
        while above:
            above = above.rpartition("/")[0]
            if above in arrays:
                return path
    return None


def add_implied_groups(nodes: dict[str, dict[str, Any]]) -> None:
    """Give groups that are only implied by paths a document."""
    for path in list(nodes):
        while path:
            path = path.rpartition("/")[0]  # noqa: PLW2901 - walks up to the root
            nodes.setdefault(path, group_document({}))


def documents_of(nodes: Mapping[str, dict[str, Any]]) -> dict[str, bytes]:
    """Return all `zarr.json`s by key; the root's consolidates the rest."""
    below = {path: nodes[path] for path in sorted(nodes) if path}
    consolidated = {"kind": "inline", "must_understand": False, "metadata": below}
    documents = {path: json.dumps(document).encode() for path, document in nodes.items()}
    documents[""] = json.dumps({**nodes[""], "consolidated_metadata": consolidated}).encode()
    return {f"{path}/zarr.json" if path else "zarr.json": document for path, document in documents.items()}


def nodes_of(references: References) -> dict[str, dict[str, Any]]:
    """Return the documents of groups and arrays by path; those of the root are not consolidated."""
    root: dict[str, Any] = json.loads(references.metadata["zarr.json"])
    below = root.pop("consolidated_metadata")["metadata"]
    return {"": root, **below}


def invalid_entry(key: str, reason: str) -> InvalidReferences:
    """Return the error for an entry of a reference file."""
    reason = shortened(reason)
    message = f"The entry {key!r} is not valid: {reason}. Mend it, or make the references anew."
    return InvalidReferences(message, key=key, reason=reason)
