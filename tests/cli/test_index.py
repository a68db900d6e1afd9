"""`lindi-dask index`, run as a command."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest

import lindi_dask as ld

if TYPE_CHECKING:
    from pathlib import Path

    from lindi_dask.testing import EmbeddedArchive

LFP = "processing/ecephys/LFP/LFP/data"


def run(*arguments: str | Path, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "import lindi_dask.cli; lindi_dask.cli.main()", "index", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=60, env={**os.environ, **environ}
    )


@pytest.mark.parametrize("name", ["x.lindi.json", "x.json", "x.parquet", "x.lindi.d"])
def test_an_embargoed_asset_is_indexed_to_every_form(
    tmp_path: Path, data: Path, session_h5: h5py.File, embedded_archive: EmbeddedArchive, name: str
) -> None:
    url = embedded_archive.add(data / "session.nwb").url
    if name == "x.lindi.d":
        url = "dandi://local/000123@draft/session.nwb"
    form = ["--form", "kerchunk"] if name == "x.json" else []
    done = run(url, tmp_path / name, *form, **embedded_archive.environ())
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Indexed 54 arrays, ")
    assert embedded_archive.owner_token not in done.stdout + done.stderr
    assert "X-Amz-" not in done.stdout + done.stderr
    group = ld.open_group(tmp_path / name, allow=[embedded_archive.api_url])
    assert LFP in group
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in embedded_archive.environ().items():
            patch.setenv(variable, value)
        instances = {"local": embedded_archive.api_url}
        found = ld.open_array(tmp_path / name, LFP, instances=instances).compute()
    np.testing.assert_array_equal(found, session_h5[LFP][...])


def test_what_is_left_out_is_named_and_strict_writes_nothing(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "file.h5", "w") as file:
        file["x"] = np.arange(2000)
        file["odd"] = np.array([b"ab"], "V2")
    done = run(tmp_path / "file.h5", tmp_path / "x.json", "--url", "https://example.org/file.h5")
    assert done.returncode == 0, done.stderr
    assert "/odd is left out: " in done.stderr
    assert "opaque" in done.stderr
    assert "1 can't be read" in done.stderr
    assert '"https://example.org/file.h5"' in (tmp_path / "x.json").read_text()
    strict = run(tmp_path / "file.h5", tmp_path / "strict.json", "--strict")
    assert strict.returncode == 1
    assert "/odd can't be written" in strict.stderr
    assert not (tmp_path / "strict.json").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["none.h5", "out.json"], 1, "can't be read here"),
        (["text.h5", "out.json"], 1, "can't be read as an HDF5 file"),
        (["file.h5", "out.txt"], 2, "ends with none of"),
        (["file.h5"], 2, "Missing argument"),
        (["https://[", "out.json"], 5, "its host is not a plain name"),
        (["file.h5", "taken.json"], 2, "exists, and was not written by lindi_dask"),
    ],
)
def test_errors_have_exit_codes_and_say_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.h5").write_text("no HDF5")
    (tmp_path / "taken.json").write_text("{}")
    with h5py.File(tmp_path / "file.h5", "w") as file:
        file["x"] = 1
    done = run(*arguments)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
