"""zarr's own settings, as a peer is tuned by them: `concurrency`, and `pipeline`, a class in zarr's registry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import zarr

if TYPE_CHECKING:
    from readers.task import Settings


def tune(settings: Settings) -> None:
    if "concurrency" in settings:
        zarr.config.set({"async.concurrency": settings["concurrency"]})
    if "pipeline" in settings:
        zarr.config.set({"codec_pipeline.path": settings["pipeline"]})


def check(array: zarr.Array[Any], settings: Settings) -> None:
    """Raise where zarr took another pipeline than it was told to."""
    wanted = settings.get("pipeline", "BatchedCodecPipeline").rpartition(".")[2]
    taken = type(array.async_array.codec_pipeline).__name__
    if taken != wanted:
        raise RuntimeError(f"zarr reads by {taken}, not by {wanted}")
