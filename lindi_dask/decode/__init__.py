"""Native decoding of chunks: the codecs that HDF5 files, LINDI and Zarr use, outside the GIL where libraries allow.

Every decoder knows how many bytes must come out, and never gives out or allocates much more.
"""

from lindi_dask.decode.chunks import ChunkDecoder, chunk_decoder
from lindi_dask.decode.shared import Promise, SharedChunks
from lindi_dask.decode.steps import blosc_frame_nbytes, inflated, split_known

__all__ = [
    "ChunkDecoder",
    "Promise",
    "SharedChunks",
    "blosc_frame_nbytes",
    "chunk_decoder",
    "inflated",
    "split_known",
]
