"""DynamicTable and what is made from it: a dataset by row; ragged columns as contiguous ragged arrays (CF, 9.3.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
import xarray as xr
from xarray import Variable

from lindi_dask.nwb.kinds import ROWS
from lindi_dask.nwb.loaded_index import LoadedIndex
from lindi_dask.nwb.opening import lazy, warn
from lindi_dask.nwb.stored import CountsArray

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xarray import Index

    from lindi_dask.nwb.opening import Opening
    from lindi_dask.nwb.tree import ArrayNode

__all__ = ["early_nodes", "open_table"]

_ELECTRODES: Final = "general/extracellular_ephys/electrodes"


def early_nodes(opening: Opening, path: str) -> Iterator[ArrayNode]:
    """Yield the small arrays that have to be read to open a table: the codes of enumerations, and what they mean."""
    arrays = opening.tree.arrays(path)
    for name, node in arrays.items():
        if node.kind == "EnumData" and f"{name}_elements" in arrays:
            yield from (node, arrays[f"{name}_elements"])


def open_table(opening: Opening, path: str, line: list[str]) -> xr.Dataset:
    """Return a table as a dataset.

    Parameters
    ----------
    opening
        Of the session.
    path, line
        Of the group, and of its type.

    Returns
    -------
    xarray.Dataset
        A variable a column, by rows, which are selected by their id. Of a ragged column `x` the elements lie along
        `x_item`; `x_count` says how many each row has, `x_index` where they end. `ragged_row` takes them apart.
    """
    arrays = opening.tree.arrays(path)
    is_electrodes = path == f"{opening.session_of(path)}/{_ELECTRODES}".lstrip("/")
    row = "electrode" if is_electrodes else next((ROWS[kind] for kind in line if kind in ROWS), "row")
    ids = arrays.pop("id", None)
    length = ids.shape[0] if ids is not None and ids.ndim == 1 else None
    if length is None:
        warn(f"/{path} is a table without ids: its columns have dimensions of their own.")
    variables: dict[str, Variable] = {}
    for name, node in arrays.items():
        target = name.removesuffix("_index")
        ends = arrays.get(f"{name}_index")
        along = row if ends is None or ends.ndim != 1 else f"{name}_item"
        if along == row and node.ndim and node.shape[0] != length:
            if length is not None and not name.endswith("_elements"):
                warn(f"/{node.path} has {node.shape[0]} rows, but its table has {length}: it lies along {name}_item.")
            along = f"{name}_item"
        dims = (along, *(f"{name}_dim_{axis}" for axis in range(1, node.ndim)))[: node.ndim]
        categories = _enumeration(opening, node, dims, arrays.get(f"{name}_elements"))
        variables[name] = opening.variable(node, dims) if categories is None else categories
        if target != name and target in arrays and node.ndim == 1 and arrays[target].ndim:
            counts = CountsArray(opening.factory, node.path, node.shape)
            told = {"sample_dimension": f"{target}_item", "sample_size": arrays[target].shape[0]}
            variables[f"{target}_count"] = lazy(counts, dims, told, node)
    coordinates: dict[str, Variable] = {}
    indexes: dict[str, Index] = {}
    if ids is not None and length is not None:
        coordinates[row] = opening.variable(ids, (row,))
        indexes[row] = LoadedIndex(coordinates[row], row, ids.path)
    variables = {name: one for name, one in variables.items() if name != row}
    return xr.Dataset(variables, xr.Coordinates(coordinates, indexes=indexes), opening.attributes(path, timed=True))


def _enumeration(
    opening: Opening, node: ArrayNode, dims: tuple[str, ...], elements: ArrayNode | None
) -> Variable | None:
    """Return an enumeration as categories; None for what is none, or can't be taken for one."""
    if node.kind != "EnumData" or elements is None or node.ndim != 1:
        return None
    otherwise = f"/{node.path} is given as numbers"
    codes, names = opening.value(node, otherwise), opening.value(elements, otherwise)
    if codes is None or names is None:
        return None
    labels: list[Any] = [str(name) for name in names.tolist()]
    if len(set(labels)) < len(labels) or (codes.size and int(codes.max()) >= len(labels)):
        warn(f"/{node.path} has codes that /{elements.path} does not name: {otherwise}.")
        return None
    categories: Any = pd.Categorical.from_codes(codes.astype(np.int64), labels)
    return Variable(dims, categories, {k: v for k, v in node.attributes.items() if k != "namespace"})
