"""Documents of references that commands write: whole, and where what they mean is found."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from pathlib import Path
from typing import Any

from lindi_dask.errors import ConfigurationError

__all__ = ["refuse", "write_document"]

Json = dict[str, Any]

_DOCUMENT = "lindi.json"


def refuse(target: Path, *, force: bool) -> None:
    """Raise for a file that is there already, unless it may be replaced."""
    if target.is_dir():
        raise ConfigurationError(f"{target} is a folder, and folders are never replaced: remove it, or name another.")
    if os.path.lexists(target) and not force:
        raise ConfigurationError(f"{target} exists: name another file, or replace it with --force.")


def write_document(document: Json, refs: str, target: Path, *, is_relative: bool) -> None:
    """Write a document that was read from `refs`, all of it or nothing: under another name first.

    Of a folder (`.lindi.d`) to another one, with all that lies in it; or into the same one.

    Raises
    ------
    ConfigurationError
        If it can't be written there; if it means files beside it (`is_relative`), which would not be found from there.
    """
    failure = None
    try:
        _write(document, refs, target, is_relative=is_relative)
    except OSError as error:
        failure = ConfigurationError(f"{target} can't be written ({error.strerror or error}).")
    if failure is not None:
        raise failure


def _write(document: Json, refs: str, target: Path, *, is_relative: bool) -> None:
    source = Path(refs).absolute()
    if target.is_dir() and source.is_dir() and source.samefile(target):
        source = target = target / _DOCUMENT
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:12]}.part")
    try:
        if source.is_dir() and target.name.endswith(".lindi.d"):
            shutil.copytree(source, temporary, symlinks=True)
            (temporary / _DOCUMENT).unlink()
            _dump(document, temporary / _DOCUMENT)
        else:
            _check_place(source, target, is_relative=is_relative)
            _dump(document, temporary)
        temporary.replace(target)
    except BaseException:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)
        raise


def _check_place(source: Path, target: Path, *, is_relative: bool) -> None:
    folder = source if source.is_dir() else source.parent
    if is_relative and not (source.exists() and folder.resolve() == target.parent.resolve()):
        remedy = "Name a folder as OUT (ending in .lindi.d)" if source.is_dir() else "Write OUT beside IN"
        raise ConfigurationError(
            f"The references of {source.name} mean files beside them, which would not be found from {target.parent}. "
            f"{remedy}."
        )


def _dump(document: Json, path: Path) -> None:
    with path.open("x", encoding="utf-8") as file:
        file.write(json.dumps(document, separators=(",", ":")))
        file.flush()
        os.fsync(file.fileno())
