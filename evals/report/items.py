"""The items behind a run, for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.text import Text

from ...registry.errors import printable
from ..figures import change, number
from ..itemized import CHANGE, NEW, OLD
from .comparison import short
from .tables import Column, table

if TYPE_CHECKING:
    from ...registry.types import RunRecord
    from ..itemized import Group as Ranked
    from ..itemized import Itemized
    from ..suite import Suite

#: So many columns are shown; JSON and CSV have all.
_MOST_COLUMNS = 9
_TITLES = {
    "broken": "broken (right before, wrong now)",
    "mended": "mended (wrong before, right now)",
    "new hubs": "new hubs (in at least 2k lists now, not before)",
    "former hubs": "former hubs (in at least 2k lists before, not now)",
}


def items(given: Itemized, *, suite: Suite | None) -> RenderableType:
    """Return ranked items: what they are of, how many there are, then a table for each group."""
    parts: list[RenderableType] = [Text(_head(given), style="bold"), Text(_counted(given), style="dim")]
    for group in given.groups:
        parts += [Text(), Text(_title(group)), *_table(given, group, suite)]
    return Group(*parts)


def _head(given: Itemized) -> str:
    run = given.run
    on = f" on {printable(run.dataset, 140)}" if run.dataset else ""
    if given.old is not None:
        beside = f" against {_run(given.old)}"
    else:
        beside = f" against {short(run.baseline)}" if run.baseline else ""
    return f"{printable(run.suite)}{on}: {_run(run)}{beside}, by {printable(given.column.name)}"


def _run(run: RunRecord) -> str:
    return f"{short(run.version)} (#{run.id})" if run.id is not None else short(run.version)


def _counted(given: Itemized) -> str:
    told = [f"{count:,} {name}" for name, count in given.counts.items()]
    told = [
        f"{', '.join(told)} of {given.total:,} items that both scored" if told else f"{given.total:,} items"
    ]
    if given.unscored:
        told.append(f"{given.unscored:,} not scored")
    for count, run in ((given.only_old, given.old), (given.only_new, given.run)):
        if count and run is not None:
            told.append(f"{count:,} only in {short(run.version)}")
    return "; ".join(told)


def _title(group: Ranked) -> str:
    return f"{_TITLES.get(group.name, group.name)}: {len(group.items):,} of {group.count:,}"


def _table(given: Itemized, group: Ranked, suite: Suite | None) -> list[RenderableType]:
    if not len(group.items):
        return []
    values = {name: group.items.column(name).to_pylist() for name in group.items.column_names}
    shown = _shown(values, given)
    heads = [_heading(name, given, values[name]) for name in shown]
    units = {name: _unit(name, given, suite) for name in shown}
    rows = zip(*([_text(v, name, units[name]) for v in values[name]] for name in shown), strict=True)
    return [table(heads, rows)]


def _shown(values: dict[str, list[Any]], given: Itemized) -> list[str]:
    """Return the columns that fit: the item, its values, texts that the item does not say, then numbers."""
    own = ["item", *([OLD, NEW, CHANGE] if given.old is not None else [given.column.name])]
    rest = [n for n in values if n not in own and any(v is not None for v in values[n])]
    if given.old is not None:  # twice as many columns: other variants of the metric are for another --sort
        rest = [n for n in rest if not n.startswith(f"{given.column.name.partition('[')[0]}[")]
    told = [n for n in rest if not _repeats(values[n], values["item"])]
    texts = [n for n in told if any(isinstance(v, str) for v in values[n])]
    kept = [*texts, *(n for n in told if n not in texts)][: _MOST_COLUMNS - len(own)]
    return [*dict.fromkeys(own), *(n for n in values if n in kept)]


def _repeats(column: Sequence[Any], named: Sequence[Any]) -> bool:
    """Whether each text of a column is part of the item's name."""
    return all(v is None or (isinstance(v, str) and v in str(i)) for v, i in zip(column, named, strict=True))


def _heading(name: str, given: Itemized, values: Sequence[Any]) -> Column:
    told = printable(name, 60)
    if given.old is not None:
        told = {OLD: short(given.old.version), NEW: short(given.run.version)}.get(name, told)
    numeric = any(isinstance(v, int | float) for v in values)
    spare = name not in ("item", OLD, NEW, CHANGE, given.column.name)
    return Column(told, right=numeric, point=numeric, rigid=numeric, spare=int(spare))


def _unit(name: str, given: Itemized, suite: Suite | None) -> str:
    if name in (OLD, NEW, CHANGE, given.column.name):
        return given.column.unit
    plain = name.partition("[")[0]
    return next((m.unit for m in suite.metrics if m.item == plain), "") if suite else ""


def _text(value: Any, name: str, unit: str) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return change(value, unit) if name == CHANGE else number(value, unit)
