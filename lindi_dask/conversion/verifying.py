"""`verify`: whether an output is what was written, and what the source holds."""

from __future__ import annotations

import importlib.util
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lindi_dask.arrays import factory_of
from lindi_dask.conversion.checking import check_objects, problems_of, stale_documents
from lindi_dask.conversion.executors import executor_of
from lindi_dask.conversion.job import job_of
from lindi_dask.conversion.manifest import MANIFEST, find_manifest, unpacked_manifest
from lindi_dask.conversion.rereading import compare, document_differences
from lindi_dask.conversion.targets import readable
from lindi_dask.errors import ConfigurationError, JobError, RefsChanged, VerificationFailed

if TYPE_CHECKING:
    import os

    from distributed import Client

    from lindi_dask.arrays import Refs
    from lindi_dask.conversion.plan import Shard
    from lindi_dask.conversion.running import Call

__all__ = ["Verified", "verify"]


@dataclass(frozen=True, slots=True)
class Verified:
    """An output in which nothing is wrong."""

    out: str
    level: str
    documents: int
    objects: int
    nbytes: int
    """stored bytes of all objects"""
    seconds: float


def verify(
    out: str | os.PathLike[str],
    refs: Refs | None = None,
    *,
    level: Literal["stored", "full"] = "stored",
    hdf5: str | os.PathLike[str] | None = None,
    client: Client | None = None,
    threads: int | None = None,
    **options: Any,  # noqa: ANN401 - those of StoreFactory, each its own
) -> Verified:
    """Check each document and each object of an output that `convert` made.

    Parameters
    ----------
    out
        As of `convert`.
    refs
        The source, for `full`: as for `StoreFactory`, or one.
    level
        `stored`: every object is read, decoded and compared with the digest that the output's manifest has of what was
        written; without the source. `full`: the source is read again as well, by another way than it was for the
        conversion, and compared: shapes, types, attributes, and each value.
    hdf5
        For `full`: path of the HDF5 file that the references are of; its numbers are then read by h5py. Otherwise the
        source is read by zarr's own decoders, a chunk at a time.
    client, threads
        As of `convert`.
    **options
        As of `convert`.

    Raises
    ------
    VerificationFailed
        If anything is wrong; `problems` has what, by the key of the object.
    JobError
        If there is no output, or it has no manifest.
    """
    if (level == "full") != (refs is not None):
        raise ConfigurationError('level="full" is the one that needs refs, the source.')
    if hdf5 is not None and importlib.util.find_spec("h5py") is None:
        raise ConfigurationError('To read an HDF5 file needs h5py: pip install "lindi-dask[index]"')
    started = time.monotonic()
    location = job_of(out).out
    target = readable(location)
    reason = "there is none, or it was not made by convert"
    manifest = find_manifest(target)
    plan = None
    try:
        if manifest is not None:
            plan, stored = unpacked_manifest(manifest)
    except (ValueError, KeyError, TypeError) as error:
        reason = f"{MANIFEST} can't be read ({error})"
    if plan is None:
        raise JobError(f"{location} can't be verified: {reason}.")
    executor = executor_of(client, threads)
    try:
        problems = {key: "it is not as it was written" for key, _ in stale_documents(plan, target)}
        wrong = check_objects(plan, stored, location, executor)
        if refs is not None:
            factory = factory_of(refs, **options)
            if factory.fingerprint != plan.references:
                raise RefsChanged(
                    f"{location} was made from other references ({plan.references[:8]}) than these "
                    f"({factory.fingerprint[:8]}).",
                    expected=plan.references,
                    found=factory.fingerprint,
                )
            for path, reason in document_differences(plan, factory.load()[0]).items():
                problems.setdefault(f"{path}/zarr.json".removeprefix("/"), reason)
            file = None if hdf5 is None else str(Path(hdf5).absolute())

            def call(shard: Shard) -> Call:
                is_stored = stored[shard].nbytes is not None
                return compare, (location, factory, file, plan.arrays[shard[0]], shard[1], is_stored)

            wrong = problems_of(plan, call, executor) | wrong
    finally:
        executor.close()
    problems |= {plan.arrays[number].place_key(place): reason for (number, place), reason in wrong.items()}
    if problems:
        key, reason = next(iter(problems.items()))
        others = f", and so are {len(problems) - 1:,} more" if len(problems) > 1 else ""
        raise VerificationFailed(
            f"{location} is not what was written: {key} ({reason}){others}. To mend it, resume its conversion.",
            problems=problems,
        )
    nbytes = sum(one.nbytes or 0 for one in stored.values())
    documents = len(plan.groups) + len(plan.arrays)
    return Verified(location, level, documents, plan.tasks, nbytes, time.monotonic() - started)
