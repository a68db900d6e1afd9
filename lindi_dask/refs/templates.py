"""`{{name}}` in the URLs of a reference file."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from lindi_dask.errors import InvalidReferences

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["expand"]

_PLACEHOLDER = re.compile(r"\{\{\s*([A-Za-z_][A-Za-z0-9_]*)\s*\}\}")


def expand(url: str, templates: Mapping[str, str], *, key: str) -> str:
    """Return `url` with its placeholders replaced, once: what a template brings in is not expanded again.

    Parameters
    ----------
    url
        As written in the entry.
    templates
        Of the reference file, by name.
    key
        Of the entry, for the error.

    Raises
    ------
    InvalidReferences
        If a template is not defined, or braces hold anything but a name: expressions are never evaluated.
    """
    if "{{" not in url:
        return url
    names = _PLACEHOLDER.findall(url)
    unknown = next((name for name in names if name not in templates), None)
    if unknown is not None:
        reason = f"the template {unknown!r} is not defined"
    elif "{{" in _PLACEHOLDER.sub("", url):
        reason = "a template may only be a name in double braces"
    else:
        return _PLACEHOLDER.sub(lambda match: templates[match[1]], url)
    raise InvalidReferences(f"The reference {key!r} can't be used: {reason}.", key=key, reason=reason)
