"""Tables of measurements, as `make bench` prints them."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence
    from pathlib import Path

__all__ = ["Page", "Ratio", "Target", "print_table", "print_targets", "show"]

TARGET_COLUMNS = ("target", "measured", "wanted", "")


@dataclass(frozen=True, slots=True)
class Ratio:
    """A median of ratios, each of two runs of the same round."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f}-{self.high:.2f})"


@dataclass(frozen=True, slots=True)
class Target:
    """What a measurement should stay below, or above."""

    name: str
    measured: float
    limit: float
    unit: str
    at_least: bool = False
    spread: tuple[float, float] | None = None
    """lowest and highest, where the measurement is a median"""

    @classmethod
    def at_least_ratio(cls, name: str, ratio: Ratio, limit: float) -> Target:
        """Return a target for how many times as fast something is."""
        return cls(name, ratio.median, limit, "x", at_least=True, spread=(ratio.low, ratio.high))

    @property
    def met(self) -> bool:
        return self.measured >= self.limit if self.at_least else self.measured <= self.limit

    def row(self) -> tuple[str, str, str, str]:
        spread = "" if self.spread is None else f" ({self.spread[0]:,.2f}-{self.spread[1]:,.2f})"
        return (
            self.name,
            f"{self.measured:,.2f}{spread} {self.unit}",
            f"at {'least' if self.at_least else 'most'} {self.limit:g} {self.unit}",
            "met" if self.met else "MISSED",
        )


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *, words: Collection[str]) -> None:
    """Print a table by rich, plain when piped; the columns named in `words` hold text, the others numbers."""
    table = Table(title=title)
    for name in columns:
        table.add_column(name, justify="left" if name in words else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    Console(width=120).print(table)


def print_targets(targets: Iterable[Target]) -> None:
    rows = (target.row() for target in targets)
    print_table("lindi_dask's targets", TARGET_COLUMNS, rows, words={"target", "wanted", ""})


class Page:
    """What is printed, as Markdown, so that it can be kept as it was printed."""

    def __init__(self) -> None:
        self._parts: list[str] = []

    def say(self, text: str) -> None:
        """Add a paragraph, or any other Markdown."""
        self._parts.append(text)
        print(text, end="\n\n", flush=True)

    def table(
        self, title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *, words: Collection[str]
    ) -> None:
        """Add a table below a title; the columns named in `words` hold text, the others numbers."""
        self.say(f"### {title}")
        self.say("\n".join(_lines(columns, list(rows), words)))

    def targets(self, targets: Iterable[Target]) -> None:
        rows = (target.row() for target in targets)
        self.table("Targets", TARGET_COLUMNS, rows, words={"target", "wanted", ""})

    def write(self, path: Path) -> None:
        path.write_text("\n\n".join(self._parts) + "\n", "utf-8")


def _lines(columns: Sequence[str], rows: list[Sequence[str]], words: Collection[str]) -> Iterator[str]:
    widths = [max(len(row[i]) for row in [columns, *rows]) for i in range(len(columns))]
    left = [name in words for name in columns]

    def line(cells: Sequence[str]) -> str:
        padded = (
            cell.ljust(width) if is_left else cell.rjust(width)
            for cell, width, is_left in zip(cells, widths, left, strict=True)
        )
        return f"| {' | '.join(padded)} |"

    yield line(columns)
    rules = (
        "-" * (width + 2) if is_left else "-" * (width + 1) + ":" for width, is_left in zip(widths, left, strict=True)
    )
    yield f"|{'|'.join(rules)}|"
    yield from map(line, rows)


def show(text: str) -> None:
    """Show what goes on, on a terminal."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
