"""Text for a terminal: one table style for every command, signs besides colours.

Everything that came from a user is printed through ``printable`` and never read as markup.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ...registry.errors import printable
from ..figures import interval, named, number
from . import SIGNS, headline, remarkable

if TYPE_CHECKING:
    from ...registry.types import MeasureRecord, RunRecord
    from ..gate import CheckResult, Verdict
    from ..suite import Suite

_STYLES = {"passed": "green", "failed": "bold red", "warned": "yellow", "skipped": "dim"}
Cell = str | int | float | bool | datetime | Text | None


def table(columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> Table:
    """Return a table in the style of every command.

    Args:
        columns: headings; one that begins with ``>`` stands over right-aligned cells.
        rows: cells: numbers are grouped and shortened, times are given to the minute, ``True`` is ✓,
            ``None`` and ``False`` are empty, and texts are made safe to print.
    """
    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    for column in columns:
        right = column.startswith(">")
        drawn.add_column(
            Text(column.removeprefix(">")),
            justify="right" if right else "left",
            no_wrap=right,
            overflow="fold",
        )
    for row in rows:
        drawn.add_row(*map(_cell, row))
    return drawn


def verdict(given: Verdict) -> RenderableType:
    """Return a verdict: the answer, then the reasons, then the numbers."""
    word = "passed" if given.passed else "failed"
    lines = [_signed(word, headline(given))]
    lines += [_signed(c.outcome, f"{_title(c)}: {_line(c.reason)}") for c in remarkable(given)]
    if not given.checks:
        return lines[0]
    columns = ("", "check", ">value", ">interval", ">baseline", "bound")
    return Group(*lines, Text(), table(columns, map(_check_row, given.checks)))


def runs(given: Sequence[RunRecord], *, suites: Mapping[str, Suite]) -> RenderableType:
    """Return what suites measured, one after the other; skipped ones with their reason at the end.

    Args:
        given: the runs.
        suites: by name, for the units; a suite that is not there any more is shown without.
    """
    done = [run for run in given if run.status == "done"]
    others = [run for run in given if run.status != "done"]
    parts = [part for run in done for part in _run(run, suites.get(run.suite))]
    return Group(*parts, *map(_not_done, others))


def _cell(value: Cell) -> Text:
    if isinstance(value, Text):
        return value
    if value is None or value is False:
        return Text()
    if value is True:
        return Text("✓")
    if isinstance(value, int | float):
        return Text(number(value))
    if isinstance(value, datetime):
        return Text(f"{value:%Y-%m-%d %H:%M}")
    return Text(_line(value))


def _signed(outcome: str, text: str) -> Text:
    return Text.assemble((f"{SIGNS[outcome]} ", _STYLES[outcome]), text)


def _line(text: str) -> str:
    return printable(text, 500)


def _title(check: CheckResult) -> str:
    labels = f" ({named(check.labels)})" if check.labels else ""
    return printable(check.metric) + labels


def _check_row(check: CheckResult) -> list[Cell]:
    return [
        Text(SIGNS[check.outcome], style=_STYLES[check.outcome]),
        _title(check),
        None if check.value is None else number(check.value, check.unit),
        interval(check.low, check.high, check.unit),
        None if check.baseline is None else number(check.baseline, check.unit),
        check.bound,
    ]


def _run(run: RunRecord, suite: Suite | None) -> list[RenderableType]:
    about = [f"on {printable(run.dataset)}"] if run.dataset else []
    about += [f"against {printable(run.baseline)}"] if run.baseline else []
    about += ["cached" if run.cached else f"{run.duration_s:.2f} s"]
    about += [f"#{run.id}"] if run.id is not None else []
    head = Text.assemble((printable(run.suite), "bold"), f" {', '.join(about)}")
    if run.verdict:
        head.append(f": {printable(run.verdict)}", style="bold")
    columns = ("metric", "labels", ">value", ">interval", ">n")
    rows = [_measure_row(measure, suite) for measure in run.measures]
    lines = [Text(f"– {_absent(entry)}", style="dim") for entry in run.absent]
    lines += [Text(f"  {_line(note)}", style="dim") for note in run.notes]
    return [head, table(columns, rows), *lines, Text()]


def _measure_row(measure: MeasureRecord, suite: Suite | None) -> list[Cell]:
    metric = suite.metric(measure.metric) if suite else None
    unit = metric.unit if metric else ""
    return [
        measure.metric,
        named(measure.labels),
        number(measure.value, unit),
        interval(measure.low, measure.high, unit),
        measure.n,
    ]


def _absent(entry: Mapping[str, object]) -> str:
    labels = entry.get("labels")
    told = f" ({named(labels)})" if isinstance(labels, Mapping) and labels else ""
    return f"{printable(str(entry['metric']))}{told}: {_line(str(entry['reason']))}"


def _not_done(run: RunRecord) -> Text:
    failed = run.status == "error"
    told = f"{printable(run.suite)} {'failed' if failed else 'skipped'}: {_line(run.reason)}"
    return _signed("failed" if failed else "skipped", told)
