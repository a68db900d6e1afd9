"""Processes: what is shared in one, and what a fork does."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from lindi_dask import process
from lindi_dask.types import DiskCache

if TYPE_CHECKING:
    from pathlib import Path

FORKING = """
import os, sys
import lindi_dask as ld
array = ld.open_array(sys.argv[1], "acquisition/ElectricalSeries/data")
if os.fork() == 0:
    try:
        array[:10].compute(scheduler="synchronous")
    except ld.errors.ForkedProcessError as error:
        print(error, flush=True)
    os._exit(0)
os.wait()
"""


def test_a_forked_process_is_told_to_spawn_instead_of_hanging(data: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-c", FORKING, str(data / "session.expanded.lindi.json")]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert "spawn" in ran.stdout


FORKED_UNUSED = """
import os
import lindi_dask as ld
if os.fork() == 0:
    array = {"zarr_format": 2, "shape": [4], "chunks": [4], "dtype": "|u1", "compressor": None}
    refs = {".zgroup": '{"zarr_format": 2}', "a/.zarray": array | {"filters": None, "fill_value": 0, "order": "C"}}
    print(ld.open_array({"refs": refs | {"a/0": "read"}}, "a").compute().tobytes(), flush=True)
    os._exit(0)
os.wait()
"""


def test_a_process_that_was_forked_before_anything_was_read_reads() -> None:
    # As a fork server does that has imported the package
    command = [sys.executable, "-W", "ignore", "-c", FORKED_UNUSED]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert ran.stdout == "b'read'\n", ran.stderr


def test_readers_of_one_concurrency_are_one_and_all_share_the_leases() -> None:
    assert process.reader(3) is process.reader(3)
    assert process.reader(3) is not process.reader(4)
    assert process.reader(3)._stores._leases is process.reader(4)._stores._leases


def test_all_readers_count_together_and_share_the_limits_of_the_process() -> None:
    assert process.reader(3)._traffic is process.reader(4)._traffic
    assert process.counters() is process.reader(4)._traffic.counters
    assert process.reader(40)._traffic.window.most >= 40
    assert 0 < process.moment_s() <= 2


def test_readers_of_one_disk_cache_share_it_and_others_have_none_of_it() -> None:
    one, other = DiskCache("/nowhere/one", 2**30), DiskCache("/nowhere/one", 2**31)
    assert process.reader(3, one) is process.reader(3, DiskCache("/nowhere/one", 2**30))
    assert process.reader(3, one) is not process.reader(3)
    assert process.reader(3, one)._cache is process.reader(4, one)._cache is not None
    assert process.reader(3, one)._cache is not process.reader(3, other)._cache
    assert process.reader(3)._cache is None
    assert process.reader(3, one)._traffic is process.reader(3)._traffic
