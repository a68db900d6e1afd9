from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

import lindi_dask as ld
from lindi_dask.cli.expand import expand
from lindi_dask.errors import ConfigurationError, PermissionDenied

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result

    from lindi_dask.testing import EmbeddedArchive

LFP = "processing/ecephys/LFP/LFP/data"


def with_url(path: Path, url: str) -> str:
    document = json.loads(path.read_text()) | {"templates": {"u1": url}}
    document["refs"][f"{LFP}/.zattrs"]["_EXTERNAL_ARRAY_LINK"]["url"] = url
    return json.dumps(document)


@pytest.fixture
def url(embedded_archive: EmbeddedArchive, own_key: Callable[[EmbeddedArchive], dict[str, str]], data: Path) -> str:
    own_key(embedded_archive)
    return embedded_archive.add(data / "session.nwb").url


@pytest.fixture
def session(url: str, data: Path, tmp_path: Path) -> Path:
    path = tmp_path / "session.lindi.json"
    path.write_text(with_url(data / "session.lindi.json", url))
    return path


@pytest.fixture
def bundle(url: str, data: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "session.lindi.d"
    shutil.copytree(data / "session.amended.lindi.d", folder)
    (folder / "lindi.json").write_text(with_url(folder / "lindi.json", url))
    return folder


@pytest.fixture
def run(embedded_archive: EmbeddedArchive) -> Callable[..., Result]:
    def invoke(*arguments: object) -> Result:
        here = ["--instance", f"local={embedded_archive.api_url}"]
        return CliRunner().invoke(expand, [*map(str, arguments), *here])

    return invoke


def listed(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"cache"}


def test_it_writes_the_document_and_says_what_it_took(
    run: Callable[..., Result], session: Path, url: str, session_refs: Callable[..., Any], tmp_path: Path
) -> None:
    out = tmp_path / "out.lindi.json"
    done = run(session, out)
    assert done.exit_code == 0, done.exception
    start, requests, end = "Expanded 1 array: 1,250 chunks, by ", " requests, to ", f"{out}\n"
    assert done.output.startswith(start)
    assert done.output.endswith(requests + end)
    assert int(done.output.removeprefix(start).partition(" ")[0]) <= 8
    assert json.loads(out.read_text()) == session_refs(url)
    assert listed(tmp_path) == {"session.lindi.json", "out.lindi.json"}


def test_where_there_is_nothing_to_expand_it_says_so(run: Callable[..., Result], data: Path, tmp_path: Path) -> None:
    done = run(data / "session.expanded.lindi.json", tmp_path / "out.json")
    assert done.exit_code == 0
    assert "There is nothing to expand" in done.output
    assert listed(tmp_path) == set()


def test_what_is_there_is_replaced_only_by_force(run: Callable[..., Result], session: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    out.write_text("mine")
    refused = run(session, out)
    assert isinstance(refused.exception, ConfigurationError)
    assert "--force" in str(refused.exception)
    assert out.read_text() == "mine"
    assert run(session, out, "--force").exit_code == 0
    assert len(json.loads(out.read_text())["refs"]) == 1504
    assert run(session, session, "--force").exit_code == 0
    assert session.read_bytes() == out.read_bytes()
    assert isinstance(run(session, tmp_path, "--force").exception, ConfigurationError)


def test_a_bundle_becomes_a_bundle_or_a_document_in_its_folder(
    run: Callable[..., Result],
    embedded_archive: EmbeddedArchive,
    bundle: Path,
    tmp_path: Path,
) -> None:
    before = (bundle / "lindi.json").read_bytes()
    out = tmp_path / "out.lindi.d"
    assert run(bundle, out).exit_code == 0
    assert run(bundle, bundle / "expanded.lindi.json").exit_code == 0
    assert (bundle / "lindi.json").read_bytes() == before
    for path in (out, bundle / "expanded.lindi.json"):
        group: Any = ld.open_group(path, instances={"local": embedded_archive.api_url})
        assert group[LFP][...].any()
        assert group["scratch/added"][...].any()
    assert listed(tmp_path) == {"session.lindi.d", "out.lindi.d"}


def test_a_document_that_means_files_beside_it_is_not_written_elsewhere(
    run: Callable[..., Result], bundle: Path, tmp_path: Path
) -> None:
    for source, remedy in ((bundle, r".lindi.d"), (bundle / "lindi.json", "beside IN")):
        done = run(source, tmp_path / "out.lindi.json")
        assert isinstance(done.exception, ConfigurationError)
        assert remedy in str(done.exception)
    assert listed(tmp_path) == {"session.lindi.d"}


def test_a_place_that_can_not_be_written_is_named(run: Callable[..., Result], session: Path, tmp_path: Path) -> None:
    done = run(session, tmp_path / "none" / "out.json")
    assert isinstance(done.exception, ConfigurationError)
    assert "can't be written (No such file or directory)" in str(done.exception)


def test_an_instance_is_given_by_name_and_url(session: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(expand, [str(session), str(tmp_path / "out"), "--instance", "http://x"])
    assert done.exit_code == 2
    assert "NAME=URL" in done.output


def test_a_denial_leaves_nothing_behind(
    run: Callable[..., Result],
    embedded_archive: EmbeddedArchive,
    session: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LOCAL_API_KEY", embedded_archive.stranger_token)
    done = run(session, tmp_path / "out.json", "--allow", "https://example.org/")
    assert isinstance(done.exception, PermissionDenied)
    assert listed(tmp_path) == {"session.lindi.json"}
