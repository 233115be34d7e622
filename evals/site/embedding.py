"""An embedding: its versions, how its metrics went, what follows it; and a page of metrics for each suite."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

from .lineage import around
from .page import DEPENDENTS, Page, Route, comparison_path, embedding_path, metrics_path
from .pictures import kinds
from .rendering import render
from .trends import trends

if TYPE_CHECKING:
    from ...registry.types import Version
    from ..report.charts.chart import Chart
    from .known import Known


def routes(known: Known) -> Iterator[Route]:
    """Yield a page for each embedding, and for each suite that it was measured by."""
    for name in known.by_name:
        path = embedding_path(name)
        yield Route(path=path, inputs=partial(_inputs, known, name), make=partial(_page, known, path, name))
        for suite in suites_of(known, name):
            path = metrics_path(name, suite)
            yield Route(path=path, inputs=partial(_inputs_of_metrics, known, name, suite),
                        make=partial(_metrics, known, path, name, suite))  # fmt: skip


def suites_of(known: Known, name: str) -> list[str]:
    """Return the suites that gave numbers of an embedding, by name."""
    heads = [head for version in known.by_name[name] for head in known.heads.get(version.ref, ())]
    return sorted({head.suite for head in heads if head.status == "done"})


def _inputs(known: Known, name: str) -> object:
    line = known.by_name[name]
    return (
        line,
        [known.heads.get(version.ref) for version in line],
        [known.verdicts.get(version.ref) for version in line],
        known.moves(name),
        _protected(known, name),
        known.followers.get(name, []),
        around(known, name),
    )


def _inputs_of_metrics(known: Known, name: str, suite: str) -> object:
    line = known.by_name[name]
    heads = [head for version in line for head in known.heads.get(version.ref, ()) if head.suite == suite]
    return heads, [version.number for version in line], known.moves(name)


def _protected(known: Known, name: str) -> list[str]:
    """Return the aliases of an embedding that move by promotion only."""
    aliases = [alias for version in known.by_name[name] for alias in version.aliases]
    return [alias for alias in aliases if f"{name}@{alias}" in known.protections]


def _page(known: Known, path: str, name: str) -> Page:
    line = known.by_name[name]
    suites = suites_of(known, name)
    charts = [chart for suite in suites for chart in _charts(known, name, suite, leading=True)]
    followers = known.followers.get(name, [])
    return render(
        known, path, "embedding.html.j2", name,
        name=name,
        latest=line[-1],
        rows=[_row(known, version) for version in reversed(line)],
        aliases=[(alias, version) for version in line for alias in version.aliases],
        protected=_protected(known, name),
        moves=[*reversed(known.moves(name))],
        suites=[(suite, metrics_path(name, suite), _doc(known, suite)) for suite in suites],
        indexes=[i for i in known.indexes if i.tracks.rpartition("@")[0] == name],
        others=[d for d in followers if d.kind != "index"],
        dependents=DEPENDENTS,
        graph=around(known, name),
        charts=charts, kinds=kinds(charts), pictures=bool(charts),
    )  # fmt: skip


def _row(known: Known, version: Version) -> tuple[Version, str, str, object]:
    """Return a version, the one before it, where the two are compared, and its verdict."""
    before = known.neighbors[version.ref][0]
    path = comparison_path(before.ref, version.ref) if before else ""
    return version, before.ref if before else "", path, known.verdicts.get(version.ref)


def _metrics(known: Known, path: str, name: str, suite: str) -> Page:
    charts = _charts(known, name, suite)
    return render(
        known, path, "metrics.html.j2", f"{suite} of {name}",
        crumbs=[(name, embedding_path(name))],
        name=name, suite=suite, doc=_doc(known, suite),
        charts=charts, kinds=kinds(charts), pictures=bool(charts),
    )  # fmt: skip


def _charts(known: Known, name: str, suite: str, *, leading: bool = False) -> Sequence[Chart]:
    line = known.by_name[name]
    return trends(
        known.runs(name, suite),
        known.suites.get(suite),
        before={new.ref: old.ref for old, new in pairwise(line)},
        checks=known.checks,
        moves=known.moves(name),
        leading=leading,
    )


def _doc(known: Known, suite: str) -> str:
    found = known.suites.get(suite)
    return found.doc if found else "There is no suite of this name any more."
