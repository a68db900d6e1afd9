"""Requests to an archive's API, over loopback: what a fork does to them, and bodies that are slow or cut short."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Self

import pytest

from lindi_dask.archive import asking
from lindi_dask.archive.answers import Answer, read_document
from lindi_dask.archive.asking import Archives
from lindi_dask.archive.instances import make_instance
from lindi_dask.errors import AccessError, ArchiveUnavailable
from lindi_dask.retry import RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from lindi_dask.testing import EmbeddedArchive

ONCE = RetryPolicy(attempts=1, total_s=20, first_s=0.01, cap_s=0.02, retry_on=ArchiveUnavailable)

FORKING = r"""
import os, sys
import lindi_dask as ld
from lindi_dask import process

def ask():
    return [info.path for info in ld.list_assets("dandi://local/000123@draft", instances={"local": sys.argv[1]})]

process.archives()
if "asked" in sys.argv:
    ask()
for _ in range(2):
    if os.fork() == 0:
        try:
            said = ask()
        except ld.errors.ForkedProcessError as error:
            said = error
        os.write(1, f"{said}\n".encode())  # as one, whatever the other writes
        os._exit(0)
for _ in range(2):
    os.wait()
print(ask())
"""


def in_forked_processes(archive: EmbeddedArchive, *arguments: str) -> list[str]:
    """What two forked processes, and then the one that they are of, say of a listing."""
    command = [sys.executable, "-W", "ignore", "-c", FORKING, archive.api_url, *arguments]
    environ = {**os.environ, "LOCAL_API_KEY": archive.owner_token}
    ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, env=environ)
    return ran.stdout.splitlines()


def test_a_forked_process_does_not_share_the_connections_of_the_one_it_is_of(embedded_archive: EmbeddedArchive) -> None:
    embedded_archive.add(b"x", path="a.nwb")
    *forked, own = in_forked_processes(embedded_archive, "asked")
    assert len(forked) == 2
    assert all("spawn" in said for said in forked)
    assert own == "['a.nwb']"


def test_a_process_that_was_forked_before_anything_was_asked_asks(embedded_archive: EmbeddedArchive) -> None:
    embedded_archive.add(b"x", path="a.nwb")
    assert in_forked_processes(embedded_archive) == ["['a.nwb']"] * 3


class Trickling:
    """An archive that answers one request, in parts."""

    def __init__(self, parts: Iterable[bytes], pause_s: float) -> None:
        self._parts, self._pause_s = parts, pause_s
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.api_url = f"http://127.0.0.1:{self._listening.getsockname()[1]}/api"
        self._thread = threading.Thread(target=self._answer)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join()
        self._listening.close()

    def _answer(self) -> None:
        connection, _ = self._listening.accept()
        with connection:
            connection.recv(2**16)
            for part in self._parts:
                try:
                    connection.sendall(part)
                except OSError:
                    return
                time.sleep(self._pause_s)


def ask(archive: Trickling) -> bytes | None:
    instance = make_instance("local", archive.api_url)
    archives = Archives(environ={"LOCAL_API_KEY": "planted"}, retry=ONCE)
    return archives.ask(instance, "/x/", "x", lambda answer, _: answer.body, limit=2**20)


def sized(nbytes: int, parts: int) -> Iterator[bytes]:
    yield f"HTTP/1.1 200 OK\r\nContent-Length: {nbytes}\r\n\r\n".encode()
    yield from [b"x"] * parts


def test_a_body_that_trickles_in_is_given_up_when_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "_BODY_S", 0.3)
    started = time.monotonic()
    with Trickling(sized(200, 200), 0.02) as archive, pytest.raises(ArchiveUnavailable, match="not answer in time"):
        ask(archive)
    assert time.monotonic() - started < 2  # and not the 4 s that all of it takes


def test_a_body_that_stops_is_no_answer_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "_TIMEOUT_S", (5, 0.2))
    with Trickling(sized(3, 2), 0.5) as archive, pytest.raises(ArchiveUnavailable, match="not answer in time"):
        ask(archive)


def test_a_body_in_many_parts_is_read_whole() -> None:
    with Trickling(sized(100, 100), 0.001) as archive:
        assert ask(archive) == b"x" * 100
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    with Trickling([head, *[b"1\r\nx\r\n"] * 100, b"0\r\n\r\n"], 0.001) as archive:
        assert ask(archive) == b"x" * 100


def test_a_packed_body_is_not_read_and_is_final() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\n"
    with Trickling([head, b"x"], 0.001) as archive:
        answer = ask(archive)
    assert answer is None
    instance = make_instance("local", archive.api_url)
    with pytest.raises(AccessError, match="too large, or packed"):
        read_document(Answer(200, {}, 0.0, 0.0, None, answer), "x", instance)


@pytest.mark.parametrize(
    ("head", "body"), [(b"Content-Length: 4", b"xxx"), (b"Transfer-Encoding: chunked", b"3\r\nxxx\r\n")]
)
def test_a_body_that_ends_too_early_is_unavailable_and_shows_no_key(head: bytes, body: bytes) -> None:
    with (
        Trickling([b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n", body], 0.001) as archive,
        pytest.raises(ArchiveUnavailable, match="can't be reached") as caught,
    ):
        ask(archive)
    assert "planted" not in f"{caught.value!r} {vars(caught.value)} {caught.value.__context__!r}"
