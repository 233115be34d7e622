"""The pictures of a report, each where it belongs: beside its suite, or with the rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..evidence import run_labels
from ..recorded import Lack, beside
from . import documents
from .charts.cloud import Cloud, clouds
from .charts.history import Bound, history
from .charts.measured import Measured
from .charts.norms import norms
from .charts.occurrence import occurrence
from .charts.pareto import pareto
from .charts.sections import sections
from .charts.similarity import similarity
from .charts.spectrum import cumulative, spectrum
from .charts.tradeoff import tradeoff
from .rows import glanced

if TYPE_CHECKING:
    from ...registry.types import MeasureRecord, RunRecord
    from ..config import Config
    from ..reporting import Report
    from ..suite import Suite
    from .charts.chart import Chart, Kind

Suites = Mapping[str, "Suite"]
#: The pictures of a suite, made from its run and the baseline's.
_OF_SUITE = {
    "analogies": (sections,),
    "anisotropy": (similarity, spectrum, cumulative),
    "hubness": (occurrence,),
    "quantization": (tradeoff,),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictures:
    """The pictures of a report.

    Attributes:
        of_runs: beside each run of the report, in the order of its runs.
        of_rows: the map, and the norms.
    """

    of_runs: tuple[tuple[Chart, ...], ...]
    of_rows: tuple[Chart, ...]

    @property
    def every(self) -> tuple[Chart, ...]:
        """All pictures, in the order of the page."""
        return (*(chart for own in self.of_runs for chart in own), *self.of_rows)

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of pictures there are, each once."""
        return tuple({chart.kind.name: chart.kind for chart in self.every}.values())


def pictures(report: Report, suites: Suites) -> Pictures:
    """Return every picture that a report has the data for."""
    taken: set[str] = set()
    indexed = [run for run in report.runs if run.suite == "index" and run.status == "done"]
    of_runs = []
    for run in report.runs:
        drawn: list[Chart | None] = []
        if run.status == "done":
            pair = _measured(run, report), _before(run, report)
            drawn += [make(*pair) for make in _OF_SUITE.get(run.suite, ())]
            drawn += [_pareto(indexed, report)] if indexed[:1] == [run] else []
            drawn += [_history(run, report, suites.get(run.suite))]
        of_runs.append(tuple(_named(drawn, taken)))
    return Pictures(of_runs=tuple(of_runs), of_rows=tuple(_named(_of_rows(report), taken)))


def _named(drawn: Iterable[Chart | None], taken: set[str]) -> Iterator[Chart]:
    """Yield the charts that there are, each under a name of its own."""
    for chart in drawn:
        if chart is None:
            continue
        name, n = chart.name, 1
        while name in taken:
            n += 1
            name = f"{chart.name}-{n}"
        taken.add(name)
        yield chart if name == chart.name else replace(chart, name=name)


def _measured(run: RunRecord, report: Report) -> Measured:
    return Measured(run=run, items=report.tables.get(run.items or ""))


def _before(run: RunRecord, report: Report) -> Measured | None:
    other = beside(run, report.baseline_runs)
    return _measured(other, report) if other is not None else None


def _pareto(runs: Sequence[RunRecord], report: Report) -> Chart | None:
    before = [found for run in runs if (found := _before(run, report)) is not None]
    return pareto([_measured(run, report) for run in runs], before)


def _history(run: RunRecord, report: Report, suite: Suite | None) -> Chart | None:
    """Return the measure that says most of a suite, over the versions, if it was measured of another one."""
    if run.baseline is not None or not run.measures:
        return None
    leading = run.measures[next(iter(glanced(run, suite)), 0)]
    metric = suite.metric(leading.metric) if suite else None
    about = run_labels(run, suite) if suite else {}
    same = [r for r in report.history if r.suite == run.suite and r.dataset == run.dataset]
    same = [r for r in same if not suite or run_labels(r, suite) == about]
    labels = dict(leading.labels) | ({"dataset": run.dataset} if run.dataset else {})
    points: list[dict[str, Any]] = [
        point | {"labels": labels | about}
        for point in documents.series(same, leading.metric)["series"]
        if point["labels"] == labels
    ]
    if len({point["ref"] for point in points}) < 2:
        return None
    return history(
        points,
        bounds=_bounds(run, leading, suite, report.config),
        moves=report.moves,
        unit=metric.unit if metric else "",
        better=str(metric.better) if metric else "neither",
    )


def _bounds(
    run: RunRecord, measure: MeasureRecord, suite: Suite | None, config: Config | None
) -> list[Bound]:
    """Return the hard bounds of the configuration on a measure."""
    metric = suite.metric(measure.metric) if suite else None
    if suite is None or metric is None or config is None:
        return []
    labels = dict(measure.labels) | run_labels(run, suite)
    return [
        Bound(value=value, kind=kind, severity=check.severity)
        for check in config.gates
        if check.suite == suite.name and check.name in (metric.name, measure.metric)
        if dict(check.labels).items() <= labels.items()
        for kind, value in (("min", check.min), ("max", check.max))
        if value is not None
    ]


def _of_rows(report: Report) -> Iterator[Chart | None]:
    if not isinstance(report.map, Lack):
        yield from clouds(
            Cloud(
                ref=report.version.ref,
                now=report.map.now,
                before_ref=report.baseline.ref if report.baseline else "",
                before=report.map.before,
                labels=report.map.labels,
                movement=report.map.movement,
                occurrence=report.map.occurrence,
            )
        )
    if not isinstance(report.norms, Lack):
        yield norms(*report.norms)
