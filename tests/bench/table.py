"""Tables of measurements, as `make bench` prints them: by rich, plain when piped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Target", "print_table", "print_targets"]


@dataclass(frozen=True, slots=True)
class Target:
    """What a measurement should stay below."""

    name: str
    measured: float
    limit: float
    unit: str


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *, words: set[str]) -> None:
    """Print a table; the columns named in `words` hold text, the others numbers."""
    table = Table(title=title)
    for name in columns:
        table.add_column(name, justify="left" if name in words else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    Console(width=120).print(table)


def print_targets(targets: Iterable[Target]) -> None:
    rows = (
        (
            target.name,
            f"{target.measured:,.2f} {target.unit}",
            f"{target.limit:g} {target.unit}",
            "met" if target.measured <= target.limit else "MISSED",
        )
        for target in targets
    )
    print_table("lindi_dask's targets", ("target", "measured", "at most", ""), rows, words={"target", ""})
