"""The floor of a drift for a terminal and as a document."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from ...registry.errors import printable
from ..figures import named, number
from . import documents
from .tables import table

if TYPE_CHECKING:
    from ..flooring import FloorReport
    from ..suite import Suite


def document(report: FloorReport) -> documents.Document:
    """Return a drift with its floor."""
    floors = [
        {"metric": f.metric, "labels": dict(f.labels), "value": f.value, "noise": f.noise, "halves": f.halves,
         "seeds": f.seeds, "splits": f.splits, "alike": report.furthest(f)}
        for f in report.floors
    ]  # fmt: skip
    alike = [{"ref": r.version, "verdict": r.verdict} for r in report.alike]
    return documents.drift(report.run) | {"floor": floors, "alike": alike}


def view(report: FloorReport, suite: Suite) -> RenderableType:
    """Return the numbers of a drift with what is noise in them."""
    run = report.run
    head = Text.assemble(
        ("drift", "bold"), f" of {printable(run.version)} from {printable(run.baseline or '')}"
    )
    head.append(f": {printable(run.verdict or run.reason)}", style="bold")
    columns = ["metric", "labels", ".value", ".± noise", *([".alike"] if report.alike else [])]
    rows = []
    for f in report.floors:
        metric = suite.metric(f.metric)
        unit = metric.unit if metric else ""
        row = [f.metric, named(f.labels), number(f.value, unit), number(f.noise, unit)]
        furthest = report.furthest(f)
        rows.append([*row, "" if furthest is None else number(furthest, unit)] if report.alike else row)
    notes = [f"± noise at {run.confidence:g}: from random halves of the shared rows, and from other seeds"]
    notes += (
        [f"alike: the worst of {', '.join(printable(r.version) for r in report.alike)}"]
        if report.alike
        else []
    )
    return Group(head, table(columns, rows), *(Text(f"  {note}", style="dim") for note in notes))
