from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import click
import pytest
from click.testing import CliRunner

import lindi_dask as ld
from lindi_dask.cli.ls import ls
from lindi_dask.cli.terminal import ASCII, Look, look_of
from lindi_dask.cli.wording import size_text
from lindi_dask.errors import AuthenticationError, RefsError, RefsUnreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from click.testing import Result

    from lindi_dask.testing import EmbeddedArchive

LFP = "processing/ecephys/LFP/LFP"

ACQUISITION = """\
session.lindi.json  /acquisition
├─ ElectricalSeries  ElectricalSeries
│  ├─ channel_conversion  16           float64                       144 B
│  ├─ data                60,000 × 16  int16    1.95e-07 volts       15 chunks of 4,096 × 16  973 kB (1.97×)  shuffle+gzip
│  ├─ electrodes          16           int64                         56 B
│  └─ starting_time       scalar       float64  seconds at 30000 Hz  24 B
├─ TwoPhotonSeries  TwoPhotonSeries
│  ├─ data           120 × 64 × 64  uint16   a.u.              6 chunks of 20 × 64 × 64  244 kB (4.03×)  gzip
│  ├─ imaging_plane -> /general/optophysiology/plane
│  └─ starting_time  scalar         float64  seconds at 30 Hz  24 B
└─ contiguous  TimeSeries
   ├─ data           100,003 × 3  float32  a.u.               7 chunks of 16,666 × 3  1.2 MB
   └─ starting_time  scalar       float64  seconds at 100 Hz  24 B

4 groups, 8 arrays, 1 soft link, 33 chunks, 2.42 MB
"""  # noqa: E501, RUF001 - as it is printed

LFP_AT_80 = """\
session.lindi.json  /processing/ecephys  ProcessingModule
└─ LFP  LFP
   └─ LFP  ElectricalSeries
      ├─ data        40,000 × 16  ?        1e-06 volts
      │    can't be read: its chunks are not in this file but only a link to the
      │    dataset that holds them (LINDI leaves out arrays of more than 1,000
      │    chunks). Open it with expand=True, or write them in by `lindi-dask
      │    expand`
      ├─ electrodes -> /acquisition/ElectricalSeries/electrodes
      └─ timestamps  40,000       float64  seconds  2 chunks of 25,000  320 kB

3 groups, 2 arrays, 1 soft link, 1 can't be read, 2 chunks, 320 kB
"""  # noqa: RUF001

EXPANDED_IN_ASCII = """\
session.expanded.lindi.json  /processing/ecephys/LFP/LFP  ElectricalSeries
|- data        40,000 x 16  float32  1e-06 volts  1,250 chunks of 32 x 16  2.43 MB (1.05x)  gzip
|- electrodes -> /acquisition/ElectricalSeries/electrodes
`- timestamps  40,000       float64  seconds      2 chunks of 25,000  320 kB

1 group, 2 arrays, 1 soft link, 1,252 chunks, 2.75 MB
"""


def run(*arguments: object, charset: str = "utf-8", color: bool = False) -> Result:
    return CliRunner(charset=charset).invoke(ls, list(map(str, arguments)), color=color)


def shown(*arguments: object, **options: Any) -> str:
    done = run(*arguments, **options)
    assert done.exception is None, done.exception
    return done.output


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes the output that of a terminal."""

    def use(*, width: int, color: bool = False) -> None:
        monkeypatch.setattr("lindi_dask.cli.ls.this_look", lambda: Look(width=width, color=color))

    return use


def test_a_group_is_drawn_as_a_tree(data: Path) -> None:
    assert shown(data / "session.lindi.json", "acquisition") == ACQUISITION


def test_on_a_terminal_what_does_not_fit_goes_below(data: Path, terminal: Callable[..., None]) -> None:
    terminal(width=80)
    lines = LFP_AT_80.splitlines()
    found = shown(data / "session.lindi.json", "processing/ecephys").splitlines()
    assert found == lines
    assert max(map(len, found)) <= 80


@pytest.mark.parametrize("width", [60, 72, 80, 100, 120, 200])
@pytest.mark.parametrize("name", ["session.lindi.json", "session.expanded.lindi.json", "session.amended.lindi.d"])
def test_no_line_is_wider_than_the_terminal_where_names_leave_room(
    width: int, name: str, data: Path, terminal: Callable[..., None]
) -> None:
    terminal(width=width)
    lines = shown(data / name).splitlines()
    assert [line for line in lines if len(line) > max(width, 72)] == []


def test_where_only_ascii_can_be_written_the_tree_is_ascii(data: Path) -> None:
    assert shown(data / "session.expanded.lindi.json", LFP, charset="ascii") == EXPANDED_IN_ASCII


def test_colors_change_nothing_but_colors(data: Path, terminal: Callable[..., None]) -> None:
    plain = shown(data / "session.lindi.json")
    terminal(width=1000, color=True)
    colored = shown(data / "session.lindi.json", color=True)
    assert "\x1b[" in colored
    assert click.unstyle(colored) == plain


@pytest.mark.parametrize(
    ("environ", "encoding", "is_terminal", "expected"),
    [
        ({}, "utf-8", False, Look()),
        ({}, "ascii", False, ASCII),
        ({}, "latin-1", False, ASCII),
        ({}, "utf-8", True, Look(color=True, width=91)),
        ({"NO_COLOR": "1"}, "utf-8", True, Look(width=91)),
        ({"NO_COLOR": ""}, "utf-8", True, Look(color=True, width=91)),
        ({"TERM": "dumb"}, "utf-8", True, Look(width=91)),
    ],
)
def test_the_look_goes_by_terminal_encoding_and_no_color(
    environ: dict[str, str], encoding: str, is_terminal: bool, expected: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "91")
    assert look_of(environ, encoding, is_terminal=is_terminal) == expected


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals")
def test_on_a_real_terminal_there_are_colors_and_in_a_pipe_there_are_none(data: Path) -> None:
    script = "import sys; from lindi_dask.cli.ls import ls; ls()"
    command = [sys.executable, "-c", script, str(data / "session.lindi.json"), "units"]
    piped = subprocess.run(command, capture_output=True, check=True, timeout=60).stdout.decode()
    assert "\x1b" not in piped
    handle, other = pty.openpty()
    # The output is smaller than what a terminal holds back, so that nobody has to read it at the same time
    environ = {**os.environ, "COLUMNS": "100", "TERM": "xterm"}
    environ.pop("NO_COLOR", None)
    subprocess.run(command, stdout=other, env=environ, check=True, timeout=60)
    drawn = os.read(handle, 65536).decode().replace("\r\n", "\n")
    os.close(handle)
    os.close(other)
    assert "\x1b[" in drawn
    assert click.unstyle(drawn) == piped


def test_levels_can_be_left_out(data: Path) -> None:
    lines = shown(data / "session.lindi.json", "--depth", 1).splitlines()
    assert lines[:3] == ["session.lindi.json  NWBFile", "├─ acquisition  … 3 in it", "├─ analysis"]
    assert lines[-3:] == [
        "└─ units  Units  … 7 in it",
        "",
        "34 groups, 54 arrays, 5 soft links, 1 can't be read, 83 chunks, 2.87 MB",
    ]
    assert len(shown(data / "session.lindi.json", "--depth", 0).splitlines()) == 3
    assert len(shown(data / "session.lindi.json", "acquisition", "--depth", 1).splitlines()) == 6


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("units/spike_times", "└─ spike_times  680  float64    4.82 kB"),
        ("general/lab", "└─ lab  scalar  text    56 B"),
        ("processing/ophys/ImageSegmentation/rois/pixel_mask", "└─ pixel_mask  10  {x, y, weight}    127 B"),
        ("processing/ecephys/LFP/LFP/electrodes", "└─ electrodes  16  int64    56 B"),
    ],
)
def test_an_array_is_one_line(path: str, line: str, data: Path) -> None:
    assert shown(data / "session.lindi.json", path).splitlines()[:2] == ["session.lindi.json", line]


def test_sizes_can_be_left_out(data: Path) -> None:
    lines = shown(data / "session.lindi.json", "acquisition/ElectricalSeries", "--no-sizes").splitlines()
    assert lines[2].endswith(" volts       15 chunks of 4,096 \N{MULTIPLICATION SIGN} 16  shuffle+gzip")
    assert lines[-1] == "1 group, 4 arrays"


def test_chunks_that_are_not_listed_are_counted(tmp_path: Path) -> None:
    zarray = {"zarr_format": 2, "shape": [100], "chunks": [10], "dtype": "<i8", "fill_value": 0, "order": "C"}
    refs = {"a/.zarray": {**zarray, "compressor": None, "filters": None}, "a/3": ["https://host.example/x", 0, 80]}
    (tmp_path / "x.json").write_text(json.dumps({"refs": refs}))
    assert shown(tmp_path / "x.json").splitlines()[1] == "└─ a  100  int64    1 of 10 chunks of 10  80 B"


def test_json_is_one_object_on_one_line(data: Path) -> None:
    output = shown(data / "session.lindi.json", "acquisition", "--json")
    assert output.count("\n") == 1
    found = json.loads(output)
    assert {key: found[key] for key in ("refs", "path")} == {"refs": "session.lindi.json", "path": "/acquisition"}
    assert found["fingerprint"] == ld.StoreFactory(data / "session.lindi.json").fingerprint
    assert [node["kind"] for node in found["nodes"]].count("array") == 8
    assert len(json.loads(shown(data / "session.lindi.json", "--json", "--depth", 1))["nodes"]) == 13


def test_a_wrong_path_says_what_is_near_it(data: Path) -> None:
    done = run(data / "session.lindi.json", "acquisition/ElectricalSerie")
    assert isinstance(done.exception, RefsError)
    assert "Near it: /acquisition/ElectricalSeries" in str(done.exception)


def test_a_missing_file_is_the_api_s_error(tmp_path: Path) -> None:
    assert isinstance(run(tmp_path / "none.json").exception, RefsUnreachable)


def test_names_cannot_steer_the_terminal(tmp_path: Path) -> None:
    refs = {
        "a\x1b[31m\u202eb/.zgroup": {"zarr_format": 2},
        "a\x1b[31m\u202eb/.zattrs": {"neurodata_type": "X\x07\n"},
        "link/.zgroup": {"zarr_format": 2},
        "link/.zattrs": {"_SOFT_LINK": {"path": "/no\x1b]0;where"}},
    }
    (tmp_path / "x.json").write_text(json.dumps({"refs": refs}))
    output = shown(tmp_path / "x.json")
    assert set(output) - {"\n"} <= {c for c in output if c.isprintable()}
    assert "a\\x1b[31m\\u202eb  X\\x07\\n" in output
    assert "can't be read: it is a soft link to /no\\x1b]0;where" in output


def test_the_deepest_tree_that_references_may_have_is_drawn(tmp_path: Path, terminal: Callable[..., None]) -> None:
    terminal(width=80)
    path = "/".join("a" * 99)
    zarray = {"zarr_format": 2, "shape": [9, 9], "chunks": [1, 1], "dtype": "<i8", "fill_value": 0, "order": "C"}
    refs = {f"{path}/.zarray": {**zarray, "compressor": {"id": "zlib", "level": 1}, "filters": None}}
    (tmp_path / "x.json").write_text(json.dumps({"refs": refs}))
    lines = shown(tmp_path / "x.json").splitlines()
    assert lines[98].endswith(" a")
    assert lines[100].strip().startswith("0 of 81 chunks")
    assert lines[-1] == "99 groups, 1 array, 0 B"


# Assets


def test_an_embargoed_asset_is_listed(
    embedded_archive: EmbeddedArchive, own_key: Callable[[EmbeddedArchive], dict[str, str]], data: Path
) -> None:
    (name, api), *_ = own_key(embedded_archive).items()
    expected = shown(data / "session.amended.lindi.tar").splitlines()[1:]
    url = embedded_archive.add(data / "session.amended.lindi.tar").url
    lines = shown(url, "--instance", f"{name}={api}").splitlines()
    assert lines[0] == f"local:{url.split('/')[-3]}  NWBFile"
    assert lines[1:] == expected


def test_an_archive_that_denies_is_the_api_s_error(
    embedded_archive: EmbeddedArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LOCAL_API_KEY", raising=False)
    done = run(embedded_archive.add(b"{}").url, "--instance", f"local={embedded_archive.api_url}")
    assert isinstance(done.exception, AuthenticationError)


@pytest.mark.parametrize("option", ["local", "local=", "=http://127.0.0.1/api"])
def test_an_instance_that_makes_no_sense_is_a_usage_error(option: str, data: Path) -> None:
    done = run(data / "session.lindi.json", "--instance", option)
    assert done.exit_code == 2
    assert "is not NAME=URL" in done.output


def test_prefixes_are_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Sequence[str] | None] = []

    class Stop(Exception):
        pass

    def factory(_: str, *, instances: object, allow: Sequence[str] | None) -> None:
        assert instances is None
        given.append(allow)
        raise Stop

    monkeypatch.setattr("lindi_dask.factory.StoreFactory", factory)
    run(tmp_path / "x", "--allow", "http://127.0.0.1:8000/", "--allow", "/data/")
    run(tmp_path / "x")
    assert given == [("http://127.0.0.1:8000/", "/data/"), None]


# Numbers


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (1004, "1 kB"),
        (12_345, "12.3 kB"),
        (999_499, "999 kB"),
        (999_999, "1 MB"),
        (10**6, "1 MB"),
        (123_456_789_000, "123 GB"),
        (10**18, "1 EB"),
        (10**22, "1e+04 EB"),
    ],
)
def test_bytes_are_written_with_three_digits(nbytes: int, text: str) -> None:
    assert size_text(nbytes) == text


# zarr's own


@pytest.mark.parametrize(
    "name",
    ["session.lindi.json", "session.expanded.lindi.json", "session.amended.lindi.d", "session.amended.lindi.tar"],
)
def test_zarr_s_own_tree_works_too(name: str, data: Path) -> None:
    pytest.importorskip("rich")
    drawn = str(ld.open_group(data / name).tree())
    assert "ElectricalSeries" in drawn
    assert "data (60000, 16) int16" in drawn
