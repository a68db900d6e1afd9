"""pytest fixtures: ``pytest_plugins = ["lindi_dask.testing.fixtures"]`` in the top ``conftest.py``."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lindi_dask.testing.archive import EmbeddedArchive

ArchiveFactory = Callable[..., EmbeddedArchive]
"""Takes the options of `EmbeddedArchive`; gives a started one."""


@pytest.fixture
def make_archive() -> Iterator[ArchiveFactory]:
    """Make archives, which are started here and closed after the test."""
    with contextlib.ExitStack() as stack:

        def make(**options: Any) -> EmbeddedArchive:  # noqa: ANN401  # EmbeddedArchive's own
            return stack.enter_context(EmbeddedArchive(**options))

        yield make


@pytest.fixture
def embedded_archive(make_archive: ArchiveFactory) -> EmbeddedArchive:
    """Give a started archive whose leases live for an hour; it is closed after the test."""
    return make_archive(lifetime_s=3600)
