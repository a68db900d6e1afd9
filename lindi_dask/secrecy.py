"""Telling URLs and texts that give access from those that may be kept. Pure."""

from __future__ import annotations

import re
from urllib.parse import unquote

__all__ = ["grants_access", "holds_secret"]

# What a URL's query may hold without being a right to read: anything else is taken for one
_HARMLESS = frozenset(("download", "format", "partnumber", "versionid"))
# Elsewhere; two patterns, since their beginnings are searched for fast
_SECRETS = (
    re.compile(
        rb"[?&;](?:x-(?:amz|goog)-(?:signature|credential|security-token)|awsaccesskeyid|googleaccessid|key-pair-id"
        rb"|signature|sig|(?:access_?|api_?)?token|api_?key|secret|password)=",
        re.IGNORECASE,
    ),
    re.compile(rb"://[\w.~%!$&'()*+,;=:-]+@\w"),
)


def holds_secret(content: bytes | memoryview) -> bool:
    """Return whether a text has a presigned URL in it, or one with a password."""
    return any(secret.search(content) for secret in _SECRETS)


def grants_access(url: str) -> bool:
    """Return whether a URL holds a user, a password or a signature, or anything that may be one."""
    authority = re.split(r"[/?#]", url.partition("//")[2], maxsplit=1)[0]
    query = re.split(r"[?#]", url, maxsplit=1)[1:]
    names = {unquote(part.partition("=")[0]).lower() for part in re.split(r"[?#&;]", "".join(query)) if part}
    return "@" in authority or not names <= _HARMLESS
