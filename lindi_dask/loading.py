"""Where references come from: a path or a dict -> `References`."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from lindi_dask.errors import InvalidReferences, LindiError, RefsChanged, RefsUnreachable
from lindi_dask.refs import References, parse_lindi

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["fingerprint_of_dict", "fingerprint_of_file", "load_dict", "load_file"]

_MAX_NBYTES = 2**30  # of a reference file
_REMEDY = (
    "Workers read the reference file themselves: save it to a path that they reach under the same name "
    "(a shared file system) and pass that path"
)


def fingerprint_of_file(path: Path) -> str:
    """Return the hexadecimal digest of a file's content.

    Raises
    ------
    RefsUnreachable, InvalidReferences
        If there is no such file, or it is too large to be one.
    """
    return _fingerprint(_read(path))


def load_file(path: Path, fingerprint: str) -> References:
    """Return the references in the file at `path`, which must have this fingerprint.

    Raises
    ------
    RefsUnreachable
        If there is no such file here.
    RefsChanged
        If it has another fingerprint.
    InvalidReferences
        If it breaks its format.
    """
    content = _read(path, fingerprint)
    found = _fingerprint(content)
    if found != fingerprint:
        raise RefsChanged(
            f"The reference file {path} here is not the one that this store was made from: it was changed since, or "
            f"this worker has another file under that name. Open it again. {_REMEDY}.",
            expected=fingerprint,
            found=found,
        )
    return parse_lindi(_json(content, str(path)), fingerprint)


def fingerprint_of_dict(refs: dict[str, Any]) -> str:
    """Return the hexadecimal digest of references given as a dict; the order of their keys does not matter.

    Raises
    ------
    InvalidReferences
        If the dict holds what JSON can't.
    """
    text = None
    try:
        text = json.dumps(refs, sort_keys=True, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        reason = f"the dict is not JSON ({error})"
    if text is None:
        raise InvalidReferences(f"These are not references: {reason}.", key=None, reason=reason)
    return _fingerprint(text.encode())


def load_dict(refs: dict[str, Any], fingerprint: str) -> References:
    """Return the references in a dict.

    Raises
    ------
    InvalidReferences
        If it breaks its format.
    """
    return parse_lindi(refs, fingerprint)


def unreachable(fingerprint: str) -> RefsUnreachable:
    """Return the error for references that were given as a dict to another process."""
    return RefsUnreachable(
        "The references of this store were given as a dict in another process, and are not known in this one. "
        f"{_REMEDY}.",
        fingerprint=fingerprint,
    )


def _fingerprint(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]


def _read(path: Path, fingerprint: str = "") -> bytes:
    failure: LindiError | None = None
    try:
        if path.stat().st_size > _MAX_NBYTES:
            reason = f"it is larger than {_MAX_NBYTES >> 20} MiB"
            failure = InvalidReferences(f"{path} is not a reference file: {reason}.", key=None, reason=reason)
        else:
            return path.read_bytes()
    except OSError as error:  # never passed on: zarr takes a FileNotFoundError for a missing chunk
        failure = RefsUnreachable(
            f"The reference file {path} can't be read here ({error.strerror}). {_REMEDY}.",
            fingerprint=fingerprint,
        )
    raise failure


def _json(content: bytes, name: str) -> object:
    reason = None
    try:
        return json.loads(content, object_pairs_hook=_unique)
    except _DuplicateKeyError as error:
        reason = f"the key {error.args[0]!r} stands there twice"
    except RecursionError:
        reason = "it is nested too deeply"
    except UnicodeDecodeError:
        reason = "it is not JSON: not UTF-8 text"
    except ValueError as error:
        reason = f"it is not JSON: {error}"
    raise InvalidReferences(f"{name} is not a reference file: {reason}.", key=None, reason=reason)


class _DuplicateKeyError(Exception):
    pass


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        seen = set()
        for key, _ in pairs:
            if key in seen:
                raise _DuplicateKeyError(key)
            seen.add(key)
    return values
