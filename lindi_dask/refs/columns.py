"""Keys of chunks -> numbers, many at once. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["LooseEntry", "Run", "chunk_runs"]

LooseEntry: TypeAlias = tuple[str, Any]
"""key and value of an entry that is not in columns"""

_NEWLINE = 10
_SLASHED = re.compile(r"(?:(.*?)/)??[0-9]+(?:/[0-9]+)+")  # of keys such as a/c/3/0
_MAX_DIGITS = 9  # so that a coordinate fits 32 bits


@dataclass(frozen=True, slots=True)
class Run:
    """References to chunks whose keys share all but their last part."""

    folder: str
    """the shared part, without the slash behind it"""
    separator: str
    """between the numbers in the last part: "." or "/"; without meaning if there is only one"""
    coordinates: NDArray[np.uint32]
    """shape (n, k): the numbers in the last part"""
    urls: NDArray[np.uint32]
    """shape (n,): numbers of URLs"""
    offsets: NDArray[np.uint64]
    """shape (n,): bytes, from the start of the source"""
    lengths: NDArray[np.uint32]
    """shape (n,): bytes"""


def chunk_runs(
    keys: list[str], urls: NDArray[np.uint32], offsets: NDArray[np.uint64], lengths: NDArray[np.uint32]
) -> list[Run] | None:
    """Part references into runs; None if one of the keys does not end in canonical numbers.

    Parameters
    ----------
    keys
        Of chunks (`a/b/3.0`), in the order of the columns. Not empty.
    urls, offsets, lengths
        As in `Run`.
    """
    folder, separator = _place(keys[0])
    runs = _runs_in(folder, separator, keys, urls, offsets, lengths)
    if runs is not None:
        return runs
    runs = []
    first = 0
    for (folder, separator), group in groupby(keys, key=_place):
        part = list(group)
        last = first + len(part)
        found = _runs_in(folder, separator, part, urls[first:last], offsets[first:last], lengths[first:last])
        if found is None:
            return None
        runs += found
        first = last
    return runs


def _folder(key: str) -> str:
    return key.rpartition("/")[0]


def _place(key: str) -> tuple[str, str]:
    """Return what a key shares with those of its array, and what separates its numbers."""
    match = _SLASHED.fullmatch(key)
    return (match[1] or "", "/") if match else (_folder(key), ".")


def _runs_in(
    folder: str,
    separator: str,
    keys: list[str],
    urls: NDArray[np.uint32],
    offsets: NDArray[np.uint64],
    lengths: NDArray[np.uint32],
) -> list[Run] | None:
    """Return the runs of keys that all lie in one folder; None unless they do."""
    names = _names(keys, folder, separator)
    return None if names is None else _split(folder, separator, names, urls, offsets, lengths)


def _names(keys: list[str], folder: str, separator: str) -> bytes | None:
    """Return the keys without their folder, dots for separators, a newline before each; None unless all lie in it."""
    text = "\n" + "\n".join(keys)
    prefix = f"\n{folder}/" if folder else "\n"
    names = text.replace(prefix, "\n")
    if len(text) - len(names) != len(keys) * (len(prefix) - 1) or not names.isascii():
        return None
    if separator == "/":
        if "." in names:
            return None
        names = names.replace("/", ".")
    encoded = names.encode("ascii")
    if encoded.translate(None, b"0123456789.\n") or encoded.count(b"\n") != len(keys):
        return None
    return encoded


def _split(
    folder: str,
    separator: str,
    names: bytes,
    urls: NDArray[np.uint32],
    offsets: NDArray[np.uint64],
    lengths: NDArray[np.uint32],
) -> list[Run] | None:
    """Parse names of digits, dots and newlines; names with different counts of numbers part the run."""
    text = np.frombuffer(names, np.uint8)
    separators = np.flatnonzero(text < ord("0"))
    sizes = np.diff(separators, append=len(text)) - 1
    starts = separators + 1
    if sizes.min() < 1 or sizes.max() > _MAX_DIGITS:
        return None
    if bool(((text[starts] == ord("0")) & (sizes > 1)).any()):
        return None
    numbers = np.zeros(len(starts), np.uint32)
    for digit in range(int(sizes.max())):
        more = sizes > digit
        digits = text[np.minimum(starts + digit, len(text) - 1)] - np.uint8(ord("0"))
        np.multiply(numbers, 10, out=numbers, where=more)
        np.add(numbers, digits, out=numbers, where=more)
    begins = np.flatnonzero(text[separators] == _NEWLINE)
    counts = np.diff(begins, append=len(separators))
    edges = [0, *(np.flatnonzero(counts[1:] != counts[:-1]) + 1).tolist(), len(counts)]
    runs = []
    for first, last in pairwise(edges):
        k, begin = int(counts[first]), int(begins[first])
        coordinates = numbers[begin : begin + k * (last - first)].reshape(-1, k)
        runs.append(Run(folder, separator, coordinates, urls[first:last], offsets[first:last], lengths[first:last]))
    return runs
