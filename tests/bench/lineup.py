"""Who reads: lindi_dask in its ways, its peers at their defaults and tuned, and what both are measured by."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rounds import Reader

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "A_BLOCK_A_CHUNK",
    "FLOOR",
    "LIMIT",
    "OURS",
    "VARIANTS",
    "Pythons",
    "by_hand",
    "floor",
    "limit",
    "ours",
    "peers",
    "zarrs",
]

OURS, LIMIT, FLOOR = "open_array", "limit", "floor"
A_BLOCK_A_CHUNK = "a block a chunk"
VARIANTS = {
    "from_zarr": "da.from_zarr(store, component=)",
    "open_zarr": "xr.open_zarr(store)",
    A_BLOCK_A_CHUNK: "da.from_zarr, a block a chunk (its default)",
    "group": "open_group()[path][...]",
    "undispatched": "zarr's own pipeline",
}
"""by the names that `readers/ours.py` gives them"""

FUSED = "zarr.core.codec_pipeline.FusedCodecPipeline"
CONCURRENCY = 64  # zarr's default is 10


@dataclass(frozen=True, slots=True)
class Pythons:
    """Interpreters that have the peers."""

    lindi: str
    """with peers/lindi.txt"""
    peers: str
    """with peers/peers.txt"""
    newest: str
    """with peers/newest-peers.txt; may not be there"""

    @property
    def has_newest(self) -> bool:
        return Path(self.newest).exists()


def ours(environ: Mapping[str, str], way: str = OURS, window: int | None = None, said: str | None = None) -> Reader:
    settings = {"way": way} | ({} if window is None else {"window": window})
    return Reader(
        key=way if window is None else f"{way} {window}",
        kind="ours" if way == OURS else "variant",
        title="lindi_dask {lindi-dask}, zarr {zarr}",
        module="ours",
        settings=settings,
        said=said or (f"default, {VARIANTS[way]}" if way in VARIANTS else "default, open_array()"),
        # Its index of parsed references stays out of the user's cache folder
        environ={**environ, "DASK_LINDI_DASK__INDEX_CACHE": "false"},
    )


def limit() -> Reader:
    return Reader(LIMIT, "limit", "limit: obstore {obstore}, deflate {deflate}", "limit", said="by hand")


def floor() -> Reader:
    return Reader(FLOOR, "floor", "from memory: deflate {deflate}", "floor", said="by hand")


def by_hand() -> Reader:
    return Reader("requests", "by hand", "requests {requests}, deflate {deflate}", "by_requests", said="a GET a chunk")


def zarrs(pythons: Pythons) -> Reader:
    return Reader("zarrs", "peer", "zarrs {zarrs}, zarr {zarr}", "zarrs_fsspec", pythons.newest)


def peers(pythons: Pythons, *, full: bool) -> list[Reader]:
    """Return the peers; with `full`, also by settings that lie between their defaults and the best."""
    titles = {
        "fsspec_zarr": "fsspec {fsspec}, zarr {zarr}",
        "virtual_zarr": "VirtualiZarr {virtualizarr}, zarr {zarr}",
    }
    found = [Reader("lindi", "peer", "LINDI {lindi}, zarr {zarr}", "lindi_h5py", pythons.lindi)]
    for module, title in titles.items():
        found.append(Reader(module, "peer", title, module, pythons.peers))
        if full or not pythons.has_newest:
            found.append(_tuned(module, title, pythons.peers, fused=False))
        if pythons.has_newest:
            if full:
                found.append(Reader(f"{module} newest", "peer", title, module, pythons.newest))
            found.append(_tuned(module, title, pythons.newest, fused=True))
    return found


def _tuned(module: str, title: str, python: str, *, fused: bool) -> Reader:
    settings = {"concurrency": CONCURRENCY} | ({"pipeline": FUSED} if fused else {})
    said = f"tuned: concurrency {CONCURRENCY}{', fused' if fused else ''}"
    return Reader(f"{module} {said}", "peer", title, module, python, settings, said)
