"""A small chart with two logarithmic axes, as SVG text that reads on light and on dark pages."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

#: Colours that stay apart for most kinds of colour blindness (after Wong 2011), on light and on dark ground.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#b05a8f", "#8a6d00", "#56788f")
_DARK = ("#5aaeea", "#ff9248", "#3fcf9f", "#e494c4", "#d9b53a", "#a3bccd")
_WIDTH, _HEIGHT = 420, 300
_LEFT, _TOP, _RIGHT, _BOTTOM = 62, 34, 14, 44
_ROW = 20
_DASHES = ("", "6 3", "2 3", "8 3 2 3", "1 2", "10 4")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Points (x, y), all positive, and what they are called."""

    name: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One pair of axes.

    Attributes:
        title, across, up: what is drawn, and along the two axes.
        lines: at most six; a name has one colour in all panels.
    """

    title: str
    across: str
    up: str
    lines: tuple[Line, ...]


def slope(points: Sequence[tuple[float, float]]) -> float | None:
    """Return the exponent b of the power law y = a x^b by least squares on logarithms; None below two x."""
    x, y = (np.log([point[i] for point in points]) for i in (0, 1))
    if len(points) < 2 or np.ptp(x) == 0:
        return None
    x = x - x.mean()
    return float(x @ y / (x @ x))


def svg(title: str, panels: Sequence[Panel]) -> str:
    """Return panels beside each other, and under them one legend for all."""
    names = list(dict.fromkeys(line.name for panel in panels for line in panel.lines))
    if len(names) > len(COLOURS):
        raise ValueError(f"{len(names)} lines, and {len(COLOURS)} colours")
    width, rows = _WIDTH * len(panels), math.ceil(len(names) / 2)
    height = _HEIGHT + _ROW * rows + 10
    body = [_panel(panel, names, _WIDTH * i) for i, panel in enumerate(panels)]
    body.append(_legend(names, width))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}"'
        f' height="{height}" role="img" aria-label="{escape(title)}">\n'
        f"<title>{escape(title)}</title>\n<style>{_style()}</style>\n" + "\n".join(body) + "\n</svg>\n"
    )


def _style() -> str:
    light = "".join(f".c{i}{{--c:{colour}}}" for i, colour in enumerate(COLOURS))
    dark = "".join(f".c{i}{{--c:{colour}}}" for i, colour in enumerate(_DARK))
    return (
        "text{font:12px system-ui,sans-serif;fill:#1b1f24}.quiet{fill:#59636e;font-size:11px}"
        ".title{font-weight:600;font-size:13px}.grid{stroke:#d5dae0;stroke-width:1}"
        ".line{fill:none;stroke:var(--c);stroke-width:2}.dot{fill:var(--c)}"
        f"{light}@media(prefers-color-scheme:dark){{text{{fill:#e4e8ed}}.quiet{{fill:#9aa5b1}}"
        f".grid{{stroke:#343c46}}{dark}}}"
    )


def _panel(panel: Panel, names: Sequence[str], shift: int) -> str:
    x_axis = _Axis.over([p[0] for line in panel.lines for p in line.points], _LEFT, _WIDTH - _RIGHT)
    y_axis = _Axis.over([p[1] for line in panel.lines for p in line.points], _HEIGHT - _BOTTOM, _TOP)
    parts = [f'<g transform="translate({shift},0)">', _text(_LEFT, 18, panel.title, "title", "start")]
    for tick in x_axis.ticks():
        at = x_axis.place(tick)
        parts.append(f'<path class="grid" d="M{at:.1f} {_TOP}V{_HEIGHT - _BOTTOM}"/>')
        parts.append(_text(at, _HEIGHT - _BOTTOM + 16, plain(tick), "quiet", "middle"))
    for tick in y_axis.ticks():
        at = y_axis.place(tick)
        parts.append(f'<path class="grid" d="M{_LEFT} {at:.1f}H{_WIDTH - _RIGHT}"/>')
        parts.append(_text(_LEFT - 6, at + 4, plain(tick), "quiet", "end"))
    parts.append(_text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 8, panel.across, "quiet", "middle"))
    parts.append(_text(_LEFT - 6, _TOP - 6, panel.up, "quiet", "end"))
    for line in panel.lines:
        i = names.index(line.name)
        places = [(x_axis.place(x), y_axis.place(y)) for x, y in line.points]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        parts.append(f'<g class="c{i}"><path class="line" stroke-dasharray="{_DASHES[i]}" d="M{path}"/>')
        parts += [f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in places]
        parts.append("</g>")
    return "\n".join([*parts, "</g>"])


def _legend(names: Sequence[str], width: int) -> str:
    parts = []
    for i, name in enumerate(names):
        x, y = _LEFT + i % 2 * (width - _LEFT) / 2, _HEIGHT + 10 + i // 2 * _ROW
        parts.append(
            f'<g class="c{i}"><path class="line" stroke-dasharray="{_DASHES[i]}" d="M{x:.0f} {y}h28"/>'
            f'<circle class="dot" cx="{x + 14:.0f}" cy="{y}" r="3"/></g>'
        )
        parts.append(_text(x + 36, y + 4, name, "", "start"))
    return "\n".join(parts)


def _text(x: float, y: float, text: str, kind: str, anchor: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


@dataclass(frozen=True, slots=True, kw_only=True)
class _Axis:
    """A logarithmic axis from ``low`` to ``high``, drawn from ``start`` to ``end``."""

    low: float
    high: float
    start: float
    end: float

    @classmethod
    def over(cls, values: Sequence[float], start: float, end: float) -> _Axis:
        """Return the axis that holds all values, with some room beside them."""
        low, high = min(values) / 1.3, max(values) * 1.3
        return cls(low=low, high=high, start=start, end=end)

    def place(self, value: float) -> float:
        share = math.log(value / self.low) / math.log(self.high / self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Return the powers of ten within, and where these are few the steps between them too."""
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        for steps in ((1,), (1, 3), (1, 2, 5)):
            found = [s * 10.0**p for p in powers for s in steps if self.low <= s * 10.0**p <= self.high]
            if len(found) >= 4:
                break
        return found


def plain(value: float) -> str:
    """Return a number as people write it on an axis: ``0.01``, ``20``, ``100k``, ``1M``."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"
