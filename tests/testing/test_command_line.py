from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import requests

if TYPE_CHECKING:
    from pathlib import Path

COMMAND = [sys.executable, "-m", "lindi_dask.testing"]


@pytest.fixture
def file(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "session.nwb"
    path.write_bytes(content)
    return path


def test_it_runs_for_so_long_and_says_what_to_export(file: Path) -> None:
    done = subprocess.run(
        [*COMMAND, str(file), "--seconds", "0.1"], capture_output=True, text=True, check=True, timeout=30
    )
    lines = done.stdout.splitlines()
    assert "/download/" in lines[0]
    assert [line for line in lines if line.startswith("export DASK_LINDI_DASK__INSTANCES__LOCAL__API_URL=http://127")]
    assert [line for line in lines if line.startswith("export LOCAL_API_KEY=")]
    assert [line.split() for line in lines if line.startswith("reads ")] == [["reads", "0"]]


def test_other_programs_read_its_json(file: Path, content: bytes) -> None:
    identifier = "11111111-2222-4333-8444-555555555555"
    options = [
        str(file),
        "--json",
        "--asset-id",
        identifier,
        "--lifetime",
        "60",
        "--latency-ms",
        "1",
        "--mb-per-s",
        "50",
    ]
    with subprocess.Popen([*COMMAND, *options], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            hello = json.loads(process.stdout.readline())
            key = {"Authorization": f"token {hello['token']}"}
            answer = requests.get(hello["urls"][0], headers=key, allow_redirects=False, timeout=5)
            assert requests.get(answer.headers["Location"], timeout=5).content == content
        finally:
            process.send_signal(signal.SIGTERM)
        counters = json.loads(process.stdout.read())
    assert process.returncode == 0
    assert identifier in hello["urls"][0]
    assert hello["api_url"] in hello["environ"].values()
    assert (counters["exchanges"], counters["reads"], counters["read_bytes"]) == (1, 1, len(content))


def test_ctrl_c_ends_it_in_order(file: Path) -> None:
    with subprocess.Popen([*COMMAND, str(file), "--public", "--json"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            asset_url = json.loads(process.stdout.readline())["urls"][0]
            assert requests.get(asset_url, allow_redirects=False, timeout=5).status_code == 302
        finally:
            process.send_signal(signal.SIGINT)
        assert json.loads(process.stdout.read())["exchanges"] == 1
    assert process.returncode == 0


def test_help_has_an_example() -> None:
    done = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, check=True, timeout=30)
    assert "example:" in done.stdout


@pytest.mark.parametrize(
    "options", [["none.nwb"], ["{file}", "--lifetime", "0"], ["{file}", "{file}", "--asset-id", "x"]]
)
def test_what_it_cannot_do_is_a_usage_error(file: Path, options: list[str]) -> None:
    filled = [option.format(file=file) for option in options]
    done = subprocess.run([*COMMAND, *filled], capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 2
    assert "error:" in done.stderr
    assert "Traceback" not in done.stderr
