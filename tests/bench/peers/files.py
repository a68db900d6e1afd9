"""The reference files that all readers open, of any number of chunks; and our index of one, without the file."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import dask
import numpy as np

import lindi_dask as ld
from lindi_dask.index_cache import write_index
from lindi_dask.index_file import release
from lindi_dask.refs import ColumnManifest, Source, SourceTable

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

URL = "https://api.dandiarchive.org/api/assets/0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0/download/"


@dataclass(frozen=True, slots=True)
class Array:
    """An array of the reference file; all of its chunks are listed."""

    path: str
    grid: tuple[int, ...]
    """chunks along each dimension"""
    chunk: tuple[int, ...]
    """elements along each dimension of a chunk"""
    offsets: NDArray[np.int64]
    """bytes, from the start of the source; by the chunks' places in the grid, C order"""
    lengths: NDArray[np.int64]
    """bytes"""

    def names(self, places: NDArray[np.int64]) -> list[str]:
        """Return the names of the chunks at some places of the grid."""
        coordinates = (axis.tolist() for axis in np.unravel_index(places, self.grid))
        return [".".join(map(str, chunk)) for chunk in zip(*coordinates, strict=True)]

    def metadata(self) -> dict[str, str]:
        zarray = {
            "zarr_format": 2,
            "shape": [n * extent for n, extent in zip(self.grid, self.chunk, strict=True)],
            "chunks": self.chunk,
            "dtype": "<i2",
            "fill_value": 0,
            "order": "C",
            "compressor": None,
            "filters": [{"id": "shuffle", "elementsize": 2}, {"id": "zlib", "level": 4}],
        }
        dimensions = [f"{self.path.replace('/', '_')}_{i}" for i in range(len(self.grid))]
        return {
            ".zarray": json.dumps(zarray),
            ".zattrs": json.dumps({"unit": "volts", "_ARRAY_DIMENSIONS": dimensions}),
        }


def make_arrays(n: int) -> list[Array]:
    """Return three arrays that have n chunks together, which lie one behind the other."""
    rows = n // 12
    lengths = np.random.default_rng(1).integers(20_000, 32_000, n)
    offsets = 2048 + np.cumsum(lengths) - lengths
    shapes: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = [
        ("acquisition/ElectricalSeriesAP/data", (rows, 4), (1000, 16)),
        ("processing/ecephys/LFP/ElectricalSeries/data", (rows, 4), (1000, 16)),
        ("acquisition/TwoPhotonSeries/data", (n - 8 * rows, 1, 1), (1, 512, 512)),
    ]
    parts = [slice(0, 4 * rows), slice(4 * rows, 8 * rows), slice(8 * rows, n)]
    return [Array(*shape, offsets[part], lengths[part]) for shape, part in zip(shapes, parts, strict=True)]


def write_references(path: Path, arrays: list[Array], *, flat: bool = False, listed: bool = True) -> Path:
    """Write references as kerchunk does: version 1, metadata as texts, the URL as a template.

    Parameters
    ----------
    path
        Of the file.
    arrays
        That it refers to.
    flat
        For VirtualiZarr: arrays right below the root, and a (short) URL in place of the template.
    listed
        Whether the chunks are, or only the metadata.
    """
    folders = {part for array in arrays for part in parents(array.path)}
    entries = {f"{folder}/.zgroup".lstrip("/"): '{"zarr_format":2}' for folder in ({""} if flat else folders)}
    target = "s3://b/f" if flat else "{{u1}}"
    with path.open("w", encoding="ascii") as file:
        file.write(f'{{"version":1,"templates":{json.dumps({} if flat else {"u1": URL})},"refs":{{')
        for array in arrays:
            folder = array.path.replace("/", "_") if flat else array.path
            entries |= {f"{folder}/{key}": text for key, text in array.metadata().items()}
            file.write(json.dumps(entries)[1:-1])
            for first in range(0, array.lengths.size if listed else 0, 50_000):
                places = np.arange(first, min(first + 50_000, array.lengths.size))
                columns = array.names(places), array.offsets[places].tolist(), array.lengths[places].tolist()
                file.writelines(
                    f',"{folder}/{name}":["{target}",{offset},{length}]'
                    for name, offset, length in zip(*columns, strict=True)
                )
            file.write("}}" if array is arrays[-1] else ",")
            entries = {}
    return path


def parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:i]) for i in range(len(parts))]


def sample(arrays: list[Array], n: int) -> tuple[dict[str, list[str]], str]:
    """Return the names of up to n chunks by array, and the digest of where they lie."""
    rng = np.random.default_rng(2)
    names, located = {}, {}
    for array in arrays:
        places = rng.choice(array.lengths.size, min(n // 3, array.lengths.size), replace=False)
        names[array.path] = array.names(places)
        located[array.path] = list(zip(array.offsets[places].tolist(), array.lengths[places].tolist(), strict=True))
    return names, digest(located)


def digest(located: dict[str, list[Any]]) -> str:
    text = "\n".join(f"{path} {offset} {length}" for path in located for offset, length in located[path])
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def write_indexed(path: Path, arrays: list[Array], index_folder: Path) -> Path:
    """Write the index of references to an index folder, and their file, but without the chunks in it.

    Only who parses that file would notice: an opening reads the index alone.
    """
    write_references(path, arrays, listed=False)
    with dask.config.set({"lindi-dask.index-cache": False}):
        factory = ld.StoreFactory(path)
    parsed, _ = factory.load()
    sources = SourceTable((parsed.sources[0], Source(URL)))
    manifests = {
        array.path: ColumnManifest.build(
            array.grid, np.arange(array.lengths.size), np.full(array.lengths.size, 1), array.offsets, array.lengths
        )
        for array in arrays
    }
    index = index_folder / f"{factory.fingerprint}-{release()}.lindi-index"
    write_index(replace(parsed, sources=sources, manifests=manifests), index)
    return path
