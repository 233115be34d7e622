"""A metric over versions, with the gate's bounds and the moves of aliases."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...figures import interval, named, number
from ..series import lines
from .chart import BAD, CLASSES, NOW, WARN, Chart, Kind
from .grammar import BOUNDED, SHAPES, Spec, apart, category, label, layer, quantity, short, slug

if TYPE_CHECKING:
    from ....registry.types import PastMove

Point = Mapping[str, Any]

KIND = Kind(
    name="history",
    title="Over versions",
    reading=(
        "Each point is the metric on one version, with its interval; dashed lines across are the bounds of "
        "the gate, dotted lines upright are versions that an alias went to. Points that stay within their "
        "neighbours' intervals are good; a step beyond them is a change of the embedding, and what was "
        "measured in another way is a line of its own."
    ),
)
_HEIGHT = 240
#: So many lines are drawn; the table has all of them. The intervals of more would cover each other.
_MOST, _MOST_INTERVALS = len(CLASSES), 3
_DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3])
#: Aliases that are named at a version.
_MOST_ALIASES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """A bound of the gate.

    Attributes:
        value: in the unit of the metric.
        kind: ``min`` or ``max``.
        severity: ``critical`` or ``warning``.
    """

    value: float
    kind: str
    severity: str = "critical"


def history(
    points: Sequence[Point],
    *,
    bounds: Sequence[Bound] = (),
    moves: Sequence[PastMove] = (),
    unit: str = "",
    better: str = "neither",
) -> Chart | None:
    """Return one metric over the versions of one embedding; None without points.

    What was measured in another way (labels, suite version, parameters, dataset contents) is another line.

    Args:
        points: entries of ``evals.report.documents.series(…)["series"]`` of one metric.
        bounds: of the gate, on this metric.
        moves: of aliases (``Registry.alias_history``); marked at the version that they went to.
        unit: of the metric.
        better: ``higher``, ``lower`` or ``neither``.
    """
    if not points:
        return None
    metric, common = str(points[0]["metric"]), _common(points)
    series = _series(points, common)
    return Chart(
        kind=KIND,
        name=slug(KIND.name, re.sub(r"[._@]", "-", metric), *common.values()),
        title=f"{short(metric)} ({named(common)})" if common else short(metric),
        text=_text(series, unit, better),
        spec=_spec(series, bounds, moves, unit),
        columns=("version", "measured as", "value", "interval", "n", "aliases that went there"),
        rows=_rows(series, moves, unit),
    )


def _common(points: Sequence[Point]) -> dict[str, str]:
    """Return the labels that all points bear, the baseline apart."""
    first = {k: v for k, v in points[0]["labels"].items() if k != "baseline"}
    return {k: v for k, v in first.items() if all(p["labels"].get(k) == v for p in points)}


def _series(points: Sequence[Point], common: Mapping[str, str]) -> dict[str, list[Point]]:
    """Return the points by what tells them from others of their version, in the order of versions."""
    bare = [{**p, "labels": {k: v for k, v in p["labels"].items() if k not in common}} for p in points]
    found: dict[tuple[Any, ...], list[Point]] = {}
    for point, name in zip(bare, lines(bare), strict=True):
        measured = (point["suite_version"], repr(sorted(point["params"].items())), point["dataset_digest"])
        found.setdefault((name, *measured), []).append(point)
    names = apart([key[0] or "value" for key in found])
    ordered = (sorted(own, key=lambda p: _number(p["ref"])) for own in found.values())
    return dict(zip(names, ordered, strict=True))


def _number(ref: str) -> int:
    told = ref.rpartition("@")[2]
    return int(told) if told.isdecimal() else 0


def _called(ref: str) -> str:
    return f"@{short(ref.rpartition('@')[2])}"


def _spec(
    series: Mapping[str, Sequence[Point]],
    bounds: Sequence[Bound],
    moves: Sequence[PastMove],
    unit: str,
) -> Spec:
    names = list(series)[:_MOST]
    points = [(name, p) for name in names for p in series[name]]
    values = [
        {"version": _called(p["ref"]), "series": name, "value": p["value"], "told": number(p["value"], unit)}
        | ({} if p["low"] is None or p["high"] is None else {"low": p["low"], "high": p["high"]})
        for name, p in points
    ]
    refs = {p["ref"] for _, p in points} | {move.new for move in moves if move.new}
    x = {
        "field": "version",
        "type": "ordinal",
        "title": _embedding(refs),
        "scale": {"domain": list(dict.fromkeys(_called(ref) for ref in sorted(refs, key=_number)))},
        "axis": {"labelAngle": 0, "labelOverlap": True, "grid": False},
    }
    scale = {"domain": _domain([*values, *({"value": b.value} for b in bounds)]), "nice": False}
    metric = short(str(points[0][1]["metric"]))
    y, low = (quantity(f, metric, scale=scale, axis={"tickCount": 6}) for f in ("value", "low"))
    hue, shape, dash = _looks(names)
    told = [{"field": "version"}, {"field": "told", "title": "value"}]
    told += [{"field": "series", "title": "measured as"}] if len(names) > 1 else []
    error = {"x": x, "y": low, "y2": {"field": "high"}, "color": hue}
    layers = [*_bounds(y, bounds, unit), *_moves(x, moves)]
    layers += (
        [layer("rule", error, where=BOUNDED, strokeWidth=5, opacity=0.25)]
        if len(names) <= _MOST_INTERVALS
        else []
    )
    layers += [
        layer("line", {"x": x, "y": y, "color": hue, "strokeDash": dash}),
        layer("point", {"x": x, "y": y, "color": hue, "shape": shape, "tooltip": told}, size=60, opacity=1),
    ]
    last = {"x": x, "y": y, "text": {"field": "told"}}
    layers += label(last, data=values[-1:], dx=9) if len(names) == 1 else []
    return {"height": _HEIGHT, "data": {"values": values}, "layer": layers}


def _embedding(refs: Iterable[str]) -> str:
    names = {ref.rpartition("@")[0] for ref in refs}
    return f"version of {short(names.pop())}" if len(names) == 1 else "version"


def _domain(values: Iterable[Point]) -> list[float]:
    """Return the ends of the axis, with room for a label above and below."""
    ends = [v[name] for v in values for name in ("value", "low", "high") if name in v]
    low, high = min(ends), max(ends)
    room = 0.1 * (high - low) or 0.1 * abs(high) or 1.0
    return [float(f"{low - room:.6g}"), float(f"{high + room:.6g}")]


def _looks(names: Sequence[str]) -> tuple[Spec, Spec, Spec]:
    """Return colour, shape and dashes by line; a single one needs no telling."""
    legend = {"title": None, "columns": 2, "labelLimit": 280, "symbolOpacity": 1} if len(names) > 1 else None
    ranges: tuple[Sequence[Any], ...] = (CLASSES if len(names) > 1 else (NOW,), SHAPES, _DASHES * 2)
    hue, shape, dash = (
        category("series", scale={"domain": list(names), "range": list(r[: len(names)])}, legend=legend)
        for r in ranges
    )
    return hue, shape, dash


def _bounds(y: Spec, bounds: Sequence[Bound], unit: str) -> list[Spec]:
    """Return lines across, each with its label on the side that is out of bounds."""
    layers: list[Spec] = []
    for bound in dict.fromkeys(bounds):
        warning = bound.severity == "warning"
        told = f"{'at least' if bound.kind == 'min' else 'at most'} {number(bound.value, unit)}"
        data = [{"value": bound.value, "told": f"{told} (warning)" if warning else told}]
        colour = WARN if warning else BAD
        layers.append(layer("rule", {"y": y}, data=data, strokeDash=[6, 4], color=colour, strokeWidth=1.5))
        text = {"y": y, "x": {"value": 4}, "text": {"field": "told"}, "color": {"value": colour}}
        layers += label(text, data=data, dy=9 if bound.kind == "min" else -9)
    return layers


def _moves(x: Spec, moves: Sequence[PastMove]) -> list[Spec]:
    """Return an upright line at each version that an alias went to, the names at its head."""
    data = [{"version": _called(ref), "told": told} for ref, told in _arrivals(moves).items()]
    if not data:
        return []
    head = {"x": x, "y": {"value": -2}, "text": {"field": "told"}}
    rule = layer("rule", {"x": x}, data=data, strokeDash=[1, 3], strokeWidth=1.5)
    return [rule, *label(head, data=data, align="center", baseline="bottom", fontSize=11, limit=140)]


def _arrivals(moves: Sequence[PastMove]) -> dict[str, str]:
    """Return the aliases that went to each version, in the order they did, as text."""
    found: dict[str, dict[str, None]] = {}
    for move in moves:
        if move.new:
            found.setdefault(move.new, {})[short(move.alias)] = None
    cut = {ref: list(names) for ref, names in found.items()}
    return {
        ref: ", ".join(names[:_MOST_ALIASES]) + (" …" if len(names) > _MOST_ALIASES else "")
        for ref, names in cut.items()
    }


def _text(series: Mapping[str, Sequence[Point]], unit: str, better: str) -> str:
    own = max(series.values(), key=len)
    values = [p["value"] for p in own]
    wanted = "" if better == "neither" else f" ({better} is better)"
    told = f"{number(values[-1], unit)} on {short(own[-1]['ref'])}"
    if len(values) > 1:
        told += f", between {number(min(values), unit)} and {number(max(values), unit)}"
        told += f" over {len(values):,} versions"
    more = f"; {len(series):,} lines in all" if len(series) > 1 else ""
    cut = f", of which the first {_MOST} are drawn" if len(series) > _MOST else ""
    return f"{short(own[0]['metric'])}{wanted}: {told}{more}{cut}."


def _rows(
    series: Mapping[str, Sequence[Point]], moves: Sequence[PastMove], unit: str
) -> list[tuple[str, ...]]:
    aliases = _arrivals(moves)
    return [
        (
            short(p["ref"]),
            name,
            number(p["value"], unit),
            interval(p["low"], p["high"], unit),
            f"{p['n']:,}",
            aliases.get(p["ref"], ""),
        )
        for name, own in series.items()
        for p in own
    ]
