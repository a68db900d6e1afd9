"""The options of the disk cache: which folder, how large, and what may be kept there. No I/O."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Final

from dask.utils import parse_bytes

from lindi_dask.errors import ConfigurationError
from lindi_dask.secrecy import grants_access
from lindi_dask.transport.etags import if_match, opaque
from lindi_dask.types import Asset, DiskCache, Target

__all__ = ["cache_of", "source_name"]

_LEAST: Final = 2**20  # bytes: a smaller cache would hold no range at all
_MOST: Final = 2**62


def cache_of(folder: object, limit: object) -> DiskCache | None:
    """Return the disk cache that the options `cache` and `cache_limit` stand for.

    Parameters
    ----------
    folder
        A path; None or False for no cache.
    limit
        Bytes, or a text such as "50 GiB".

    Raises
    ------
    ConfigurationError
        If one of them is anything else.
    """
    nbytes = _limit(limit)
    if folder is None or folder is False:
        return None
    path = os.fspath(folder) if isinstance(folder, str | os.PathLike) else folder
    if not isinstance(path, str) or not path.strip() or "\0" in path or "://" in path:
        raise ConfigurationError(
            f"cache (lindi-dask.cache) must be the path of a local folder, or None for no cache, not {folder!r}."
        )
    return DiskCache(str(Path(os.path.expanduser(path)).absolute()), nbytes)  # noqa: PTH111 - Path's may raise


def _limit(limit: object) -> int:
    nbytes: int | None = None
    if isinstance(limit, str) and any(c.isdigit() for c in limit):
        try:
            nbytes = parse_bytes(limit)
        except (ValueError, OverflowError):
            nbytes = None
    elif type(limit) is int:
        nbytes = limit
    if nbytes is None or not _LEAST <= nbytes <= _MOST:
        raise ConfigurationError(
            "cache_limit (lindi-dask.cache-limit) must be a number of bytes, 1 MiB or more, or a text such as "
            f"'50 GiB', not {limit!r}."
        )
    return nbytes


def source_name(target: Target) -> str | None:
    """Return what a cache calls a source; None for one whose content may change, or whose URL is a secret.

    An archive's asset never changes: any edit gives it another id. A file behind a plain URL is one state of it, by its
    strong entity tag. What else the references claim is part of the name, too: a read that they would turn into an
    error must not be answered from one that had claimed nothing.
    """
    asset = target.asset
    if not isinstance(asset, Asset):
        return None
    if asset.instance is not None:
        where = f"{asset.instance.api_url}/{asset.id}"
    elif if_match(target.etag) is not None and not grants_access(asset.id):
        where = asset.id
    else:
        return None
    etag = "" if target.etag is None else f'"{opaque(target.etag)}"'
    size = "" if target.size is None else str(target.size)
    return hashlib.sha256("\n".join((where, etag, size)).encode("utf-8", "surrogatepass")).hexdigest()[:32]
