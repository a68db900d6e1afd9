"""Parts as groups of one tree; paths that the parts hold, in links and references to objects, are those of the tree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lindi_dask.errors import ConfigurationError
from lindi_dask.refs.combine.arrays import is_small
from lindi_dask.refs.combine.parts import trees_of
from lindi_dask.refs.combine.whole import Whole, with_type
from lindi_dask.refs.dialect.v2 import group_document
from lindi_dask.refs.dialect.v2_kinds import UntranslatableError
from lindi_dask.refs.paths import path_fault

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from lindi_dask.refs.combine.parts import Part, Tree
    from lindi_dask.refs.references import References

__all__ = ["grouped"]

_UTF32 = 4  # bytes a character


def grouped(parts: Sequence[Part]) -> References:
    """Put each part into a group that has its name.

    Links, and references to objects, lead to what they led to; where arrays hold them, these are held anew. What can't
    be read in a part can't be read in its group.

    Parameters
    ----------
    parts
        Their names are those of the groups.

    Raises
    ------
    ConfigurationError
        If a name can't be that of a group.
    PartsDisagree
        If parts say different things of the same file.
    LindiError
        Of values that are read.
    """
    for part in parts:
        fault = "it is empty or has a slash" if not part.name or "/" in part.name else path_fault(part.name)
        if fault is not None:
            raise ConfigurationError(f"refs: {part.name!r} can't be the name of a group: {fault}.")
    trees, sources = trees_of(parts)
    whole = Whole(sources)
    whole.add_group("", group_document({}))
    for tree in trees:
        _add(tree, whole)
    return whole.references()


def _add(tree: Tree, whole: Whole) -> None:
    name = tree.name
    for path, reason in tree.unreadable.items():
        whole.unreadable[_inside(name, path)] = f"in {name}, {reason}"
    for path, target in tree.links.items():
        whole.links.add(_inside(name, path), f"/{_inside(name, target)}")
    for path, node in tree.nodes.items():
        new = _inside(name, path)
        moved = {**node, "attributes": _rerooted(node["attributes"], name)}
        if not tree.is_array(path):
            whole.add_group(new, moved)
        elif path in tree.unreadable or not _holds_references(node):
            whole.keep(new, moved, tree, path)
        else:
            try:
                if not is_small(tree, path, whole.sources):
                    raise UntranslatableError("it is too large to be read now")  # noqa: TRY301 - as those of `_hold`
                _hold(new, moved, tree.values(path), whole, name)
            except UntranslatableError as error:
                whole.keep(new, moved, tree, path)
                whole.unreadable[new] = f"its references to objects can't be made those of the group: {error}"


def _inside(name: str, path: str) -> str:
    return f"{name}/{path}" if path else name


def _moved(name: str, path: str) -> str:
    """Return where an object is in the whole tree; "" stays nothing."""
    return f"/{_inside(name, path.strip('/'))}" if path else ""


def _rerooted(value: Any, name: str) -> Any:  # noqa: ANN401 - JSON in, JSON out
    match value:
        case {"_REFERENCE": {"path": str(path)} as reference} if reference.get("source", ".") == ".":
            return {"_REFERENCE": {**reference, "path": _moved(name, path)}}
        case dict():
            return {key: _rerooted(item, name) for key, item in value.items()}
        case list():
            return [_rerooted(item, name) for item in value]
        case _:
            return value


# References in arrays


def _holds_references(node: dict[str, Any]) -> bool:
    attributes = node["attributes"]
    return attributes.get("_DTYPE") == "object_reference" or bool(attributes.get("_REFERENCE_FIELDS"))


def _hold(path: str, node: dict[str, Any], values: NDArray[Any], whole: Whole, name: str) -> None:
    fields = node["attributes"].get("_REFERENCE_FIELDS")
    if fields is None:
        if node["data_type"] != "string":
            raise UntranslatableError(f"its data type is {node['data_type']!r}")
        whole.hold(path, {**node, "fill_value": ""}, _texts(values, name))
        return
    pairs = node["data_type"]["configuration"]["fields"] if isinstance(node["data_type"], dict) else []
    columns, types = {}, []
    for field, kind in pairs:
        column = values[field]
        if field in fields:
            if column.dtype.kind != "U":
                raise UntranslatableError(f"its field {field!r} is no text")
            moved = _texts(column, name)
            width = max(map(len, moved.reshape(-1).tolist()), default=0) or 1
            column = moved.astype(f"<U{width}")
            kind = {"name": "fixed_length_utf32", "configuration": {"length_bytes": _UTF32 * width}}  # noqa: PLW2901 - what it is now
        columns[field] = column
        types.append([field, kind])
    dtype = np.dtype([(field, column.dtype) for field, column in columns.items()])
    records = np.zeros(values.shape, dtype)
    for field, column in columns.items():
        records[field] = column
    data_type = {"name": "structured", "configuration": {"fields": types}}
    whole.hold(path, with_type(node, data_type, dtype.itemsize), records)


def _texts(values: NDArray[Any], name: str) -> NDArray[Any]:
    moved = np.empty(values.size, object)
    moved[:] = [_moved(name, str(path)) for path in values.reshape(-1).tolist()]
    return moved.reshape(values.shape)
