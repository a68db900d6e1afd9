"""plan, convert, status, verify: as a user's shell sees them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from lindi_dask.cli import main as cli
from lindi_dask.conversion import job_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lindi_dask.testing import EmbeddedArchive

LFP = "processing/ecephys/LFP/LFP/data"
LAYOUT = ["--chunks", f"{LFP}=1000,-1", "--shards", f"{LFP}=8000,-1"]


@pytest.fixture
def session(session_refs: Callable[..., dict[str, Any]], data: Path, tmp_path: Path) -> Path:
    path = tmp_path / "session.lindi.json"
    path.write_text(json.dumps(session_refs(str(data / "session.nwb"))))
    return path


@pytest.fixture
def run(data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Runs a command as `main` does; returns its exit code, what it printed, and what it printed as errors."""

    def invoke(command: str, *arguments: object) -> tuple[int, str, str]:
        allow = [] if command == "status" else ["--allow", f"{data}/"]
        monkeypatch.setattr(sys, "argv", ["lindi-dask", command, *map(str, arguments), *allow])
        code = 0
        try:
            cli()
        except SystemExit as ended:
            code = int(ended.code or 0)
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return invoke


def test_a_plan_is_a_table_of_what_is_large(session: Path, run: Callable[..., Any]) -> None:
    code, out, _ = run("plan", session, *LAYOUT)
    lines = out.replace("\N{MULTIPLICATION SIGN}", "x").splitlines()
    assert code == 0
    assert lines[0].split() == [
        "array",
        "shape",
        "chunks",
        "shards",
        "codecs",
        "objects",
        "size",
        "to",
        "fetch",
        "memory",
    ]
    assert lines[1].split() == (
        f"/{LFP} 40,000 x 16 1,000 x 16 8,000 x 16 blosc+crc32c 5 2.56 MB 2.43 MB 1.54 MB".split()
    )
    assert lines[2] == "53 small arrays, a chunk each (4.56 MB)"
    assert lines[3].startswith("58 objects of 54 arrays: 7.12 MB in memory, 5.3 MB to fetch; some 1 s on 4 threads")
    code, out, _ = run("plan", session, *LAYOUT, "--json")
    found = json.loads(out)
    assert (found["objects"], len(found["arrays"])) == (58, 54)
    large = next(array for array in found["arrays"] if array["path"] == f"/{LFP}")
    assert (large["chunks"], large["shards"], large["amplification"]) == ([1000, 16], [8000, 16], 1.0)


def test_convert_then_status_then_verify(session: Path, tmp_path: Path, run: Callable[..., Any]) -> None:
    out = tmp_path / "out.zarr"
    assert run("status", out)[0] == 2
    code, text, _ = run("convert", session, out, *LAYOUT, "--dry-run")
    assert (code, text.splitlines()[2]) == (0, "53 small arrays, a chunk each (4.56 MB)")
    assert not job_of(out).folder.exists()
    code, text, errors = run("convert", session, out, *LAYOUT)
    assert code == 0
    assert text.startswith("Converted 54 arrays: 58 objects made, ")
    assert errors.splitlines()[-1].startswith("58 of 58 objects, 7.12 MB of 7.12 MB, ")
    assert run("status", out)[1] == f"{out}: 58 of 58 objects; done.\n"
    code, text, _ = run("verify", out)
    assert (code, text.startswith(f"{out}: all is as it should be: 58 objects (")) == (0, True)
    assert run("verify", out, session, "--level", "full", "--json")[0] == 0
    assert run("convert", session, out, *LAYOUT)[0] == 2  # it is there


def test_what_is_damaged_is_named_and_mended(session: Path, tmp_path: Path, run: Callable[..., Any]) -> None:
    out = tmp_path / "out.zarr"
    run("convert", session, out, *LAYOUT)
    shard = out / LFP / "c/2/0"
    shard.write_bytes(shard.read_bytes()[:-1])
    code, text, errors = run("verify", out)
    assert code == 4
    assert text.startswith(f"{LFP}/c/2/0: it has ")
    assert "resume its conversion" in errors
    assert list(json.loads(run("verify", out, "--json")[1])["problems"]) == [f"{LFP}/c/2/0"]
    code, text, _ = run("convert", session, out, *LAYOUT, "--resume", "--json")
    *_, last = map(json.loads, text.splitlines())
    assert (code, last["event"], last["made"], last["kept"]) == (0, "converted", 1, 57)
    assert run("verify", out)[0] == 0


def test_what_could_not_be_made_is_said_and_can_be_resumed(
    session: Path, tmp_path: Path, run: Callable[..., Any]
) -> None:
    document = json.loads(session.read_text())
    url, start, length = document["refs"][f"{LFP}/3.0"]
    document["refs"][f"{LFP}/3.0"] = [url, start + 2, length - 4]
    session.write_text(json.dumps(document))
    code, _, errors = run("convert", session, tmp_path / "out.zarr", *LAYOUT)
    assert code == 3
    assert "57 of 58 objects are done. 1 could not be made" in errors
    code, text, _ = run("status", tmp_path / "out.zarr")
    assert code == 0
    assert "57 of 58 objects; not done, and nobody works on it: convert it with --resume." in text
    assert text.splitlines()[1].startswith(f"  {LFP}/c/0/0: ")


@pytest.mark.parametrize(
    "wrong",
    [["--chunks", "1000,16"], ["--chunks", "a=x"], ["--codecs", "a={"], ["--threads", "2", "--scheduler", "tcp://a:1"]],
)
def test_options_that_make_no_sense(session: Path, run: Callable[..., Any], wrong: list[str]) -> None:
    assert run("plan", session, *wrong)[0] == 2


def test_processes_of_this_machine_do_the_work(session: Path, tmp_path: Path, run: Callable[..., Any]) -> None:
    reports = ["--report", tmp_path / "ours.html", "--performance-report", tmp_path / "dask.html"]
    workers = ["--workers", 1, "--threads", 2]
    code, text, _ = run("convert", session, tmp_path / "out.zarr", *workers, "--include", "units", *reports)
    assert code == 0
    assert text.startswith("Converted 7 arrays: 7 objects made")
    assert "7 of 7" in (tmp_path / "ours.html").read_text()
    assert "Dask Performance Report" in (tmp_path / "dask.html").read_text()


def test_ctrl_c_keeps_what_is_done(
    embedded_archive: EmbeddedArchive, session_refs: Callable[..., dict[str, Any]], data: Path, tmp_path: Path
) -> None:
    embedded_archive.latency_s = 0.3
    refs = tmp_path / "session.lindi.json"
    refs.write_text(json.dumps(session_refs(embedded_archive.add(data / "session.nwb").url)))
    out = tmp_path / "out.zarr"
    layout = ["--chunks", f"{LFP}=1000,-1", "--shards", f"{LFP}=1000,-1"]
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # background jobs start without
    code += "from lindi_dask.cli.main import main; main()"
    instance = ["--instance", f"local={embedded_archive.api_url}", "--threads", "1"]
    process = subprocess.Popen(
        [sys.executable, "-c", code, "convert", refs, out, *layout, *instance],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "LOCAL_API_KEY": embedded_archive.owner_token},
    )
    ledger, deadline = job_of(out).ledger, time.monotonic() + 60
    while not ledger.exists() or ledger.read_bytes().count(b'"event":"done"') < 3:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    started = time.monotonic()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert time.monotonic() - started < 20
    assert "What is done is kept: the same command with --resume goes on." in errors
    assert "Traceback" not in errors
    assert not out.exists()


def test_each_command_has_an_example() -> None:
    from lindi_dask.cli.main import commands  # noqa: PLC0415 - the group, not `main`

    for name in ("plan", "convert", "status", "verify", "report"):
        shown = CliRunner().invoke(commands, [name, "--help"])
        assert shown.exit_code == 0
        assert f"lindi-dask {name} s" in shown.output
