"""Reference files: bytes in, `References` out.

No module here does I/O of its own; formats turn into one internal dialect (Zarr v3) on the way.
"""

from lindi_dask.refs.lindi import parse_lindi
from lindi_dask.refs.manifest import MISSING, ChunkManifest, Locations
from lindi_dask.refs.references import INLINE, References

__all__ = ["INLINE", "MISSING", "ChunkManifest", "Locations", "References", "parse_lindi"]
