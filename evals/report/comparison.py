"""Versions side by side, for a terminal: values, changes, and what a test says of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from ...registry.errors import printable
from ..comparison import Mark
from ..figures import change, named, number
from .arrows import ARROWS, legend
from .tables import Cell as TableCell
from .tables import Column, Table, table

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

    from ..comparison import Cell, Comparison, Row

_MOST_REASONS, _MOST_METRICS = 4, 3


def comparison(given: Comparison) -> RenderableType:
    """Return a comparison: a table for each suite and dataset, then what the signs mean."""
    others = ", ".join(map(short, given.refs[1:]))
    parts: list[RenderableType] = [Text(f"{others} against {short(given.refs[0])}", style="bold"), Text()]
    for (suite, dataset), rows in groupby(given.rows, key=lambda row: (row.suite, row.dataset)):
        spoken = [f"{short(v.ref)} {printable(v.verdict)}" for v in given.verdicts if v.suite == suite]
        parts += _section(suite, dataset, list(rows), ", ".join(spoken))
    parts += [_dim(f"– {one.suite}{_on(one.dataset)} {one.reason}") for one in given.left_out]
    if not given.rows:
        return Group(*parts, Text("no row to show"))
    return Group(*parts, *_legend(given))


def short(ref: str) -> str:
    """Return a reference for a heading, with its number even where the name is long."""
    name, at, version = ref.rpartition("@")
    return f"{printable(name, 32)}{at}{printable(version, 20)}"


def _on(dataset: str | None) -> str:
    return f" on {printable(dataset, 140)}" if dataset else ""


def _dim(text: str) -> Text:
    return Text(printable(text, 500), style="dim")


def _section(suite: str, dataset: str | None, rows: Sequence[Row], spoken: str) -> list[RenderableType]:
    told = f": {spoken}" if spoken else ""
    head = Text.assemble((printable(suite), "bold"), _on(dataset), (told, "bold"))
    return [head, _Beside(rows), *map(_dim, _missing(rows)), Text()]


class _Beside:
    """Versions side by side; where they have no room, each beside the first in a table of its own."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = rows
        cells = range(len(rows[0].cells))
        self._shown = [i for i in cells if any(row.cells[i].value is not None for row in rows)]
        self._compared = {i for i in cells if any(row.cells[i].change is not None for row in rows)}

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        whole = self._table(self._shown)
        others = [i for i in self._shown if i]
        if len(others) < 2 or whole.least <= options.max_width:
            yield whole
            return
        for i in others:
            yield self._table([j for j in (0, i) if j in self._shown])

    def _table(self, shown: Sequence[int]) -> Table:
        columns: list[str | Column] = ["metric", "labels"]
        for i in shown:
            ref = short(self._rows[0].cells[i].ref)
            columns.append(Column(ref, right=True, point=True, rigid=True))
            columns += [".change", "="] if i in self._compared else []
        return table(columns, [self._cells(row, shown) for row in self._rows])

    def _cells(self, row: Row, shown: Sequence[int]) -> list[TableCell]:
        cells: list[TableCell] = [row.metric, named(row.labels)]
        for i in shown:
            cell = row.cells[i]
            cells.append("–" if cell.value is None else number(cell.value, row.unit))
            cells += [_change(cell, row.unit), _sign(cell)] if i in self._compared else []
        return cells


def _change(cell: Cell, unit: str) -> str:
    if cell.change is None:
        return ""
    return change(cell.change if cell.moved else 0.0, unit)


def _sign(cell: Cell) -> Text:
    """Return ``▼ worse *``: the direction of the change, and whether it is more than chance."""
    if cell.change is None:
        return Text()
    significant = cell.mark in (Mark.BETTER, Mark.WORSE, Mark.DIFFERENT)
    word = "different" if cell.mark is Mark.DIFFERENT else cell.judged
    if significant and cell.mark != word:  # told below the table: the tested items say otherwise
        return Text(f"{ARROWS[word][0]} {word} †" if word else "= †")
    tested = " *" if significant else " n.s." if cell.mark is Mark.NONE else ""
    if not word:
        return Text(tested.strip() if cell.moved else f"={tested}")
    sign, style = ARROWS[word]
    return Text(f"{sign} {word}{tested}", style=style if significant else "")


def _missing(rows: Sequence[Row]) -> Iterator[str]:
    """Yield why values are missing, and where the tested items say otherwise than the values."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        for cell in row.cells:
            if cell.value is None and cell.reason:
                found.setdefault((cell.ref, cell.reason), []).append(row.metric)
    for (ref, reason), metrics in found.items():
        few = list(dict.fromkeys(metrics))
        more = f" and {len(few) - _MOST_METRICS} more" if len(few) > _MOST_METRICS else ""
        of = "" if len(metrics) == len(rows) else f"{', '.join(few[:_MOST_METRICS])}{more} of "
        yield f"– {of}{short(ref)}: {reason}"
    for row in rows:
        for cell in row.cells:
            if cell.p_value is not None and cell.reason:
                yield f"† {row.metric} of {short(cell.ref)}: {cell.reason}"


def _legend(given: Comparison) -> Iterator[Text]:
    cells = [cell for row in given.rows for cell in row.cells]
    first, alpha = short(given.refs[0]), f"{given.alpha:g}"
    if any(cell.change is not None for cell in cells):
        yield from legend(first)
        tests = "1 test" if given.tests == 1 else f"{given.tests:,} tests"
        yield _dim(f"* significant at {alpha} after Holm over {tests}, n.s. not significant, else not tested")
    untested = Counter(cell.reason for cell in cells if cell.mark is Mark.UNTESTED)
    told = [f"{reason} ({count:,})" for reason, count in untested.most_common(_MOST_REASONS)]
    more = len(untested) - len(told)
    if told:
        yield _dim(f"not tested: {'; '.join(told)}{f'; {more} more reasons' if more > 0 else ''}")
    if given.more:
        yield _dim(f"{given.more:,} more rows (slices and variants): --all-labels")
