"""Charts as inline SVG: lines over time, and bars of parts."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from lindi_dask.cli.job_report.elements import element

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from xml.etree.ElementTree import Element

    Points = Sequence[tuple[float, float]]

__all__ = ["legend", "parts_bar", "time_chart"]

_WIDTH, _HEIGHT = 1032.0, 220.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 74.0, 10.0, 10.0, 24.0
_STEPS: Final = (1, 2, 2.5, 5, 10)
_UNITS: Final = (("h", 3600), ("min", 60), ("s", 1))


def time_chart(
    lines: Mapping[str, Points],
    seconds: float,
    value_text: Callable[[float], str],
    marks: Sequence[float] = (),
    *,
    is_whole: bool = False,
) -> Element:
    """Return lines over time, with axes from 0 on and a legend.

    Parameters
    ----------
    lines
        Points (seconds, value) by name.
    seconds
        Where the axis of time ends.
    value_text
        Label of a tick of the other axis.
    marks
        Seconds at which a vertical line is drawn.
    is_whole
        Whether values are whole numbers.
    """
    top = max((value for points in lines.values() for _, value in points), default=0.0) or 1.0
    ticks = _ticks(top, max(min(4, round(top)), 1) if is_whole else 4)
    top = ticks[-1]
    end = seconds or 1.0

    def x(at: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * min(at / end, 1.0)

    def y(value: float) -> float:
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * value / top

    drawn = []
    for tick in ticks:
        drawn.append(element("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=y(tick), y2=y(tick), class_="grid"))
        drawn.append(element("text", value_text(tick), x=_LEFT - 8, y=y(tick) + 4, class_="tick end"))
    name, unit = next((name, unit) for name, unit in _UNITS if end >= 2 * unit or unit == 1)
    for tick in _ticks(end / unit, 6):
        if tick * unit <= end:
            drawn += [element("text", f"{tick:g} {name}", x=x(tick * unit), y=_HEIGHT - 6, class_="tick middle")]
    drawn += [element("line", x1=x(at), x2=x(at), y1=_TOP, y2=_HEIGHT - _BOTTOM, class_="mark") for at in marks]
    for number, points in enumerate(lines.values()):
        path = "M" + "L".join(f"{x(at):.1f} {y(value):.1f}" for at, value in points)
        if points:
            drawn.append(element("path", d=path, class_=f"line series{number}"))
    chart = element("svg", *drawn, viewBox=f"0 0 {_WIDTH:g} {_HEIGHT:g}", role="img", aria_label=", ".join(lines))
    return element("figure", chart, legend(list(lines)))


def _ticks(top: float, about: int) -> list[float]:
    """Return round numbers from 0 to the first one that is not less than `top`, about so many."""
    power: float = 10.0 ** math.floor(math.log10(top / about))
    step = next(one for one in _STEPS if one * power * about >= top * 0.999) * power
    return [step * number for number in range(math.ceil(top / step * 0.999) + 1)]


def legend(names: Sequence[str]) -> Element:
    """Return what the colors of series stand for."""
    items = [element("span", element("i", class_=f"swatch series{number}"), name) for number, name in enumerate(names)]
    return element("figcaption", *items)


def parts_bar(parts: Sequence[float], whole: float) -> Element:
    """Return a bar of parts beside each other; `whole` fills all of its width."""
    at, drawn = 0.0, []
    for number, part in enumerate(parts):
        width = 100 * part / (whole or 1.0)
        drawn.append(element("rect", x=at, y=0, width=width, height=10, class_=f"series{number}"))
        at += width
    options = {"viewBox": "0 0 100 10", "preserveAspectRatio": "none"}
    return element("svg", *drawn, class_="bar", aria_hidden="true", **options)
