"""The rows that moved most from one version to the next, and who their neighbours were and are.

Pure: values and functions of tables. How far a row moved is taken from the items of a drift run; its
neighbours are the exact ones among all rows that take part in statistics, of each version by its own metric.
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from . import knn
from .item_columns import numbers

if TYPE_CHECKING:
    import pyarrow as pa

    from .subject import Subject

#: A row that moved less did not move, to three decimals.
LEAST = 5e-4
#: What became of a neighbour: it is one in both versions; it is one no more, or newly; or the other version
#: does not hold its id.
STAYED, LEFT, CAME, REMOVED, ADDED = "stayed", "left", "came", "removed", "added"


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbor:
    """A neighbour: its id, its score by the metric of its version, and what became of it."""

    item: str
    score: float
    fate: str

    @property
    def stayed(self) -> bool:
        """Whether it is a neighbour in both versions."""
        return self.fate == STAYED


@dataclass(frozen=True, slots=True, kw_only=True)
class Mover:
    """A row that moved.

    Attributes:
        item: its id.
        displacement: cosine distance from its old self, after the best rotation.
        old, new: its neighbours in either version, best first.
    """

    item: str
    displacement: float
    old: tuple[Neighbor, ...]
    new: tuple[Neighbor, ...]

    @property
    def kept(self) -> int:
        """How many neighbours stayed."""
        return sum(neighbor.stayed for neighbor in self.new)


def moved(items: pa.Table, old: Subject, new: Subject, *, count: int, k: int) -> tuple[Mover, ...]:
    """Return the rows that moved most, the farthest first; none where no row moved.

    Args:
        items: of a drift run: ``item`` and ``semantic_displacement``.
        old: the version that they moved from.
        new: the one that they are in now.
        count: how many rows at most.
        k: how many neighbours; fewer where a version holds fewer rows.
    """
    far = numbers(items, "semantic_displacement")
    order = np.argsort(np.where(np.isnan(far), np.inf, -far), kind="stable")[:count]
    order = order[far[order] >= LEAST]
    names: list[str] = items.column("item").take(order).to_pylist()
    rows = old.table.lookup(names), new.table.lookup(names)
    there = (rows[0] >= 0) & (rows[1] >= 0)
    if not there.any():
        return ()
    before, after = _neighbors(rows[0][there], old, k), _neighbors(rows[1][there], new, k)
    lost, won = _lacking(before, new), _lacking(after, old)
    return tuple(
        Mover(
            item=names[at],
            displacement=float(far[order[at]]),
            old=_told(before[i], after[i], lost, (LEFT, REMOVED)),
            new=_told(after[i], before[i], won, (CAME, ADDED)),
        )
        for i, at in enumerate(np.flatnonzero(there))
    )


_Found = Sequence[tuple[str, float]]


def _neighbors(rows: NDArray[np.int64], subject: Subject, k: int) -> list[_Found]:
    """Return the neighbours of some rows: id and score, best first."""
    table, valid = subject.table, subject.valid
    k = min(k, len(valid) - 1)
    if k < 1:
        return [[] for _ in rows]
    at = np.minimum(np.searchsorted(valid, rows), len(valid) - 1)
    own = np.where(valid[at] == rows, at, -1)  # a row that takes no part excludes none
    base = table.stacked() if len(valid) == table.rows else table.stacked(valid)
    found = knn.neighbors(table.take(rows), base, k, subject.space.metric, exclude=own[:, None])
    scores = subject.widened(rows, valid[found.rows], found.scores)
    return [
        list(zip(table.ids_of(valid[f]), s.tolist(), strict=True))
        for f, s in zip(found.rows, scores, strict=True)
    ]


def _lacking(found: Sequence[_Found], elsewhere: Subject) -> set[str]:
    """Return the neighbours whose ids another version does not hold."""
    names = list({name for own in found for name, _ in own})
    held = elsewhere.table.lookup(names) >= 0
    return {name for name, there in zip(names, held.tolist(), strict=True) if not there}


def _told(
    own: _Found, other: _Found, lacking: AbstractSet[str], fates: tuple[str, str]
) -> tuple[Neighbor, ...]:
    """Return neighbours with what became of them: in both lists, in the other version, or not there."""
    shared = {name for name, _ in other}
    return tuple(
        Neighbor(item=name, score=score, fate=STAYED if name in shared else fates[name in lacking])
        for name, score in own
    )
