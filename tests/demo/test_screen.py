import io
import shlex
import threading
from dataclasses import replace
from itertools import count

import pytest
from rich.console import Console

from lindi_dask.demo import screen
from lindi_dask.demo.report import DemoReport

ESCAPE = "\x1b"


def pipe(width: int = 80) -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    return Console(file=out, width=width, force_terminal=False), out


def terminal(*, no_color: bool = False) -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    return Console(
        file=out, width=80, force_terminal=True, legacy_windows=False, _environ={"TERM": "xterm"}, no_color=no_color
    ), out


def show_all(console: Console, report: DemoReport) -> None:
    screen.headline(console, "lindi-dask demo")
    screen.step(console, "Writing [a] session", "105 MB of int16, " + "/a/long/path" * 12 + "/session.nwb")
    screen.step(console, "Starting the archive", "embargo on")
    screen.done(console, "58.8 MB in 1.6 s")
    with screen.progress(console, 10, "reading [serial]") as advance:
        for _ in range(10):
            advance()
    screen.summary(console, report)
    screen.next_steps(console, [("Look inside", "lindi-dask ls session.lindi.json")])


@pytest.mark.parametrize("width", [80, 200])
def test_in_a_pipe_there_are_no_escape_codes_and_no_long_lines(report: DemoReport, width: int) -> None:
    console, out = pipe(width)
    show_all(console, report)
    assert ESCAPE not in out.getvalue()
    assert "\r" not in out.getvalue()
    assert out.getvalue().isascii()
    assert max(map(len, out.getvalue().splitlines())) <= 80


@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, {"TERM": "unknown"}])
def test_a_dumb_terminal_gets_plain_lines(report: DemoReport, environment: dict[str, str]) -> None:
    out = io.StringIO()
    show_all(Console(file=out, width=80, force_terminal=True, _environ=environment), report)
    assert ESCAPE not in out.getvalue()
    assert "reading [serial]: 10/10 (100 %)" in out.getvalue()


def test_a_terminal_gets_colours_and_a_bar(report: DemoReport) -> None:
    console, out = terminal()
    show_all(console, report)
    assert f"{ESCAPE}[1;36m" in out.getvalue()
    assert "━" in out.getvalue()
    assert "10/10" in out.getvalue()
    assert "reading [serial]" in out.getvalue()


def test_no_color_takes_the_colours_away(report: DemoReport) -> None:
    console, out = terminal(no_color=True)
    show_all(console, report)
    assert f"{ESCAPE}[1;36m" not in out.getvalue()
    assert f"{ESCAPE}[36m" not in out.getvalue()
    assert "━" in out.getvalue()


def test_without_a_terminal_a_line_is_written_at_each_quarter() -> None:
    console, out = pipe()
    clock = count(0.0, 1.5)
    with screen.progress(console, 10, "reading", clock=lambda: next(clock)) as advance:
        for _ in range(10):
            advance()
    assert out.getvalue().splitlines() == [
        "  reading: 3/10 (30 %), 1.5 s",
        "  reading: 5/10 (50 %), 3.0 s",
        "  reading: 8/10 (80 %), 4.5 s",
        "  reading: 10/10 (100 %), 6.0 s",
    ]


@pytest.mark.parametrize("total", [1, 2, 3])
def test_few_blocks_get_a_line_each_and_more_calls_than_blocks_do_no_harm(total: int) -> None:
    console, out = pipe()
    with screen.progress(console, total, "reading") as advance:
        for _ in range(total + 2):
            advance()
    assert len(out.getvalue().splitlines()) == total


def test_blocks_are_counted_from_any_thread() -> None:
    console, out = pipe()
    with screen.progress(console, 400, "reading") as advance:
        threads = [threading.Thread(target=lambda: [advance() for _ in range(50)]) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(line.split()[1] for line in out.getvalue().splitlines()) == [
        "100/400",
        "200/400",
        "300/400",
        "400/400",
    ]


def test_the_summary_has_every_number(report: DemoReport) -> None:
    console, out = pipe()
    screen.summary(console, report)
    text = out.getvalue()
    for words in (["requests", "8", "1,234"], ["time, s", "4.0", "1.0"], ["decompressed MB/s", "1.9", "7.7"]):
        assert " ".join(words) in " ".join(text.split())
    assert "by a factor of 4.0" in text
    assert "ok: The result is exact" in text


def test_a_wrong_result_cannot_be_overlooked(report: DemoReport) -> None:
    console, out = pipe()
    screen.summary(console, replace(report, exact=False))
    assert "FAILED: The result differs" in out.getvalue()
    assert "exact" not in out.getvalue()


def test_a_command_broken_in_two_is_the_same_command() -> None:
    console, out = pipe()
    command = "lindi-dask convert " + " ".join(f"--option-{number} value" for number in range(12))
    screen.next_steps(console, [("Convert", command)])
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert shlex.split("\n".join(lines[3:-1]).replace("\\\n", "")) == shlex.split(command)
