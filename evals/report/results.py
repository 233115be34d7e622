"""Results for a notebook: aligned text without colours, and HTML without script or outside request.

Both show what says most of each suite; the rest is in the tables that a result gives.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING

from ...registry.errors import printable
from ..comparison import Mark
from ..figures import change, interval, named, number
from ..glance import at_a_glance
from . import comparison as side_by_side
from . import console
from . import rows as written
from .arrows import ARROWS
from .html import environment

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ...registry.types import RunRecord
    from ..comparison import Cell, Comparison, Row
    from ..suite import Suite

#: Characters in a line; what stands side by side may need more.
_WIDTH, _WIDEST = 110, 200
_MOST_ABSENT = 4
#: Measures that are shown of each of several runs.
_MOST_OF_MANY = 12
Suites = Mapping[str, "Suite"]


def runs_text(runs: Sequence[RunRecord], notes: Sequence[str], suites: Suites) -> str:
    """Return runs as text, one below the other; skipped ones with their reason at the end."""
    if not runs:
        return "nothing was measured"
    shown = console.runs(_at_first_sight(runs, suites), suites=suites)
    return "\n".join([_text(shown), *(f"  {printable(note, 500)}" for note in notes)])


def comparison_text(given: Comparison, notes: Sequence[str], suites: Suites) -> str:
    """Return a comparison as text."""
    shown, more = _headlines(given, suites)
    told = [f"{more:,} more rows (slices and variants): to_arrow()"] if more else []
    lines = [*told, *(printable(note, 500) for note in notes)]
    return "\n".join([_text(side_by_side.comparison(shown), _WIDEST), *lines])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Section:
    """A run as it is written."""

    run: RunRecord
    lines: list[written.Row]
    below: list[str]


def runs_html(runs: Sequence[RunRecord], notes: Sequence[str], suites: Suites) -> str:
    """Return runs as a piece of HTML: a table for each, then what was not done and why."""
    sections = [_section(run, suites) for run in _at_first_sight(runs, suites) if run.status == "done"]
    others = [run for run in runs if run.status != "done"]
    template = environment().get_template("results.html.j2")
    return str(template.render(sections=sections, others=others, notes=notes, comparison=None))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Compared:
    """The rows of one suite on one dataset, as they are written: texts, and the class of each change."""

    suite: str
    dataset: str | None
    verdicts: list[str]
    rows: list[tuple[str, str, list[tuple[str, str, str, str]]]]


def comparison_html(given: Comparison, notes: Sequence[str], suites: Suites) -> str:
    """Return a comparison as a piece of HTML: a table for each suite and dataset."""
    shown, more = _headlines(given, suites)
    groups = groupby(shown.rows, key=lambda row: (row.suite, row.dataset))
    template = environment().get_template("results.html.j2")
    return str(
        template.render(
            comparison=given,
            compared=[_compared(given, suite, dataset, list(rows)) for (suite, dataset), rows in groups],
            others=given.left_out,
            notes=[*([f"{more:,} more rows (slices and variants): to_arrow()"] if more else []), *notes],
        )
    )


def _text(shown: RenderableType, width: int = _WIDTH) -> str:
    from rich.console import Console

    sink = io.StringIO()
    Console(file=sink, width=width, color_system=None, highlight=False, force_terminal=False).print(shown)
    return "\n".join(line.rstrip() for line in sink.getvalue().rstrip().split("\n"))


def _at_first_sight(runs: Sequence[RunRecord], suites: Suites) -> list[RunRecord]:
    """Return runs with the measures that say most, and a note of how many there are besides."""
    most = _MOST_OF_MANY if sum(run.status == "done" for run in runs) > 1 else None
    return [_shortened(run, suites, most) for run in runs]


def _shortened(run: RunRecord, suites: Suites, most: int | None) -> RunRecord:
    suite = suites.get(run.suite)
    kept = at_a_glance([(written.declared(m.metric, suite), m.labels) for m in run.measures])[:most]
    more = len(run.measures) - len(kept)
    told = [f"{more:,} more measures: to_arrow()"] if more else []
    unsaid = len(run.absent) - _MOST_ABSENT
    told += [f"{unsaid:,} more without a value"] if unsaid > 0 else []
    return replace(
        run,
        measures=tuple(run.measures[at] for at in kept),
        absent=run.absent[:_MOST_ABSENT],
        notes=(*run.notes, *told),
    )


def _section(run: RunRecord, suites: Suites) -> _Section:
    suite = suites.get(run.suite)
    absent = [f"– {written.absence(entry)}" for entry in run.absent]
    lines = [written.row(measure, None, suite) for measure in run.measures]
    return _Section(run=run, lines=lines, below=[*absent, *run.notes])


def _headlines(given: Comparison, suites: Suites) -> tuple[Comparison, int]:
    """Return a comparison with the rows that say most, and how many it has besides."""
    kept: list[Row] = []
    for (name, _), group in groupby(given.rows, key=lambda row: (row.suite, row.dataset)):
        rows = list(group)
        places = at_a_glance([(written.declared(row.metric, suites.get(name)), row.labels) for row in rows])
        kept += [rows[at] for at in places]
    return replace(given, rows=tuple(kept), more=0), len(given.rows) - len(kept) + given.more


def _compared(given: Comparison, suite: str, dataset: str | None, rows: list[Row]) -> _Compared:
    return _Compared(
        suite=suite,
        dataset=dataset,
        verdicts=[f"{v.ref} {v.verdict}" for v in given.verdicts if v.suite == suite],
        rows=[(row.metric, named(row.labels), [_cell(c, row.unit) for c in row.cells]) for row in rows],
    )


def _cell(cell: Cell, unit: str) -> tuple[str, str, str, str]:
    """Return value, change, the word for it, and what stands behind it."""
    if cell.value is None:
        return "–", "", "", cell.reason
    moved = "" if cell.change is None else change(cell.change if cell.moved else 0.0, unit)
    significant = cell.mark in (Mark.BETTER, Mark.WORSE, Mark.DIFFERENT)
    word = str(cell.mark) if significant else cell.judged
    tested = "*" if significant else "n.s." if cell.mark is Mark.NONE else ""
    told = " ".join(part for part in (ARROWS.get(word, ("",))[0], word, tested) if part)
    return number(cell.value, unit), moved, told, cell.reason or interval(cell.low, cell.high, unit)
