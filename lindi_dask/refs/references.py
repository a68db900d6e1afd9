"""`References`: what every format of reference file turns into."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lindi_dask.refs.manifest import ChunkManifest

__all__ = ["INLINE", "References"]

INLINE = 0
"""the source whose bytes are `References.inline`"""


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class References:
    """A reference file system in the one internal dialect: Zarr v3 metadata and a manifest an array.

    Chunk keys have the form `path/3.0` (`chunk_key_encoding` v2 with "."), whatever the file had.
    """

    fingerprint: str
    """hexadecimal digest of the file's content"""
    metadata: Mapping[str, bytes]
    """`zarr.json` documents by key (`zarr.json`, `acquisition/zarr.json`); the root's holds all of them consolidated"""
    manifests: Mapping[str, ChunkManifest]
    """by array path, without a leading slash"""
    padded: Mapping[str, int]
    """by path of an uncompressed array: bytes that each chunk has, where a short last chunk is padded with zeros"""
    sources: tuple[str, ...]
    """URLs; the first stands for `inline`"""
    inline: bytes
    """chunks that the file holds itself, one after the other"""
    unreadable: Mapping[str, str]
    """why an array or a link can't be read, by path"""
