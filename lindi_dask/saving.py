"""`References` -> files and folders in the forms of LINDI and kerchunk. All of one is there, or none of it."""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from lindi_dask.errors import ConfigurationError, InvalidReferences
from lindi_dask.refs import References, SourceTable, relative_path
from lindi_dask.refs.write.forms import MARK, to_kerchunk, to_lindi, to_parquet
from lindi_dask.types import LocalFolder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from lindi_dask.types import Base

__all__ = ["save", "write_file"]

_ENDINGS: Final = {".lindi.d": "bundle", ".json": "json", ".parquet": "parquet", ".parq": "parquet"}
_DOCUMENTS: Final = ("lindi.json", ".zmetadata")  # that a folder of references has
_START: Final = 512  # bytes of a document that the mark stands in


def save(
    references: References,
    path: str | os.PathLike[str],
    *,
    form: Literal["lindi", "kerchunk"] | None = None,
    base: Base = None,
    overwrite: bool = False,
    skip_unreadable: bool = False,
    record_size: int = 100_000,
) -> None:
    """Write references to a file or folder; what form it has is said by the ending of its name.

    Written under another name first and then renamed, so that nobody ever finds a part of it. What was
    written by this function before is replaced.

    Parameters
    ----------
    references
        What to write.
    path
        `.lindi.json` or `.json`: a reference file. `.parquet` or `.parq`: a folder of kerchunk's parquet references.
        `.lindi.d`: a folder with `lindi.json` and the files that its references have beside them, copied from `base`.
    form
        Of a `.json`: "lindi" (if not given) or "kerchunk".
    base
        Where relative references start from now.
    overwrite
        Replace other reference files, too; folders only if they are folders of references.
    skip_unreadable
        Leave out, and log, what can't be read or has no place in the form, instead of raising.
    record_size
        Rows of a record of parquet.

    Raises
    ------
    UnsupportedArray
        For the first array, link or attribute that can't be written.
    InvalidReferences
        If relative references would mean nothing at the new place.
    ConfigurationError
        If the path can't be written, or holds something that was not written here.
    """
    target = Path(os.fspath(path)).absolute()
    kind = next((kind for ending, kind in _ENDINGS.items() if target.name.endswith(ending)), None)
    if kind is None:
        raise ConfigurationError(f"path: {target.name!r} ends with none of {', '.join(_ENDINGS)}.")
    form = form or ("kerchunk" if kind == "parquet" else "lindi")
    if (kind, form) in {("parquet", "lindi"), ("bundle", "kerchunk")}:
        raise ConfigurationError(
            f"form: {target.name!r} can't be in the form of {form}; change its ending or the form."
        )
    failure: ConfigurationError | None = None
    try:
        _refuse(target, is_folder=kind != "json", overwrite=overwrite)
        if kind == "json":
            _check_relative(references, base, target.parent)
            write = to_lindi if form == "lindi" else to_kerchunk
            write_file(target, write(references, skip_unreadable=skip_unreadable))
        elif kind == "parquet":
            _check_relative(references, base, target)
            files = to_parquet(references, record_size, skip_unreadable=skip_unreadable)
            _write_folder(target, lambda folder: _write_all(folder, files))
        else:
            _write_folder(target, lambda folder: _write_bundle(folder, references, base, skip=skip_unreadable))
    except OSError as error:
        failure = ConfigurationError(f"path: {target} can't be written ({error.strerror or error}).")
    if failure is not None:
        raise failure


# What is in the place already


def _refuse(target: Path, *, is_folder: bool, overwrite: bool) -> None:
    """Raise for what must not be replaced."""
    if not os.path.lexists(target):
        return
    if target.is_symlink() or target.is_dir() != is_folder or not (is_folder or target.is_file()):
        raise ConfigurationError(f"path: {target} exists, and is not a {'folder' if is_folder else 'file'}.")
    documents = [target / name for name in _DOCUMENTS if (target / name).is_file()] if is_folder else [target]
    if is_folder and not documents and any(target.iterdir()):
        raise ConfigurationError(f"path: {target} exists, and is no folder of references: it is never replaced.")
    if not overwrite and not all(_is_ours(document) for document in documents):
        raise ConfigurationError(
            f"path: {target} exists, and was not written by lindi_dask. Save with overwrite=True to replace it."
        )


def _is_ours(document: Path) -> bool:
    with document.open("rb") as file:
        return MARK in file.read(_START)


# Relative references


@dataclass(frozen=True, slots=True)
class _Relative:
    """A file that relative references mean."""

    number: int
    """of its source"""
    path: str
    """from the folder of the references"""


def _relative(references: References) -> list[_Relative]:
    """Return the sources that lie beside the references; a bundle's own (`""`) is an error of the writer."""
    found = []
    for number, source in enumerate(references.all_sources()):
        if source.data is None and source.url and not source.url.startswith("/"):
            path = relative_path(source.url)
            if path is not None:
                found.append(_Relative(number, path))
    return found


def _check_relative(references: References, base: Base, folder: Path) -> None:
    """Raise for relative references that would mean other files, or none."""
    relative = _relative(references)
    if relative and not (isinstance(base, LocalFolder) and Path(base.path).resolve() == folder.resolve()):
        shown = relative[0].path
        raise InvalidReferences(
            f"The references mean files beside them, such as {shown!r}, which would not be found from {folder}. "
            "Save them as a folder with the ending .lindi.d, which the files are copied to.",
            key=None,
            reason="relative references",
        )


# Files and folders


def write_file(target: Path, pieces: Iterable[bytes]) -> None:
    """Write a file, as a whole or not at all; `OSError` if that can't be done."""
    temporary = _beside(target)
    try:
        _write(temporary, pieces)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _write_folder(target: Path, fill: Callable[[Path], None]) -> None:
    temporary = _beside(target)
    try:
        temporary.mkdir()
        fill(temporary)
        _swap(temporary, target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _swap(folder: Path, target: Path) -> None:
    """Rename a folder to a name that another one may have; that one is back in its place if it fails."""
    old = None
    if target.exists():
        old = _beside(target)
        target.rename(old)
    try:
        folder.rename(target)
    except OSError:
        if old is not None:
            old.rename(target)
        raise
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)


def _beside(target: Path) -> Path:
    return target.with_name(f".{target.name}.{uuid.uuid4().hex[:12]}.part")


def _write(path: Path, pieces: Iterable[bytes]) -> None:
    with path.open("xb") as file:
        file.writelines(pieces)
        file.flush()
        os.fsync(file.fileno())


def _write_all(folder: Path, files: Iterable[tuple[str, bytes]]) -> None:
    for name, content in files:
        if "\0" in name:
            raise InvalidReferences(f"{name!r} can't be the name of a file.", key=name, reason="a NUL in its name")
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, [content])


def _write_bundle(folder: Path, references: References, base: Base, *, skip: bool) -> None:
    sources = SourceTable(tuple(references.all_sources()))
    for file in _relative(references):
        _copy(file.path, base, folder)
        sources.replace(file.number, replace(sources[file.number], url=f"./{file.path}"))  # as LINDI wants it
    moved = References(
        fingerprint=references.fingerprint,
        metadata=references.metadata,
        manifests=references.manifests,
        padded=references.padded,
        selections=references.selections,
        sources=sources,
        links=references.links,
        unreadable=references.unreadable,
    )
    _write(folder / "lindi.json", to_lindi(moved, skip_unreadable=skip))


def _copy(name: str, base: Base, folder: Path) -> None:
    """Copy a file that lies below the references' old folder to the same place below the new one."""
    reason = "the folder that it lies in is not given (base), or is not on this machine"
    if isinstance(base, LocalFolder):
        here = Path(base.path, name)
        reason = "there is no such file, or it lies elsewhere"
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            if here.resolve(strict=True).is_relative_to(Path(base.path).resolve()) and here.is_file():
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(here, path)
                return
    raise InvalidReferences(
        f"The references mean the file {name!r} beside them, which can't be copied: {reason}.", key=None, reason=reason
    )


References.writer = save
