"""Requests to an archive's API, over loopback: what a fork does to them, and bodies that are slow or cut short."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lindi_dask.testing import EmbeddedArchive

FORKING = """
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
            print(ask(), flush=True)
        except ld.errors.ForkedProcessError as error:
            print(error, flush=True)
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
