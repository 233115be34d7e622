"""What the checks of a gate would do, for a terminal and as a document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.text import Text

from ...registry.errors import printable
from ..explaining import LATER
from ..figures import named, number
from .tables import Cell, table

if TYPE_CHECKING:
    from ..explaining import Explained, Explanation, Limit

_COLUMNS = ("check", "asked", "judged", ">baseline", "fails", ">can see", "severity?", "missing??", ">line")


def document(given: Explanation) -> dict[str, Any]:
    """Return plain JSON values."""
    return {
        "ref": given.ref,
        "baseline": given.baseline,
        "config": given.config,
        "warnings": list(given.doubts),
        "checks": [_check(check) for check in given.checks],
    }


def view(given: Explanation) -> RenderableType:
    """Return the checks as a table: what is asked, how it is judged, and from where it fails."""
    against = f"against {printable(given.baseline, 140)}" if given.baseline else "against nothing"
    head = f"{printable(given.ref, 140)} {against}, by {printable(given.config)}: nothing is judged here"
    lines: list[RenderableType] = [Text(head), Text(), table(_COLUMNS, map(_row, given.checks))]
    if any(map(_later, given.checks)):
        lines.append(Text(f"? unknown until measured: embreg gate {printable(given.ref, 140)}", style="dim"))
    lines += [Text(f"! {printable(doubt, 500)}", style="yellow") for doubt in given.doubts]
    return Group(*lines)


def _row(check: Explained) -> list[Cell]:
    labels = f" ({named(check.labels)})" if check.labels else ""
    how = f"{check.how}; {check.unknown}" if check.unknown and not _later(check) else check.how
    return [
        printable(check.metric) + labels,
        check.bound,
        how,
        None if check.baseline is None else number(check.baseline, check.unit),
        ", ".join(_limit(limit, check.unit) for limit in check.limits) or ("?" if _later(check) else None),
        _seen(check),
        check.severity,
        check.on_missing,
        check.line,
    ]


def _later(check: Explained) -> bool:
    return check.unknown == LATER


def _seen(check: Explained) -> str | None:
    if check.detectable is not None:
        return number(check.detectable, check.unit)
    return "?" if _later(check) and any(limit.tested for limit in check.limits) else None


def _limit(limit: Limit, unit: str) -> str:
    sign = "<" if limit.side == "below" else ">"
    return f"{sign} {number(limit.value, unit)}{' if significant' if limit.tested else ''}"


def _check(check: Explained) -> dict[str, Any]:
    return {
        "metric": check.metric,
        "labels": dict(check.labels),
        "bound": check.bound,
        "how": check.how,
        "baseline": check.baseline,
        "limits": [{"side": x.side, "value": x.value, "tested": x.tested} for x in check.limits],
        "detectable": check.detectable,
        "unknown": check.unknown,
        "severity": check.severity,
        "on_missing": check.on_missing,
        "line": check.line,
    }
