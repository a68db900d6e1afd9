from __future__ import annotations

import dataclasses
import json
import os
import pty
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import click
import pytest
from click.testing import CliRunner

from lindi_dask.cli.info import info
from lindi_dask.cli.terminal import Look
from lindi_dask.describing import _ASKING
from lindi_dask.errors import InvalidReferences

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result

    from lindi_dask.testing import EmbeddedArchive


def run(*arguments: object, charset: str = "utf-8", color: bool = False) -> Result:
    return CliRunner(charset=charset).invoke(info, list(map(str, arguments)), color=color)


def shown(*arguments: object, **options: Any) -> str:
    done = run(*arguments, **options)
    assert done.exception is None, done.exception
    return done.output


@pytest.fixture
def placed(
    embedded_archive: EmbeddedArchive, session_refs: Callable[..., dict[str, Any]], data: Path, tmp_path: Path
) -> Callable[..., Path]:
    """Writes the sample session's references, their file in the embedded archive."""

    def place(name: str = "session.expanded.lindi.json", *, embargoed: bool = True) -> Path:
        url = embedded_archive.add(data / "session.nwb", embargoed=embargoed).url
        path = tmp_path / "session.lindi.json"
        path.write_text(json.dumps(session_refs(url, name)))
        return path

    return place


CARD = """\
session.lindi.json  NWB 2.11.0

Description   a synthetic recording session
When          2026-01-01 12:00:00+00:00, lasting 16.7 min
Who           Doe, Jane; Roe, Richard
Where         Sample Lab
Devices       probe
Keywords      ecephys; ophys
Identifier    lindi-dask-sample

Time series
  acquisition/ElectricalSeries  ElectricalSeries
    30000 Hz for 2 s, from 1.5 s
    60,000 × 16  int16  1.95e-07 volts  15 chunks of 4,096 × 16 (131 kB each)  973 kB (1.97×)  shuffle+gzip
  acquisition/TwoPhotonSeries  TwoPhotonSeries
    30 Hz for 4 s
    120 × 64 × 64  uint16  a.u.  6 chunks of 20 × 64 × 64 (164 kB each)  244 kB (4.03×)  gzip
  acquisition/contiguous  TimeSeries
    100 Hz for 16.7 min
    100,003 × 3  float32  a.u.  7 chunks of 16,666 × 3 (200 kB each)  1.2 MB
  processing/behavior/Position/position  SpatialSeries
    timestamps, 50.0012 Hz on average for 100 s, from 0.013887 s
    5,000 × 2  float64  meters  5 chunks of 1,000 × 2 (16 kB each)  80 kB  fletcher32
  processing/ecephys/LFP/LFP  ElectricalSeries
    timestamps, 1250 Hz on average for 32 s
    40,000 × 16  float32  1e-06 volts  1,250 chunks of 32 × 16 (2.05 kB each)  2.43 MB (1.05×)  gzip
  processing/ophys/Fluorescence/RoiResponseSeries  RoiResponseSeries
    30 Hz for 4 s
    120 × 5  float64  n.a.  4.26 kB

Tables
  general/extracellular_ephys/electrodes  ElectrodesTable
    16 rows: filtering, group, group_name, imp, location, x, y, z
  intervals/trials  TimeIntervals
    30 rows: start_time, stimulus, stop_time
  processing/ophys/ImageSegmentation/rois  PlaneSegmentation
    5 rows: pixel_mask
  units  Units
    8 rows: electrodes, quality, spike_times, waveform_mean

Files
  local:ASSET  embargoed, open to your key

34 groups, 54 arrays, 5 soft links, 7.12 MB of numbers, stored in 5.3 MB
"""  # noqa: RUF001 - as it is printed


def test_the_card_of_an_embargoed_session(
    placed: Callable[..., Path],
    embedded_archive: EmbeddedArchive,
    own_key: Callable[[EmbeddedArchive], dict[str, str]],
) -> None:
    (name, api), *_ = own_key(embedded_archive).items()
    output = shown(placed(), "--instance", f"{name}={api}")
    assert re.sub(r"local:[0-9a-f-]{36}", "local:ASSET", output) == CARD
    asked = [request for request in embedded_archive.requests if request.is_download]
    assert [request.authorized for request in asked].count(False) == 1  # is it public?
    assert sum(request.is_read for request in embedded_archive.requests) <= 4  # the ends of two timestamps


def test_offline_nothing_is_asked_and_what_the_file_holds_is_shown(
    placed: Callable[..., Path], embedded_archive: EmbeddedArchive
) -> None:
    output = shown(placed(), "--offline", "--instance", f"local={embedded_archive.api_url}")
    assert embedded_archive.requests == ()
    assert "Who           Doe, Jane; Roe, Richard\n" in output
    assert "  processing/behavior/Position/position  SpatialSeries\n    timestamps\n" in output
    assert re.search(r"  local:\S+  not asked\n", output)


@pytest.mark.parametrize(
    ("embargoed", "key", "says"),
    [
        (False, None, r"  local:\S+  public\n"),
        (True, None, r"  local:\S+  embargoed, closed to you\n    .*Set LOCAL_API_KEY to your key"),
        (True, "f" * 40, r"  local:\S+  embargoed, closed to you\n    .*does not know the key in LOCAL_API_KEY"),
        (True, "stranger", r"  local:\S+  embargoed, closed to you\n    .*ask one to add you"),
    ],
)
def test_the_state_of_the_embargo(
    embargoed: bool,
    key: str | None,
    says: str,
    placed: Callable[..., Path],
    embedded_archive: EmbeddedArchive,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("LOCAL_API_KEY", raising=False)
    if key is not None:
        monkeypatch.setenv("LOCAL_API_KEY", embedded_archive.stranger_token if key == "stranger" else key)
    output = shown(placed(embargoed=embargoed), "--instance", f"local={embedded_archive.api_url}")
    assert re.search(says, output)
    assert "Description   a synthetic recording session" in output
    assert "f" * 40 not in output


def test_an_archive_that_is_down_takes_nothing_else_down(
    placed: Callable[..., Path], embedded_archive: EmbeddedArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lindi_dask.describing._ASKING", dataclasses.replace(_ASKING, attempts=1))
    path = placed()
    embedded_archive.stop()
    output = shown(path, "--instance", f"local={embedded_archive.api_url}")
    assert re.search(r"  local:\S+  unknown\n    .*can't be reached", output)
    assert "Who           Doe, Jane; Roe, Richard\n" in output


def test_json_is_one_object_on_one_line(
    placed: Callable[..., Path],
    embedded_archive: EmbeddedArchive,
    own_key: Callable[[EmbeddedArchive], dict[str, str]],
) -> None:
    (name, api), *_ = own_key(embedded_archive).items()
    output = shown(placed(), "--json", "--instance", f"{name}={api}")
    assert output.count("\n") == 1
    card = json.loads(output)
    assert card["refs"] == "session.lindi.json"
    assert card["facts"]["experimenter"] == ["Doe, Jane", "Roe, Richard"]
    assert card["sources"][0]["access"] == "embargoed, open to your key"
    lfp = next(one for one in card["recordings"] if one["path"] == "/processing/ecephys/LFP/LFP")
    assert (lfp["regular"], round(lfp["rate"]), lfp["data"]["chunk_shape"]) == (False, 1250, [32, 16])
    assert [table["rows"] for table in card["tables"]] == [16, 30, 5, 8]


def test_arrays_that_cannot_be_read_are_said_once_with_the_reason(data: Path) -> None:
    output = shown(data / "session.lindi.json", "--offline")
    assert "40,000 \N{MULTIPLICATION SIGN} 16  ?  1e-06 volts  can't be read: see below\n" in output
    assert output.count("write them in by `lindi-dask expand`") == 1


def test_references_of_something_else_are_described_by_their_attributes_and_arrays(tmp_path: Path) -> None:
    zarray = {"zarr_format": 2, "dtype": "<f4", "fill_value": 0, "order": "C", "compressor": None, "filters": None}
    refs = {
        ".zgroup": {"zarr_format": 2},
        ".zattrs": {"title": "Sea  surface\ntemperature", "Conventions": "CF-1.11", "history": 7},
        "sst/.zarray": {**zarray, "shape": [4, 180, 360], "chunks": [1, 180, 360]},
        "sst/.zattrs": {"units": "K"},
        "sst/0.0.0": ["s3://public-bucket/sst.nc", 1000, 259_200],
        "sst/1.0.0": ["file:///etc/passwd", 0, 259_200],
        "broken/.zarray": {**zarray, "shape": [4], "chunks": [4], "dtype": "<q9"},
    }
    (tmp_path / "sst.json").write_text(json.dumps({"version": 1, "refs": {k: text(v) for k, v in refs.items()}}))
    lines = shown(tmp_path / "sst.json", "--offline").splitlines()
    assert lines[:6] == [
        "sst.json  not NWB",
        "",
        "Title         Sea surface temperature",
        "History       7",
        "Conventions   CF-1.11",
        "",
    ]
    assert lines[6:8] == ["Arrays", "  sst"]
    assert lines[8].startswith(
        "    4 \N{MULTIPLICATION SIGN} 180 \N{MULTIPLICATION SIGN} 360  float32  2 of 4 chunks of "
    )
    files = lines[lines.index("Files") :]
    assert files[1] == "  file:///etc/passwd  refused"
    assert files[3] == "  https://public-bucket.s3.amazonaws.com/sst.nc  plain URL"
    assert "  broken" in lines[lines.index("Can't be read") :]


def test_of_many_files_only_the_first_are_listed(tmp_path: Path) -> None:
    zarray = {"zarr_format": 2, "shape": [20], "chunks": [1], "dtype": "<f8", "fill_value": 0, "order": "C"}
    chunks = {f"a/{n}": [f"https://host.example/{n}?X-Amz-Signature=secret", 0, 8] for n in range(20)}
    refs = {"a/.zarray": text({**zarray, "compressor": None, "filters": None}), **chunks}
    (tmp_path / "many.json").write_text(json.dumps({"version": 1, "refs": refs}))
    output = shown(tmp_path / "many.json")
    assert output.count("https://host.example/") == 8
    assert "… and 12 more, not asked for\n" in output
    assert "secret" not in output


def text(value: object) -> object:
    """Return an entry as kerchunk writes it: metadata as text."""
    return json.dumps(value) if isinstance(value, dict) else value


@pytest.mark.parametrize("name", ["kerchunk.json", "kerchunk.parq", "session.zarrshadow.json", "virtualizarr.LFP.json"])
def test_every_form_has_a_card(name: str, data: Path) -> None:
    output = shown(data / "peers" / name, "--offline")
    assert output.splitlines()[0].startswith(name)
    assert output.splitlines()[-1].endswith("B")


def test_a_fact_that_cannot_be_read_is_said_so(tmp_path: Path, session_refs: Callable[..., Any]) -> None:
    refs = session_refs("https://example.org/session.nwb")
    refs["refs"]["general/keywords/0"] = "base64:AAAA"
    refs["refs"]["general/experimenter/0"] = "not JSON"
    (tmp_path / "x.json").write_text(json.dumps(refs))
    output = shown(tmp_path / "x.json", "--offline")
    assert re.search(r"^keywords      can't be read: ", output, re.MULTILINE) or "general/keywords" in output
    assert "Identifier    lindi-dask-sample" in output


def test_a_file_that_is_broken_is_the_api_s_error(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"refs": {"a/.zarray": 7')
    assert isinstance(run(tmp_path / "x.json").exception, InvalidReferences)


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_no_line_is_wider_than_the_terminal_where_words_leave_room(
    width: int, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lindi_dask.cli.info.this_look", lambda: Look(width=width))
    lines = shown(data / "session.lindi.json", "--offline").splitlines()
    assert [line for line in lines if len(line) > width and len(line.split("  ")) > 3] == []
    assert max(map(len, lines)) <= max(width, 73)  # the title of a time series is never broken
    squeezed = " ".join(" ".join(lines).split())
    whole = " ".join(shown_wide(data, monkeypatch).split())
    assert squeezed == whole


def shown_wide(data: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr("lindi_dask.cli.info.this_look", Look)
    return shown(data / "session.lindi.json", "--offline")


def test_where_only_ascii_can_be_written_the_card_is_ascii(data: Path) -> None:
    output = shown(data / "session.lindi.json", "--offline", charset="ascii")
    assert output.isascii()
    assert "60,000 x 16  int16" in output


@pytest.mark.parametrize(("no_color", "colored"), [("", True), ("1", False)])
def test_on_a_real_terminal_there_are_colors_unless_they_are_not_wanted(
    no_color: str, colored: bool, data: Path
) -> None:
    script = "from lindi_dask.cli.info import info; info()"
    command = [sys.executable, "-c", script, "--offline", str(data / "session.lindi.json")]
    piped = subprocess.run(command, capture_output=True, check=True, timeout=60).stdout.decode()
    assert "\x1b" not in piped
    handle, other = pty.openpty()
    environ = {**os.environ, "COLUMNS": "1000", "TERM": "xterm", "NO_COLOR": no_color}
    subprocess.run(command, stdout=other, env=environ, check=True, timeout=60)
    drawn = os.read(handle, 65536).decode().replace("\r\n", "\n")
    os.close(handle)
    os.close(other)
    assert ("\x1b[" in drawn) == colored
    assert click.unstyle(drawn) == piped


def test_names_cannot_steer_the_terminal(tmp_path: Path) -> None:
    refs = {".zgroup": {"zarr_format": 2}, ".zattrs": {"title": "a\x1b[31mb", "neurodata_type": 5}}
    (tmp_path / "x.json").write_text(json.dumps({"refs": refs}))
    output = shown(tmp_path / "x.json")
    assert "Title         a\\x1b[31mb" in output
    assert "\x1b" not in output
