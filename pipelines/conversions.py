"""What jobs that convert share: their table `[convert]`, and what is said of a conversion."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from dask.utils import format_bytes
from sessions import Interrupted

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Mapping

    from lindi_dask.conversion import Conversion, Progress

__all__ = ["CONVERT", "Progression", "described"]

CONVERT: Final[Mapping[str, Any]] = {"include": [], "exclude": [], "layout": {}}
"""the keys of the table with their defaults, as `read_settings` takes them"""

_EVERY_S: Final = 30.0


class Progression:
    """Says now and then how far a conversion is.

    Parameters
    ----------
    name
        Of what is converted.
    say
        Is told.
    ending
        Once it is set, the conversion is ended by `Interrupted`.
    """

    def __init__(self, name: str, say: Callable[[str], None], ending: threading.Event | None = None) -> None:
        self._name, self._say, self._ending = name, say, ending
        self._said = time.monotonic()

    def __call__(self, progress: Progress) -> None:
        """Take how far it is."""
        if self._ending is not None and self._ending.is_set():
            raise Interrupted
        now = time.monotonic()
        if now - self._said < _EVERY_S:
            return
        self._said = now
        left = progress.seconds_left
        self._say(
            f"{self._name}{progress.done:,} of {progress.total:,} objects, {format_bytes(round(progress.rate))}/s"
            f"{'' if left is None else f', {left / 60:.0f} min left'}, {progress.failures} failed attempts"
        )


def described(done: Conversion) -> str:
    """Return what was done, in a line."""
    return f"{done.made:,} objects made, {done.kept:,} were there, {format_bytes(done.nbytes)}, in {done.seconds:.1f} s"
