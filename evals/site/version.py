"""A version: what it is, what the gate said, what was measured, where it came from, and how to go on."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from .. import recorded
from ..report import headline, remarkable
from ..report.rows import section
from . import comparison
from .known import related
from .lineage import of_version
from .page import Page, Route, comparison_path, embedding_path, version_path
from .pictures import kinds, pictures
from .rendering import render, word

if TYPE_CHECKING:
    from ...registry.types import Version
    from ..report.rows import Row, Section
    from .known import Known


def routes(known: Known) -> Iterator[Route]:
    """Yield a page for each version, and what it is compared with: both need the same runs."""
    for ref, version in known.by_ref.items():
        path = version_path(ref)
        yield Route(path=path, inputs=partial(_inputs, known, version),
                    make=partial(_page, known, path, version))  # fmt: skip
        yield from comparison.routes(known, version)


def _inputs(known: Known, version: Version) -> object:
    compared = known.compared(version)
    return (
        version,
        [other and other.ref for other in known.neighbors[version.ref]],
        known.heads.get(version.ref),
        [(other.ref, [head.id for head in known.heads.get(other.ref, ())]) for other in compared],
        known.verdicts.get(version.ref),
        related(known, version.ref),
    )


def _page(known: Known, path: str, version: Version) -> Page:
    compared = known.compared(version)
    theirs = known.runs(compared[0].ref) if compared else ()
    runs = recorded.newest(known.runs(version.ref), theirs, known.suites)
    record = known.verdicts.get(version.ref)
    verdict = recorded.rehydrated(record, known.suites) if record else None
    charts = pictures(runs, (), known.items)
    graph = of_version(known, version) if known.connected(version) else None
    before, after = known.neighbors[version.ref]
    return render(
        known, path, "version.html.j2", version.ref,
        crumbs=[(version.name, embedding_path(version.name))],
        version=version,
        space=[(key, value) for key, value in version.space.to_dict().items() if value not in (None, {}, "")],
        before=before, after=after,
        compared=[(other, comparison_path(other.ref, version.ref)) for other in compared],
        record=record, verdict=verdict,
        headline=headline(verdict) if verdict else "",
        reasons=remarkable(verdict) if verdict else [],
        sections=[
            _parted(section(run, theirs, known.suites.get(run.suite))) for run in runs if run.status == "done"
        ],
        not_done=[run for run in runs if run.status != "done"],
        graph=graph,
        commands=list(_commands(version, compared)),
        charts=charts, kinds=kinds(charts), pictures=bool(charts),
    )  # fmt: skip


def _parted(found: Section) -> tuple[Section, list[Row]]:
    """Return a run, and those of its rows that are slices and variants."""
    first = {id(row) for row in found.glance}
    return found, [row for row in found.rows if id(row) not in first]


def _commands(version: Version, compared: list[Version]) -> Iterator[tuple[str, str]]:
    """Yield what one may want to do with a version, and the command that does it."""
    ref = word(version.ref)
    yield "Measure it", f"embreg eval {ref}"
    yield "Hold it against the gate", f"embreg gate {ref}"
    for other in compared:
        yield f"Compare it with {other.ref}, test by test", f"embreg compare {word(other.ref)} {ref}"
    yield "Look at the neighbours of a row", f"embreg neighbors {ref} ID"
    yield "Look at the items behind a metric", f"embreg items {ref} --suite SUITE"
    yield "Write a report with all pictures", f"embreg report {ref} -o report.html"
    yield "Write its rows to a file", f"embreg export {ref} FILE"
