"""Addresses of dandisets and of what is in them: `dandi://INSTANCE/000123@draft/sub-1/sub-1.nwb`. Pure.

They are those of dandi-cli (https://docs.dandiarchive.org), but that a path may be a pattern. A pattern is matched part
by part, between the slashes, and case counts:

- `*` is any text without a slash, none too; `?` is one character; `[ab]`, `[a-c]` and `[!a]` are one out of, or not out
  of, a set;
- `**` as a whole part is any number of folders, none too; at the end it is all that lies below;
- a slash at the end means the same as `/**`;
- what is percent-encoded stands for itself: `%2A` is an asterisk.
"""

from __future__ import annotations

import glob
import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs, unquote

from lindi_dask.archive.urls import split_url
from lindi_dask.errors import ConfigurationError, UrlRefused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lindi_dask.types import Instance

__all__ = ["Address", "is_address", "is_version", "parse_address"]

_FORM: Final = "dandi://INSTANCE/000123[@VERSION][/PATH]"
_VERSION: Final = r"draft|[0-9]+\.[0-9]+\.[0-9]+"
_ADDRESS: Final = re.compile(
    rf"dandi://(?P<instance>[^/]*)/(?P<dandiset>[0-9]{{6}})(?:@(?P<version>{_VERSION}))?(?:/(?P<path>.*))?"
)
_PAGE: Final = re.compile(rf"/dandiset/(?P<dandiset>[0-9]{{6}})(?:/(?P<version>{_VERSION}))?(?:/files)?/?")
_PAGES: Final = {
    "dandiarchive.org": "dandi",
    "gui.dandiarchive.org": "dandi",
    "sandbox.dandiarchive.org": "dandi-sandbox",
    "lincbrain.org": "linc",
    "staging.lincbrain.org": "linc-staging",
    "dandi.emberarchive.org": "ember-dandi",
}
"""hosts of the archives' web pages -> instances"""

_LONGEST: Final = 4096  # characters
_ENCODED: Final = re.compile(r"(?:%[0-9A-Fa-f]{2})+")
_SET: Final = re.compile(r"\[!?\]?[^\]/]*\]")
_LITERAL: Final = re.compile(r"\[([*?\[])\]")


@dataclass(frozen=True, slots=True)
class Address:
    """A dandiset, or a part of it."""

    instance: Instance
    """the archive"""
    dandiset: str
    """six digits"""
    version: str | None = None
    """`draft`, or the number of a published one; None: the newest that is published, the draft if none is"""
    pattern: str = ""
    """of the paths of assets; "": of all. What stands for itself and would not, is in brackets: `[*]`"""

    def __str__(self) -> str:
        version = "" if self.version is None else f"@{self.version}"
        path = f"/{self.pattern.replace('%', '%25')}" if self.pattern else ""
        return f"dandi://{self.instance.name}/{self.dandiset}{version}{path}"

    @property
    def path(self) -> str | None:
        """The one path that it is the address of; None: of a folder, a pattern, or all."""
        bare = _LITERAL.sub("", self.pattern)
        if not self.pattern or self.pattern.endswith("/") or re.search(r"[*?]", bare) or _SET.search(bare):
            return None
        return _LITERAL.sub(r"\1", self.pattern)

    @property
    def server_glob(self) -> str | None:
        """What to ask the archive's API for; None: for all.

        There, `*` is any text, slashes too, and case does not count: it gives what `matches` takes, and more.
        """
        parts = self._parts
        text = ""
        for number, part in enumerate(parts):
            if part == "**":
                text += "*"
            else:
                one = _SET.sub(_widened, part).replace("?", "*")
                text += one if number == len(parts) - 1 else f"{one}/"
        # It leaves out blanks at both ends
        text = re.sub(r"\*+", "*", re.sub(r"^\s+|\s+$", "*", text))
        return None if text == "*" else text

    def matches(self, path: str) -> bool:
        """Return whether the path of an asset is one of those that are meant."""
        return _matches(self._parts, path.split("/"))

    @property
    def _parts(self) -> list[str]:
        parts = self.pattern.split("/")
        if not parts[-1]:
            parts[-1] = "**"
        return [*parts, "*"] if parts[-1] == "**" else parts


def _widened(found: re.Match[str]) -> str:
    """Return what stands for a set in the server's patterns, which have none."""
    return found[0][1] if len(found[0]) == 3 and found[0] != "[!]" else "*"


def _matches(pattern: Sequence[str], parts: Sequence[str]) -> bool:
    # After a `**`, what fails is tried again one part further on; only the last one has to be gone back to
    at, part, again, resumed = 0, 0, -1, 0
    while part < len(parts):
        if at < len(pattern) and pattern[at] == "**":
            at, again, resumed = at + 1, at + 1, part
        elif at < len(pattern) and fnmatchcase(parts[part], pattern[at]):
            at, part = at + 1, part + 1
        elif again >= 0:
            resumed += 1
            at, part = again, resumed
        else:
            return False
    return all(rest == "**" for rest in pattern[at:])


def is_address(text: str) -> bool:
    """Return whether a text is meant to be an address, or the URL of a dandiset's page."""
    if text.startswith("dandi://"):
        return True
    return text.startswith("https://") and re.split(r"[/?#]", text[len("https://") :], maxsplit=1)[0] in _PAGES


def is_version(text: str) -> bool:
    """Return whether a text is the name of a version, as it stands in addresses."""
    return re.fullmatch(_VERSION, text) is not None


def parse_address(text: str, instances: tuple[Instance, ...]) -> Address:
    """Read an address, or the URL of a dandiset's page on an archive's web site.

    Parameters
    ----------
    text
        `dandi://dandi/000123@draft/sub-*/**/*.nwb`, say, or `https://dandiarchive.org/dandiset/000123/draft/files?
        location=sub-1`, where the location is a folder.
    instances
        Archives that are known.

    Raises
    ------
    ConfigurationError
        If it is neither, or of an archive that is not known.
    """
    if len(text) > _LONGEST or not text.isprintable():
        raise ConfigurationError(f"This is no address of a dandiset ({_FORM}): it is too long, or not all text.")
    match = _ADDRESS.fullmatch(text)
    found = _of_page(text) if match is None else match.groupdict()
    if found is None:
        raise ConfigurationError(f"{_shown(text)} is no address of a dandiset: it has the form {_FORM}.")
    known = {instance.name: instance for instance in instances}
    instance = known.get(str(found["instance"]).lower())
    if instance is None:
        raise ConfigurationError(
            f"{_shown(text)}: there is no instance {found['instance']!r}; there are {', '.join(known)}. Name others by "
            "the option instances."
        )
    pattern = _ENCODED.sub(lambda run: glob.escape(unquote(run[0])), found["path"] or "")
    if not pattern.isprintable():
        raise ConfigurationError(f"{_shown(text)}: its path holds a control character.")
    return Address(instance, str(found["dandiset"]), found["version"], pattern.lstrip("/"))


def _shown(text: str) -> str:
    """Return what messages may show: of a URL neither the user nor the query, which may be a signature."""
    scheme, separator, rest = text.replace("/#/", "/", 1).partition("://")
    if not separator or scheme == "dandi":
        return repr(text)
    authority, slash, path = re.split(r"[?#]", rest, maxsplit=1)[0].partition("/")
    return repr(f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}")


def _of_page(text: str) -> dict[str, str | None] | None:
    """Return the parts of the URL of a dandiset's page; None for anything else."""
    url = text.replace("/#/", "/", 1)
    try:
        parts = split_url(url)
    except UrlRefused:
        return None
    match = _PAGE.fullmatch(parts.path)
    if match is None or parts.scheme != "https" or parts.host not in _PAGES:
        return None
    folder = parse_qs(parts.query).get("location", [""])[-1].strip("/")
    path = glob.escape(folder).replace("%", "%25") + "/" if folder else None
    return {**match.groupdict(), "instance": _PAGES[parts.host], "path": path}
