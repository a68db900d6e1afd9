"""Outputs inside of a Zarr group: what they are added to, and how its metadata come to have them."""

from __future__ import annotations

import fcntl
import json
import os
from typing import TYPE_CHECKING, Any

from lindi_dask.conversion.targets import PART
from lindi_dask.errors import JobError

if TYPE_CHECKING:
    from pathlib import Path

    from lindi_dask.conversion.plan import Plan

__all__ = ["enter", "outermost"]

_DOCUMENT = "zarr.json"


def outermost(out: Path) -> Path:
    """Return the outermost Zarr group that an output is to lie in, or the output itself if it lies in none."""
    while (out.parent / _DOCUMENT).is_file():
        out = out.parent
    return out


def enter(out: Path, plan: Plan) -> None:
    """Enter the nodes of an output that is published into the consolidated metadata of the groups above it.

    Raises
    ------
    JobError
        If one of those can't be read.
    """
    top = outermost(out)
    if top == out:
        return
    handle = os.open(top, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)  # others may be adding theirs
        group = out.parent
        while True:
            _enter_into(group / _DOCUMENT, out.relative_to(group).as_posix(), plan)
            if group == top:
                break
            group = group.parent
    finally:
        os.close(handle)


def _enter_into(document: Path, place: str, plan: Plan) -> None:
    reason = None
    try:
        group: dict[str, Any] = json.loads(document.read_bytes())
        consolidated = group.get("consolidated_metadata")
        if consolidated is None:
            return
        nodes: dict[str, Any] = consolidated["metadata"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = str(error)
    if reason is not None:
        raise JobError(
            f"{document} can't be read ({reason}): the output is there, but not in its consolidated metadata."
        )
    own = {f"{place}/{path}" if path else place: node for path, node in plan.nodes().items()}
    if own.items() <= nodes.items():
        return
    nodes |= own
    part = document.with_suffix(PART)
    with part.open("wb") as file:
        file.write(json.dumps(group, separators=(",", ":"), ensure_ascii=False).encode())
        file.flush()
        os.fsync(file.fileno())
    part.replace(document)
