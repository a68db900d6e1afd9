"""A job's folder beside its output: its plan, its ledger, its lock, and what is not published yet."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lindi_dask.conversion.collection import outermost
from lindi_dask.conversion.plan import Plan
from lindi_dask.conversion.repository import commit_folder, is_repository, repository_folder, repository_of
from lindi_dask.conversion.targets import PART, is_remote, target_of
from lindi_dask.errors import ConfigurationError, JobConflict, JobError
from lindi_dask.jobs.ledger import events_of
from lindi_dask.jobs.lock import holder_of

if TYPE_CHECKING:
    from lindi_dask.jobs.lock import Holder

__all__ = ["Job", "Status", "job_of"]


@dataclass(frozen=True)
class Job:
    """Where the parts of a job lie."""

    out: str
    """the output: an absolute path, `s3://bucket/prefix`, or `icechunk:` and an absolute path"""
    folder: Path

    @property
    def ledger(self) -> Path:
        """What was done."""
        return self.folder / "ledger.jsonl"

    @property
    def lock(self) -> Path:
        """Who runs it."""
        return self.folder / "lock"

    @property
    def _plan_file(self) -> Path:
        return self.folder / "plan.json"

    @property
    def data(self) -> Path:
        """The output until it is published, and of a repository what is to be committed; of an object store nothing."""
        return self.folder / "data"

    @property
    def is_remote(self) -> bool:
        """Whether the output lies in an object store."""
        return is_remote(self.out)

    @property
    def is_repository(self) -> bool:
        """Whether the output is an Icechunk repository."""
        return is_repository(self.out)

    @property
    def is_published(self) -> bool:
        """Whether readers find the output."""
        if self.is_repository:
            return not repository_of(self.out).is_empty
        return target_of(self.out).read("zarr.json") is not None if self.is_remote else os.path.lexists(self.out)

    @property
    def place(self) -> str:
        """Where objects are written now."""
        is_final = self.is_remote or (self.is_published and not self.is_repository)
        return self.out if is_final else str(self.data)

    def plan(self) -> Plan | None:
        """Return the job's plan, or None if there is no job."""
        try:
            return Plan.from_json(self._plan_file.read_bytes())
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            reason = str(error)
        raise JobError(f"{self._plan_file} can't be read ({reason}). Remove {self.folder} to begin anew.")

    def begin(self, plan: Plan) -> None:
        """Keep the plan; its lock is held."""
        part = self._plan_file.with_suffix(PART)
        with part.open("wb") as file:
            file.write(plan.to_json())
            file.flush()
            os.fsync(file.fileno())
        part.replace(self._plan_file)

    def make_folders(self) -> None:
        """Make the folder.

        Raises
        ------
        ConfigurationError
            If that can't be.
        """
        try:
            self.folder.mkdir(exist_ok=True)
        except OSError as error:
            reason = error.strerror
        else:
            return
        raise ConfigurationError(f"{self.folder} can't be made ({reason}): name an output in a folder that is there.")

    def publish(self) -> None:
        """Let readers find what is done: by one rename, or by one commit."""
        for path in self.data.rglob(f"*{PART}"):
            path.unlink(missing_ok=True)
        if self.is_repository:
            commit_folder(self.data, self.out)
            shutil.rmtree(self.data)
            return
        if os.path.lexists(self.out):
            raise JobConflict(
                f"{self.out} has come into being while the job ran. Move it away, and resume: nothing is lost."
            )
        self.data.rename(self.out)
        handle = os.open(Path(self.out).parent, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def job_of(out: str | os.PathLike[str], folder: str | os.PathLike[str] | None = None) -> Job:
    """Return the job of an output.

    Parameters
    ----------
    out
        A path, `s3://bucket/prefix`, or `icechunk:` and the path of a repository.
    folder
        Of the job; None: beside the output, and in the current folder for one in an object store.
    """
    location = os.fspath(out).rstrip("/")
    if is_remote(location):
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", location.removeprefix("s3://"))
        default = Path.cwd() / f".{name}.lindi-job"
    elif "://" in location[:16]:
        raise ConfigurationError(f"out: {location} is neither a path nor s3://bucket/prefix.")
    elif is_repository(location):
        path = repository_folder(location)
        location, default = f"icechunk:{path}", path.with_name(f".{path.name}.lindi-job")
    else:
        path = Path(location).absolute()
        location, top = str(path), outermost(path)  # zarr would take the job's folder in a group for a node
        name = "-".join([top.name, *path.relative_to(top).parts])
        default = top.with_name(f".{name}.lindi-job")
    return Job(location, default if folder is None else Path(folder).absolute())


@dataclass(frozen=True)
class Status:
    """How far a job is."""

    job: Job

    @cached_property
    def plan(self) -> Plan | None:
        """None: there is no job."""
        return self.job.plan()

    @cached_property
    def holder(self) -> Holder | None:
        """Who runs it now, if anybody does."""
        return holder_of(self.job.lock)

    @cached_property
    def is_published(self) -> bool:
        """Whether readers find the output."""
        return self.job.is_published

    @cached_property
    def _events(self) -> list[dict[str, Any]]:
        return [event for event in events_of(self.job.ledger) if event["event"] in {"done", "set_aside"}]

    @cached_property
    def done(self) -> int:
        """Objects that the ledger says are done."""
        return len({(event["array"], event["place"]) for event in self._events if event["event"] == "done"})

    @cached_property
    def set_aside(self) -> dict[str, str]:
        """Why objects could not be made, by their keys; those that were made since are not in it."""
        found: dict[str, str] = {}
        plan = self.plan
        if plan is None:
            return found
        for event in self._events:
            key = plan.arrays[event["array"]].place_key(event["place"])
            if event["event"] == "done":
                found.pop(key, None)
            else:
                found[key] = event["reason"]
        return found
