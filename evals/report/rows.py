"""Measures beside their baseline, as they are written on a page: texts, and bars within a metric's range."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..evidence import Missing, comparable
from ..figures import change, interval, named, number
from ..glance import at_a_glance
from ..suite import Better

if TYPE_CHECKING:
    from ...registry.types import MeasureRecord, RunRecord
    from ..suite import Metric, Suite

_ROUNDING = 1e-6
_BAR = 100
#: So many rows are a glance; the others stand below.
_MOST_AT_A_GLANCE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A measure within its metric's range, in hundredths: the value, its interval, the baseline."""

    value: float
    low: float | None
    high: float | None
    baseline: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A measure beside its baseline, as it is written.

    Attributes:
        doc: what the metric is, in one sentence.
        judged: ``better``, ``worse``, or nothing.
        bar: None where the metric has no range.
    """

    metric: str
    doc: str
    labels: str
    value: str
    interval: str
    n: str
    baseline: str
    change: str
    judged: str
    bar: Bar | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A run and its rows.

    Attributes:
        run: the run.
        doc: what the suite asks.
        glance: the rows that say most.
        rows: all of them.
        absent: which metrics have no value, and why.
        against: the version whose values stand beside; None where none do.
        compared: with what it is compared, or why with nothing.
    """

    run: RunRecord
    doc: str
    glance: Sequence[Row]
    rows: Sequence[Row]
    absent: Sequence[str]
    against: str | None
    compared: str

    @property
    def title(self) -> str:
        """The suite, and what it was run on."""
        index = self.run.params.get("index")
        on = f" on {self.run.dataset}" if self.run.dataset else f" of {index}" if index else ""
        return f"{self.run.suite}{on}"


def section(run: RunRecord, baseline_runs: Sequence[RunRecord], suite: Suite | None) -> Section:
    """Return a run that is done, beside the run of the baseline that it may be compared with."""
    other = None if run.baseline else comparable(run, baseline_runs)
    there = other if other is not None and not isinstance(other, Missing) else None
    theirs = {_key(m): m for m in there.measures} if there else {}
    rows = [row(m, theirs.get(_key(m)), suite) for m in run.measures]
    return Section(
        run=run,
        doc=suite.doc if suite else "",
        glance=[rows[at] for at in glanced(run, suite)],
        rows=rows,
        absent=[absence(entry) for entry in run.absent],
        against=there.version if there else None,
        compared=_compared(run, other),
    )


def glanced(run: RunRecord, suite: Suite | None) -> list[int]:
    """Return the places of the measures of a run that say most, in the order that the suite declares."""
    names = [declared(measure.metric, suite) for measure in run.measures]
    order = {metric.name: at for at, metric in enumerate(suite.metrics)} if suite else {}
    places = at_a_glance([(name, m.labels) for name, m in zip(names, run.measures, strict=True)])
    return sorted(places, key=lambda at: order.get(names[at], len(order)))[:_MOST_AT_A_GLANCE]


def row(measure: MeasureRecord, baseline: MeasureRecord | None, suite: Suite | None) -> Row:
    """Return a measure as it is written, beside that of the baseline."""
    metric = suite.metric(measure.metric) if suite else None
    unit = metric.unit if metric else ""
    moved = None if baseline is None else _moved(measure.value, baseline.value)
    return Row(
        metric=measure.metric,
        doc=metric.doc if metric else "",
        labels=named(measure.labels),
        value=number(measure.value, unit),
        interval=interval(measure.low, measure.high, unit),
        n=f"{measure.n:,}",
        baseline="" if baseline is None else number(baseline.value, unit),
        change="" if moved is None else change(moved, unit),
        judged="" if moved is None else _judged(moved, metric),
        bar=_bar(measure, baseline, metric),
    )


def absence(entry: Mapping[str, Any]) -> str:
    """Return which metric a run has no value of, and why."""
    labels = named(entry.get("labels") or {})
    return f"{entry['metric']}{f' ({labels})' if labels else ''}: {entry['reason']}"


def _compared(run: RunRecord, other: RunRecord | Missing | None) -> str:
    if run.baseline is not None:
        return f"measured against {run.baseline}"
    if isinstance(other, Missing):
        return f"not compared: {other.reason.removeprefix('not comparable: ')}"
    return f"compared with {other.version}" if other else ""


def _key(measure: MeasureRecord) -> tuple[str, frozenset[tuple[str, str]]]:
    return measure.metric, frozenset(measure.labels.items())


def declared(name: str, suite: Suite | None) -> str:
    """Return a metric's name as its suite declares it: ``recall@k`` of ``recall@10``."""
    metric = suite.metric(name) if suite else None
    return metric.name if metric else name


def _moved(value: float, before: float) -> float:
    """Return the difference, 0 where only rounding moved."""
    moved = value - before
    return moved if abs(moved) > _ROUNDING * max(1.0, abs(value)) else 0.0


def _judged(moved: float, metric: Metric | None) -> str:
    """Return ``better`` or ``worse`` by the metric's direction, or nothing."""
    if metric is None or metric.better is Better.NEITHER or not moved:
        return ""
    return "better" if (moved > 0) is (metric.better is Better.HIGHER) else "worse"


def _bar(measure: MeasureRecord, baseline: MeasureRecord | None, metric: Metric | None) -> Bar | None:
    if metric is None or metric.low is None or metric.high is None:
        return None
    low, span = metric.low, metric.high - metric.low
    if not (math.isfinite(measure.value) and math.isfinite(span) and span > 0):
        return None

    def at(value: float | None) -> float | None:
        if value is None:
            return None
        return round(_BAR * min(1.0, max(0.0, (value - low) / span)), 2)

    return Bar(
        value=at(measure.value) or 0.0,
        low=at(measure.low),
        high=at(measure.high),
        baseline=at(baseline.value if baseline else None),
    )
