"""Whether an output holds what the source does: both read by zarr's own means, the source by h5py where it can be."""

from __future__ import annotations

import importlib
import json
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import zarr
from zarr.core.array_spec import ArrayConfig
from zarr.storage import LocalStore, ObjectStore, WrapperStore

from lindi_dask.conversion.encoding import digest_of
from lindi_dask.conversion.repository import is_repository, repository_of
from lindi_dask.conversion.targets import is_remote, object_store
from lindi_dask.errors import JobError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from zarr.abc.store import Store

    from lindi_dask.conversion.plan import ArrayPlan, Plan
    from lindi_dask.factory import StoreFactory
    from lindi_dask.refs import References

__all__ = ["compare", "document_differences", "opened_output"]

_SAME: Final = ("shape", "data_type", "fill_value", "dimension_names", "attributes")
_CAN_MISS: Final = any(one.name == "read_missing_chunks" for one in fields(ArrayConfig))  # zarr 3.2 and newer


def document_differences(plan: Plan, references: References) -> dict[str, str]:
    """Return in what documents of a plan differ from the source's, by the path; layout and codecs may."""
    nodes: dict[str, Any] = json.loads(references.metadata["zarr.json"])["consolidated_metadata"]["metadata"]
    found = {}
    for path, document in [*plan.groups.items(), *((array.path, array.document) for array in plan.arrays)]:
        node = nodes.get(path) if path else json.loads(references.metadata["zarr.json"])
        if node is None:
            found[path] = "the source has no such node"
            continue
        differing = [name for name in _SAME if _comparable(node, name) != _comparable(document, name)]
        if differing:
            found[path] = f"{', '.join(differing)} differ from the source's"
    return found


def _comparable(node: dict[str, Any], name: str) -> Any:  # noqa: ANN401 - whatever JSON has
    """Return a part of a document; without links, as those to what was not selected are left out."""
    if name != "attributes":
        return node.get(name)
    return {key: one for key, one in node.get(name, {}).items() if key != "_LINKS"}


def compare(
    location: str, factory: StoreFactory, hdf5: str | None, array: ArrayPlan, place: int, is_stored: bool
) -> str | None:
    """Read what an object holds, and the same of the source, and return what is wrong, or None.

    Parameters
    ----------
    location
        Of the output.
    factory
        Of the source's store: its chunks are decoded by zarr, one by one.
    hdf5
        Path of the HDF5 file that the references are of: numbers are read from it by h5py. None: all by `factory`.
    array, place
        Which object.
    is_stored
        Whether there has to be one, and missing is an error.
    """
    region = array.region(place) if array.shape else ()
    output = opened_output(location, array.path, is_stored=is_stored)
    if hdf5 is not None and array.itemsize is not None:
        with importlib.import_module("h5py").File(hdf5, "r") as file:
            truth = np.asarray(file[array.path][region])
    else:
        source = zarr.open_array(WrapperStore(factory()), path=array.path, mode="r", zarr_format=3)
        truth = np.asarray(source[region], source.dtype)
    found = np.asarray(output[region], output.dtype)
    if truth.shape != found.shape or _little(truth).dtype != _little(found).dtype:
        return f"the source has {truth.dtype} of {truth.shape}, the output {found.dtype} of {found.shape}"
    is_same = digest_of(_little(truth)) == digest_of(_little(found))
    return None if is_same else "it holds other values than the source"


def opened_output(location: str, path: str, *, is_stored: bool) -> zarr.Array[Any]:
    """Return an array of an output; with `is_stored` it raises for a missing object, where zarr can."""
    config: Any = {"read_missing_chunks": False} if _CAN_MISS and is_stored else None
    return zarr.open_array(_output(location), path=path, mode="r", zarr_format=3, config=config)


def _output(location: str) -> Store:
    if is_repository(location):
        store = repository_of(location).store()
        if store is None:
            raise JobError(f"There is no repository at {location}.")
        return store
    return ObjectStore(object_store(location), read_only=True) if is_remote(location) else LocalStore(location)


def _little(block: NDArray[Any]) -> NDArray[Any]:
    return block.astype(block.dtype.newbyteorder("<"), copy=False) if block.dtype.kind in "iufc" else block
