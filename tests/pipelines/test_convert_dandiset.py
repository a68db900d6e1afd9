"""`pipelines/convert_dandiset.py`, run as it stands, in a process of its own; and what it keeps for the next run."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest
import zarr
from pipeline_runs import command, environ_of, secrets_in, settings_for, write_session
from records import Records
from sessions import Session

from lindi_dask.errors import JobConflict
from lindi_dask.testing import EmbeddedArchive

if TYPE_CHECKING:
    from pathlib import Path

SESSIONS = 6
CHANGES = {'"dandi://dandi/': '"dandi://local/', "workers = 4": "workers = 2"}


def test_a_run_after_ctrl_c_converts_what_is_left_and_a_file_that_is_no_session_holds_up_none(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, "convert_dandiset.toml", CHANGES)
    with EmbeddedArchive(lifetime_s=2, latency_s=0.1) as archive:
        files = {f"sub-{number % 2}/ses-{number}.nwb": tmp_path / f"{number}.nwb" for number in range(SESSIONS)}
        ids = {}
        for number, (path, file) in enumerate(files.items()):
            write_session(file, number)
            ids[path] = archive.add(file, path=path).id
        archive.add(b"not HDF5" * 1000, path="sub-0/broken.nwb")

        def begun(log: Path) -> subprocess.Popen[bytes]:
            with log.open("wb") as out:
                return subprocess.Popen(
                    command("convert_dandiset.py", settings),
                    stdout=out, stderr=subprocess.STDOUT, env=environ_of(archive), cwd=tmp_path, start_new_session=True,
                )  # fmt: skip

        def done() -> set[str]:
            return {path for path in files if (tmp_path / "dandiset-000123" / f"{path}.zarr").exists()}

        first_log, second_log = tmp_path / "first", tmp_path / "second"
        first = begun(first_log)
        until = time.monotonic() + 90
        while len(done()) < 2:
            assert first.poll() is None, first_log.read_text()
            assert time.monotonic() < until, first_log.read_text()
            time.sleep(0.01)
        os.killpg(first.pid, signal.SIGINT)  # as a terminal does at Ctrl-C: to all processes
        assert first.wait(60) == 130, first_log.read_text()
        before, asked = done(), len(archive.requests)
        assert 2 <= len(before) < SESSIONS

        assert begun(second_log).wait(90) == 3, second_log.read_text()
        said = second_log.read_text()
        read = {one.asset_id for one in archive.requests[asked:] if one.is_read}

    assert f"{SESSIONS + 1} sessions, {len(before)} of them are done." in said
    assert "sub-0/broken.nwb: failed: " in said
    assert done() == set(files)
    assert read
    assert not read & {ids[path] for path in before}
    for path, file in files.items():
        converted = zarr.open_group(tmp_path / "dandiset-000123" / f"{path}.zarr", mode="r")
        with h5py.File(file) as truth:
            for name in ("acquisition/voltage/data", "acquisition/position/data", "acquisition/position/timestamps"):
                np.testing.assert_array_equal(converted[name][...], truth[name][...])  # type: ignore[index] # an array
    assert not secrets_in(archive, tmp_path, "")


def test_a_session_is_done_as_long_as_its_content_and_the_settings_are_the_same_and_its_output_is_there(
    tmp_path: Path,
) -> None:
    out = tmp_path / "out"
    session = Session("sub-1/a.nwb", "dandi://local/000123@draft/sub-1/a.nwb", "blob-1")
    replaced = Session(session.path, session.address, "blob-2")
    file = tmp_path / "done.jsonl"
    Records(file, {"include": []}).add(session)
    with file.open("ab") as torn:
        torn.write(b'{"path": "sub-1/b.n')
    records = Records(file, {"include": []})
    assert not records.has(session, out)
    out.mkdir()
    assert records.has(session, out)
    assert not Records(file, {"include": ["units"]}).has(session, out)
    assert not records.has(replaced, out)
    records.check(session, out)
    with pytest.raises(JobConflict, match=r"another file since .*out was made"):
        records.check(replaced, out)
