"""`lindi-dask combine`, run as a command."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

import lindi_dask as ld
from lindi_dask.cli.combine import combine
from lindi_dask.errors import ConfigurationError, PartsDisagree, RefsUnreachable

if TYPE_CHECKING:
    from pathlib import Path

VALUES = np.arange(5000, dtype="<i4")


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder, entered, with references to three parts of one recording: a, b, and c, whose data have another type."""
    monkeypatch.chdir(tmp_path)
    for name, first, last, dtype in (("a", 0, 3000, "<i4"), ("b", 3000, 5000, "<i4"), ("c", 3000, 5000, "<i8")):
        with h5py.File(f"{name}.h5", "w") as file:
            file.attrs["neurodata_type"] = "NWBFile"
            file["identifier"] = name
            file.create_dataset("s/data", data=VALUES[first:last].astype(dtype), chunks=(1000,))
            file["s/starting_time"] = first / 100
            file["s/starting_time"].attrs["rate"] = 100.0
        ld.index(f"{name}.h5").save(f"{name}.lindi.json")
    return tmp_path


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "import lindi_dask.cli; lindi_dask.cli.main()", "combine", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=dict(os.environ))


def read(name: str, path: str, folder: Path) -> Any:
    return ld.open_array(name, path, allow=[f"{folder}/"]).compute()


def test_parts_become_one_recording_and_differences_are_told(parts: Path) -> None:
    done = run("a.lindi.json", "b.lindi.json", "out.lindi.json")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "Combined 2 into 3 arrays, 7 chunks, to out.lindi.json\n"
    assert done.stderr == ("/identifier in part 2 (b.lindi.json) is not that in part 1 (a.lindi.json), which is kept\n")
    np.testing.assert_array_equal(read("out.lindi.json", "s/data", parts), VALUES)


def test_names_make_groups(parts: Path) -> None:
    done = CliRunner().invoke(combine, ["one=a.lindi.json", "two=c.lindi.json", "out.parquet"])
    assert done.exit_code == 0, done.exception
    np.testing.assert_array_equal(read("out.parquet", "two/s/data", parts), VALUES[3000:])


@pytest.mark.parametrize(
    ("arguments", "kind", "said"),
    [
        (["a.lindi.json", "c.lindi.json", "out.json"], PartsDisagree, "'int64', but part 1 (a.lindi.json) has 'int32'"),
        (["b.lindi.json", "a.lindi.json", "out.json"], PartsDisagree, "starts 50 s before the end"),
        (["a.lindi.json", "none.json", "out.json"], RefsUnreachable, "can't be read here"),
        (["a.lindi.json", "b.lindi.json", "out.json", "--drop", "none"], ConfigurationError, "there is no /none"),
        (["a.lindi.json", "b.lindi.json", "out.txt"], ConfigurationError, "ends with none of"),
        (["x=a.lindi.json", "b.lindi.json", "out.json"], SystemExit, "some have none"),
        (["x=a.lindi.json", "x=b.lindi.json", "out.json"], SystemExit, "the same name"),
    ],
)
def test_where_there_is_an_error_nothing_is_written(
    parts: Path, arguments: list[str], kind: type[BaseException], said: str
) -> None:
    done = CliRunner().invoke(combine, arguments)
    assert isinstance(done.exception, kind)
    assert said in f"{done.exception}{done.output}"
    assert not list(parts.glob("out*"))
