"""Which view of the API a path leads to."""

import re
from dataclasses import dataclass
from typing import Literal

View = Literal["dandiset", "version", "assets", "asset", "info", "download"]

_DANDISET = r"/dandisets/(?P<dandiset>\d{6})"
_VERSION = rf"{_DANDISET}/versions/(?P<version>draft|0\.\d{{6}}\.\d{{4}})"
_ASSET = rf"(?:{_VERSION})?/assets/(?P<asset>[0-9a-f]{{8}}(?:-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}})"
_PATHS: dict[View, str] = {
    "dandiset": _DANDISET,
    "version": _VERSION,
    "assets": rf"{_VERSION}/assets",
    "asset": _ASSET,
    "info": rf"{_ASSET}/info",
    "download": rf"{_ASSET}/download",
}
_PATTERNS = {view: re.compile(rf"/api{path}(?P<slash>/)?", re.ASCII) for view, path in _PATHS.items()}


@dataclass(frozen=True, slots=True)
class Route:
    """What an API path asks for."""

    view: View
    """``assets`` are those of a version, a page at a time; ``asset`` is its metadata, ``info`` all that is known."""
    slash: bool
    """Whether the path ends as Django wants it."""
    asset_id: str | None = None
    """None: of no single asset."""
    dandiset: str | None = None
    """None: the path does not say."""
    version: str | None = None
    """None: likewise."""


def parse_path(path: str) -> Route | None:
    """Read an API path; None: no view has it."""
    for view, pattern in _PATTERNS.items():
        match = pattern.fullmatch(path)
        if match is not None:
            found = match.groupdict()
            slash = found["slash"] is not None
            return Route(view, slash, found.get("asset"), found.get("dandiset"), found.get("version"))
    return None
