"""Who grants access: instances of the archive, their keys, and the leases (presigned URLs) that they hand out.

Control plane only: nothing here reads data.
"""

from lindi_dask.archive.instances import BUILTIN, api_key, configured_instances
from lindi_dask.archive.keys import offer_keys
from lindi_dask.archive.lease import LeaseCache, LeaseSource, settle
from lindi_dask.archive.plain import PlainUrls
from lindi_dask.archive.resolver import Resolver
from lindi_dask.archive.urls import UrlPolicy

__all__ = [
    "BUILTIN",
    "LeaseCache",
    "LeaseSource",
    "PlainUrls",
    "Resolver",
    "UrlPolicy",
    "api_key",
    "configured_instances",
    "offer_keys",
    "settle",
]
