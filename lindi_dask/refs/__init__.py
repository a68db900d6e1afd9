"""Reference files: bytes in, `References` out.

No module here does I/O of its own; formats turn into one internal dialect (Zarr v3) on the way.
"""

from lindi_dask.refs.bundle.tar import Tar, is_tar, read_tar
from lindi_dask.refs.bundle.tar_headers import ReadAt
from lindi_dask.refs.dialect.v2 import ONLY_LINKED
from lindi_dask.refs.json_reader import Content
from lindi_dask.refs.links import follow
from lindi_dask.refs.manifest import MISSING, WHOLE, ChunkManifest, ColumnManifest, Locations, name_of
from lindi_dask.refs.parse import parse_json, parse_kerchunk_parquet
from lindi_dask.refs.paths import relative_path
from lindi_dask.refs.references import INLINE, References, Source, SourceTable
from lindi_dask.refs.zarrshadow.selections import Selection

__all__ = [
    "INLINE",
    "MISSING",
    "ONLY_LINKED",
    "WHOLE",
    "ChunkManifest",
    "ColumnManifest",
    "Content",
    "Locations",
    "ReadAt",
    "References",
    "Selection",
    "Source",
    "SourceTable",
    "Tar",
    "follow",
    "is_tar",
    "name_of",
    "parse_json",
    "parse_kerchunk_parquet",
    "read_tar",
    "relative_path",
]
