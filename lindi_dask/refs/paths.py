"""Which paths a reference, or a bundle, may mean: those below its own folder, read the same way everywhere."""

from __future__ import annotations

import re
from typing import Final

from lindi_dask.errors import InvalidReferences

__all__ = ["MAX_NAME", "path_fault", "relative_path"]

MAX_NAME: Final = 1024
"""characters of a path"""

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
_DRIVE = re.compile(r"[A-Za-z]:")
_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}")
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")  # surrogates: bytes that are not UTF-8


def relative_path(url: str) -> str | None:
    """Return the path inside the bundle, or below the reference file's folder, that a reference means.

    It is a file's name, never percent-decoded: quote it to join it to a URL.

    Parameters
    ----------
    url
        As written in the reference, templates expanded: `./blobs/x` and `blobs/x` are both `blobs/x`.

    Returns
    -------
    str or None
        None for an absolute URL (one with a scheme), which is not checked further here.

    Raises
    ------
    InvalidReferences
        If it could lead elsewhere, or read differently elsewhere: `..`, absolute paths, backslashes, drive letters,
        percent escapes, control characters, `~`, empty parts.
    """
    if _SCHEME.match(url):
        return None
    path = url.removeprefix("./")
    reason = path_fault(path)
    if reason is None:
        return path
    shown = url[:MAX_NAME]
    message = f"The reference to {shown!r} is refused: {reason}. Only paths below the reference file's folder are read."
    raise InvalidReferences(message, key=shown, reason=reason)


def path_fault(path: str) -> str | None:
    """Return why a path may not be used, or None; it is one without `./` in front."""
    parts = path.split("/")
    if len(path) > MAX_NAME:
        return f"its name has more than {MAX_NAME} characters"
    if _UNPRINTABLE.search(path):
        return "its name has control characters, or is not UTF-8"
    if "\\" in path:
        return "its name has a backslash"
    if path.startswith("/") or _DRIVE.match(path):
        return "it is an absolute path"
    if ".." in parts:
        return "it leads out of its folder by '..'"
    if "" in parts or "." in parts:
        return "a part of its name is empty or '.'"
    if any(part.startswith("~") for part in parts):
        return "a part of its name starts with '~'"
    if _ESCAPE.search(path):
        return "its name has a percent escape, which not all would read the same way"
    return None
