"""What jobs that go through the sessions of a dandiset share."""

from __future__ import annotations

import fcntl
import threading
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scripts import code_of

import lindi_dask as ld
from lindi_dask.errors import AuthenticationError, ConfigurationError, JobConflict, LindiError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from distributed import Client

    Work = Callable[["Session", threading.Event], str]

__all__ = ["Interrupted", "Session", "make_folder", "only_run", "output_of", "sessions_at", "work_off"]


@dataclass(frozen=True, slots=True)
class Session:
    """A file of a dandiset."""

    path: str
    """in the dandiset"""
    address: str
    blob: str
    """the archive's id of its content"""


def sessions_at(address: str) -> list[Session]:
    """Return the files at an address; errors are those of `list_assets`. Zarr assets are left out."""
    return [
        Session(asset.path, asset.address, asset.blob)
        for asset in ld.list_assets(address)
        if asset.address is not None and asset.blob is not None
    ]


class Interrupted(Exception):
    """The run was told to end."""


def work_off(
    sessions: Sequence[Session], work: Work, client: Client, *, at_once: int, say: Callable[[str], None]
) -> int:
    """Do some work for each session, and return the exit code. What fails is said, and doesn't hold up the others.

    Parameters
    ----------
    sessions
        All that are due.
    work
        Is called with a session, and with what tells it, once set, to raise `Interrupted`; returns what was done.
    client
        Of the cluster that does it.
    at_once
        How many sessions are worked on at a time.
    say
        Is told what was done, or why not.

    Raises
    ------
    ConfigurationError
        If `at_once` is no number of sessions.
    AuthenticationError
        If the archive does not know the key: no session would fare better.
    UnavailableError
        If the scheduler is gone: likewise.
    """
    if at_once < 1:
        raise ConfigurationError(f"[run] at_once must be 1 or more, not {at_once}.")
    ending = threading.Event()
    failures: list[BaseException] = []
    with ThreadPoolExecutor(at_once, thread_name_prefix="session") as pool:
        waiting = list(sessions)[::-1]
        running: dict[Future[str], Session] = {}
        try:
            while waiting or running:
                while waiting and len(running) < at_once:
                    session = waiting.pop()
                    running[pool.submit(work, session, ending)] = session
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    path = running.pop(future).path
                    count = f"[{len(sessions) - len(waiting) - len(running)}/{len(sessions)}] {path}"
                    error = future.exception()
                    if error is None:
                        say(f"{count}: {future.result()}")
                        continue
                    failures.append(error)
                    kind = "" if isinstance(error, LindiError) else f"{type(error).__name__}: "
                    say(f"{count}: failed: {kind}{error}")
                    if isinstance(error, AuthenticationError):
                        raise error
                    if client.status != "running":
                        raise UnavailableError("The cluster's scheduler is gone. Start again: what is done is kept.")
        finally:
            ending.set()
    return _code(failures, len(sessions))


def _code(failures: Sequence[BaseException], total: int) -> int:
    if not failures:
        return 0
    # Where nothing at all could be done, the reason that all have in common says more than "partial" does
    codes = {code_of(type(error)) for error in failures}
    return codes.pop() if len(failures) == total and codes in ({1}, {2}, {5}, {75}) else 3


def output_of(session: Session, folder: Path, ending: str = "") -> Path:
    """Return where the output of a session goes in a folder: under its path in the dandiset.

    Raises
    ------
    ConfigurationError
        If that path leads elsewhere.
    """
    parts = session.path.split("/")
    if any(part in {"", ".", ".."} or not part.isprintable() for part in parts):
        raise ConfigurationError(f"{session.path!r} can't be the path of a file.")
    return folder.joinpath(*parts[:-1], parts[-1] + ending)


def make_folder(folder: Path) -> None:
    """Make a folder; `ConfigurationError` if that can't be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror
    else:
        return
    raise ConfigurationError(f"{folder} can't be made ({reason}): name another output.")


@contextmanager
def only_run(folder: Path) -> Iterator[None]:
    """Hold a job's folder for as long as the block lasts.

    Raises
    ------
    JobConflict
        If another process does.
    ConfigurationError
        If the file system has no locks.
    """
    failure: LindiError
    with (folder / "lock").open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            failure = JobConflict(f"Another process runs this job: it holds {lock.name}. Wait for it, or end it.")
        except OSError as error:
            failure = ConfigurationError(f"{lock.name} can't be locked ({error.strerror}): name another output.")
        else:
            yield
            return
    raise failure
