"""The demo on a terminal, in colour and moving; and as plain lines, fit for a log, where there is no terminal.

Everything goes through the `rich.console.Console` that is passed in. It knows whether it writes to a terminal, how wide
that is, and of `NO_COLOR` (https://no-color.org), which takes the colours but leaves the progress bar.
"""

import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from rich.box import SIMPLE_HEAD
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from lindi_dask.demo.report import MB, DemoReport, RunNumbers

WIDTH = 80
PLAIN_STEPS = 4
"""Lines that a progress bar becomes without a terminal."""


def headline(console: Console, text: str) -> None:
    """Write what this is, above all else."""
    console.print()
    _print(console, text, style="bold")
    console.print()


def step(console: Console, text: str, detail: str = "") -> None:
    """Write what is being done now, with a detail in a quieter tone; below it, where it does not fit beside it."""
    line = Text.assemble((_mark(console, "▸", "-"), "bold cyan"), " ", text)
    if not detail:
        _print(console, line)
    elif line.cell_len + 2 + len(detail) <= min(WIDTH, console.width):
        _print(console, line.append(f"  {detail}", style="dim"))
    else:
        _print(console, line)
        _print(console, Padding(Text(detail, style="dim"), (0, 0, 0, 2), expand=False))


def done(console: Console, text: str, *, good: bool = True) -> None:
    """Write how something came out."""
    mark = _mark(console, "✓", "ok:") if good else _mark(console, "✗", "FAILED:")
    _print(console, Text.assemble((mark, "bold green" if good else "bold red"), " ", text))


@contextmanager
def progress(
    console: Console, total: int, label: str, *, clock: Callable[[], float] = time.monotonic
) -> Iterator[Callable[[], None]]:
    """Show how far along `total` blocks are; the function that it gives counts one more, from any thread.

    Parameters
    ----------
    console
        Without a terminal, a line is written at each quarter instead.
    total
        Blocks, at least 1.
    label
        What happens to them.
    clock
        Seconds; what the plain lines tell the time by.
    """
    if not _is_live(console):
        yield _plain_progress(console, total, label, clock)
        return
    columns = (
        TextColumn("  {task.description}", markup=False),
        BarColumn(bar_width=30, complete_style="cyan", finished_style="green"),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as bars:
        bar = bars.add_task(label, total=total)
        yield lambda: bars.advance(bar)


def _plain_progress(console: Console, total: int, label: str, clock: Callable[[], float]) -> Callable[[], None]:
    marks = {-(-total * part // PLAIN_STEPS) for part in range(1, PLAIN_STEPS + 1)}
    counted, began = iter(range(1, total + 1)), clock()

    def advance() -> None:
        count = next(counted, None)  # atomic, unlike +=
        if count in marks:
            _print(console, f"  {label}: {count}/{total} ({100 * count // total} %), {clock() - began:.1f} s")

    return advance


def table(console: Console, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write a small table; the first column is to the left, numbers are to the right."""
    grid = Table(box=SIMPLE_HEAD if _is_live(console) else None, header_style="bold", pad_edge=False)
    for number, name in enumerate(header):
        grid.add_column(Text(name), justify="right" if number else "left", overflow="fold")
    for row in rows:
        grid.add_row(*map(Text, row))
    _print(console, Padding(grid, (0, 0, 0, 2), expand=False))


def summary(console: Console, report: DemoReport) -> None:
    """Write the numbers of a demo: serial against cluster, and whether the result was right."""
    processes = report.cluster.processes
    table(console, ("", "serial", f"cluster ({processes})"), summary_rows(report.serial, report.cluster))
    _print(console, f"  Faster by a factor of {report.speedup:.1f}, at {report.pace}.")
    _print(
        console,
        f"  The archive counted {report.renewals} renewals in mid-job, of URLs signed for {report.lease_s:g} s.",
    )
    if report.exact:
        done(console, "The result is exact: equal to h5py on the file itself, to the last bit.")
    else:
        done(console, "The result differs from h5py on the file itself. Please report this.", good=False)


def summary_rows(*runs: RunNumbers) -> list[tuple[str, ...]]:
    """Name the numbers of some runs: a row a number, a column a run."""
    numbers: tuple[tuple[str, Callable[[RunNumbers], str]], ...] = (
        ("blocks", lambda run: f"{run.blocks:,}"),
        ("decompressed, MB", lambda run: f"{run.logical_nbytes / MB:,.1f}"),
        ("bytes read, MB", lambda run: f"{run.read.bytes_fetched / MB:,.1f}"),
        ("requests", lambda run: f"{run.read.requests:,}"),
        ("exchanges for a lease", lambda run: f"{run.read.exchanges:,}"),
        ("of which renewals", lambda run: f"{run.read.renewals:,}"),
        ("time, s", lambda run: f"{run.seconds:.1f}"),
        ("decompressed MB/s", lambda run: f"{run.rate_mb_s:,.1f}"),
    )
    return [(name, *map(show, runs)) for name, show in numbers]


def next_steps(console: Console, steps: Iterable[tuple[str, str]]) -> None:
    """Write what to type next: what for, and the command, which a shell still takes where it is broken in two."""
    console.print()
    _print(console, "With your own data:", style="bold")
    for purpose, command in steps:
        if purpose:
            _print(console, f"  {purpose}")
        for line in _shell_lines(command):
            _print(console, Text(f"    {line}", style="cyan"), soft_wrap=True)
    console.print()


def _shell_lines(command: str) -> list[str]:
    lines = textwrap.wrap(command, WIDTH - 6, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)
    return [f"{line} \\" for line in lines[:-1]] + lines[-1:]


def _print(console: Console, what: RenderableType, *, style: str | None = None, soft_wrap: bool = False) -> None:
    """Print as it stands: a path with brackets is no markup, and numbers get no colours of their own."""
    width = None if soft_wrap else min(WIDTH, console.width)
    console.print(what, style=style, markup=False, highlight=False, width=width, soft_wrap=soft_wrap)


def _is_live(console: Console) -> bool:
    return console.is_terminal and not console.is_dumb_terminal


def _mark(console: Console, terminal: str, plain: str) -> str:
    return terminal if _is_live(console) and console.encoding.startswith("utf") else plain
