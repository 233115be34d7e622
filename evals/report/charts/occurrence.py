"""Who is everybody's neighbour: how often rows stand in neighbour lists, and the hubs by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ....registry.errors import printable
from .chart import NOW, Chart, Kind
from .grammar import Spec, by_version, label, layer, logarithmic, quantity, refs, short
from .measured import Measured
from .placing import LINE_HEIGHT

KIND = Kind(
    name="occurrence",
    title="Hubs",
    reading=(
        "The curve is the share of the rows that stand in at least so many neighbour lists, both on "
        "logarithmic scales; the points are the ten most frequent rows, by name. A curve that drops soon "
        "after k, the upright line, is good; a long tail to the right are hubs, which turn up in the "
        "answers to everything."
    ),
)
#: So many hubs are shown and named.
_HUBS = 10
_HEIGHT = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class _Counts:
    """How often each row stands in the lists.

    Attributes:
        by_id: the count of each row, in the order of the table.
        levels: int64 ``(c,)``, the counts that occur, ascending.
        rows: int64 ``(c,)``, how many rows have at least each of them.
        k: length of a list.
    """

    by_id: dict[str, int]
    levels: NDArray[np.int64]
    rows: NDArray[np.int64]
    k: int

    @classmethod
    def of(cls, given: Measured | None) -> Self | None:
        if given is None or given.items is None or not given.items.num_rows:
            return None
        ids: list[str] = given.items.column("item").to_pylist()
        counts: list[int] = given.items.column("k_occurrence").to_pylist()
        levels, many = np.unique(counts, return_counts=True)
        return cls(
            by_id=dict(zip(ids, counts, strict=True)),
            levels=levels,
            rows=np.cumsum(many[::-1])[::-1],
            k=int(given.run.params.get("k", 0)),
        )

    @property
    def n(self) -> int:
        """How many rows there are."""
        return int(self.rows[0])

    @property
    def never(self) -> float:
        """Percentage of the rows that stand in no list."""
        return 100 * (1 - self.at_least(1) / self.n)

    def at_least(self, count: int) -> int:
        """Return how many rows occur so often."""
        place = int(np.searchsorted(self.levels, count))
        return int(self.rows[place]) if place < len(self.rows) else 0

    def hubs(self) -> list[tuple[str, int]]:
        """Return the ids that occur most often, the first of the table where they tie."""
        return sorted(self.by_id.items(), key=lambda pair: -pair[1])[:_HUBS]


def occurrence(now: Measured, before: Measured | None = None) -> Chart | None:
    """Return how often rows occur in neighbour lists.

    Args:
        now: a run of ``hubness``.
        before: the comparable run of the baseline.

    Returns:
        None without items, which the suite keeps of the lists of all rows only, not of those of a sample.
    """
    own, other = _Counts.of(now), _Counts.of(before)
    if own is None or own.levels[-1] < 1:
        return None
    names = refs(now.run.version, before.run.version if before and other else None)
    both = [own] if other is None else [own, other]
    return Chart(
        kind=KIND,
        name=KIND.name,
        title=KIND.title,
        text=_text(own, other),
        spec=_spec(names, both),
        columns=("occurs at least", *(f"rows of {name}" for name in names), "such as"),
        rows=_rows(both),
    )


def _spec(names: Sequence[str], both: Sequence[_Counts]) -> Spec:
    values = [
        {"version": name, "count": int(count), "share": float(f"{rows / c.n:.4g}")}
        for name, c in zip(names, both, strict=True)
        for count, rows in zip(c.levels, c.rows, strict=True)
        if count > 0
    ]
    most, least = max(int(c.levels[-1]) for c in both), min(1 / c.n for c in both)
    x = quantity("count", "stands in at least so many lists", **logarithmic(1, most, format=",~f"))
    y = quantity("share", "share of the rows", **logarithmic(least, 1, format=".1~p"))
    told = [
        {"field": "version"},
        {"field": "count", "format": ","},
        {"field": "share", "format": ".3~%"},
    ]
    curve = layer("line", {"x": x, "y": y, "tooltip": told} | by_version(names), interpolate="step-before")
    mean = _mean(x, both[0].k) if 0 < both[0].k <= most else []
    return {"height": _HEIGHT, "data": {"values": values}, "layer": [curve, *mean, *_hubs(x, y, both)]}


def _mean(x: Spec, k: int) -> list[Spec]:
    data = [{"count": k, "told": f"k = {k}"}]
    foot = {"x": x, "y": {"value": _HEIGHT - 10}, "text": {"field": "told"}}
    rule = layer("rule", {"x": x}, data=data, strokeDash=[2, 2])
    return [rule, *label(foot, data=data, align="right", dx=-6)]


def _hubs(x: Spec, y: Spec, both: Sequence[_Counts]) -> list[Spec]:
    """Return the hubs as points, and by name in the corner that a falling curve leaves free."""
    own, other = both[0], both[1] if len(both) > 1 else None
    values: list[dict[str, Any]] = []
    names = ["the strongest hubs"]
    for rank, (name, count) in enumerate(own.hubs(), 1):
        value = {"id": printable(name, 60), "count": count, "share": float(f"{rank / own.n:.4g}")}
        values.append(value | ({"before": other.by_id.get(name, "not there")} if other else {}))
        names.append(f"{short(name)}  {count:,}")
    told = [{"field": "id"}, {"field": "count", "format": ","}]
    told += [{"field": "before"}] if other is not None else []
    points = layer("point", {"x": x, "y": y, "tooltip": told}, data=values, size=45, opacity=1, color=NOW)
    corner = {"x": {"value": "width"}, "y": {"value": 2}, "text": {"value": names}}
    look = {"align": "right", "baseline": "top", "lineHeight": LINE_HEIGHT + 1}
    return [points, *label(corner, data=[{}], **look)]


def _text(own: _Counts, other: _Counts | None) -> str:
    name, count = own.hubs()[0]
    was = f" (before {other.by_id[name]:,})" if other and name in other.by_id else ""
    never_was = f" (before {other.never:.3g}%)" if other else ""
    return (
        f"The strongest hub, '{printable(name, 60)}', stands in {count:,} of {own.n:,} lists{was}, where "
        f"{own.k} is the mean; {own.never:.3g}% of the rows stand in none{never_was}."
    )


def _rows(both: Sequence[_Counts]) -> list[tuple[str, ...]]:
    """Return powers of two and the counts of the hubs, with the rows that occur as often."""
    hubs: dict[int, list[str]] = {}
    for name, count in both[0].hubs():
        hubs.setdefault(count, []).append(printable(name, 60))
    most = max(int(c.levels[-1]) for c in both)
    levels = sorted({1 << i for i in range(most.bit_length())} | hubs.keys())
    return [
        (f"{level:,}", *(f"{c.at_least(level):,}" for c in both), ", ".join(hubs.get(level, ())))
        for level in levels
    ]
