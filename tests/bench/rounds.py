"""Readers in processes of their own, run in turns, and what came of it."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import dataclass, field, replace
from statistics import median
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from machine import Ballast
from recordings import ROW_NBYTES, Archive, Recording, as_message
from table import Ratio, show
from talk import Died, Talker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from readers.task import Settings, Task

__all__ = ["Cell", "Failure", "Reader", "Result", "Run", "Running", "run_cell"]

PATIENCE_S = 8.0  # a reader that took longer in all is not run again
BALLAST = 4  # sizes of the array

Kind: TypeAlias = Literal["ours", "variant", "peer", "limit", "floor", "by hand"]


@dataclass(frozen=True, slots=True)
class Reader:
    """Who reads, and how it is set up."""

    key: str
    kind: Kind
    title: str
    """with versions to be filled in: "LINDI {lindi}" """
    module: str
    """of the folder `readers`"""
    python: str = sys.executable
    settings: Settings = field(default_factory=dict)
    said: str = "default"
    """the settings in words"""
    environ: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Run:
    """One reading."""

    wall_s: float
    cpu_s: float
    """of all threads and processes of the reader"""
    peak: int
    """bytes that were resident above idle at most, the result included; summed over processes"""
    requests: int
    """that the storage host got"""
    fetched: int
    """bytes that it sent"""
    digest: str


@dataclass(slots=True)
class Result:
    """What came of one reader in one cell."""

    reader: Reader
    title: str
    by_round: dict[int, Run] = field(default_factory=dict)
    """round 0 is to warm up, and not counted unless it is all there is"""

    @property
    def rounds(self) -> set[int]:
        return set(self.by_round) - {0} or set(self.by_round)

    @property
    def runs(self) -> list[Run]:
        return [self.by_round[number] for number in sorted(self.rounds)]

    @property
    def digest(self) -> str:
        return " ".join(sorted({run.digest[:8] for run in self.by_round.values()}))

    def median(self, of: Callable[[Run], float]) -> float:
        return float(median(of(run) for run in self.runs))

    @property
    def wall_s(self) -> float:
        return self.median(lambda run: run.wall_s)

    def times_as_fast(self, other: Result) -> Ratio:
        """Return how many times as fast as another this one is."""
        return self.ratio(other, lambda one, two: two.wall_s / one.wall_s)

    def ratio(self, other: Result, of: Callable[[Run, Run], float]) -> Ratio:
        both = self.rounds & other.rounds or set(self.by_round) & set(other.by_round)
        ratios = [of(self.by_round[number], other.by_round[number]) for number in both]
        return Ratio(float(median(ratios)), min(ratios), max(ratios))


@dataclass(frozen=True, slots=True)
class Failure:
    """A reader that can't read something, and why."""

    title: str
    reason: str


@dataclass(frozen=True, slots=True)
class Cell:
    """One thing that all readers read."""

    title: str
    recording: Recording
    task: Task
    results: list[Result]

    @property
    def nbytes(self) -> int:
        """Logical bytes that count: of one channel those of all channels, which have to be decoded for it."""
        if self.task.places:
            return len(self.task.places) * self.task.window_rows * (self.recording.nbytes // self.recording.rows)
        return self.recording.nbytes

    def find(self, key: str) -> Result | None:
        return next((result for result in self.results if result.reader.key == key), None)

    def of_kind(self, *kinds: Kind) -> list[Result]:
        return [result for result in self.results if result.reader.kind in kinds]

    @property
    def ours(self) -> Result | None:
        return next(iter(self.of_kind("ours")), None)

    @property
    def limit(self) -> Result | None:
        return next(iter(self.of_kind("limit")), None)

    @property
    def agrees(self) -> bool:
        return len({run.digest for result in self.results for run in result.by_round.values()}) == 1


class Running:
    """A reader's processes.

    Parameters
    ----------
    reader
        What runs in them.
    processes
        That share an array's rows evenly.
    """

    def __init__(self, reader: Reader, processes: int = 1) -> None:
        self.reader = reader
        self.title = reader.key  # until the versions are known
        self.versions: dict[str, str] = {}
        self.failure: Failure | None = None
        self._recording: Recording | None = None
        command = [reader.python, "-m", "readers.drive", reader.module, json.dumps(reader.settings)]
        self._talkers = [Talker(command, reader.environ) for _ in range(processes)]

    def open(self, recording: Recording) -> None:
        """Open a recording, if it is not open; afterwards, `failure` says whether that went well."""
        if recording is self._recording:
            return
        self._recording, self.failure = recording, None
        if not self.versions:
            self._greeted()
        if self.failure is None:
            self._ask([{"open": as_message(recording.given)}] * len(self._talkers))

    def read(self, task: Task, archive: Archive) -> Run | None:
        """Read; None when that failed."""
        archive.count()
        parts = _shared(task, len(self._talkers))
        answers = self._ask([{"read": as_message(part)} for part in parts])
        requests, fetched = archive.count()
        digests = self._ask([{"digests": task.block_rows}] * len(self._talkers)) if answers else []
        if not digests:
            return None
        return Run(
            wall_s=max(answer["ended"] for answer in answers) - min(answer["started"] for answer in answers),
            cpu_s=sum(answer["cpu"] for answer in answers),
            peak=sum(answer["peak"] for answer in answers),
            requests=requests,
            fetched=fetched,
            digest=_joined(digest for answer in digests for digest in answer["digests"]),
        )

    def close(self) -> None:
        for talker in self._talkers:
            talker.close()

    def _greeted(self) -> None:
        for versions in self._answers():
            self.versions = versions
            self.title = self.reader.title.format(**versions)

    def _ask(self, messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Ask all processes at once; an empty list when one failed."""
        for talker, message in zip(self._talkers, messages, strict=True):
            talker.send(message)
        return self._answers()

    def _answers(self) -> list[dict[str, Any]]:
        """Return the next answer of each process; an empty list when one failed."""
        answers = []
        for talker in self._talkers:
            try:
                answers.append(talker.receive())
            except Died as died:
                answers.append({"failed": str(died)})
        reason = next((answer["failed"] for answer in answers if "failed" in answer), None)
        if reason is None:
            return answers
        self.failure = Failure(f"{self.title}, {self.reader.said}", _without_query(reason))
        return []


def run_cell(
    title: str, recording: Recording, task: Task, readers: Iterable[Running], archive: Archive, rounds: int
) -> Cell:
    """Let readers read the same in turns: all of them once a round, every other round the other way round."""
    able = [reader for reader in readers if reader.failure is None]
    ballast = Ballast(BALLAST * (task.stop - task.start) * ROW_NBYTES)
    results = {id(reader): Result(reader.reader, reader.title) for reader in able}
    for number in range(rounds + 1):
        for reader in able if number % 2 == 0 else reversed(able):
            result = results[id(reader)]
            if reader.failure or sum(run.wall_s for run in result.by_round.values()) > PATIENCE_S:
                continue
            show(f"{title}: {reader.title}, {reader.reader.said}, round {number}")
            ballast.drop()
            run = reader.read(task, archive)
            ballast.take()
            if run is not None:
                result.by_round[number] = run
    show("")
    return Cell(title, recording, task, [result for result in results.values() if result.by_round])


def _shared(task: Task, count: int) -> list[Task]:
    """Cut a task by rows, between blocks."""
    blocks = -(-(task.stop - task.start) // task.block_rows)
    edges = [min(task.start + blocks * i // count * task.block_rows, task.stop) for i in range(count + 1)]
    return [replace(task, start=edges[i], stop=edges[i + 1]) for i in range(count)]


def _joined(digests: Iterable[str]) -> str:
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def _without_query(text: str) -> str:
    return text.partition("X-Amz-")[0][:300]
