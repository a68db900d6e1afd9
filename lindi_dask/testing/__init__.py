"""The embedded archive: a DANDI-like API host and an S3-like host on loopback.

It signs presigned URLs as S3 does, checks them as S3 does, and breaks to order. Tests, the demo and
benchmarks read from it where users read from DANDI. It needs the extra ``demo``.
"""

try:
    from lindi_dask.testing.archive import EmbeddedArchive
    from lindi_dask.testing.assets import Asset
    from lindi_dask.testing.faults import Fault, Injection
    from lindi_dask.testing.records import Request
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] not in {"aiohttp", "botocore", "yarl"}:
        raise
    raise ImportError(
        f"lindi_dask.testing needs {error.name}, which is not installed: pip install 'lindi-dask[demo]'"
    ) from error

__all__ = ["Asset", "EmbeddedArchive", "Fault", "Injection", "Request"]
