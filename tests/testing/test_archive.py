from __future__ import annotations

import pickle
import socket
import subprocess
import sys
import threading
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests

import lindi_dask.testing as room
from lindi_dask.testing import EmbeddedArchive, Fault

if TYPE_CHECKING:
    from collections.abc import Callable

    from lindi_dask.testing import Asset


def test_the_room_exports_its_names_sorted() -> None:
    assert sorted(room.__all__) == room.__all__
    assert all(hasattr(room, name) for name in room.__all__)


def test_an_outage_refuses_connections_and_ends_on_the_same_ports(
    embedded_archive: EmbeddedArchive, session: requests.Session, asset: Asset, url: str, content: bytes
) -> None:
    addresses = (embedded_archive.api_url, embedded_archive.s3_url)
    assert session.get(url).content == content
    for _ in range(2):
        embedded_archive.stop()
        for address in (asset.url, url):
            with pytest.raises(requests.ConnectionError, match="refused"):
                session.get(address)
        with socket.socket() as intruder, pytest.raises(OSError, match="in use"):
            intruder.bind(("127.0.0.1", int(embedded_archive.s3_url.rpartition(":")[2])))
        embedded_archive.start()
        assert (embedded_archive.api_url, embedded_archive.s3_url) == addresses
        assert session.get(url).content == content
    assert embedded_archive.counts()["reads"] == 3


def test_an_outage_cuts_answers_that_are_under_way(
    embedded_archive: EmbeddedArchive, session: requests.Session, url: str
) -> None:
    embedded_archive.inject(Fault(plane="s3", kind="stall-mid-body", delay_s=60))
    with session.get(url, stream=True) as answer:
        assert answer.status_code == 200
        started = time.monotonic()
        embedded_archive.stop()
        assert time.monotonic() - started < 5
        with pytest.raises(requests.RequestException):
            assert answer.content is None
    assert embedded_archive.requests[-1].nbytes == 50_000


def test_a_client_that_leaves_is_seen_to_have_less(
    embedded_archive: EmbeddedArchive, session: requests.Session, url: str
) -> None:
    embedded_archive.inject(Fault(plane="s3", kind="stall", delay_s=60))
    with pytest.raises(requests.ReadTimeout):
        session.get(url, timeout=0.1)
    session.close()
    deadline = time.monotonic() + 5
    while embedded_archive.requests[-1].nbytes and time.monotonic() < deadline:
        time.sleep(0.01)
    assert embedded_archive.requests[-1].nbytes == 0


def test_starting_and_stopping_twice_is_no_more_than_once(content: bytes) -> None:
    archive = EmbeddedArchive()
    for _ in range(2):
        with pytest.raises(RuntimeError, match="before its start"):
            archive.add(content, asset_id="11111111-2222-4333-8444-555555555555")
    archive.stop()
    archive.start()
    archive.start()
    asset = archive.add(content, embargoed=False)
    assert requests.get(asset.url, timeout=5).content == content
    archive.close()
    archive.close()
    with pytest.raises(RuntimeError, match="closed"):
        archive.start()
    assert len(archive.requests) == 2
    assert "closed" in repr(archive)


def test_its_thread_ends_with_it() -> None:
    def running() -> int:
        return sum(thread.name == "embedded-archive" for thread in threading.enumerate())

    before = running()
    with EmbeddedArchive():
        assert running() == before + 1
    assert running() == before


@pytest.mark.parametrize("option", ["port", "s3_port"])
def test_a_port_that_is_taken_is_an_error_at_start(option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        archive = EmbeddedArchive(**{option: port})
        with pytest.raises(OSError, match="in use"):
            archive.start()
    archive.start()
    assert str(port) in archive.api_url + archive.s3_url
    archive.close()


def test_a_file_that_is_not_there_is_an_error_at_once(embedded_archive: EmbeddedArchive, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        embedded_archive.add(tmp_path / "none.nwb")


@pytest.mark.parametrize(
    ("options", "message"),
    [({"asset_id": "x"}, "UUID"), ({"dandiset": "12"}, "six digits")],
)
def test_an_asset_that_cannot_be_is_refused(
    embedded_archive: EmbeddedArchive, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        embedded_archive.add(b"x", **options)


def test_an_identifier_is_given_once(embedded_archive: EmbeddedArchive, asset: Asset) -> None:
    with pytest.raises(ValueError, match="already"):
        embedded_archive.add(b"x", asset_id=asset.id)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lifetime_s", 1.5),
        ("lifetime_s", 0),
        ("lifetime_s", True),
        ("lifetime_s", 604_801),
        ("latency_s", -1),
        ("bytes_per_s", 0),
        ("rate_limit", (0, 1)),
    ],
)
def test_a_condition_that_cannot_be_is_refused_at_both_ways_in(
    embedded_archive: EmbeddedArchive, name: str, value: Any
) -> None:
    options: dict[str, Any] = {name: value}
    with pytest.raises(ValueError, match=r"."):
        EmbeddedArchive(**options)
    before = getattr(embedded_archive, name)
    with pytest.raises(ValueError, match=r"."):
        setattr(embedded_archive, name, value)
    assert getattr(embedded_archive, name) == before


def test_a_condition_that_is_none_is_refused(embedded_archive: EmbeddedArchive) -> None:
    with pytest.raises(AttributeError, match="latency_s"):
        embedded_archive.latency = 3  # type: ignore[attr-defined]


def test_a_lifetime_set_while_it_runs_is_signed_for(
    embedded_archive: EmbeddedArchive, asset: Asset, exchange: Callable[..., str]
) -> None:
    embedded_archive.lifetime_s = 60
    assert "X-Amz-Expires=60&" in exchange(embedded_archive, asset)


def test_other_processes_know_it_by_environment(make_archive: Callable[..., EmbeddedArchive]) -> None:
    archive = make_archive(name="my-archive")
    assert archive.environ() == {
        "DASK_LINDI_DASK__INSTANCES__MY_ARCHIVE__API_URL": archive.api_url,
        "MY_ARCHIVE_API_KEY": archive.owner_token,
    }


def test_it_does_not_pickle(embedded_archive: EmbeddedArchive) -> None:
    with pytest.raises(TypeError, match="environ"):
        pickle.dumps(embedded_archive)


def test_its_repr_keeps_the_keys(embedded_archive: EmbeddedArchive) -> None:
    assert repr(embedded_archive) == "<EmbeddedArchive 'local', running>"


def test_many_threads_lose_no_record(embedded_archive: EmbeddedArchive, url: str, content: bytes) -> None:
    def fetch(number: int) -> bool:
        first = number * 100
        headers = {"Range": f"bytes={first}-{first + 99}"}
        return requests.get(url, headers=headers, timeout=10).content == content[first : first + 100]

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(fetch, range(200)))
    assert embedded_archive.counts()["reads"] == 200
    assert embedded_archive.counts()["read_bytes"] == 20_000


def test_reads_are_known_by_who_made_the_exchange(
    embedded_archive: EmbeddedArchive, asset: Asset, exchange: Callable[..., str], session: requests.Session
) -> None:
    for client in ("a", "b", "a"):
        session.get(exchange(embedded_archive, asset, client), headers={"Range": "bytes=0-9"})
    reads = [request for request in embedded_archive.requests if request.is_read]
    assert [(read.exchange, read.client) for read in reads] == [(1, "a"), (2, "b"), (3, "a")]
    assert embedded_archive.renewals() == 1


@pytest.mark.parametrize("missing", ["aiohttp", "botocore"])
def test_without_the_extra_the_error_says_what_to_install(missing: str) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None; import lindi_dask.testing"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"needs {missing}" in done.stderr
    assert "pip install 'lindi-dask[demo]'" in done.stderr


def test_the_extra_that_the_error_names_exists() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))["project"]
    named = " ".join(project["optional-dependencies"]["demo"])
    assert "aiohttp" in named
    assert "botocore" in named
