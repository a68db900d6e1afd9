"""Entity tags: what tells one state of a file from another (RFC 9110, section 8.8.3). Pure."""

from __future__ import annotations

import re

__all__ = ["if_match", "if_none_match", "opaque", "same_etag", "strong"]

# Between the quotes; also all that obstore takes: of a header with other characters it panics
_OPAQUE = re.compile(r"[\x21\x23-\x7e]{1,1024}")


def same_etag(one: str, other: str) -> bool:
    """Return whether two tags name the same state, weak or strong, with or without quotes."""
    return opaque(one) == opaque(other)


def if_match(etag: str | None) -> str | None:
    """Return the `If-Match` header for a tag; None for a weak one, which never matches, and one that no host gives."""
    if etag is None or etag.strip().startswith("W/"):
        return None
    return if_none_match(etag)


def strong(etag: str | None) -> str | None:
    """Return a tag without its quotes; None for a weak one, and one that no host gives."""
    tag = if_match(etag)
    return None if tag is None else opaque(tag)


def if_none_match(etag: str | None) -> str | None:
    """Return the `If-None-Match` header for a tag, weak or strong; None for one that no host gives."""
    text = opaque(etag or "")
    return f'"{text}"' if _OPAQUE.fullmatch(text) else None


def opaque(etag: str) -> str:
    """Return what stands between the quotes."""
    return etag.strip().removeprefix("W/").removeprefix('"').removesuffix('"')
