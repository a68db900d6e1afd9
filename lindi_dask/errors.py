"""Every error that lindi_dask raises on purpose, grouped by what a caller would do about it.

::

    LindiError
    ├── ConfigurationError        mend the configuration
    ├── ForkedProcessError        start workers with "spawn"
    ├── RefsError                 mend or fetch the reference file
    │   ├── InvalidReferences
    │   ├── PartsDisagree
    │   ├── RefsUnreachable
    │   ├── RefsChanged
    │   └── UnsupportedArray
    ├── AccessError               log in, or ask the owner
    │   ├── AuthenticationError
    │   ├── PermissionDenied
    │   ├── AssetNotFound
    │   ├── DandisetNotFound
    │   └── UrlRefused
    ├── UnavailableError          wait, then try again
    │   ├── ArchiveUnavailable
    │   └── StorageUnavailable
    ├── DataError                 give up: the bytes are not what the references say
    │   ├── SourceMismatch
    │   └── CorruptChunk
    ├── InvalidSession            take it another way: the session itself breaks NWB's rules
    └── JobError                  see to what it names, then resume
        ├── JobConflict
        ├── JobIncomplete
        ├── TargetError
        └── VerificationFailed

None of them derives from `KeyError` or `FileNotFoundError`: zarr takes those from a store for "this chunk was never
written" and returns fill values. Each pickles with its attributes, so that an error on a worker is the same error
on the client. None of them ever holds a key, a presigned URL or another exception that might.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "AccessError",
    "ArchiveUnavailable",
    "AssetNotFound",
    "AuthenticationError",
    "ConfigurationError",
    "CorruptChunk",
    "DandisetNotFound",
    "DataError",
    "ForkedProcessError",
    "InvalidReferences",
    "InvalidSession",
    "JobConflict",
    "JobError",
    "JobIncomplete",
    "LindiError",
    "PartsDisagree",
    "PermissionDenied",
    "RefsChanged",
    "RefsError",
    "RefsUnreachable",
    "SourceMismatch",
    "StorageUnavailable",
    "TargetError",
    "UnavailableError",
    "UnsupportedArray",
    "UrlRefused",
    "VerificationFailed",
]


class LindiError(Exception):
    """Base of all errors of lindi_dask.

    Parameters
    ----------
    message
        What happened and what to do next.
    **attributes
        What happened, for programs; each becomes an attribute of the error.
    """

    def __init__(self, message: str, **attributes: Any) -> None:  # noqa: ANN401 - each error documents its own
        super().__init__(message)
        self.__dict__.update(attributes)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, dict(self.__dict__))

    def fresh(self) -> LindiError:
        """Return an equal error without traceback or context, to raise in another thread."""
        return _rebuild(type(self), self.args, dict(self.__dict__))


def _rebuild(cls: type[LindiError], args: tuple[Any, ...], attributes: dict[str, Any]) -> LindiError:
    error = cls.__new__(cls)
    error.args = args
    error.__dict__.update({k: v for k, v in attributes.items() if not k.startswith("__")})
    return error


class ConfigurationError(LindiError):
    """An option, an instance or an environment variable does not make sense."""


class ForkedProcessError(LindiError):
    """A store was used, or an archive asked, in a process that was forked from one that had done so."""


class RefsError(LindiError):
    """A reference file is broken, missing or holds what can't be read."""


class InvalidReferences(RefsError):
    """A reference file breaks its format.

    Attributes
    ----------
    key : str or None
        The entry at fault.
    reason : str
        What is wrong with it.
    """

    key: str | None
    reason: str


class PartsDisagree(RefsError):
    """References that were to be combined say different things where they have to agree.

    Attributes
    ----------
    path : str
        Of the array or group, without a leading slash; "" for what is no one's.
    part : str
        The part that differs from those before it.
    reason : str
        What disagrees, with both values.
    """

    path: str
    part: str
    reason: str


class RefsUnreachable(RefsError):
    """The references that a `StoreFactory` names can't be found in this process.

    Attributes
    ----------
    fingerprint : str
        Hexadecimal digest of the references that were wanted.
    """

    fingerprint: str


class RefsChanged(RefsError):
    """The reference file here is another one than the one the graph was made from.

    Attributes
    ----------
    expected, found : str
        Fingerprints (hexadecimal digests).
    """

    expected: str
    found: str


class UnsupportedArray(RefsError):
    """An array or a link that is listed but can't be read.

    Attributes
    ----------
    path : str
        Of the array, from the root of the file.
    reason : str
        Why it can't be read.
    """

    path: str
    reason: str


class AccessError(LindiError):
    """The archive does not give this asset to this user."""


class AuthenticationError(AccessError):
    """No API key, or one that the archive does not know (401).

    Attributes
    ----------
    asset : str
        Instance and asset id, or the address of a dandiset.
    variable : str
        The environment variable that holds the key.
    """

    asset: str
    variable: str


class PermissionDenied(AccessError):
    """A key that may not read this asset, or list this dandiset (403).

    Attributes
    ----------
    asset : str
        Instance and asset id, or the address of a dandiset.
    """

    asset: str


class AssetNotFound(AccessError):
    """The archive has no such asset, or it is not a file (404, 400).

    Attributes
    ----------
    asset : str
        Instance and asset id, or its address.
    """

    asset: str


class DandisetNotFound(AccessError):
    """The archive has no such dandiset, or no such version of it.

    Attributes
    ----------
    name : str
        Its address.
    """

    name: str


class UrlRefused(AccessError):
    """A URL in the references, or one that the archive redirected to, is not one that may be read.

    Attributes
    ----------
    reason : str
        Which rule it breaks.
    """

    reason: str


class UnavailableError(LindiError):
    """The other side does not answer, or answers that it can't just now.

    Attributes
    ----------
    retry_after_s : float or None
        Seconds that the other side asked to wait.
    attempts : int
        How often it was tried.
    unanswered : bool
        Whether there was no answer at all: no connection, or a timeout.
    """

    retry_after_s: float | None = None
    unanswered: bool = False
    attempts: int = 1


class ArchiveUnavailable(UnavailableError):
    """The archive's API did not give a presigned URL, after all retries."""


class StorageUnavailable(UnavailableError):
    """The storage host did not give the bytes, after all retries."""


class DataError(LindiError):
    """The source does not hold what the references say."""


class SourceMismatch(DataError):
    """The source is too short, or has changed since the references were made."""


class CorruptChunk(DataError):
    """The bytes of a chunk don't decode to what its array declares.

    Attributes
    ----------
    key : str
        The chunk's key.
    reason : str
        What the decoder found.
    """

    key: str
    reason: str


class InvalidSession(LindiError):
    """What a session holds breaks the rules of NWB: timestamps that go backwards, rows that end before they begin.

    Attributes
    ----------
    path : str
        Of the array, from the root of the file.
    reason : str
        Which rule it breaks.
    """

    path: str
    reason: str


class JobError(LindiError):
    """A job, such as a conversion, did not do what was asked."""


class JobConflict(JobError):
    """Another job is where this one would write, or another process runs it.

    Attributes
    ----------
    differences : tuple of str
        What the two jobs differ in; empty if they are the same.
    """

    differences: tuple[str, ...] = ()


class JobIncomplete(JobError):
    """A conversion ended before its end. What is done stays, and it can be resumed.

    Attributes
    ----------
    done, total : int
        Objects (shards) that are done, and that there are in all.
    set_aside : dict
        Why objects could not be made, by their keys.
    """

    done: int
    total: int
    set_aside: dict[str, str]


class TargetError(JobError):
    """An object of the output can't be written or read.

    Attributes
    ----------
    is_final : bool
        Whether no other object will fare better: no room, no permission.
    """

    is_final: bool


class VerificationFailed(JobError):
    """What was converted is not what was written, or not what the source holds.

    Attributes
    ----------
    problems : dict
        What is wrong, by the key of the object.
    """

    problems: dict[str, str]
