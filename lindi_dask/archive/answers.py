"""What an answer of the archive's API means: a lease, a document, or a named error. Pure."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import orjson

from lindi_dask.archive.expiry import DEFAULT_LIFETIME_S, ArchiveClock, expiry_of
from lindi_dask.archive.urls import split_url
from lindi_dask.errors import (
    AccessError,
    ArchiveUnavailable,
    AssetNotFound,
    AuthenticationError,
    DandisetNotFound,
    LindiError,
    PermissionDenied,
    UrlRefused,
)
from lindi_dask.types import Asset, Instance, Lease

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Answer", "read_answer", "read_document"]

_RETRIED = {408, 429, 500, 502, 503, 504}


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of the API."""

    status: int
    headers: Mapping[str, str]
    """case-insensitive"""
    sent_at: float
    """seconds, monotonic clock, when the request was sent"""
    received_at: float
    """seconds, monotonic clock, when the headers were there"""
    key_place: str | None
    """where the API key that the request carried was found; None: it carried none"""
    body: bytes | None = field(default=None, repr=False)
    """None: none was wanted, or it is too large or packed"""


def read_answer(answer: Answer, asset: Asset, clock: ArchiveClock) -> Lease:
    """Return the lease that an answer grants.

    Parameters
    ----------
    answer
        Of `GET <api>/assets/<id>/download/`, redirects not followed.
    asset
        The asset asked for; of an instance.
    clock
        Of that instance; takes in the answer's `Date`.

    Raises
    ------
    AuthenticationError, PermissionDenied, AssetNotFound, UrlRefused
        Final.
    ArchiveUnavailable
        Worth another attempt.
    """
    instance = asset.instance
    if instance is None:
        raise TypeError("a plain URL needs no exchange")
    date = _date(answer.headers.get("Date"))
    if date is not None:
        clock.observe(date, sent_at=answer.sent_at, received_at=answer.received_at)
    if answer.status == 302:
        return _lease(answer, asset, instance, clock, dated=date is not None)
    raise _asset_error(answer, str(asset), instance)


def read_document(answer: Answer, name: str, instance: Instance, *, asset: bool = False) -> dict[str, Any]:
    """Return the JSON object of an answer that tells of a dandiset, or of an asset.

    Parameters
    ----------
    answer
        Of a GET.
    name
        How messages call what was asked for.
    instance
        The archive.
    asset
        Whether that was an asset, by its id.

    Raises
    ------
    AuthenticationError, PermissionDenied, AssetNotFound, DandisetNotFound
        Final; so is the `AccessError` for a body that was not read, since the next one would not be either.
    ArchiveUnavailable
        Worth another attempt; what is no JSON is, since it may have been cut short.
    """
    if answer.status != 200:
        raise (_asset_error if asset else _dandiset_error)(answer, name, instance)
    if answer.body is None:
        raise AccessError(
            f"{name}: the archive at {instance.api_url} sent an answer that is too large, or packed "
            "(Content-Encoding), which it was asked not to do. If there is a proxy in between, see to that; if not, "
            "ask for less: for one folder, say."
        )
    document: object = None
    with suppress(orjson.JSONDecodeError):
        document = orjson.loads(answer.body)
    if isinstance(document, dict):
        return document
    raise ArchiveUnavailable(f"{name}: the archive at {instance.api_url} answered with what is no JSON object.")


def _lease(answer: Answer, asset: Asset, instance: Instance, clock: ArchiveClock, *, dated: bool) -> Lease:
    location = answer.headers.get("Location")
    if not location:
        raise ArchiveUnavailable(f"{asset}: the archive answered with a redirect that leads nowhere.")
    url = split_url(location)
    if url.scheme == "http" and not (instance.is_loopback and url.is_loopback):
        reason = "the archive redirected to plain http"
        raise UrlRefused(f"{asset}: {reason}, which is not followed.", reason=reason)
    api = split_url(instance.api_url)
    if url.is_private and not api.is_private:
        reason = f"the archive redirected to {url.root}, which is this machine or a private network"
        raise UrlRefused(f"{asset}: {reason}; that is not followed.", reason=reason)
    if url.origin == api.origin:
        reason = "the archive redirected to itself and not to its storage"
        raise UrlRefused(f"{asset}: {reason}.", reason=reason)
    now = answer.received_at
    expiry = expiry_of(url.query)
    if expiry is None or not dated:
        return Lease(url.rebuilt, now, now + DEFAULT_LIFETIME_S, now + DEFAULT_LIFETIME_S)
    expires_at, dead_at = clock.window(expiry)
    if dead_at <= now:
        raise ArchiveUnavailable(f"{asset}: the archive gave a URL that had expired when it arrived.")
    return Lease(url.rebuilt, now, expires_at, dead_at)


def _asset_error(answer: Answer, name: str, instance: Instance) -> LindiError:
    place = answer.key_place or instance.key_variables[0]
    match answer.status:
        case 403:
            return PermissionDenied(
                f"{name}: the archive denies this asset to the owner of the key in {place}. Either you are not an "
                "owner of its embargoed dandiset (ask one to add you), or the asset was replaced: every edit of its "
                "metadata gives it a new id, and the references still name the old one (`lindi-dask refresh` finds the "
                "new one).",
                asset=name,
            )
        case 404:
            return AssetNotFound(
                f"{name}: the archive at {instance.api_url} has no such asset. Was it deleted, or do the references "
                "belong to another instance?",
                asset=name,
            )
        case 400:
            return AssetNotFound(
                f"{name}: the archive says that this asset is not a file that can be downloaded (a Zarr asset, say).",
                asset=name,
            )
        case _:
            return _error(
                answer, name, instance, kind="asset", where="wherever blocks are read (on a cluster: on its workers)"
            )


def _dandiset_error(answer: Answer, name: str, instance: Instance) -> LindiError:
    place = answer.key_place or instance.key_variables[0]
    match answer.status:
        case 403:
            return PermissionDenied(
                f"{name}: the archive denies this dandiset to the owner of the key in {place}. It is embargoed, and "
                "only its owners see it: ask one to add you.",
                asset=name,
            )
        case 404:
            return DandisetNotFound(
                f"{name}: the archive at {instance.api_url} has no such dandiset, or no such version of it.", name=name
            )
        case _:
            return _error(answer, name, instance, kind="dandiset", where="in the process that lists it")


def _error(answer: Answer, name: str, instance: Instance, *, kind: str, where: str) -> LindiError:
    variable = instance.key_variables[0]
    match answer.status:
        case 401 if answer.key_place is not None:
            return AuthenticationError(
                f"{name}: the archive at {instance.api_url} does not know the key in {answer.key_place}. Copy it "
                f"anew from your account's page there, and set it {where}.",
                asset=name,
                variable=variable,
            )
        case 401:
            return AuthenticationError(
                f"{name}: this {kind} is embargoed, and no API key was found. Set {variable} to your key of "
                f"the archive at {instance.api_url}, {where}.",
                asset=name,
                variable=variable,
            )
        case status if status in _RETRIED:
            return ArchiveUnavailable(
                f"{name}: the archive at {instance.api_url} answered {status}.",
                retry_after_s=_retry_after_s(answer.headers.get("Retry-After")),
            )
        case status:
            return AccessError(
                f"{name}: the archive at {instance.api_url} answered {status}, which is not an answer to this request."
            )


def _date(header: str | None) -> float | None:
    try:
        moment = parsedate_to_datetime(header or "")
    except (ValueError, OverflowError):
        return None
    return moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()


def _retry_after_s(header: str | None) -> float | None:
    """Seconds out of `Retry-After`; its other form, a date, is left to our own waits."""
    try:
        seconds = float(header or "")
    except ValueError:
        return None
    return min(max(seconds, 0.0), 3600.0) if seconds == seconds else None  # noqa: PLR0124 - NaN
