"""Which pictures a page has: of recorded runs and their items, so that none costs more than reading them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from ..recorded import beside
from ..report.charts.chart import Chart, Kind
from ..report.charts.measured import Measured
from ..report.charts.occurrence import occurrence
from ..report.charts.pareto import pareto
from ..report.charts.sections import sections
from ..report.charts.similarity import similarity
from ..report.charts.spectrum import cumulative, spectrum
from ..report.charts.tradeoff import tradeoff

if TYPE_CHECKING:
    import pyarrow as pa

    from ...registry.types import RunRecord

    Single = Callable[[Measured, Measured | None], Chart | None]

#: Of each suite: its pictures, and whether they are drawn from items.
_SINGLE: dict[str, tuple[bool, tuple[Single, ...]]] = {
    "anisotropy": (True, (similarity, spectrum, cumulative)),
    "hubness": (True, (occurrence,)),
    "analogies": (False, (sections,)),
    "quantization": (False, (tradeoff,)),
}
#: Runs of one picture: recall against time has a point an index.
_TOGETHER = "index"


def pictures(
    runs: Sequence[RunRecord],
    baseline_runs: Sequence[RunRecord],
    opening: Callable[[str], pa.Table | None],
) -> list[Chart]:
    """Return the pictures of a version, beside those of another one where its runs are given.

    Args:
        runs: of the version, one a suite, dataset and index.
        baseline_runs: of the other version; none for the version alone.
        opening: returns items by their digest, None where they are gone.
    """
    done = [run for run in runs if run.status == "done"]
    pairs = [(run, beside(run, baseline_runs)) for run in done]
    found = list(_alone(pairs, opening))
    indexes = [(run, other) for run, other in pairs if run.suite == _TOGETHER]
    if indexes:
        before = [Measured(run=other) for _, other in indexes if other is not None]
        found.append(pareto([Measured(run=run) for run, _ in indexes], before))
    return list({chart.name: chart for chart in found if chart is not None}.values())


def _alone(
    pairs: Sequence[tuple[RunRecord, RunRecord | None]], opening: Callable[[str], pa.Table | None]
) -> Iterator[Chart | None]:
    def measured(run: RunRecord, *, items: bool) -> Measured:
        return Measured(run=run, items=opening(run.items) if items and run.items else None)

    for run, other in pairs:
        items, draws = _SINGLE.get(run.suite, (False, ()))
        if draws:
            now = measured(run, items=items)
            before = measured(other, items=items) if other else None
            yield from (draw(now, before) for draw in draws)


def kinds(charts: Sequence[Chart]) -> list[Kind]:
    """Return the kinds of some pictures, each once."""
    return list({chart.kind.name: chart.kind for chart in charts}.values())
