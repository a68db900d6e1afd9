"""Going through sessions: what fails, what ends a run, and where outputs go."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from distributed import Client, LocalCluster
from sessions import Session, only_run, output_of, work_off

from lindi_dask.errors import (
    AssetNotFound,
    AuthenticationError,
    ConfigurationError,
    JobConflict,
    StorageUnavailable,
    UnavailableError,
)

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator

SESSIONS = [Session(f"{number}.nwb", "", "") for number in range(4)]


@pytest.fixture
def client() -> Iterator[Client]:
    with LocalCluster(n_workers=0, processes=False, dashboard_address=None) as cluster, Client(cluster) as client:
        yield client


@pytest.mark.parametrize(
    ("errors", "code"),
    [
        ([None, None, None, None], 0),
        ([None, AssetNotFound("gone"), ValueError("a bug"), None], 3),
        ([AssetNotFound("gone")] * 4, 5),
        ([StorageUnavailable("down")] * 4, 75),
        ([AssetNotFound("gone"), StorageUnavailable("down")] * 2, 3),
        ([ValueError("a bug")] * 4, 1),
    ],
)
def test_what_fails_is_said_and_holds_up_no_other_session(
    client: Client, errors: list[Exception | None], code: int
) -> None:
    of_session = dict(zip(SESSIONS, errors, strict=True))
    said: list[str] = []

    def work(session: Session, _: threading.Event) -> str:
        if (error := of_session[session]) is not None:
            raise error
        return "done"

    assert work_off(SESSIONS, work, client, at_once=2, say=said.append) == code
    assert len(said) == len(SESSIONS)
    for session, error in of_session.items():
        outcome = "done" if error is None else f"failed: {'ValueError: ' * isinstance(error, ValueError)}{error}"
        assert [line for line in said if line.endswith(f" {session.path}: {outcome}")]


def test_a_run_ends_where_no_session_would_fare_better(client: Client) -> None:
    begun: list[str] = []

    def denied(session: Session, _: threading.Event) -> str:
        begun.append(session.path)
        raise AuthenticationError("no key")

    with pytest.raises(AuthenticationError):
        work_off(SESSIONS, denied, client, at_once=1, say=print)
    assert begun == ["0.nwb"]

    def lost(session: Session, _: threading.Event) -> str:
        begun.append(session.path)
        client.close()
        raise ValueError("cancelled")

    with pytest.raises(UnavailableError, match="scheduler is gone"):
        work_off(SESSIONS, lost, client, at_once=1, say=print)
    assert begun == ["0.nwb"] * 2


@pytest.mark.parametrize("path", ["../a.nwb", "/a.nwb", "sub-1//a.nwb", "sub-1/./a.nwb", "sub-1/\x1b[2J.nwb"])
def test_a_path_in_an_archive_that_leads_elsewhere_is_refused(path: str) -> None:
    with pytest.raises(ConfigurationError, match="can't be the path of a file"):
        output_of(Session(path, "", ""), Path("out"))


def test_of_two_runs_at_a_time_one_is_refused(tmp_path: Path) -> None:
    with only_run(tmp_path), pytest.raises(JobConflict, match="Another process runs this job"), only_run(tmp_path):
        pass
    with only_run(tmp_path):
        pass
