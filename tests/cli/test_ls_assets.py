"""`lindi-dask ls dandi://...`"""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from lindi_dask.cli import main
from lindi_dask.cli.ls import ls

if TYPE_CHECKING:
    from collections.abc import Callable

    from lindi_dask.testing import EmbeddedArchive

TABLE = """\
sub-1/sub-1_ecephys.nwb  12 kB  TIME  ID
sub-1/sub-1_ophys.nwb      3 B  TIME  ID
sub-2/sub-2.nwb.zarr      Zarr  TIME  ID

3 assets, 12 kB
"""


@pytest.fixture
def filled(embedded_archive: EmbeddedArchive) -> EmbeddedArchive:
    embedded_archive.add(b"abc", path="sub-1/sub-1_ophys.nwb")
    embedded_archive.add(bytes(12_000), path="sub-1/sub-1_ecephys.nwb")
    embedded_archive.add_zarr("sub-2/sub-2.nwb.zarr")
    embedded_archive.add(b"{}", path="dandiset.json")
    return embedded_archive


@pytest.fixture
def run(
    filled: EmbeddedArchive, own_key: Callable[[EmbeddedArchive], dict[str, str]]
) -> Callable[..., tuple[int, str]]:
    own_key(filled)

    def run(*arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(ls, [*arguments, "--instance", f"local={filled.api_url}"])
        return done.exit_code, done.output

    return run


def test_the_assets_at_an_address_are_a_table(run: Callable[..., tuple[int, str]]) -> None:
    code, output = run("dandi://local/000123@draft/sub-*/**")
    assert code == 0
    times = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d", "TIME", output)
    assert re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "ID", times) == TABLE


def test_as_json_they_are_one_object(filled: EmbeddedArchive, run: Callable[..., tuple[int, str]]) -> None:
    code, output = run("dandi://local/000123/sub-1/*_ophys.nwb", "--json")
    assert code == 0
    assert output.count("\n") == 1
    found = json.loads(output)
    assert found["address"] == "dandi://local/000123/sub-1/*_ophys.nwb"
    (asset,) = found["assets"]
    assert (asset["path"], asset["size"], asset["zarr"]) == ("sub-1/sub-1_ophys.nwb", 3, None)
    assert asset["url"] == f"{filled.api_url}/assets/{asset['id']}/download/"
    assert asset["address"] == "dandi://local/000123@draft/sub-1/sub-1_ophys.nwb"


@pytest.mark.parametrize("option", [["acquisition"], ["--depth", "1"], ["--no-sizes"]])
def test_what_is_for_references_is_refused(run: Callable[..., tuple[int, str]], option: list[str]) -> None:
    code, output = run("dandi://local/000123", *option)
    assert code == 2
    assert "are for references" in output


@pytest.mark.parametrize(
    ("address", "key", "code", "said"),
    [
        ("dandi://local/000123@draft", True, 0, "4 assets, 12 kB"),
        ("dandi://local/000123@draft", False, 5, "Set LOCAL_API_KEY"),
        ("dandi://local/000123@draft/sub-3/", True, 5, "There are, for example: 'dandiset.json'"),
        ("dandi://other/000123", True, 2, "no instance 'other'"),
        ("https://dandiarchive.org/dandiset/123", True, 2, "has the form dandi://"),
    ],
)
def test_errors_have_exit_codes_and_say_what_to_do(
    filled: EmbeddedArchive,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    address: str,
    key: bool,
    code: int,
    said: str,
) -> None:
    monkeypatch.setenv("LOCAL_API_KEY", filled.owner_token if key else "")
    monkeypatch.setattr(sys, "argv", ["lindi-dask", "ls", address, "--instance", f"local={filled.api_url}"])
    try:
        main()
        found: object = 0
    except SystemExit as ended:
        found = ended.code
    printed = "".join(capsys.readouterr())
    assert (found, said in printed) == (code, True), printed
    assert filled.owner_token not in printed


def test_names_cannot_steer_the_terminal(filled: EmbeddedArchive, run: Callable[..., tuple[int, str]]) -> None:
    filled.add(b"x", path="sub-1/\x1b[31m\u202e.nwb")
    _, output = run("dandi://local/000123@draft/sub-1/")
    assert "sub-1/\\x1b[31m\\u202e.nwb" in output
    assert set(output) - {"\n"} <= {c for c in output if c.isprintable()}
