"""What a reader is given, and what it is to read. Needs nothing but the standard library."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

__all__ = ["Given", "Settings", "Task", "Way"]

Way: TypeAlias = Literal["whole", "channel", "windows", "at once"]

Settings: TypeAlias = dict[str, Any]
"""How a reader is set up: a row of the table says so in words."""


@dataclass(frozen=True, slots=True)
class Given:
    """One HDF5 file in the archive, in the forms that readers take. Its array is `data`: rows x channels, int16."""

    file: str
    """path of the file itself"""
    url: str
    """download URL of the archive's API: answers with a presigned URL to those who have the key"""
    presigned: str
    """a presigned URL that outlives the run"""
    api_url: str
    key: str
    lindi: str
    """path of LINDI's JSON, which points at `url`"""
    lindi_presigned: str
    """the same, but it points at `presigned`"""
    kerchunk: str
    """path of kerchunk's JSON, which points at `presigned`"""
    kerchunk_bare: str
    """the same, but without the query of the presigned URL"""


@dataclass(frozen=True, slots=True)
class Task:
    """What to read of the array.

    `whole`: the rows from `start` to `stop`, all channels. `channel`: one channel of these rows. `windows`: some rows
    from each of the places, one window a call. `at once`: these windows by one call. Windows lie one after the other in
    the result.
    """

    way: Way
    start: int
    stop: int
    threads: int
    block_rows: int
    """of a dask block"""
    channel: int
    places: tuple[int, ...]
    """rows that windows begin at"""
    window_rows: int
