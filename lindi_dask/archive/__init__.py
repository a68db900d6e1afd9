"""Who grants access: instances of the archive, their keys, the leases (presigned URLs) that they hand out, their lists.

Control plane only: nothing here reads data.
"""

from lindi_dask.archive.addresses import Address, is_address, parse_address
from lindi_dask.archive.asking import Archives
from lindi_dask.archive.dandisets import asset_info, file_of, find_asset, list_assets
from lindi_dask.archive.instances import BUILTIN, api_key, configured_instances
from lindi_dask.archive.keys import offer_keys
from lindi_dask.archive.lease import LeaseCache, LeaseSource, settle
from lindi_dask.archive.plain import PlainUrls
from lindi_dask.archive.resolver import Resolver
from lindi_dask.archive.urls import UrlPolicy

__all__ = [
    "BUILTIN",
    "Address",
    "Archives",
    "LeaseCache",
    "LeaseSource",
    "PlainUrls",
    "Resolver",
    "UrlPolicy",
    "api_key",
    "asset_info",
    "configured_instances",
    "file_of",
    "find_asset",
    "is_address",
    "list_assets",
    "offer_keys",
    "parse_address",
    "settle",
]
