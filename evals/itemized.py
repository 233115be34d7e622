"""The items behind a run: which are worst, and which got worse from one version to the next.

Pure: values and functions of per-item tables. An item's place follows from the metric whose value its column
holds: the worst first, in the metric's own direction; ties by the columns of the other metrics, then in the
order of the table.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ..registry.errors import UsageError, printable
from .item_columns import Column, asked_for, badness, is_text, meant, numbers, prepared
from .statistics import is_binary

if TYPE_CHECKING:
    from ..registry.types import RunRecord
    from .suite import Suite

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]
Mask = NDArray[np.bool_]
#: Columns of an item in two versions.
OLD, NEW, CHANGE = "old", "new", "change"
#: Column that names the group.
OUTCOME = "outcome"


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Items of one kind, in order.

    Attributes:
        name: ``worst``, ``best``; of two versions ``worse`` and ``better``, ``broken`` and ``mended`` (right
            before, wrong now, and the other way round), or ``new hubs`` and ``former hubs``. Of a column
            without a direction ``highest``, ``lowest``, ``risen``, ``fallen``.
        count: how many there are.
        items: as many of them as were asked for.
    """

    name: str
    count: int
    items: pa.Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Itemized:
    """Items of a run, or of two runs in pairs.

    Attributes:
        run: the run; of two the newer.
        old: the run that it is held against.
        column: by which the items are ranked.
        groups: the items.
        counts: of two runs, how many items of each kind there are, shown or not.
        total: items scored; of two runs, in both.
        unscored: items of the run without a value.
        only_old, only_new: items scored in one run alone.
    """

    run: RunRecord
    old: RunRecord | None
    column: Column
    groups: tuple[Group, ...]
    counts: Mapping[str, int]
    total: int
    unscored: int
    only_old: int = 0
    only_new: int = 0

    def table(self) -> pa.Table:
        """Return the items of all groups, one below the other; their first column names the group."""
        parts = []
        for group in self.groups:
            names = [f"{name}_" if name == OUTCOME else name for name in group.items.column_names]
            told = pa.array([group.name] * len(group.items), pa.string())
            parts.append(group.items.rename_columns(names).add_column(0, OUTCOME, told))
        return pa.concat_tables(parts)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "run": self.run.id,
            "ref": self.run.version,
            "old_run": self.old.id if self.old else None,
            "old_ref": self.old.version if self.old else self.run.baseline,
            "suite": self.run.suite,
            "dataset": self.run.dataset,
            "column": self.column.name,
            "metric": self.column.metric,
            "worst": self.column.worst,
            "total": self.total,
            "unscored": self.unscored,
            "only_old": self.only_old,
            "only_new": self.only_new,
            "counts": dict(self.counts),
            "items": [{name: _plain_json(v) for name, v in row.items()} for row in self.table().to_pylist()],
        }


def ranked(
    run: RunRecord,
    items: pa.Table,
    suite: Suite | None,
    *,
    column: str | None = None,
    labels: Mapping[str, str] | None = None,
    worst: int | None = None,
    best: int | None = None,
) -> Itemized:
    """Rank the items of a run.

    Args:
        run: the run.
        items: its per-item table.
        suite: of the run; None where it is not there any more.
        column: to rank by; by default the first one that holds the values of a metric with a direction, else
            what a correlation says of its pairs, else the last number.
        labels: only items of such a slice (``section=family``), or the column of such a variant.
        worst: how many of the worst to give; None for none of them.
        best: likewise of the best.

    Raises:
        UnknownChoice: no such column, label or slice.
        UsageError: there is nothing to rank by.
    """
    items, by = prepared(items, suite, column, labels or {})
    keys = [badness(items, by), *_other_keys(items, suite, by)]
    scored = np.flatnonzero(~np.isnan(keys[0]))
    items = _first(items, by.name)
    groups = []
    for name, asked, sign in zip(by.ends, (worst, best), (-1, 1), strict=True):
        if asked is not None:
            order = _order([sign * key[scored] for key in keys])
            groups.append(Group(name=name, count=len(scored), items=items.take(scored[order[:asked]])))
    return Itemized(
        run=run,
        old=None,
        column=by,
        groups=tuple(groups),
        counts={},
        total=len(scored),
        unscored=len(items) - len(scored),
    )


def paired(
    run: RunRecord,
    items: pa.Table,
    old: RunRecord,
    old_items: pa.Table,
    suite: Suite | None,
    *,
    column: str | None = None,
    labels: Mapping[str, str] | None = None,
    worst: int | None = None,
    best: int | None = None,
) -> Itemized:
    """Rank the items that two runs scored by how much worse they became.

    Where items are right or wrong, only those are given that changed sides; of hubness, the rows that became
    hubs or are none any more (a hub occurs in at least 2k lists); else those that changed at all, the
    largest change first.

    Args:
        run: the run.
        items: its per-item table.
        old: the run that it is held against.
        old_items: likewise.
        suite: of the runs.
        column: to rank by, as in ``ranked``; of numbers.
        labels: as in ``ranked``.
        worst: how many of those that became worse to give; None for none of them.
        best: likewise of those that became better.

    Raises:
        UnknownChoice: no such column, label or slice.
        UsageError: there is nothing to rank by.
    """
    items, by = prepared(items, suite, column, labels or {})
    old_items, _ = prepared(old_items, suite, column or asked_for(by), labels or {})
    if is_text(items.column(by.name)):
        raise UsageError(f"'{printable(by.name, 60)}' holds no numbers: two versions are compared by numbers")
    bad, bad_before = badness(items, by), badness(old_items, by)
    new_at, old_at = _both(items, old_items, ~np.isnan(bad), ~np.isnan(bad_before))
    now, before = bad[new_at], bad_before[old_at]
    names, worse, better = _changes(run, by, now, before)
    table = _joined(items.take(new_at), old_items.take(old_at), by)
    groups, counts = [], {}
    for name, mask, asked, sign in zip(names, (worse, better), (worst, best), (-1, 1), strict=True):
        rows = np.flatnonzero(mask)
        counts[name] = len(rows)
        if asked is not None:
            order = _order([sign * (now - before)[rows]])
            groups.append(Group(name=name, count=len(rows), items=table.take(rows[order[:asked]])))
    scored, scored_before = int((~np.isnan(bad)).sum()), int((~np.isnan(bad_before)).sum())
    return Itemized(
        run=run,
        old=old,
        column=by,
        groups=tuple(groups),
        counts=counts,
        total=len(new_at),
        unscored=len(items) - scored,
        only_old=scored_before - len(old_at),
        only_new=scored - len(new_at),
    )


def _plain_json(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int) else str(value)


def _other_keys(items: pa.Table, suite: Suite | None, by: Column) -> list[Floats]:
    """Return how bad items are by the other metrics that have a direction, for ties."""
    others = (meant(name, suite) for name in items.column_names if name != by.name)
    return [badness(items, other) for other in others if other.directed]


def _order(keys: Sequence[Floats]) -> Rows:
    """Return the order of ascending keys, the first one leading; what has no key comes last among equals."""
    return np.lexsort([np.where(np.isnan(key), np.inf, key) for key in reversed(keys)])


def _first(items: pa.Table, column: str) -> pa.Table:
    """Return the items with a column right after their names."""
    others = [name for name in items.column_names if name not in ("item", column)]
    return items.select(["item", *([] if column == "item" else [column]), *others])


def _both(items: pa.Table, old: pa.Table, scored: Mask, scored_before: Mask) -> tuple[Rows, Rows]:
    """Return the rows, in both tables, of the items that both scored, in the order of the newer one."""
    rows = np.flatnonzero(scored_before)
    names = old.column("item").cast(pa.large_string()).take(rows).combine_chunks()
    at = pc.index_in(items.column("item").cast(pa.large_string()), value_set=names)
    there = at.combine_chunks().fill_null(-1).to_numpy()
    new_at = np.flatnonzero(scored & (there >= 0))
    return new_at, rows[there[new_at]]


def _changes(run: RunRecord, by: Column, now: Floats, before: Floats) -> tuple[tuple[str, str], Mask, Mask]:
    """Return the names of those that became worse and better, and which they are."""
    k = run.params.get("k")
    if (run.suite, by.name) == ("hubness", "k_occurrence") and isinstance(k, int):
        # As the metric hub_occurrence has it: a hub is in at least 2k lists.
        return ("new hubs", "former hubs"), _crossed(before, now, 2 * k), _crossed(now, before, 2 * k)
    sides = is_binary(np.abs(now)) and is_binary(np.abs(before))
    return ("broken", "mended") if sides and by.directed else by.moves, now > before, now < before


def _crossed(low: Floats, high: Floats, bound: float) -> Mask:
    crossed: Mask = (low < bound) & (high >= bound)
    return crossed


def _joined(items: pa.Table, old: pa.Table, by: Column) -> pa.Table:
    """Return items of two versions, row by row: both values, the change, then what is known besides.

    A column that both have is one where it is the same throughout, else two: ``NAME_old`` and ``NAME_new``.
    """
    before, now = numbers(old, by.name), numbers(items, by.name)
    joined = {"item": items.column("item"), OLD: before, NEW: now, CHANGE: now - before}
    for name in items.column_names:
        if name in ("item", by.name):
            continue
        column = items.column(name)
        theirs = old.column(name) if name in old.column_names else None
        if theirs is not None and not _same(column, theirs):
            joined |= {f"{name}_old": theirs, f"{name}_new": column}
        else:
            joined[name if name not in joined else f"{name}_"] = column
    return pa.table(joined)


def _same(a: pa.ChunkedArray, b: pa.ChunkedArray) -> bool:
    return bool(a.type == b.type and a.combine_chunks().equals(b.combine_chunks()))
