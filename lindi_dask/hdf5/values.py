"""Values of HDF5 files -> what the references hold themselves: chunks in the internal dialect, and JSON."""

from __future__ import annotations

import base64
import math
from typing import TYPE_CHECKING, Any, Final

import h5py
import numpy as np
from numcodecs.vlen import VLenUTF8

from lindi_dask.refs.dialect.v2_kinds import UntranslatableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from lindi_dask.hdf5.elements import Elements

    PathOf = Callable[[int], str]

__all__ = ["DataType", "decoded", "encoded", "fill_of", "finished", "python_jsonable", "to_jsonable", "type_of"]

DataType = str | dict[str, Any]

_UTF32: Final = 4  # bytes a character


def decoded(text: bytes | str) -> str:
    """Return text as UTF-8; what is not even that, as Latin-1, which is what it nearly always is."""
    raw = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def type_of(one: Elements) -> DataType:
    """Return the data type of elements that hold no text or references, as `zarr.json` has it."""
    return finished(np.zeros(0, one.dtype), one, str)[1]


def finished(values: NDArray[Any], one: Elements, path_of: PathOf) -> tuple[NDArray[Any], DataType]:
    """Return elements as the internal dialect has them, and their data type in `zarr.json`.

    Parameters
    ----------
    values
        As they were read.
    one
        What they are.
    path_of
        Returns the path of the object at an address; "" for address 0.

    Returns
    -------
    tuple
        Numbers and records are little-endian and packed; text and references objects (`str`), in records of the width
        that the longest needs.
    """
    match one.role:
        case "number":
            dtype = one.dtype.newbyteorder("<")
            return np.ascontiguousarray(values, dtype).reshape(values.shape), dtype.name
        case "bytes":
            return values, {"name": "null_terminated_bytes", "configuration": {"length_bytes": one.dtype.itemsize}}
        case "text" | "reference":
            texts = np.empty(values.size, object)
            make: Any = decoded if one.role == "text" else path_of
            texts[:] = [make(item) for item in values.reshape(-1).tolist()]
            return texts.reshape(values.shape), "string"
        case "record":
            columns = {name: _field(values[name], field, path_of) for name, field in one.fields}
        case "array":
            return _as_record(values, one, path_of)
    dtype = np.dtype([(name, column.dtype) for name, (column, _) in columns.items()])
    out = np.zeros(values.shape, dtype)
    for name, (column, _) in columns.items():
        out[name] = column
    return out, {"name": "structured", "configuration": {"fields": [[n, t] for n, (_, t) in columns.items()]}}


def _field(values: NDArray[Any], one: Elements, path_of: PathOf) -> tuple[NDArray[Any], DataType]:
    column, kind = finished(values, one, path_of)
    if kind != "string":
        return column, kind
    width = max((len(text) for text in column.reshape(-1).tolist()), default=0) or 1
    kind = {"name": "fixed_length_utf32", "configuration": {"length_bytes": _UTF32 * width}}
    return column.astype(f"<U{width}"), kind


def _as_record(values: NDArray[Any], one: Elements, path_of: PathOf) -> tuple[NDArray[Any], DataType]:
    """Return arrays in records as records with a field an element, "0", "1" ...: the same bytes."""
    column, kind = _field(values, one.fields[0][1], path_of)
    outer = column.shape[: column.ndim - len(one.shape)]
    for extent in reversed(one.shape):
        fields = [str(i) for i in range(extent)]
        kind = {"name": "structured", "configuration": {"fields": [[name, kind] for name in fields]}}
    dtype = column.dtype
    for extent in reversed(one.shape):
        dtype = np.dtype([(str(i), dtype) for i in range(extent)])
    return np.frombuffer(np.ascontiguousarray(column).tobytes(), dtype).reshape(outer), kind


def encoded(values: NDArray[Any], chunk: tuple[int, ...]) -> bytes:
    """Return a chunk of finished elements; where it ends early, as at the end of an array, it is filled up."""
    if values.shape != chunk:
        whole = np.full(chunk, "", object) if values.dtype == object else np.zeros(chunk, values.dtype)
        whole[tuple(slice(0, extent) for extent in values.shape)] = values
        values = whole
    if values.dtype == object:
        return bytes(VLenUTF8().encode(values.reshape(-1)))
    return values.tobytes()


def fill_of(value: NDArray[Any], kind: DataType) -> Any:  # noqa: ANN401 - as `zarr.json` has it
    """Return the fill value, one finished element, as `zarr.json` has it."""
    if isinstance(kind, dict):
        return base64.b64encode(value.tobytes()).decode("ascii")
    if kind == "string":
        return ""
    item = value[()].item()
    if isinstance(item, complex):
        return [_float(item.real), _float(item.imag)]
    return _float(item) if isinstance(item, float) else item


def _float(value: float) -> float | str:
    return value if math.isfinite(value) else "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


# JSON


def to_jsonable(values: NDArray[Any], one: Elements, path_of: PathOf) -> Any:  # noqa: ANN401 - JSON
    """Return the value of an attribute as JSON has it: records as objects by field, complex numbers as pairs.

    Parameters are those of `finished`. Raises `UntranslatableError` for a reference that leads nowhere.
    """
    if one.role == "array":
        return to_jsonable(values, one.fields[0][1], path_of)
    if one.role == "record":
        if values.ndim:
            return [to_jsonable(row, one, path_of) for row in values]
        return {name: to_jsonable(np.asarray(values[name]), field, path_of) for name, field in one.fields}
    if values.ndim:
        if one.role == "number" and one.dtype.kind != "c":
            return values.tolist()
        return [to_jsonable(np.asarray(row), one, path_of) for row in values]
    item = values.item()
    match one.role:
        case "text" | "bytes":
            return decoded(item)
        case "reference":
            return _reference(path_of(item))
        case _:
            return [item.real, item.imag] if isinstance(item, complex) else item


def python_jsonable(value: Any, address_of: Callable[[h5py.Reference], int], path_of: PathOf) -> Any:  # noqa: ANN401
    """Return what h5py itself made of an attribute, such as of lists of any length, as JSON has it."""
    match value:
        case h5py.RegionReference():
            raise UntranslatableError("references to regions have no form in Zarr")
        case h5py.Reference():
            return _reference(path_of(address_of(value)))
        case np.ndarray() | np.void() if value.dtype.names is not None and not value.shape:
            return {name: python_jsonable(value[name], address_of, path_of) for name in value.dtype.names}
        case np.ndarray():
            return [python_jsonable(item, address_of, path_of) for item in value]
        case bytes() | str():
            return decoded(value)
        case np.void():
            raise UntranslatableError("opaque bytes have no form in Zarr")
        case np.generic():
            return python_jsonable(value.item(), address_of, path_of)
        case complex():
            return [value.real, value.imag]
        case bool() | int() | float():
            return value
    raise UntranslatableError(f"values of the type {type(value).__name__} have no form in Zarr")


def _reference(path: str) -> dict[str, dict[str, str]] | None:
    return {"_REFERENCE": {"source": ".", "path": path}} if path else None
