"""One self-contained HTML page: opens offline, asks nobody for anything, runs no script.

Every text that reaches the page passes ``printable`` (so control and bidirectional marks are visible
escapes) and jinja2's escaping.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...registry.errors import printable
from ..evidence import Missing, comparable
from ..figures import change, interval, named, number, p_value
from ..suite import Better
from . import SIGNS, headline, remarkable

if TYPE_CHECKING:
    from datetime import datetime

    from jinja2 import Environment

    from ...registry.types import Diff, IndexState, MeasureRecord, RunRecord
    from ..gate import Verdict
    from ..suite import Metric, Suite

_TEMPLATES = Path(__file__).parent / "templates"
_MOST_CHARACTERS = 600
_ROUNDING = 1e-6
_BAR = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bar:
    """A measure within its metric's range, in hundredths: the value, its interval, the baseline."""

    value: float
    low: float | None
    high: float | None
    baseline: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """A measure beside its baseline, as it is written."""

    metric: str
    doc: str
    labels: str
    value: str
    interval: str
    n: str
    baseline: str
    change: str
    judged: str
    bar: _Bar | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Section:
    """A run and its rows; ``compared`` says with what, or why with nothing."""

    run: RunRecord
    rows: list[_Row]
    absent: list[str]
    compared: str


def gate_page(
    verdict: Verdict | None,
    *,
    runs: Sequence[RunRecord],
    baseline_runs: Sequence[RunRecord],
    suites: Mapping[str, Suite],
    diff: Diff | None,
    indexes: Sequence[IndexState],
    generated: datetime,
    title: str,
) -> str:
    """Return the page: verdict and reasons, what changed, stale indexes, checks, metrics, digests.

    Args:
        verdict: the gate's answer; None for a page that only reports.
        runs: of the version the page is about.
        baseline_runs: of the version it is compared with; only comparable ones are used.
        suites: by name, for units, ranges and directions; runs of others are shown without.
        diff: from the baseline to the version.
        indexes: those that follow the embedding.
        generated: when; the page has no other clock.
        title: of the page.
    """
    return str(
        environment()
        .get_template("gate.html.j2")
        .render(
            verdict=verdict,
            reasons=remarkable(verdict) if verdict else [],
            headline=headline(verdict) if verdict else "",
            sections=[
                _section(run, baseline_runs, suites.get(run.suite)) for run in runs if run.status == "done"
            ],
            not_done=[run for run in runs if run.status != "done"],
            diff=diff,
            indexes=sorted(indexes, key=lambda index: (not index.stale, index.name)),
            digests=_digests([*runs, *baseline_runs]),
            generated=f"{generated:%Y-%m-%d %H:%M %Z}".strip(),
            title=title,
        )
    )


@cache
def environment() -> Environment:
    """Return the templates of this folder; what they print is made visible, and escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    from .charts.drawn import spec_json

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "change": change, "named": named, "p": p_value}
    environment.filters |= {"interval": lambda check: interval(check.low, check.high, check.unit)}
    environment.filters["spec"] = lambda chart: Markup(spec_json(chart))  # noqa: S704 - no '<' is left in it
    environment.globals["signs"] = SIGNS
    return environment


def _visible(value: Any) -> Any:
    """Make a text visible before jinja2 escapes it; markup of our own macros stays."""
    if isinstance(value, str) and not hasattr(value, "__html__"):
        return printable(str(value), _MOST_CHARACTERS)
    return value


def _section(run: RunRecord, baseline_runs: Sequence[RunRecord], suite: Suite | None) -> _Section:
    other = None if run.baseline else comparable(run, baseline_runs)
    theirs = {} if other is None or isinstance(other, Missing) else _by_name(other)
    return _Section(
        run=run,
        rows=[_row(m, theirs.get(_key(m)), suite) for m in run.measures],
        absent=[absence(entry) for entry in run.absent],
        compared=_compared(run, other),
    )


def _compared(run: RunRecord, other: RunRecord | Missing | None) -> str:
    if run.baseline is not None:
        return f"measured against {run.baseline}"
    if isinstance(other, Missing):
        return f"without a baseline: {other.reason}"
    return f"compared with {other.version}" if other else ""


def _key(measure: MeasureRecord) -> tuple[str, frozenset[tuple[str, str]]]:
    return measure.metric, frozenset(measure.labels.items())


def _by_name(run: RunRecord) -> dict[tuple[str, frozenset[tuple[str, str]]], MeasureRecord]:
    return {_key(measure): measure for measure in run.measures}


def _row(measure: MeasureRecord, baseline: MeasureRecord | None, suite: Suite | None) -> _Row:
    metric = suite.metric(measure.metric) if suite else None
    unit = metric.unit if metric else ""
    moved = None if baseline is None else measure.value - baseline.value
    return _Row(
        metric=measure.metric,
        doc=metric.doc if metric else "",
        labels=named(measure.labels),
        value=number(measure.value, unit),
        interval=interval(measure.low, measure.high, unit),
        n=f"{measure.n:,}",
        baseline="" if baseline is None else number(baseline.value, unit),
        change="" if moved is None else change(moved, unit),
        judged="" if moved is None else _judged(moved, max(1.0, abs(measure.value)), metric),
        bar=_bar(measure, baseline, metric),
    )


def _judged(moved: float, scale: float, metric: Metric | None) -> str:
    """Return ``better`` or ``worse`` by the metric's direction, or nothing where only rounding moved."""
    if metric is None or metric.better is Better.NEITHER or abs(moved) <= _ROUNDING * scale:
        return ""
    return "better" if (moved > 0) is (metric.better is Better.HIGHER) else "worse"


def _bar(measure: MeasureRecord, baseline: MeasureRecord | None, metric: Metric | None) -> _Bar | None:
    if metric is None or metric.low is None or metric.high is None:
        return None
    low, span = metric.low, metric.high - metric.low
    if not (math.isfinite(measure.value) and math.isfinite(span) and span > 0):
        return None

    def at(value: float | None) -> float | None:
        if value is None:
            return None
        return round(_BAR * min(1.0, max(0.0, (value - low) / span)), 2)

    return _Bar(
        value=at(measure.value) or 0.0,
        low=at(measure.low),
        high=at(measure.high),
        baseline=at(baseline.value if baseline else None),
    )


def absence(entry: Mapping[str, Any]) -> str:
    """Return which metric a run has no value of, and why."""
    labels = named(entry.get("labels") or {})
    return f"{entry['metric']}{f' ({labels})' if labels else ''}: {entry['reason']}"


def _digests(runs: Sequence[RunRecord]) -> list[tuple[str, str]]:
    """Return what the page rests on, each once: versions and datasets with their digests."""
    named_so: dict[tuple[str, str], None] = {}
    for run in runs:
        named_so[run.version, run.version_digest] = None
        if run.baseline and run.baseline_digest:
            named_so[run.baseline, run.baseline_digest] = None
        if run.dataset and run.dataset_digest:
            named_so[f"dataset {run.dataset}", run.dataset_digest] = None
    return list(named_so)
