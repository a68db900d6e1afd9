"""An asset, its content, a presigned URL of it, and a client that keeps nothing to itself."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
import requests

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lindi_dask.testing import Asset, EmbeddedArchive


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture(scope="session")
def content() -> bytes:
    return random.Random(7).randbytes(100_000)


@pytest.fixture
def session() -> Iterator[requests.Session]:
    """Without the environment's proxies and .netrc."""
    with requests.Session() as session:
        session.trust_env = False
        yield session


@pytest.fixture
def asset(embedded_archive: EmbeddedArchive, content: bytes) -> Asset:
    return embedded_archive.add(content)


@pytest.fixture
def exchange(session: requests.Session) -> Callable[..., str]:
    """Exchanges an asset for a presigned URL."""

    def exchange(archive: EmbeddedArchive, asset: Asset, client: str = "test") -> str:
        headers = {"Authorization": f"token {archive.owner_token}", "User-Agent": client}
        answer = session.get(asset.url, headers=headers, allow_redirects=False, timeout=5)
        assert answer.status_code == 302, answer.text
        return answer.headers["Location"]

    return exchange


@pytest.fixture
def url(embedded_archive: EmbeddedArchive, asset: Asset, exchange: Callable[..., str]) -> str:
    return exchange(embedded_archive, asset)
