"""What a failed range read means. Pure: obstore's errors in, named errors out, without the URL that obstore's hold."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from obstore.exceptions import BaseError

from lindi_dask.errors import (
    AssetNotFound,
    ConfigurationError,
    LindiError,
    SourceMismatch,
    StorageUnavailable,
)

if TYPE_CHECKING:
    from lindi_dask.types import Asset

__all__ = ["OBSTORE_ERRORS", "Refusal", "read_failure"]

OBSTORE_ERRORS = (BaseError, OSError)
"""what obstore raises (a 404 is the builtin FileNotFoundError)"""

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


def read_failure(error: BaseException, asset: Asset, start: int, stop: int) -> LindiError | Refusal:
    """Return what a failed read of bytes `start` to `stop` of an asset comes to.

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
    match = _STATUS.search(text)
    if match is None:
        return _without_status(text, where)
    status = int(match[1])
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
        return SourceMismatch(f"{asset}: the file has changed since the references were made: make them anew.")
    return LindiError(f"{where} answered {status} ({code}) to the request for bytes {start} to {stop}.")


def _without_status(text: str, where: str) -> LindiError:
    if "InvalidCertificate(" in text:
        return ConfigurationError(
            f"{where} did not prove who it is (TLS). If it has a certificate of your own authority, set "
            "SSL_CERT_FILE to its file."
        )
    if "Range request not supported" in text:
        return StorageUnavailable(f"{where} sent the whole file instead of the range that was asked for.")
    if "UnexpectedRange" in text:
        return StorageUnavailable(f"{where} sent another range than the one that was asked for.")
    if "ConnectionRefused" in text or "kind: Connect" in text:
        return StorageUnavailable(f"{where} can't be reached. Is the network up?")
    if "TimedOut" in text or "timed out" in text or "kind: Timeout" in text:
        return StorageUnavailable(f"{where} stopped answering.")
    return StorageUnavailable(f"{where} broke the connection off.")
