"""What a read came to. Pure: obstore's errors in, named errors out, without the URL that obstore's hold."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from obstore.exceptions import BaseError

from lindi_dask.errors import (
    AssetNotFound,
    InvalidReferences,
    LindiError,
    SourceMismatch,
    StorageUnavailable,
)
from lindi_dask.network import untrusted
from lindi_dask.transport.etags import same_etag

if TYPE_CHECKING:
    from lindi_dask.types import Asset, LocalFile, Target

__all__ = ["MAX_WHOLE", "OBSTORE_ERRORS", "Refusal", "contradiction", "read_failure", "status_of"]

OBSTORE_ERRORS = (BaseError, OSError)
"""what obstore raises (a 404 is the builtin FileNotFoundError)"""

MAX_WHOLE = 2**31 - 1
"""bytes of a chunk that is all of its source, at most"""

_STATUS = re.compile(r"non-2xx status code: (\d{3})")
_S3_CODE = re.compile(r"<Code>\s*([A-Za-z.]{1,64})\s*</Code>")
_RETRIED = {408, 429, 500, 502, 503, 504}


@dataclass(frozen=True, slots=True)
class Refusal:
    """A 403: of an expired lease, or of one that was alive."""

    expired: bool
    """whether the storage host says that the URL has expired"""
    code: str
    """S3's error code, or what stands for it"""


def read_failure(error: BaseException, asset: Asset, start: int = 0, stop: int | None = None) -> LindiError | Refusal:
    """Return what a failed read of bytes `start` to `stop` (None: the last) of an asset comes to.

    Returns
    -------
    StorageUnavailable
        Worth another attempt.
    Refusal
        Worth another lease.
    LindiError
        Any other is final.
    """
    text = str(error)
    where = f"{asset}: the storage host"
    status = status_of(error)
    if status is None:
        return _without_status(text, where)
    found = _S3_CODE.search(text)
    code = found[1] if found else f"HTTP {status}"
    if status == 403:
        return Refusal(expired="Request has expired" in text or code == "ExpiredToken", code=code)
    if status in _RETRIED:
        return StorageUnavailable(f"{where} answered {status} ({code}).")
    if status == 404:
        return AssetNotFound(
            f"{where} has no such file any more ({code}). Was the asset deleted or replaced?",
            asset=str(asset),
        )
    if status == 416:
        return SourceMismatch(
            f"{asset}: the file ends before byte {start}, where the references place data. They belong to another "
            "version of the file: make them anew."
        )
    if status == 412:
        return _changed(asset)
    end = "its end" if stop is None else stop
    return LindiError(f"{where} answered {status} ({code}) to the request for bytes {start} to {end}.")


def status_of(error: BaseException) -> int | None:
    """Return the HTTP status that one of obstore's errors is about, if any."""
    match = _STATUS.search(str(error))
    return int(match[1]) if match else None


def _without_status(text: str, where: str) -> LindiError:
    if "InvalidCertificate(" in text:
        return untrusted(where)
    if "MissingContentLength" in text:
        return LindiError(
            f"{where} does not say how long the file is, so that it can't be told whole from cut off. Download it by "
            "other means, and pass its path."
        )
    if "Range request not supported" in text:
        return StorageUnavailable(f"{where} sent the whole file instead of the range that was asked for.")
    if "UnexpectedRange" in text:
        return StorageUnavailable(f"{where} sent another range than the one that was asked for.")
    if "ConnectionRefused" in text or "kind: Connect" in text:
        return StorageUnavailable(f"{where} can't be reached. Is the network up?", unanswered=True)
    if "TimedOut" in text or "timed out" in text or "kind: Timeout" in text:
        return StorageUnavailable(f"{where} stopped answering.", unanswered=True)
    return StorageUnavailable(f"{where} broke the connection off.")


def contradiction(target: Target, size: int, etag: str | None, start: int, stop: int | None) -> LindiError | None:
    """Return the error if a source, as it is now, is not what the references say; None if nothing speaks against it.

    Parameters
    ----------
    target
        The source, and what the references claim of it.
    size
        Bytes that it has.
    etag
        That its host gives it, if any.
    start, stop
        Bytes that are to be read; stop None: up to the end.
    """
    if target.size is not None and size != target.size:
        return SourceMismatch(
            f"{target.asset}: the file has {size} bytes, and had {target.size} when the references were made: make "
            "them anew."
        )
    if target.etag is not None and etag is not None and not same_etag(etag, target.etag):
        return _changed(target.asset)
    end = start if stop is None else stop
    if size < end:
        return SourceMismatch(
            f"{target.asset}: the file ends at byte {size}, but the references place data up to byte {end}. They "
            "belong to another version of the file: make them anew."
        )
    if stop is None and size - start > MAX_WHOLE:
        reason = f"it is all of its source, which has {size - start} bytes, and may have {MAX_WHOLE}"
        return InvalidReferences(f"{target.asset}: a chunk can't be read: {reason}.", key=None, reason=reason)
    return None


def _changed(asset: Asset | LocalFile) -> SourceMismatch:
    """Return the error for a source that has another entity tag than the references say."""
    return SourceMismatch(f"{asset}: the file has changed since the references were made: make them anew.")
