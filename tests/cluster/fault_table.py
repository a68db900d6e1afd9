"""The table of faults: what goes wrong, and what a job over the cluster then comes to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lindi_dask.errors import (
    ArchiveUnavailable,
    AssetNotFound,
    AuthenticationError,
    ConfigurationError,
    LindiError,
    PermissionDenied,
    RefsUnreachable,
    SourceMismatch,
    StorageUnavailable,
    UrlRefused,
)
from lindi_dask.testing import Fault

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["TABLE", "Row"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One fault."""

    name: str
    expected: type[LindiError] | None = None
    """None: the exact bytes"""
    fault: Fault | None = None
    """that the archive is to inject"""
    costs_a_request: bool = True
    """whether each injection is answered by one more request, where the bytes are exact"""
    deed: str = ""
    """what else is done: a method of the test's `Scene`"""
    conditions: Mapping[str, Any] = field(default_factory=dict)
    """of the archive"""
    refs: str = "lindi"
    """which references are read: `lindi`, `etag`, `dict`, `many`, or `dns`, `tls` and `certificate` for other hosts"""
    blocks: int = 8


def s3(name: str, kind: str, expected: type[LindiError] | None = None, *, costs: bool = True, **options: Any) -> Row:
    return Row(name=name, expected=expected, fault=Fault(plane="s3", kind=kind, **options), costs_a_request=costs)


def api(name: str, kind: str, expected: type[LindiError] | None = None, *, costs: bool = True, **options: Any) -> Row:
    return Row(name=name, expected=expected, fault=Fault(plane="api", kind=kind, **options), costs_a_request=costs)


_HOUR = 3600.0
_SLOW = {"latency_s": 0.1}
_SHORT = {"lifetime_s": 2, "latency_s": 0.25}

TABLE: tuple[Row, ...] = (
    # Leases and clocks
    api("URLs expired before they are used", "dead-lease", times=2),
    Row(
        name="URLs expire between requests",
        deed="use_leases",
        conditions={"lifetime_s": 1, "latency_s": 0.2},
        blocks=40,
    ),
    Row(
        name="URLs expire during requests",
        deed="outlast_leases",
        conditions={"lifetime_s": 1, "stream_bytes_per_s": 100_000.0},
        blocks=4,
    ),
    Row(name="the archive's clock an hour ahead", deed="nothing", conditions={"clock_offset_s": _HOUR}),
    Row(name="the archive's clock an hour behind", deed="nothing", conditions={"clock_offset_s": -_HOUR}),
    Row(name="the clock jumps ahead in mid-job", deed="jump_ahead", conditions=_SLOW, blocks=40),
    # The API
    api("API 401", "status", AuthenticationError, status=401, times=None),
    api("API 403", "status", PermissionDenied, status=403, times=None),
    api("API 404", "status", AssetNotFound, status=404, times=None),
    api("API 429", "status", status=429, times=2),
    api("API 429 with Retry-After", "status", status=429, retry_after="1", times=1),
    api("API 500 in HTML", "status", status=500, html=True, times=2),
    api("API 502", "status", status=502, times=2),
    api("API 503", "status", status=503, times=2),
    api("API 503 for good", "status", ArchiveUnavailable, status=503, times=None),
    api("API reset", "reset", times=2),
    api("API stall", "stall", times=1, delay_s=2.0),
    api("API garbage status line", "garbage", times=2),
    api("API 302 to nowhere", "no-location", times=2),
    api("API redirect loop", "redirect", UrlRefused, times=None),
    api("API redirect to http elsewhere", "redirect", UrlRefused, times=None, location="http://storage.example/a"),
    api("API redirect to a private address", "redirect", UrlRefused, times=None, location="http://10.0.0.1/a"),
    # The storage host
    s3("S3 401", "status", LindiError, status=401, times=None),
    s3("S3 403 once", "status", status=403),
    s3("S3 403 for good", "status", PermissionDenied, status=403, times=None),
    s3("S3 404", "status", AssetNotFound, status=404, times=None),
    s3("S3 429", "status", status=429, times=3),
    s3("S3 429 with Retry-After", "status", status=429, retry_after="1", times=3),
    s3("S3 500", "status", status=500, times=3),
    s3("S3 502", "status", status=502, times=3),
    s3("S3 503 SlowDown", "status", status=503, times=3),
    s3("S3 503 for good", "status", StorageUnavailable, status=503, times=None),
    s3("reset before headers", "reset", times=3),
    s3("reset in mid-body", "reset-mid-body", times=3),
    s3("reset in mid-body for good", "reset-mid-body", StorageUnavailable, times=None),
    s3("short body", "short-body", times=3),
    s3("short body for good", "short-body", StorageUnavailable, times=None),
    s3("short body of a fitting length", "short-length", times=3),
    s3("short body of a fitting range", "short-range", times=3),
    s3("pause", "stall", times=3, delay_s=0.3, costs=False),
    s3("stall", "stall", times=2, delay_s=3.0),
    s3("stall in mid-body", "stall-mid-body", times=2, delay_s=3.0),
    s3("garbage status line", "garbage", times=3),
    s3("200 with the whole file", "whole-file", times=3),
    s3("200 with an error's XML", "error-200", times=3),
    s3("200 with an error's XML for good", "error-200", StorageUnavailable, times=None),
    s3("wrong Content-Range", "wrong-range", times=3),
    s3("gzip-encoded body", "gzip", times=3),
    Row(name="another ETag", expected=SourceMismatch, fault=Fault(plane="s3", kind="changed-etag"), refs="etag"),
    s3("S3 redirect loop", "redirect", StorageUnavailable, times=None),
    s3(
        "S3 redirect to a host that refuses", "redirect", StorageUnavailable, times=None, location="http://127.0.0.1:9/"
    ),
    # What goes wrong around them
    Row(name="both hosts refuse connections", deed="outage", conditions=_SLOW, blocks=40),
    Row(name="no API, longer than retries", expected=ArchiveUnavailable, deed="go_down"),
    Row(
        name="no S3, longer than retries",
        expected=StorageUnavailable,
        deed="go_down_midway",
        conditions=_SLOW,
        blocks=40,
    ),
    Row(name="no such host (DNS)", expected=StorageUnavailable, deed="nothing", refs="dns"),
    Row(name="no TLS", expected=ConfigurationError, deed="nothing", refs="tls"),
    Row(name="certificate of nobody", expected=ConfigurationError, deed="nothing", refs="certificate"),
    Row(name="key revoked", expected=AuthenticationError, deed="revoke", conditions=_SHORT, blocks=40),
    Row(name="asset un-embargoed, key revoked", deed="unembargo", conditions=_SHORT, blocks=40),
    Row(name="asset replaced", expected=PermissionDenied, deed="replace", conditions=_SHORT, blocks=40),
    Row(name="asset overwritten", expected=SourceMismatch, deed="overwrite", conditions=_SLOW, refs="etag", blocks=40),
    Row(name="asset removed", expected=AssetNotFound, deed="remove", conditions=_SLOW, blocks=40),
    Row(name="disk full under the disk cache", deed="full_disk_cache"),
    Row(name="disk full under the index cache", deed="full_index_cache", refs="many"),
    Row(name="index cache cut short", deed="cut_index", refs="many"),
    Row(name="index cache cut short, of a dict", expected=RefsUnreachable, deed="cut_index", refs="dict"),
    Row(name="worker killed in mid-read", deed="kill", conditions=_SLOW, blocks=40),
    Row(name="broker restarted", deed="restart_broker", conditions=_SHORT, blocks=40),
    Row(name="broker gone, a key on the workers", deed="lose_broker", conditions=_SHORT, blocks=40),
    Row(
        name="broker gone, no key on the workers",
        expected=AuthenticationError,
        deed="lose_broker_and_key",
        conditions=_SHORT,
        blocks=40,
    ),
)
