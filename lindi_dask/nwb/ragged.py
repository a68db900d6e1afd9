"""Rows of ragged columns: only their own elements are read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lindi_dask.errors import InvalidSession

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["ragged_row", "spike_times"]


def spike_times(units: xr.Dataset, unit: int) -> xr.DataArray:
    """Return when a unit fired, in seconds; nothing is read of the other units' spikes.

    Parameters
    ----------
    units
        The table of units, as `xarray.open_dataset(..., engine="lindi", group="units")` gives it, or rows of it.
    unit
        Its id.

    Raises
    ------
    KeyError
        If there is no such unit, or the table has no spike times.
    InvalidSession
        If the table's index of spikes is broken.
    """
    one = units.sel(unit=unit)
    return _elements(units, one, "spike_times")


def ragged_row(table: xr.Dataset, column: str, row: int) -> xr.DataArray | list[xr.DataArray]:
    """Return what a ragged column has in one row; of a doubly ragged one, a list of what the row's parts have.

    Parameters
    ----------
    table
        As the engine `lindi` gives it, or rows of it.
    column
        Its name: `spike_times`.
    row
        Position of the row in `table`, from 0.
    """
    (dim,) = table[f"{column}_count"].dims
    if f"{column}_index_count" not in table:
        return _elements(table, table.isel({dim: row}), column)
    (outer,) = table[f"{column}_index_count"].dims
    start, stop = _bounds(table, table.isel({outer: row}), f"{column}_index")
    return [_elements(table, table.isel({dim: i}), column) for i in range(start, stop)]


def _elements(table: xr.Dataset, row: xr.Dataset, column: str) -> xr.DataArray:
    start, stop = _bounds(table, row, column)
    return table[column].isel({f"{column}_item": slice(start, stop)})


def _bounds(table: xr.Dataset, row: xr.Dataset, column: str) -> tuple[int, int]:
    """Return where the elements of a row begin and end; `row` has that row alone."""
    stop = int(row[f"{column}_index"].values)
    start = stop - int(row[f"{column}_count"].values)
    held, size = table.sizes[f"{column}_item"], row[f"{column}_count"].attrs["sample_size"]
    if held != size or stop > size:
        reason = f"{held} of {size} elements are here" if held != size else f"a row ends at {stop} of {size} elements"
        raise InvalidSession(
            f"The rows of {column} can't be told apart: {reason}. Pass the table with all elements of the column; "
            "rows may be selected before.",
            path=f"{column}_index",
            reason=reason,
        )
    return start, stop
