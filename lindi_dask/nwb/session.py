"""Groups of a session as datasets: each by what its type means."""

from __future__ import annotations

from typing import TYPE_CHECKING

import xarray as xr

from lindi_dask.nwb import series, tables
from lindi_dask.nwb.kinds import SERIES, TABLE
from lindi_dask.nwb.opening import SESSION_TIMES
from lindi_dask.nwb.tree import text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lindi_dask.nwb.opening import Opening

__all__ = ["open_groups"]


def open_groups(opening: Opening, paths: Iterable[str]) -> dict[str, xr.Dataset]:
    """Return the datasets of groups, by path.

    Parameters
    ----------
    opening
        Of the session.
    paths
        Of groups, from the root, without a leading slash; past links.

    Raises
    ------
    AccessError, UnavailableError
        If small arrays that have to be known at opening are not in the references, and can't be had.
    """
    lines = {path: opening.line(path) for path in paths}
    roots = [opening.tree.arrays(session) for session in {opening.session_of(path): None for path in lines}]
    nodes = [root[name] for root in roots for name in SESSION_TIMES if name in root]
    for path, line in lines.items():
        if SERIES in line:
            nodes += series.early_nodes(opening, path)
        elif TABLE in line:
            nodes += tables.early_nodes(opening, path)
    opening.early.fetch(node for node in nodes if node.path)
    return {path: _open(opening, path, line) for path, line in lines.items()}


def _open(opening: Opening, path: str, line: list[str]) -> xr.Dataset:
    if SERIES in line:
        return series.open_series(opening, path, line)
    if TABLE in line:
        return tables.open_table(opening, path, line)
    variables = {}
    for name, node in opening.tree.arrays(path).items():
        names = node.document.get("dimension_names") or ()
        own = [f"{name}_dim_{axis}" for axis in range(node.ndim)]
        dims = [text(given) or mine for given, mine in zip(names or own, own, strict=True)]
        variables[name] = opening.variable(node, dims if len(set(dims)) == len(dims) else own)
    try:
        return xr.Dataset(variables, attrs=opening.attributes(path))
    except ValueError:  # arrays that give the same name to dimensions of several lengths
        variables = {
            name: xr.Variable([f"{name}_dim_{axis}" for axis in range(one.ndim)], one._data, one.attrs)  # noqa: SLF001 - .data would read it
            for name, one in variables.items()
        }
        return xr.Dataset(variables, attrs=opening.attributes(path))
