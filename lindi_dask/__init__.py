"""Read embargoed DANDI data through LINDI references, in parallel, on a whole dask cluster."""

from importlib.metadata import version

from lindi_dask import errors
from lindi_dask.arrays import open_array, open_group, open_store
from lindi_dask.factory import StoreFactory
from lindi_dask.store import LindiStore

__all__ = ["LindiStore", "StoreFactory", "errors", "open_array", "open_group", "open_store"]

__version__ = version("lindi-dask")
