"""What a picture is: a specification with its data, the same in words, and the same as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

#: Colours by role, as the style sheet names them: the page follows light, dark and print by itself.
INK, QUIET, LINE, PAGE = "var(--ink)", "var(--quiet)", "var(--line)", "var(--page)"
#: This version, and the one that it is held against.
NOW, BEFORE = "var(--bar)", "var(--before)"
GOOD, BAD, WARN = "var(--good)", "var(--bad)", "var(--warn)"
#: Classes that have no order: told apart by people who confuse red and green, on white and on black
#: (Okabe & Ito 2008, without black and yellow).
CLASSES = ("#0090d0", "#e08a00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8c7ae6", "#7f8c8d")
#: What grows: to be seen on white and on black, and in grey by the size of its marks.
RAMP = ("#5f83a3", "#c07a12", "#cc1f6a")

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
CONFIG: Mapping[str, Any] = {
    "aria": False,  # the element that holds the picture says what it shows
    "mark": {"aria": False},
    "background": "transparent",
    "font": "system-ui, sans-serif",
    "view": {"stroke": None, "continuousHeight": 240, "discreteHeight": 240},
    "axis": {
        "labelColor": QUIET,
        "titleColor": INK,
        "domainColor": LINE,
        "gridColor": LINE,
        "tickColor": LINE,
        "gridOpacity": 0.6,
        "titleFontWeight": "normal",
        "labelFontSize": 12,
        "titleFontSize": 12,
    },
    "legend": {
        "labelColor": INK,
        "titleColor": INK,
        "orient": "top",
        "titleFontWeight": "normal",
        "labelFontSize": 12,
        "titleFontSize": 12,
    },
    "header": {"labelColor": INK, "titleColor": INK},
    "text": {"color": INK},
    "rule": {"color": QUIET},
    "bar": {"color": NOW},
    "line": {"color": NOW, "strokeWidth": 2},
    "point": {"color": NOW, "filled": True},
    "area": {"color": NOW},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of picture.

    Attributes:
        name: a slug, such as ``similarity``; where its reading stands.
        title: the heading.
        reading: what it shows and what is good or bad about it, in two sentences.
    """

    name: str
    title: str
    reading: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A picture of something that was measured.

    Attributes:
        kind: what it is.
        name: a slug, the only one of its name on a page: an anchor, and the name of a file.
        title: the heading; of its kind unless something tells it from others of the kind.
        text: what is to be seen, in words made from the data: for those who cannot see it.
        spec: a Vega-Lite specification with its data, without ``config``; texts in it are safe to print.
        columns: headings of the data as a table.
        rows: the data as a table, texts and numbers as they are written for people.
    """

    kind: Kind
    name: str
    title: str
    text: str
    spec: Mapping[str, Any]
    columns: Sequence[str]
    rows: Sequence[Sequence[str]] = field(default=())

    def full_spec(self) -> dict[str, Any]:
        """Return the specification as Vega-Lite reads it, as wide as its place unless it is several views."""
        fitted = {"width": "container", "autosize": {"type": "fit-x", "contains": "padding"}}
        whole = {"$schema": SCHEMA, "config": CONFIG}
        return whole | ({} if "hconcat" in self.spec else fitted) | dict(self.spec)
