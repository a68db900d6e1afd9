"""The ledger: what is left by a process that died, or had no room."""

from __future__ import annotations

import resource
import signal
from typing import TYPE_CHECKING

import pytest

from lindi_dask.conversion.ledger import Stored, stored_of
from lindi_dask.errors import ConfigurationError, JobError
from lindi_dask.jobs.ledger import Ledger, events_of

if TYPE_CHECKING:
    from pathlib import Path


def test_events_come_back_with_their_time(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    with Ledger(path, clock=lambda: 12.34567) as ledger:
        ledger.add("started", plan="x")
        ledger.add("done", array=1, place=2, nbytes=3, digest="d")
        assert list(events_of(path)) == []  # not flushed yet
        ledger.flush()
    assert next(events_of(path)) == {"t": 12.346, "event": "started", "plan": "x"}
    assert stored_of(path) == {(1, 2): Stored(3, "d")}


def test_wherever_it_is_torn_whole_lines_count_and_others_follow(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    with Ledger(path) as ledger:
        for place in range(3):
            ledger.add("done", array=0, place=place, nbytes=None if place % 2 else 1, digest="d" * 64)
        ledger.flush()
    whole = path.read_bytes()
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        before = whole[:cut].count(b"\n")
        assert len(stored_of(path)) == before
        with Ledger(path) as ledger:
            ledger.add("done", array=0, place=9, nbytes=1, digest="e")
            ledger.flush()
        assert len(stored_of(path)) == before + 1


@pytest.mark.parametrize("line", [b'{"event":\n', b"[1]\n", b'{"t": 1}\n'])
def test_a_line_that_is_broken_in_the_middle_is_an_error_that_names_it(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "ledger"
    path.write_bytes(b'{"event":"ended"}\n' + line + b'{"event":"ended"}\n')
    with pytest.raises(JobError, match="damaged in line 2"):
        list(events_of(path))


def test_an_event_that_has_no_room_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    with Ledger(path) as ledger:
        ledger.record("done", path="a")
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 20, before[1]))
        try:
            with pytest.raises(ConfigurationError, match=r"ledger\.jsonl can't be written \(File too large\)"):
                ledger.record("done", path="b")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            signal.signal(signal.SIGXFSZ, handler)
        ledger.record("done", path="c")
    assert [event["path"] for event in events_of(path)] == ["a", "c"]
