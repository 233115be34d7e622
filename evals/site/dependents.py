"""Everything that follows a version: what is stale, why, what mends it; what each index finds, how fast."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from ..report.charts.measured import Measured
from ..report.charts.pareto import pareto
from .page import DEPENDENTS, Page, Route, slug
from .rendering import render

if TYPE_CHECKING:
    from ...registry.types import RunRecord
    from ..report.charts.chart import Chart
    from .known import Known

#: The suite that measures indexes.
_SUITE = "index"


def routes(known: Known) -> Iterator[Route]:
    """Yield the page."""
    yield Route(path=DEPENDENTS, inputs=lambda: (known.dependents, known.indexes, _heads(known)),
                make=lambda: _page(known))  # fmt: skip


def _heads(known: Known) -> list[int]:
    """Return the runs of the versions that indexes were built from."""
    built = dict.fromkeys(index.built_from for index in known.indexes)
    return [h.id for ref in built for h in known.heads.get(ref, ()) if h.suite == _SUITE]


def _page(known: Known) -> Page:
    pictures = [chart for name in known.by_name if (chart := _picture(known, name)) is not None]
    others = [d for d in known.dependents if d.kind != "index"]
    return render(
        known, DEPENDENTS, "dependents.html.j2", "What depends on embeddings",
        indexes=sorted(known.indexes, key=lambda i: (not i.stale, i.name)),
        remedies={d.name: d.remedy for d in known.dependents if d.kind == "index"},
        others=sorted(others, key=lambda d: (not d.stale, d.kind, d.name)),
        charts=pictures, pictures=bool(pictures),
    )  # fmt: skip


def _picture(known: Known, name: str) -> Chart | None:
    """Return recall against time of the indexes of an embedding, as far as they were measured."""
    built = {i.name: i.built_from for i in known.indexes if i.tracks.rpartition("@")[0] == name}
    newest: dict[str, RunRecord] = {}
    for ref in dict.fromkeys(built.values()):
        if any(head.suite == _SUITE for head in known.heads.get(ref, ())):
            for run in known.runs(ref):
                index = str(run.params.get("index", ""))
                if run.suite == _SUITE and run.status == "done" and built.get(index) == ref:
                    newest[index] = run
    chart = pareto([Measured(run=run) for run in newest.values()]) if newest else None
    return chart and replace(chart, name=f"{chart.name}-{slug(name)}", title=f"{chart.title}: {name}")
