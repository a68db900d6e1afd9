"""Record files of a kerchunk parquet folder, as locations of chunks (the format: `kerchunk_parquet.py`)."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from lindi_dask.refs.kerchunk.parquet_table import COLUMNS, arrow, distinct, invalid_file, read_table
from lindi_dask.refs.manifest import WHOLE, Locations
from lindi_dask.refs.references import Source

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from lindi_dask.refs.references import SourceTable

__all__ = ["Record", "encode_record"]

_MAX: Final = {"offset": 2**63 - 2**32, "size": WHOLE - 1}  # so that both make no more than 2**63 - 1 together
_MAX_RAW_NBYTES: Final = 2**26  # of one chunk
_BASE64: Final = b"base64:"


class Record:
    """One record file, taken apart; rows are checked on the way.

    Parameters
    ----------
    content
        Of the file.
    name
        Of the file, for errors.
    rows
        That have a place in the grid.
    size
        Rows that the file may have.
    chunk
        How messages call the chunk of a row.

    Raises
    ------
    InvalidReferences
        If the file is not parquet, is broken, has columns of other types, or unpacks to more than 1 GiB.
    ConfigurationError
        If the parquet reader is not installed.
    """

    def __init__(self, content: bytes, name: str, rows: int, size: int, chunk: Callable[[int], str]) -> None:
        self._name = name
        self._rows = rows
        self._chunk = chunk
        table = read_table(content, name, rows, size)
        none = arrow().nulls(len(table))
        columns = {key: table[key] if key in table.column_names else none for key in COLUMNS}
        self._paths, self._path_values = distinct(columns["path"])
        self._raws, self._raw_values = distinct(columns["raw"])
        self._offsets, self._sizes = (self._numbers(columns[key], key) for key in ("offset", "size"))

    def locations(self, sources: SourceTable, source: Callable[[str], Source]) -> Locations:
        """Return where the chunks lie that have a place in the grid; their sources are entered at the end.

        Parameters
        ----------
        sources
            Where the files that hold chunks are entered.
        source
            Returns the file that a path as written means.

        Raises
        ------
        InvalidReferences
            If a row is not one of the format; it names the chunk.
        """
        pointing, inline = self._paths >= 0, self._raws >= 0
        offsets, sizes = self._offsets, self._sizes
        whole = (offsets == 0) & (sizes == 0)
        behind = np.arange(len(pointing)) >= self._rows
        self._refuse_where(pointing & inline, "it has both bytes and a path")
        self._refuse_where(~pointing & ~inline & ~whole, "it has an offset or a size, but no path")
        self._refuse_where((pointing | inline) & behind, "the grid has no place for it")
        paths: list[str] = self._path_values.to_pylist()
        if "" in paths:
            self._refuse_where(self._paths == paths.index(""), "its path is empty")
        data, starts, lengths = self._inline()

        found = Locations.missing(len(pointing))
        found.offsets[pointing] = offsets[pointing]
        found.lengths[pointing] = np.where(whole, np.uint64(WHOLE), sizes)[pointing]
        numbers = [sources.add(source(path)) for path in paths]
        found.sources[pointing] = np.array(numbers, np.uint32)[self._paths[pointing]]
        if inline.any():
            at = self._raws[inline]
            found.sources[inline] = sources.add(Source("", data=memoryview(data)))
            found.offsets[inline], found.lengths[inline] = starts[at], lengths[at]
        return found if self._rows == len(found) else found[np.arange(self._rows)]

    def _numbers(self, column: Any, key: str) -> NDArray[np.uint64]:  # noqa: ANN401 - pyarrow has no types
        if column.type == arrow().null():
            return np.zeros(len(column), np.uint64)
        self._refuse_where(column.is_null().to_numpy(), f"its {key} is null")
        values: NDArray[np.integer] = column.to_numpy()
        self._refuse_where((values < 0) | (values > _MAX[key]), f"its {key} is negative or too large")
        return values.astype(np.uint64)

    def _inline(self) -> tuple[bytes, NDArray[np.uint64], NDArray[np.uint64]]:
        """Return the bytes of all inline chunks, and by code where each starts and how long it is."""
        values = self._raw_values
        if not len(values):
            return b"", np.zeros(0, np.uint64), np.zeros(0, np.uint64)
        _, offsets, buffer = values.buffers()
        ends = np.frombuffer(offsets, np.uint64)[values.offset : values.offset + len(values) + 1]
        data = b"" if buffer is None else bytes(memoryview(buffer)[: ends[-1]])
        starts, lengths = ends[:-1].copy(), np.diff(ends)
        decoded = bytearray()
        coded = arrow("pyarrow.compute").starts_with(values, pattern=_BASE64).to_numpy(zero_copy_only=False)
        for code in np.flatnonzero(coded).tolist():
            value = _unbase64(data[starts[code] : ends[code + 1]])
            if value is None:
                self._refuse_where(self._raws == code, "what follows 'base64:' is not base64")
            else:
                starts[code], lengths[code] = len(data) + len(decoded), len(value)
                decoded += value
        for code in np.flatnonzero(lengths > _MAX_RAW_NBYTES).tolist():
            self._refuse_where(self._raws == code, f"it holds more than {_MAX_RAW_NBYTES >> 20} MiB")
        return (data + decoded if decoded else data), starts, lengths

    def _refuse_where(self, broken: NDArray[np.bool_], reason: str) -> None:
        if broken.any():
            row = int(broken.argmax())
            raise invalid_file(self._name, f"row {row} ({self._chunk(row)}): {reason}")


def encode_record(
    paths: Sequence[str],
    codes: NDArray[np.signedinteger],
    offsets: NDArray[np.uint64],
    lengths: NDArray[np.uint32],
    raw: Mapping[int, bytes],
) -> bytes:
    """Return the bytes of a record file, as fsspec reads it.

    Parameters
    ----------
    paths
        The distinct paths.
    codes
        Shape (record_size,): index into `paths` of each row, -1 where the chunk has no path.
    offsets, lengths
        Shape (record_size,): bytes; the length may be `WHOLE`. Of no meaning where the code is -1.
    raw
        The bytes of inline chunks by row; other rows without a path are missing chunks.

    Raises
    ------
    InvalidReferences
        If a row is what the format can't say: bytes as well as a path, no bytes from offset 0 on (that stands for a
        whole file), or a whole file from somewhere else on.
    ConfigurationError
        If the parquet writer is not installed.
    """
    pa = arrow()
    pointing, whole = codes >= 0, lengths == WHOLE
    held = np.full(len(codes), -1)
    held[list(raw)] = np.arange(len(raw))
    for broken, reason in (
        (pointing & (held >= 0), "it has both bytes and a path"),
        (pointing & (lengths == 0) & (offsets == 0), "0 bytes from offset 0 on would be read as the whole file"),
        (pointing & whole & (offsets != 0), "a whole file begins at offset 0"),
    ):
        if broken.any():
            raise invalid_file("refs.parq", f"row {int(broken.argmax())}: {reason}")
    # fsspec decodes what begins like base64, so bytes that do by chance are written as base64
    values = [_BASE64 + base64.b64encode(v) if v.startswith(_BASE64) else v for v in raw.values()]
    columns = [
        pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32(), mask=~pointing), pa.array(paths, pa.string())),
        pa.array(np.where(pointing, offsets, 0), pa.int64()),
        pa.array(np.where(pointing & ~whole, lengths, 0), pa.int64()),
        pa.array(values, pa.binary()).take(pa.array(held, mask=held < 0)),
    ]
    fields = [pa.field(k, c.type, k in {"path", "raw"}) for k, c in zip(COLUMNS, columns, strict=True)]
    sink = pa.BufferOutputStream()
    arrow("pyarrow.parquet").write_table(
        pa.table(columns, pa.schema(fields)),
        sink,
        compression="zstd",
        use_dictionary=["path"],
        write_statistics=["offset", "size"],  # without a count of nulls, fastparquet makes floats of them
        store_schema=False,
    )
    return bytes(sink.getvalue())


def _unbase64(text: bytes) -> bytes | None:
    try:
        return base64.b64decode(text.removeprefix(_BASE64), validate=True)
    except ValueError:
        return None
