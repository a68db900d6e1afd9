"""HDF5 values -> JSON values, in the forms that LINDI writes."""

import math
from typing import Any

import h5py
import numpy as np

Scalar = bool | int | float | str


def jsonable(value: Any, file: h5py.File) -> Any:  # noqa: ANN401 - an attribute can be anything
    """Convert an HDF5 attribute, or an element of a dataset, to what JSON can hold.

    Parameters
    ----------
    value
        As h5py returns it: a Python or numpy scalar, `str`, `bytes`, an object reference, an array of these.
    file
        The file that object references point into.

    Returns
    -------
    object
        Numbers, strings, `None` and nested lists; NaN and infinities as `"NaN"`, `"Infinity"`, `"-Infinity"`
        (JSON has no numbers for them); an object reference as `{"_REFERENCE": {...}}`.

    Raises
    ------
    ValueError
        For kinds that have no such form yet: compounds, region references, complex numbers.
    """
    match value:
        case h5py.RegionReference():  # before Reference, its base class
            raise ValueError("region references cannot be indexed yet")
        case h5py.Reference():
            return _reference(value, file)
        case np.ndarray() if value.dtype.names is None:
            return [jsonable(item, file) for item in value] if value.ndim else jsonable(value[()], file)
        case h5py.Empty():
            return None
    return _scalar(value)


def _reference(value: h5py.Reference, file: h5py.File) -> dict[str, dict[str, str | None]]:
    """Describe an object reference by path, and by the object ids of NWB where there are some."""
    target = file[value]
    return {
        "_REFERENCE": {
            "object_id": jsonable(target.attrs.get("object_id", h5py.Empty("S1")), file),
            "path": target.name,
            "source": ".",
            "source_object_id": jsonable(file.attrs.get("object_id", h5py.Empty("S1")), file),
        }
    }


def _scalar(value: object) -> Scalar:
    match value:
        case bytes():
            return value.decode("utf-8")
        case np.bool_() | np.integer() | np.floating():
            return _scalar(value.item())
        case float() if not math.isfinite(value):
            return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
        case bool() | int() | float() | str():
            return value
    raise ValueError(f"a value of type {type(value).__name__} cannot be indexed yet")
