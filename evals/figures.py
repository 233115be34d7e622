"""How numbers and labels are written for people, the same on every page."""

from __future__ import annotations

import math
from collections.abc import Mapping

from ..registry.errors import printable

#: Units of numbers that lie between -1 and 1, and are written without the zero before the point.
_WITHIN_ONE = frozenset({"share", "cosine", "correlation"})


def number(value: float, unit: str = "") -> str:
    """Return ``value`` with about four significant digits, ``18,203`` grouped, shares as ``.462``.

    What lies between -1 and 1 by its unit has three decimals, and up to six where fewer would shift
    it by more than 5% of its distance from 0 or from 1.
    """
    if not math.isfinite(value):
        return str(value)
    if unit in _WITHIN_ONE and abs(value) <= 1:
        return _within_one(value)
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    if 1e4 <= abs(value) < 1e15:
        return f"{value:,.0f}"
    return f"{value:.4g}" if 1e-4 <= abs(value) < 1e15 else f"{value:.3e}"


def _within_one(value: float) -> str:
    if value in (0, 1, -1):
        return f"{value:.0f}"
    room = 0.05 * min(abs(value), 1 - abs(value))
    texts = (f"{value:.{decimals}f}" for decimals in (3, 4, 5, 6))
    near = (text for text in texts if abs(float(text) - value) <= room)
    extreme = f"{value:.3e}" if abs(value) < 0.5 else f"{value:.9g}"
    return next(near, extreme).replace("0.", ".", 1)


def change(value: float, unit: str = "") -> str:
    """Return a difference with its sign, ``+.012`` or ``-3``; no change is ``0``."""
    return ("+" if value > 0 else "-" if value < 0 else "") + number(abs(value), unit)


def interval(low: float | None, high: float | None, unit: str = "") -> str:
    """Return ``[.455, .469]``, or nothing where no interval is known."""
    if low is None or high is None:
        return ""
    return f"[{number(low, unit)}, {number(high, unit)}]"


def p_value(p: float) -> str:
    """Return ``p = .012``, or ``p < .001``."""
    return "p < .001" if p < 0.001 else f"p = {number(p, 'share')}"


def named(labels: Mapping[str, str]) -> str:
    """Return ``group=total, dataset=google`` in the order given, safe to print."""
    return ", ".join(f"{printable(k, 60)}={printable(v, 60)}" for k, v in labels.items())
