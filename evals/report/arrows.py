"""Changes and what they mean: an arrow and a word, by the metric's own direction; colour adds nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from ...registry.errors import printable
from ..figures import change

if TYPE_CHECKING:
    from ..suite import Metric

#: The sign of a change and its colour.
ARROWS = {"better": ("▲", "green"), "worse": ("▼", "red"), "different": ("≠", "yellow")}
#: A change smaller than this share of the value is rounding.
_ROUNDING = 1e-6


def moved(value: float, before: float, metric: Metric | None) -> tuple[str, Text]:
    """Return a change as ``-.238`` and ``▼ worse``; no word where the metric has no direction."""
    by, unit = value - before, metric.unit if metric else ""
    if abs(by) <= _ROUNDING * max(abs(value), abs(before)):
        return "0", Text("=")
    better = "neither" if metric is None else str(metric.better)
    if better == "neither":
        return change(by, unit), Text()
    word = "better" if (by > 0) is (better == "higher") else "worse"
    sign, style = ARROWS[word]
    return change(by, unit), Text(f"{sign} {word}", style=style)


def legend(before: str | None) -> list[Text]:
    """Return what the arrows mean; nothing where there was nothing to compare with."""
    if before is None:
        return []
    told = f"▲ better, ▼ worse than {printable(before, 140)} by the metric's own direction; = unchanged"
    return [Text(told, style="dim")]
