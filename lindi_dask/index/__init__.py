"""HDF5 files -> reference file systems in LINDI's form."""

from lindi_dask.index.hdf5 import index_hdf5

__all__ = ["index_hdf5"]
