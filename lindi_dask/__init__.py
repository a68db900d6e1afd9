"""Read embargoed DANDI data through LINDI references, in parallel, on a whole dask cluster."""

from importlib.metadata import version

from lindi_dask import errors
from lindi_dask.arrays import open_array, open_group, open_store
from lindi_dask.assets import list_assets
from lindi_dask.batch import index_dandiset
from lindi_dask.cluster import distribute
from lindi_dask.combining import combine
from lindi_dask.conversion import convert, plan, verify
from lindi_dask.estimating import estimate
from lindi_dask.expanding import expand
from lindi_dask.factory import StoreFactory
from lindi_dask.indexing import index
from lindi_dask.pynwb_session import open_nwb
from lindi_dask.refreshing import refresh
from lindi_dask.refs import References
from lindi_dask.reporting import stats
from lindi_dask.saving import save as _save  # noqa: F401 - gives References its save
from lindi_dask.store import LindiStore

__all__ = [
    "LindiStore",
    "References",
    "StoreFactory",
    "combine",
    "convert",
    "distribute",
    "errors",
    "estimate",
    "expand",
    "index",
    "index_dandiset",
    "list_assets",
    "open_array",
    "open_group",
    "open_nwb",
    "open_store",
    "plan",
    "refresh",
    "stats",
    "verify",
]

__version__ = version("lindi-dask")
