"""References to many chunks as JSON, all at once. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["rows"]

_GROUP: Final = 10_000  # numbers go four digits at a time
_PADDED: Final = np.frombuffer(b"".join(b"%04d" % i for i in range(_GROUP)), np.uint32)
_BARE: Final = np.frombuffer(b"".join((b"%d" % i).rjust(4, b"\0") for i in range(_GROUP)), np.uint32)


def rows(
    folder: str, coordinates: Sequence[NDArray[np.uint64]], url: str, *numbers: NDArray[np.unsignedinteger]
) -> str:
    """Return `"folder0.1":[url,2,3]` and so on, joined by commas and newlines.

    Parameters
    ----------
    folder
        In front of the numbers of a key, as JSON has it between its quotes.
    coordinates
        A column for each number of a key; none for the key "0".
    url
        JSON.
    numbers
        Columns that follow it.
    """
    count = len(numbers[0])
    parts: list[bytes | NDArray[np.uint8]] = [f',\n"{folder}'.encode("ascii")]
    for i, column in enumerate(coordinates):
        parts += [b"." if i else b"", _digits(column)]
    parts += [b'":[' if coordinates else b'0":[', url.encode("ascii")]
    for column in numbers:
        parts += [b",", _digits(column)]
    parts.append(b"]")
    widths = [len(part) if isinstance(part, bytes) else part.shape[1] for part in parts]
    out = np.empty((count, sum(widths)), np.uint8)
    at = 0
    for part, width in zip(parts, widths, strict=True):
        out[:, at : at + width] = np.frombuffer(part, np.uint8) if isinstance(part, bytes) else part
        at += width
    # What stands for the zeros in front of a number is in no JSON
    return out.tobytes().translate(None, b"\0")[2:].decode("ascii")


def _digits(values: NDArray[np.unsignedinteger]) -> NDArray[np.uint8]:
    """Return decimal digits, a row a number, with NULs for zeros in front."""
    largest = int(values.max())
    groups = -(-len(str(largest)) // 4)
    out = np.empty((len(values), groups), np.uint32)
    rest: NDArray[Any] = values.astype(np.uint32 if largest < 2**32 else np.uint64)
    for i in reversed(range(groups)):
        above = rest // rest.dtype.type(_GROUP)
        group = rest - above * rest.dtype.type(_GROUP)
        found = np.where(above == 0, _BARE[group], _PADDED[group])
        # Nothing at all is left of a group in front of the number; but a number that is 0 has one
        out[:, i] = np.where(rest == 0, np.uint32(0), found) if i < groups - 1 else found
        rest = above
    return out.view(np.uint8)
