"""The published manifest: the plan, and the digest of each object. With it, an output is verified without its source.

It lies in the folder of the first array, since zarr warns of each file in a group's folder that it does not know. A
line of JSON with the plan, one an array with `[place, bytes, digest]` of its objects, and the SHA-256 of all that.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Final

from lindi_dask.conversion.ledger import Stored
from lindi_dask.conversion.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lindi_dask.conversion.plan import Shard
    from lindi_dask.conversion.targets import Readable

__all__ = ["MANIFEST", "find_manifest", "manifest_key", "packed_manifest", "unpacked_manifest"]

MANIFEST: Final = "lindi-dask.manifest"
"""name of its file"""


def manifest_key(plan: Plan) -> str:
    """Return where the manifest of a plan's output lies."""
    first = min((array.path for array in plan.arrays), default="")
    return f"{first}/{MANIFEST}" if first else MANIFEST


def packed_manifest(plan: Plan, stored: Mapping[Shard, Stored]) -> list[bytes]:
    """Return the manifest's content, in parts."""
    by_array: list[list[tuple[int, int | None, str]]] = [[] for _ in plan.arrays]
    for (number, place), one in sorted(stored.items()):
        by_array[number].append((place, one.nbytes, one.digest))
    lines = [plan.to_json(), *(json.dumps(rows, separators=(",", ":")).encode() for rows in by_array)]
    content = b"".join(line + b"\n" for line in lines)
    return [content, hashlib.sha256(content).hexdigest().encode() + b"\n"]


def unpacked_manifest(data: bytes) -> tuple[Plan, dict[Shard, Stored]]:
    """Return the plan, and what is stored of each object.

    Raises
    ------
    ValueError
        If the manifest is damaged.
    """
    content, digest = data[:-65], data[-65:].strip()
    if hashlib.sha256(content).hexdigest().encode() != digest:
        raise ValueError("its checksum does not hold")
    first, *rest = content.splitlines()
    stored = {
        (number, place): Stored(nbytes, digest)
        for number, line in enumerate(rest)
        for place, nbytes, digest in json.loads(line)
    }
    return Plan.from_json(first), stored


def find_manifest(target: Readable) -> bytes | None:
    """Return the manifest of an output, or None if it has none."""
    root = target.read("zarr.json")
    paths: list[str] = []
    try:
        nodes = json.loads(root or b"{}")["consolidated_metadata"]["metadata"]
        paths = [path for path, node in nodes.items() if node["node_type"] == "array"]
    except (ValueError, KeyError, TypeError, AttributeError):
        pass  # an edited root: the manifest is looked for among all files
    found = target.read(f"{min(paths)}/{MANIFEST}") if paths else None
    if found is None:
        key = next((key for key, _ in target.sizes() if key.rpartition("/")[2] == MANIFEST), None)
        found = None if key is None else target.read(key)
    return found
