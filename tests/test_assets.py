"""`ld.list_assets`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import lindi_dask as ld
from lindi_dask.errors import AuthenticationError, ConfigurationError

if TYPE_CHECKING:
    from lindi_dask.testing import EmbeddedArchive


def test_assets_are_listed_with_a_key_from_a_function(
    embedded_archive: EmbeddedArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LOCAL_API_KEY", raising=False)
    instances = {"local": embedded_archive.api_url}
    added = embedded_archive.add(b"content", path="sub-1/x.nwb")
    with pytest.raises(AuthenticationError):
        ld.list_assets("dandi://local/000123/sub-1/", instances=instances)
    keys = {"local": lambda: embedded_archive.owner_token}
    (found,) = ld.list_assets("dandi://local/000123/sub-1/", etags=True, instances=instances, api_keys=keys)
    assert (found.asset.id, found.path, found.size) == (added.id, "sub-1/x.nwb", 7)
    assert found.etag is not None
    assert found.url == added.url


def test_an_archive_must_be_known() -> None:
    with pytest.raises(ConfigurationError, match="no instance 'local'"):
        ld.list_assets("dandi://local/000123")
