"""`selections` of Zarr v3 references: arrays that are a part of each record of a file. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from lindi_dask.errors import InvalidReferences

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Selection", "parse_selections"]

_MAX_NBYTES: Final = 2**31  # of a chunk: zarr-python's codecs take no more
_MAX_RANGES: Final = 65_536
_SLICED: Final = 4  # ranges up to which copying slices is quicker than gathering by an index


@dataclass(frozen=True, slots=True)
class Selection:
    """Which bytes of a file's records belong to an array; `ValueError` if that makes no sense."""

    record_size: int
    """bytes of a record in the file"""
    keep: tuple[tuple[int, int], ...]
    """ranges of a record, in bytes from its start, each without its end. Joined in this order; they may overlap"""

    def __post_init__(self) -> None:
        if not 0 < self.record_size <= _MAX_NBYTES:
            raise ValueError(f"a record has {self.record_size} bytes, but may have 1 to {_MAX_NBYTES}")
        if not 0 < len(self.keep) <= _MAX_RANGES:
            raise ValueError(f"it keeps {len(self.keep)} ranges of a record, but may keep 1 to {_MAX_RANGES}")
        for start, stop in self.keep:
            if not 0 <= start < stop <= self.record_size:
                raise ValueError(f"[{start}, {stop}] is not a range of a record of {self.record_size} bytes")

    @property
    def kept(self) -> int:
        """Bytes of a record that belong to the array."""
        return sum(stop - start for start, stop in self.keep)

    def kept_nbytes(self, lengths: NDArray[np.unsignedinteger]) -> NDArray[np.int64]:
        """Return how many bytes are left of runs of records.

        Parameters
        ----------
        lengths
            Bytes of each run in the file, less than 2**32.

        Returns
        -------
        array
            Bytes of each run in the array; -1 where its length is not a whole number of records, or where
            more than 2 GiB would be left: `apply` refuses it.
        """
        records, rest = np.divmod(lengths.astype(np.int64), self.record_size)
        kept = self.kept
        return np.where((rest == 0) & (records <= _MAX_NBYTES // kept), records * kept, -1)

    def apply(self, data: memoryview) -> memoryview:
        """Return what belongs to the array of consecutive records.

        Parameters
        ----------
        data
            Bytes from the file.

        Raises
        ------
        ValueError
            If they are not a whole number of records, or if more than 2 GiB would be left.
        """
        records, rest = divmod(data.nbytes, self.record_size)
        if rest:
            raise ValueError(f"its {data.nbytes} bytes are not a whole number of records of {self.record_size} bytes")
        kept = self.kept
        if records * kept > _MAX_NBYTES:
            raise ValueError(f"{kept} bytes of each of its {records} records are more than 2 GiB")
        if self.keep == ((0, self.record_size),):
            return data.cast("B")
        # Items as wide as all bounds allow: there are fewer of them to move
        unit = math.gcd(8, self.record_size, *chain.from_iterable(self.keep))
        table = np.frombuffer(data, f"u{unit}").reshape(records, self.record_size // unit)
        ranges = [(start // unit, stop // unit) for start, stop in self.keep]
        if len(ranges) > _SLICED:
            columns = np.concatenate([np.arange(start, stop) for start, stop in ranges])
            chosen = np.take(table, columns, axis=1)
        else:
            chosen = np.concatenate([table[:, start:stop] for start, stop in ranges], axis=1)
        return chosen.reshape(-1).view(np.uint8).data


def parse_selections(value: object) -> dict[str, Selection]:
    """Return the selections of a reference file by array path.

    Parameters
    ----------
    value
        The member `selections`: by array path, `{"record_size": 770, "keep": [[0, 768]]}`.

    Raises
    ------
    InvalidReferences
        If it is malformed; it names the array.
    """
    if not isinstance(value, dict):
        raise _invalid(None, "it is not an object")
    return {path: _selection(path, entry) for path, entry in value.items()}


def _selection(path: object, entry: Any) -> Selection:  # noqa: ANN401 - any JSON
    if not isinstance(path, str) or path.startswith("/") or path.endswith("/"):
        raise _invalid(path, "that is not the path of an array: it has no slash at its ends")
    match entry:
        case {"record_size": record_size, "keep": list(keep)} if type(record_size) is int:
            ranges = [tuple(part) for part in keep if _is_range(part)]
        case _:
            raise _invalid(path, "it is not an object with a whole 'record_size' and a list 'keep'")
    if len(ranges) != len(keep):
        raise _invalid(path, "'keep' is not a list of pairs of whole numbers")
    selection, reason = None, "it can't be used"
    try:
        selection = Selection(record_size, tuple(ranges))
    except ValueError as error:
        reason = str(error)
    if selection is None:
        raise _invalid(path, reason)
    return selection


def _is_range(part: object) -> bool:
    return isinstance(part, list) and len(part) == 2 and all(type(bound) is int for bound in part)


def _invalid(path: object, reason: str) -> InvalidReferences:
    where = "The member 'selections'" if path is None else f"The selection of {path!r}"
    key = "selections" if path is None else f"selections of {path!r}"
    return InvalidReferences(f"{where} is not valid: {reason}. Write the references anew.", key=key, reason=reason)
