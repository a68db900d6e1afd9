"""What can't be written, said once."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from lindi_dask.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["writing"]


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Within the block, that something can't be written is a `ConfigurationError` that names the path."""
    failure = None
    try:
        yield
    except OSError as error:
        failure = ConfigurationError(f"{path} can't be written ({error.strerror or type(error).__name__}).")
    if failure is not None:
        raise failure
