"""The columns of a record file of a kerchunk parquet folder: what they may be, and their values as pyarrow has them."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from lindi_dask.errors import ConfigurationError, InvalidReferences
from lindi_dask.refs.kerchunk.parquet_footer import LIST, STRUCT, pages_fault, read_footer, rows_fault

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["COLUMNS", "arrow", "distinct", "invalid_file", "read_table"]

COLUMNS: Final = ("path", "offset", "size", "raw")
"""that mean something"""


def read_table(content: bytes, name: str, rows: int, size: int) -> Any:  # noqa: ANN401 - pyarrow has no types
    """Return those of `COLUMNS` that a record file has; nothing is unpacked before footer and page headers are checked.

    Parameters
    ----------
    content
        Of the file.
    name
        Of the file, for errors.
    rows, size
        Rows that it has at least, and at most.

    Raises
    ------
    InvalidReferences
        If it is not parquet, is broken, has columns of other types, or unpacks to more than 1 GiB.
    ConfigurationError
        If the parquet reader is not installed.
    """
    pa, parquet = arrow(), arrow("pyarrow.parquet")
    table, reason = None, None
    try:
        footer = read_footer(content)
        reason = rows_fault(footer, rows, size) or pages_fault(footer, content)
        if reason is None:
            paths = [column[3, STRUCT][3, LIST] for group in footer[4, LIST] for column in group[1, LIST]]
            texts = [key for key in ("path", "raw") if [key.encode()] in paths]
            file = parquet.ParquetFile(pa.BufferReader(content), read_dictionary=texts)
            names = [key for key in file.schema_arrow.names if key in COLUMNS]
            reason = _schema_fault(file.schema_arrow, names)
        if reason is None:
            table = file.read(columns=names, use_threads=False)
            table.validate(full=True)  # that codes stay within their dictionaries, and that text is UTF-8
            if not rows <= len(table) <= size:
                reason = f"it has {len(table):,} rows, but says otherwise"
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = f"it is not parquet, or broken: {str(error).partition(chr(10))[0][:200]}"
    except (LookupError, TypeError):
        reason = "it is not parquet, or broken: its footer or the header of a page makes no sense"
    if reason is not None:
        raise invalid_file(name, reason)
    return table


def _schema_fault(schema: Any, names: list[str]) -> str | None:  # noqa: ANN401 - pyarrow has no types
    if len(set(names)) != len(names):
        return "it has two columns of the same name"
    if names != ["raw"] and not {"path", "offset", "size"} <= set(names):
        return f"it has the columns {', '.join(schema.names)[:200]!r}, but not path, offset and size"
    for key in names:
        kind = schema.field(key).type
        if not _fits(key, kind):
            return f"its column {key!r} has the type {kind}"
    return None


def _fits(key: str, kind: Any) -> bool:  # noqa: ANN401 - pyarrow has no types
    types = arrow().types
    if key in {"offset", "size"}:
        return bool(types.is_integer(kind))
    if not types.is_dictionary(kind):
        return bool(types.is_null(kind))  # so writes pyarrow what has no values
    text = types.is_string(kind.value_type) or types.is_large_string(kind.value_type)
    # fsspec takes text in `raw` for its UTF-8
    return bool(text or (key == "raw" and (types.is_binary(kind.value_type) or types.is_large_binary(kind.value_type))))


def distinct(column: Any) -> tuple[NDArray[np.int64], Any]:  # noqa: ANN401 - pyarrow has no types
    """Return the rows as indices into the distinct values that they have (-1: null), and these values."""
    pa = arrow()
    if column.type == pa.null():
        return np.full(len(column), -1), pa.array([], pa.large_binary())
    array = column.combine_chunks()
    codes = array.indices.fill_null(-1).to_numpy()
    used = np.zeros(len(array.dictionary), np.bool_)
    used[codes[codes >= 0]] = True
    numbers = np.append(np.cumsum(used) - 1, -1)  # the last is that of null
    text = pa.types.is_string(column.type.value_type) or pa.types.is_large_string(column.type.value_type)
    kind = pa.large_string() if text else pa.large_binary()
    return numbers[codes], array.dictionary.take(np.flatnonzero(used)).cast(kind)


def arrow(module: str = "pyarrow") -> Any:  # noqa: ANN401 - pyarrow has no types
    """Return pyarrow (or a module of it), which is not needed for other formats and takes 40 MB of memory."""
    try:
        return importlib.import_module(module)
    except ImportError:
        pass
    raise ConfigurationError(
        'kerchunk\'s parquet references need pyarrow, which is not installed: pip install "lindi-dask[parquet]"'
    )


def invalid_file(name: str, reason: str) -> InvalidReferences:
    """Return the error of a file of the folder that can't be used."""
    return InvalidReferences(f"The file {name!r} of these references is not valid: {reason}.", key=name, reason=reason)
