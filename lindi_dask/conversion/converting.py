"""`convert`: references -> Zarr v3, resumable and verified."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lindi_dask.arrays import factory_of
from lindi_dask.conversion.checking import check_objects, stale_documents
from lindi_dask.conversion.collection import enter
from lindi_dask.conversion.encoding import each
from lindi_dask.conversion.executors import executor_of
from lindi_dask.conversion.job import job_of
from lindi_dask.conversion.ledger import stored_of
from lindi_dask.conversion.manifest import find_manifest, manifest_key, packed_manifest, unpacked_manifest
from lindi_dask.conversion.plan import difference
from lindi_dask.conversion.planning import make_plan, request_of
from lindi_dask.conversion.progress import Recorder
from lindi_dask.conversion.running import NoWorkersError, Run
from lindi_dask.conversion.targets import readable, target_of
from lindi_dask.conversion.task import Work, make
from lindi_dask.errors import ConfigurationError, JobConflict, JobError, JobIncomplete, TargetError
from lindi_dask.jobs.ledger import Ledger
from lindi_dask.jobs.lock import JobLock

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Mapping

    from distributed import Client

    from lindi_dask.arrays import Refs
    from lindi_dask.conversion.executors import Executor
    from lindi_dask.conversion.job import Job
    from lindi_dask.conversion.ledger import Stored
    from lindi_dask.conversion.plan import Plan, Shard
    from lindi_dask.conversion.progress import Progress
    from lindi_dask.conversion.running import Call
    from lindi_dask.conversion.targets import Target
    from lindi_dask.factory import StoreFactory

    Patterns = str | Iterable[str] | None
    Layouts = Mapping[str, Mapping[str, Any]] | None

__all__ = ["Conversion", "convert", "plan"]

_MARK: Final = "lindi-dask.job"
"""key of an object in an unfinished output: the fingerprint of the plan that it is of"""


@dataclass(frozen=True, slots=True)
class Conversion:
    """What a call of `convert` did."""

    out: str
    """path, `s3://bucket/prefix`, or `icechunk:` and a path"""
    plan: Plan
    made: int
    """objects (shards) that this call made"""
    kept: int
    """objects that were there from calls before"""
    nbytes: int
    """stored bytes of all objects"""
    failures: int
    """attempts that failed"""
    seconds: float


def plan(
    refs: Refs,
    *,
    include: Patterns = None,
    exclude: Patterns = None,
    layout: Layouts = None,
    client: Client | None = None,
    threads: int | None = None,
    **options: Any,  # noqa: ANN401 - those of StoreFactory, each its own
) -> Plan:
    """Return what `convert` would write, and what that takes; nothing is written.

    Parameters and errors are those of `convert`.
    """
    references = factory_of(refs, **options).load()[0]
    memory = executor_of(client, threads).task_memory
    return make_plan(references, request_of(include, exclude, layout), task_memory=memory)


def convert(
    refs: Refs,
    out: str | os.PathLike[str],
    *,
    include: Patterns = None,
    exclude: Patterns = None,
    layout: Layouts = None,
    client: Client | None = None,
    threads: int | None = None,
    resume: bool = False,
    job: str | os.PathLike[str] | None = None,
    progress: Callable[[Progress], None] | None = None,
    **options: Any,  # noqa: ANN401 - those of StoreFactory, each its own
) -> Conversion:
    """Write references as Zarr v3, in the NWB-Zarr convention, with all groups, attributes, links and texts.

    Each object (a shard, or a chunk where there are no shards) is made by one task, which reads it back and compares
    it with the source. Readers find the output only when all of it is there. Until then a folder beside it
    (`.NAME.lindi-job`) keeps what is done: whatever ends the process, the same call with `resume=True` goes on from
    there. Of an output that is done, that call checks every object and makes those anew that are damaged.

    Parameters
    ----------
    refs
        As for `StoreFactory`, or one.
    out
        Path of a folder that is not there yet, which all workers reach under that path; or `s3://bucket/prefix`, with
        address and credentials from the environment of each process (`AWS_ENDPOINT_URL`, `AWS_ACCESS_KEY_ID`...); or
        `icechunk:` and the path of an Icechunk repository, new or without commits, whose main branch gets one.
    include, exclude
        Patterns of paths to convert, and not to; `*` stands for slashes, too, and a path for all below it.
    layout
        For patterns of paths (a later one wins): `{"acquisition/*/data": {"chunks": (20_000, -1), "shards": (800_000,
        -1)}}`. `shards=False`: none. `codecs`: a list of Zarr v3's for the chunks in a shard, or `"source"`: those of
        the source, whose chunks are then copied as they are. By default, a small array is one chunk; others have chunks
        of some 2 MB in shards of some 128 MB, compressed by Blosc (zstd, bits shuffled) and with a CRC-32C.
    client
        Of a dask cluster that does the work; None: threads of this process.
    threads
        How many, without a client; one more than there are cores if not given.
    resume
        Go on with a job that was begun, or mend an output.
    job
        Folder for the job; for an object store, by default, one in the current folder.
    progress
        Called, about once a second, with how far the job is.
    **options
        `instances`, `allow`, `concurrency`, `cache`, `cache_limit`, `api_keys`: as for `StoreFactory`.

    Raises
    ------
    JobConflict
        If another process runs the job, something else is where the output is to be, or what is to be resumed was
        asked for in another way; the message has the difference.
    JobIncomplete
        If some objects could not be made in three attempts, or nothing more can be written: resume it.
    ConfigurationError
        If an option makes no sense, or tasks would take more than 60 % of a worker's memory.
    AccessError, RefsError
        If the source can't be read.
    """
    factory = factory_of(refs, **options)
    request = request_of(include, exclude, layout)
    executor = executor_of(client, threads)
    here = job_of(out, job)
    if here.is_published and not resume:
        raise JobConflict(f"{here.out} is there already. To check and mend it, resume; else name another output.")
    here.make_folders()
    try:
        with JobLock(here.lock, here.out):
            return _Converting(here, factory, executor, progress).run(request, resume=resume)
    finally:
        executor.close()


class _Converting:
    """One call of `convert`; the job's lock is held."""

    def __init__(
        self, job: Job, factory: StoreFactory, executor: Executor, progress: Callable[[Progress], None] | None
    ) -> None:
        self._job, self._factory, self._executor = job, factory, executor
        self._progress = progress
        self._recorder: Recorder | None = None
        self._started = time.monotonic()

    def run(self, request: dict[str, Any], *, resume: bool) -> Conversion:
        try:
            return self._run(request, resume=resume)
        except (TargetError, NoWorkersError) as error:
            failure = str(error)
        except OSError as error:
            failure = f"{self._job.folder} can't be written ({error.strerror}). Make room, or mend the permissions."
        raise self._incomplete(failure)

    def _run(self, request: dict[str, Any], *, resume: bool) -> Conversion:
        made_plan, known = self._plan(request, resume=resume)
        target = target_of(self._job.place)
        kept = self._kept(made_plan, known, target)
        work = Work(self._factory, self._job.place)

        def call(shard: Shard) -> Call:
            return make, (work, made_plan.arrays[shard[0]], shard[1])

        with Ledger(self._job.ledger) as ledger:
            recorder = self._recorder = Recorder(made_plan, kept, ledger, self._executor, self._progress)
            with recorder:
                Run(self._executor, call, recorder).run(shard for shard in made_plan.shards() if shard not in kept)
        stored = recorder.stored
        if recorder.set_aside:
            key, reason = next(iter(recorder.set_aside.items()))
            raise self._incomplete(f"{len(recorder.set_aside):,} could not be made; {key}: {reason}")
        if self._job.is_published:
            self._check_source(made_plan, known, stored)
        self._finish(made_plan, stored, target)
        return Conversion(
            out=self._job.out,
            plan=made_plan,
            made=len(stored) - len(kept),
            kept=len(kept),
            nbytes=sum(one.nbytes or 0 for one in stored.values()),
            failures=recorder.failures,
            seconds=time.monotonic() - self._started,
        )

    # What is to be done

    def _plan(self, request: dict[str, Any], *, resume: bool) -> tuple[Plan, dict[Shard, Stored]]:
        """Return the plan, and what is said to be done."""
        job = self._job
        old, known = job.plan(), stored_of(job.ledger)
        if old is None and job.is_published:
            old, known = self._from_manifest()
        if old is not None and not resume:
            raise JobConflict(
                f"A job for {job.out} is there: {len(known):,} of {old.tasks:,} objects are done. Resume it, or remove "
                f"{job.folder} to begin anew."
            )
        references = self._factory.load()[0]
        if old is not None:
            if (old.references, old.request) != (references.fingerprint, request):
                new = make_plan(references, request)
                self._refuse(tuple(difference(old, new)))
            if old.task_nbytes > self._executor.task_memory:
                raise ConfigurationError(
                    f"A task of this job takes {old.task_nbytes / 2**20:,.0f} MiB of memory, but may take "
                    f"{self._executor.task_memory / 2**20:,.0f} here. Give workers more memory or fewer threads."
                )
            new = old
        else:
            new = make_plan(references, request, task_memory=self._executor.task_memory)
        if job.is_remote and not job.is_published:
            self._mark(new, is_begun=old is not None)
        elif job.is_repository or not job.is_published:
            job.data.mkdir(exist_ok=True)
        if job.plan() is None:
            job.begin(new)
        return new, known

    def _from_manifest(self) -> tuple[Plan, dict[Shard, Stored]]:
        reason = "it has no manifest of a conversion"
        try:
            manifest = find_manifest(readable(self._job.out))
            if manifest is not None:
                return unpacked_manifest(manifest)
        except ValueError as error:
            reason = f"its manifest can't be read: {error}"
        raise JobConflict(f"{self._job.out} is there, and can't be mended: {reason}. Name another output.")

    def _refuse(self, differences: tuple[str, ...]) -> None:
        raise JobConflict(
            f"The job of {self._job.out} was begun with other options. It differs in: {'; '.join(differences)}. "
            "Resume it with the same, or name another output.",
            differences=differences,
        )

    def _mark(self, new: Plan, *, is_begun: bool) -> None:
        """Say in an object store, where no folder can, whose unfinished objects lie there."""
        target = target_of(self._job.out)
        mark = target.read(_MARK)
        if mark is None and not is_begun and next(target.sizes(), None) is not None:
            raise JobConflict(f"{self._job.out} holds other objects. Name a prefix that is empty.")
        if mark is not None and mark != new.fingerprint.encode():
            raise JobConflict(f"{self._job.out} holds the unfinished output of another job. Name another prefix.")
        if mark is None:
            target.write(_MARK, [new.fingerprint.encode()])

    def _kept(self, made_plan: Plan, known: dict[Shard, Stored], target: Target) -> dict[Shard, Stored]:
        """Return what is done, and is there: in an output that is published, with what it should hold."""
        if self._job.is_published:
            bad = check_objects(made_plan, known, self._job.out, self._executor)
            return {shard: one for shard, one in known.items() if shard not in bad}
        if not known:
            return {}
        sizes = dict(target.sizes())
        return {
            (number, place): one
            for (number, place), one in known.items()
            if sizes.get(made_plan.arrays[number].place_key(place)) == one.nbytes
        }

    # What was done

    def _incomplete(self, failure: str) -> JobIncomplete:
        recorder = self._recorder
        done, total = (0, 0) if recorder is None else (recorder.recorded, recorder.total)
        told = "" if recorder is None else f"{done:,} of {total:,} objects are done. "
        return JobIncomplete(
            f"{told}{failure} When that is mended, resume the job: what is done is kept.",
            done=done,
            total=total,
            set_aside={} if recorder is None else recorder.set_aside,
        )

    def _check_source(self, made_plan: Plan, known: dict[Shard, Stored], stored: dict[Shard, Stored]) -> None:
        """Raise if what was made anew for a published output is not what was there."""
        changed = [shard for shard, one in known.items() if stored[shard].digest != one.digest]
        if changed:
            key = made_plan.arrays[changed[0][0]].place_key(changed[0][1])
            raise JobError(
                f"The source holds other values now than when {self._job.out} was written, of {key} and "
                f"{len(changed) - 1} more objects. Convert it anew, to another output."
            )

    def _finish(self, made_plan: Plan, stored: dict[Shard, Stored], target: Target) -> None:
        """Write what makes a tree of the objects, the root's document last, and publish it."""
        target.write(manifest_key(made_plan), packed_manifest(made_plan, stored))
        stale = stale_documents(made_plan, target)
        root = [one for one in stale if one[0] == "zarr.json"]
        for _ in each(lambda one: target.write(one[0], [one[1]]), [one for one in stale if one not in root]):
            pass
        for key, document in root:
            target.write(key, [document])
        if self._job.is_remote:
            target.remove(_MARK)
            return
        if self._job.is_repository or not self._job.is_published:
            self._job.publish()
        if not self._job.is_repository:
            enter(Path(self._job.out), made_plan)
