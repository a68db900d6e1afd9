"""HDF5 files -> `References`, from their indexes alone; and the chunks of LINDI's external array links."""

from lindi_dask.hdf5.local import index_hdf5

__all__ = ["index_hdf5"]
