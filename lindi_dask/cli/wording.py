"""An array in words: its shape, type and unit, and how it is stored."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lindi_dask.cli.terminal import plain
from lindi_dask.listing import size_text

if TYPE_CHECKING:
    from lindi_dask.cli.terminal import Look
    from lindi_dask.listing import ArrayRow

__all__ = ["cells_of", "counted", "details_of", "shape_text", "size_text"]


def cells_of(row: ArrayRow, look: Look) -> tuple[str, str, str]:
    """Return shape, type and unit."""
    dtype = f"{{{', '.join(plain(name) for name, _ in row.fields)}}}" if row.fields else row.dtype or "?"
    unit = plain(row.unit or "")
    if unit and row.conversion != 1:
        unit = f"{row.conversion:g} {unit}"
    if row.rate is not None:
        unit = f"{unit} at {row.rate:g} Hz".strip()
    return shape_text(row.shape, look), dtype, unit


def details_of(row: ArrayRow, look: Look, *, each: bool = False) -> list[str]:
    """Return how the array is stored, in pieces; if wanted, also how many bytes a chunk has in memory."""
    total = math.prod(row.grid)
    details = []
    stored = row.stored
    if stored is not None and stored.chunks < total:
        details.append(f"{stored.chunks:,} of {total:,} chunks")
    elif total > 1:
        details.append(f"{total:,} chunks")
    if total > 1:
        details[-1] += f" of {shape_text(row.chunk_shape, look)}"
        if each and row.chunk_nbytes is not None:
            details[-1] += f" ({size_text(row.chunk_nbytes)} each)"
    if stored is not None and stored.nbytes:
        size = size_text(stored.nbytes)
        ratio = stored.ratio or 1.0
        # Of a few numbers in a frame of their own the ratio says nothing
        shows = total > 1 and not 0.95 < ratio < 1.05
        details.append(f"{size} ({ratio:.3g}{look.times})" if shows else size)
    if row.codecs and row.codecs != ("blosc",):
        details.append("+".join(map(plain, row.codecs)))
    return details


def shape_text(shape: tuple[int, ...], look: Look) -> str:
    """Return a shape as text."""
    return f" {look.times} ".join(f"{extent:,}" for extent in shape) or "scalar"


def counted(number: int, thing: str) -> str:
    """Return a number of things in words; nothing for none."""
    return f"{number:,} {thing}{'s' * (number != 1)}" if number else ""
