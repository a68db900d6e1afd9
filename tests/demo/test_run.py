"""The demo as a whole, on a short recording."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from rich.console import Console

from lindi_dask.demo.run import KEY_VARIABLE, run_demo

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_a_short_demo_is_exact_and_leaves_its_files_but_not_its_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "the user's own")
    screen = io.StringIO()
    report = run_demo(Console(file=screen, width=80), tmp_path / "out", seconds=4.4, processes=2)
    assert report.exact
    assert report.cluster.blocks == 9
    assert report.cluster.read.requests >= 9
    assert report.cluster.read.exchanges >= 1
    said = screen.getvalue()
    assert "The result is exact" in said
    assert "\x1b" not in said
    made = {path.name for path in (tmp_path / "out").iterdir()}
    assert made == {"session.nwb", "session.lindi.json", "session.png"}
    assert (tmp_path / "out" / "session.png").read_bytes().startswith(b"\x89PNG")
    document = json.loads((tmp_path / "out" / "session.lindi.json").read_text())
    assert document["templates"]["u1"].startswith("http://127.0.0.1:")
    assert os.environ[KEY_VARIABLE] == "the user's own"


def test_the_command_says_which_extra_it_wants(tmp_path: Path) -> None:
    hidden = "import sys; sys.modules['rich'] = None; from lindi_dask.cli import main; sys.argv[1:] = ['demo']; main()"
    ran = subprocess.run([sys.executable, "-c", hidden], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert ran.returncode == 2
    assert "pip install 'lindi-dask[demo]'" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_help_and_version_work_without_any_extra(tmp_path: Path) -> None:
    for words in (["--help"], ["--version"], ["demo", "--help"]):
        command = "import sys; sys.modules['rich'] = sys.modules['aiohttp'] = sys.modules['h5py'] = None\n"
        command += f"from lindi_dask.cli import main; sys.argv[1:] = {words}; main()"
        ran = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=False, cwd=tmp_path)
        assert ran.returncode == 0, ran.stderr
        assert "lindi-dask" in ran.stdout
