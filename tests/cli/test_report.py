"""`report`, `convert --report`, and bars: as a user's shell sees them."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
from matplotlib.image import imread

import lindi_dask as ld
from lindi_dask.cli import main as cli
from lindi_dask.conversion import job_of
from lindi_dask.jobs.ledger import events_of
from lindi_dask.testing import EmbeddedArchive, Fault

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SHARDS = 8
LAYOUT = ["--chunks", "signals/data=500,-1", "--shards", "signals/data=1000,-1"]
EVIL = "<script>fetch('http://evil.example')<!--"


class Page(HTMLParser):
    """A page's tags, its text, and what it names besides."""

    VOID = frozenset(("meta", "link", "img", "br", "wbr"))

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.links: list[str] = []
        self.rows: list[list[str]] = []
        self._open: list[str] = []
        self.feed(path.read_text("utf-8"))
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in {"src", "href", "xlink:href", "action"}]
        if tag not in self.VOID:
            self._open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag == "td":
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self._open:
            self.text += data
            if "td" in self._open:
                self.rows[-1][-1] += data

    def row(self, first: str) -> list[str]:
        """The first row of a table that begins so."""
        return next(row for row in self.rows if row[:1] == [first])


@pytest.fixture(scope="session")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Signals, images, and things with odd names."""
    path = tmp_path_factory.mktemp("recording") / "recording.h5"
    draw = np.random.default_rng(4)
    times = np.arange(1000 * SHARDS) / 1000
    with h5py.File(path, "w") as file:
        waves = 300 * np.sin(50 * times)[:, np.newaxis] + draw.normal(0, 20, (len(times), 6))
        file.create_dataset(
            "signals/data", data=waves.astype("int16"), chunks=(1000, 6), compression="gzip", shuffle=True
        )
        file["signals/times"] = times
        file["frames"] = draw.integers(0, 255, (5, 20, 30), "uint8")
        file[EVIL.replace("/", "|")] = np.array([3.0, np.nan, 1.0])
    return path


@pytest.fixture
def refs(embedded_archive: EmbeddedArchive, recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LOCAL_API_KEY", embedded_archive.owner_token)
    path = tmp_path / "recording.lindi.json"
    ld.index(recording, url=embedded_archive.add(recording).url).save(path)
    return path


@pytest.fixture
def run(
    embedded_archive: EmbeddedArchive, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Any]:
    """Runs a command as `main` does; returns its exit code, and all that it printed."""

    def invoke(command: str, *arguments: object) -> tuple[int, str]:
        archive = ["--instance", f"local={embedded_archive.api_url}"] if command == "convert" else []
        monkeypatch.setattr(sys, "argv", ["lindi-dask", command, *map(str, arguments), *archive])
        code = 0
        try:
            cli()
        except SystemExit as ended:
            code = int(ended.code or 0)
        return code, "".join(capsys.readouterr())

    return invoke


def test_a_report_tells_what_the_ledger_has(
    embedded_archive: EmbeddedArchive, refs: Path, tmp_path: Path, run: Callable[..., Any]
) -> None:
    out = tmp_path / "out.zarr"
    embedded_archive.inject(Fault(plane="s3", kind="status", status=503, times=2))
    assert run("convert", refs, out, *LAYOUT, "--threads", 1)[0] == 0
    code, told = run("report", out)
    path = tmp_path / "out.zarr.report.html"
    assert (code, told) == (0, f"The report is {path}\n")
    page = Page(path)
    objects = SHARDS + 3
    assert f"{objects} of {objects}objects made" in page.text
    assert page.row("/signals/data")[5:7] == [f"{SHARDS}", "96 kB"]
    ledger = list(events_of(job_of(out).ledger))
    made = [event for event in ledger if event["event"] == "done"]
    stored = sum(event["nbytes"] for event in made if event["array"] == array_number(out, "signals/data"))
    assert page.row("/signals/data")[7:9] == [
        f"{stored / 1000:.3g} kB",
        f"{96_000 / stored:.2f}\N{MULTIPLICATION SIGN}",
    ]
    counts = [event["counts"] for event in ledger if event["event"] == "sample"][-1]
    assert counts["retries"] == 2
    assert f"in {counts['requests']} requests" in page.text
    assert "for another reason: 2;" in page.text
    slowest = max(made, key=lambda event: sum(event["seconds"].values()))
    assert f"{sum(slowest['seconds'].values()):.2f}" in [row[1] for row in page.rows if len(row) == 9]
    assert sum(event["counts"]["requests"] for event in made) == counts["requests"]  # of one thread
    assert all(event["memory"] > 10e6 for event in made)
    # A picture of the signals, one of a frame; none of times
    assert "/signals/datarows 4,000 to 5,000 of 8,000, 6 of 6 columns" in page.text
    assert "/framesframe 2 of 5" in page.text
    assert "/signals/timeselements" not in page.text


def array_number(out: Path, path: str) -> int:
    plan = job_of(out).plan()
    assert plan is not None
    return [array.path for array in plan.arrays].index(path)


def test_a_report_has_no_way_out_and_no_secret(
    embedded_archive: EmbeddedArchive, refs: Path, tmp_path: Path, run: Callable[..., Any]
) -> None:
    out, path = tmp_path / "out.zarr", tmp_path / "told.html"
    code, told = run("convert", refs, out, *LAYOUT, "--report", path)
    assert (code, f"The report is {path}\n" in told) == (0, True)
    page, text = Page(path), path.read_text()
    assert EVIL.replace("/", "|") in page.text
    assert not {"script", "iframe", "object", "embed", "form"} & set(page.tags)
    assert page.links
    assert all(link.startswith("data:") for link in page.links)
    assert not re.search(r"url\(|@import", text)
    assert "default-src &apos;none&apos;" in text or "default-src 'none'" in text
    for secret in (embedded_archive.owner_token, "X-Amz", embedded_archive.api_url):
        assert secret not in text


def test_a_report_of_a_job_that_failed_has_what_and_why(refs: Path, tmp_path: Path, run: Callable[..., Any]) -> None:
    out, path = tmp_path / "out.zarr", tmp_path / "told.html"
    document = json.loads(refs.read_text())
    url, start, length = document["refs"]["signals/data/3.0"]
    document["refs"]["signals/data/3.0"] = [url, start + 2, length - 4]
    broken = tmp_path / "broken.lindi.json"
    broken.write_text(json.dumps(document))
    code, _ = run("convert", broken, out, *LAYOUT, "--report", path)
    assert code == 3
    page = Page(path)
    assert "not done, and nobody works on it: convert it with --resume" in page.text
    assert f"{SHARDS + 2} of {SHARDS + 3}objects made" in page.text
    failed = [row for row in page.rows if len(row) == 4 and row[1] == "signals/data/c/3/0"]
    assert [row[2] for row in failed] == ["set aside", "tried again", "tried again"]
    assert all(row[3].startswith("CorruptChunk: ") for row in failed)
    assert "What was converted" not in page.text  # nothing is there for readers


def test_there_is_nothing_to_report_of(tmp_path: Path, run: Callable[..., Any]) -> None:
    code, told = run("report", tmp_path / "out.zarr")
    assert code == 2
    assert "There is no job for" in told


def test_a_report_that_cannot_be_written_is_said_and_the_conversion_stands(
    refs: Path, tmp_path: Path, run: Callable[..., Any]
) -> None:
    out = tmp_path / "out.zarr"
    code, told = run("convert", refs, out, *LAYOUT, "--report", tmp_path / "no" / "such.html")
    assert code == 0
    assert "There is no report: " in told
    assert run("report", out, tmp_path / "no" / "such.html")[0] == 2


def test_a_missing_object_is_never_drawn(refs: Path, tmp_path: Path, run: Callable[..., Any]) -> None:
    out = tmp_path / "out.zarr"
    run("convert", refs, out, *LAYOUT)
    for shard in (out / "signals/data/c").rglob("0"):
        if shard.is_file():
            shard.unlink()
    assert run("report", out)[0] == 0
    page = Page(tmp_path / "out.zarr.report.html")
    assert "/signals/datacan't be drawn (JobError): verify the output" in page.text
    assert "/framesframe 2 of 5" in page.text


def test_dasks_own_report_wants_a_cluster(refs: Path, tmp_path: Path, run: Callable[..., Any]) -> None:
    code, told = run("convert", refs, tmp_path / "out.zarr", "--performance-report", tmp_path / "dask.html")
    assert code == 2
    assert "add --workers or --scheduler" in told


def test_a_terminal_gets_bars(embedded_archive: EmbeddedArchive, refs: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from lindi_dask.cli import main; main()", "convert", str(refs)]
    command += [str(tmp_path / "out.zarr"), *LAYOUT, "--instance", f"local={embedded_archive.api_url}"]
    ours, theirs = pty.openpty()
    environ = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, stdin=subprocess.DEVNULL, env=environ)
    os.close(theirs)
    shown = b""
    try:
        while read := os.read(ours, 65536):
            shown += read
    except OSError:  # the other side is closed
        pass
    finally:
        os.close(ours)
        printed, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert printed.startswith(b"Converted 4 arrays: ")
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    assert re.search(r"bytes\s+\S+\s+\S+ kB of \S+ kB, \S+ \S+/s", text)
    assert re.search(rf"objects\s+━+\s+{SHARDS + 3} of {SHARDS + 3}", text)


def asked_for(page: Path, picture: Path, *options: str) -> list[str]:
    """Open a page in a browser, take a picture of it, and return the URLs that the page asked for.

    Of its own accord the browser asks for more, whatever page is open: its log says who did. Nothing gets out, as its
    proxy is one that isn't there.
    """
    log = picture.with_suffix(".json")
    command = ["chromium", "--headless=new", "--disable-gpu", "--hide-scrollbars", "--window-size=1140,3000"]
    command += ["--no-first-run", "--proxy-server=http://127.0.0.1:9", "--proxy-bypass-list=<-loopback>"]
    command += ["--no-sandbox"] if os.getuid() == 0 else []
    command += [f"--user-data-dir={picture.with_suffix('')}", f"--log-net-log={log}", f"--screenshot={picture}"]
    subprocess.run([*command, *options, page.as_uri()], check=True, capture_output=True, timeout=60)
    told = [event.get("params", {}) for event in json.loads(log.read_text())["events"]]
    return [one["url"] for one in told if one.get("initiator", "not an origin") != "not an origin"]


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed; make report-look installs it")
def test_a_browser_shows_it_and_asks_nobody_for_anything(refs: Path, tmp_path: Path, run: Callable[..., Any]) -> None:
    report = tmp_path / "told.html"
    assert run("convert", refs, tmp_path / "out.zarr", *LAYOUT, "--report", report)[0] == 0
    other = tmp_path / "other.html"
    outside = ["http://outside.example/a.png", "https://127.0.0.1:4433/b.png"]
    other.write_text("".join(f"<img src={url}>" for url in outside))
    assert sorted(asked_for(other, tmp_path / "other.png")) == outside
    assert asked_for(report, tmp_path / "light.png") == []
    assert asked_for(report, tmp_path / "dark.png", "--blink-settings=preferredColorScheme=0") == []
    light, dark = (imread(tmp_path / f"{name}.png")[..., :3] for name in ("light", "dark"))
    assert light[0, 0].min() > 0.95
    assert dark[0, 0].max() < 0.15
    for picture, line in ((light, (0x00, 0x72, 0xB2)), (dark, (0x56, 0xB4, 0xE9))):
        assert (
            abs(picture - np.array(line) / 255).max(axis=-1) < 0.02
        ).sum() > 1000  # lines, traces and bars are drawn
