"""Metrics over the versions of an embedding, with the bounds of the gate and the moves of aliases."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..glance import at_a_glance
from ..report import documents
from ..report.charts.history import Bound, history

if TYPE_CHECKING:
    from ...registry.types import PastMove, RunRecord
    from ..config import Check
    from ..report.charts.chart import Chart
    from ..suite import Metric, Suite

Point = dict[str, Any]
#: What tells points of one version apart, and is no property of the metric.
_OF_RUNS = frozenset({"dataset", "baseline"})


def trends(
    runs: Sequence[RunRecord],
    suite: Suite | None,
    *,
    before: Mapping[str, str],
    checks: Sequence[Check] = (),
    moves: Sequence[PastMove] = (),
    leading: bool = False,
) -> list[Chart]:
    """Return a picture of every metric that a suite was measured by, in the order of the suite.

    Args:
        runs: of one suite on the versions of one embedding, the oldest version first.
        suite: for units and directions; None where it is gone.
        before: the version before each: of comparisons those with it are shown.
        checks: of the gate.
        moves: of aliases.
        leading: only the metric that stands first.
    """
    points = _stepwise(documents.series(runs, None)["series"], before)
    by_metric: dict[str, list[Point]] = {}
    for point in _at_a_glance(points, suite):
        by_metric.setdefault(point["metric"], []).append(point)
    order = [m.name for m in suite.metrics] if suite else []
    names = sorted(by_metric, key=lambda name: _place(name, suite, order))
    drawn = (_trend(by_metric[name], suite, checks, moves) for name in (names[:1] if leading else names))
    return [chart for chart in drawn if chart is not None]


def _trend(
    points: Sequence[Point], suite: Suite | None, checks: Sequence[Check], moves: Sequence[PastMove]
) -> Chart | None:
    metric = _metric(points[0], suite)
    return history(
        points,
        bounds=list(_bounds(points, metric, checks)),
        moves=moves,
        unit=metric.unit if metric else "",
        better=str(metric.better) if metric else "neither",
    )


def _bounds(points: Sequence[Point], metric: Metric | None, checks: Sequence[Check]) -> Iterator[Bound]:
    """Yield the bounds of checks on this metric that pick one of the points."""
    own = points[0]["metric"]
    suite = own.partition(".")[0]
    names = {own, f"{suite}.{metric.name}"} if metric else {own}
    for check in checks:
        picked = any(dict(check.labels).items() <= point["labels"].items() for point in points)
        if check.metric in names and picked:
            for kind, value in (("min", check.min), ("max", check.max)):
                if value is not None:
                    yield Bound(value=value, kind=kind, severity=check.severity)


def _stepwise(points: Sequence[Point], before: Mapping[str, str]) -> list[Point]:
    """Return points without baselines: of what compares two versions, only the step from the one before."""
    found = []
    for point in points:
        baseline = point["labels"].get("baseline")
        if baseline is None:
            found.append(point)
        elif baseline == before.get(point["ref"]):
            labels = {k: v for k, v in point["labels"].items() if k != "baseline"}
            found.append(point | {"labels": labels})
    return found


def _at_a_glance(points: Sequence[Point], suite: Suite | None) -> Iterator[Point]:
    """Yield the points that are no slices and variants, as a listing of metrics shows them."""
    by_run: dict[Any, list[Point]] = {}
    for point in points:
        by_run.setdefault(point["run"], []).append(point)
    declared = {p["metric"]: _declared(p, suite) for p in points}
    for own in by_run.values():
        named = [(declared[p["metric"]], _own_labels(p)) for p in own]
        yield from (own[at] for at in at_a_glance(named))


def _own_labels(point: Point) -> dict[str, str]:
    return {k: v for k, v in point["labels"].items() if k not in _OF_RUNS}


def _metric(point: Point, suite: Suite | None) -> Metric | None:
    return suite.metric(point["metric"].partition(".")[2]) if suite else None


def _declared(point: Point, suite: Suite | None) -> str:
    metric = _metric(point, suite)
    return metric.name if metric else str(point["metric"])


def _place(name: str, suite: Suite | None, order: Sequence[str]) -> int:
    metric = suite.metric(name.partition(".")[2]) if suite else None
    return order.index(metric.name) if metric else len(order)
