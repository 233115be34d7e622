"""Two versions -> what changed -> the cheapest repair that leaves an index valid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from itertools import chain
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from . import probes
from .tables import EmbeddingTable
from .types import Diff, Relation, Repair, SpaceChange
from .vectors import split, unit_rows

Rows = NDArray[np.int64]
#: So many rows that changed are looked at first, neighbours on disk: another model is told apart by these.
_SOME = 64
#: Rows that are compared at a time.
_PART = 1 << 16
#: Two unit rows are one direction if they are no further apart than both were rounded, in their dtype when
#: they were stored and in float32, this far, when they were made units.
_OF_UNITS = 3 * float(np.finfo(np.float32).eps)

#: Up to this share of rows removed or changed, an index is updated in place; beyond, it is rebuilt.
SMALL_CHANGE = 0.1
#: Codebooks trained on n rows are trusted up to this many times n rows.
TRAINING_GROWTH = 2.0
#: How much more of a scalar quantizer's components may lie out of its range, as a share of all.
CLIP_RISE = 0.005
#: Up to how many times the distortion of the rows a codebook was trained for it serves others.
DISTORTION_RATIO = 1.3
#: Distortion up to which codes serve whatever the ratio: SQ8 and finer ones are far below.
DISTORTION_FLOOR = 0.01
#: How many times as uneven as when they were trained inverted lists may become.
IMBALANCE_RATIO = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """What a FAISS index type can do in place.

    Attributes:
        trained_rows: rows its quantizers were trained on (as a table size); None if it needs no training.
        directions: it holds the directions of the rows only, as indexes under cosine do.
    """

    can_add: bool
    can_remove: bool
    trained_rows: int | None
    directions: bool = False


def compare(old: EmbeddingTable, new: EmbeddingTable, *, old_ref: str, new_ref: str) -> Diff:
    """Return what changed from ``old`` to ``new``, by id.

    It reads ids and fingerprints; vectors only of rows that changed, the first of them, and the others only
    if those kept their directions.
    """
    old_ids, old_prints = old.identity()
    new_ids, new_prints = new.identity()
    position = _positions(new_ids, old_ids)
    shared = position >= 0
    matched = position[shared]
    other = new_prints[shared] != old_prints[matched]
    changed = int(np.count_nonzero(other))
    added, removed = int(np.count_nonzero(~shared)), old.rows - len(matched)
    changes = old.space.changes(new.space) + probes.change(old.probes, new.probes)
    return Diff(
        old=old_ref,
        new=new_ref,
        relation=_relation(changes, added, removed, changed),
        reordered=bool(np.any(np.diff(matched) < 0)),
        added=added,
        removed=removed,
        changed=changed,
        unchanged=len(matched) - changed,
        space_changes=changes,
        rescaled=changed > 0 and _rescaled(old, new, matched[other], np.flatnonzero(shared)[other]),
    )


def _rescaled(old: EmbeddingTable, new: EmbeddingTable, old_rows: Rows, new_rows: Rows) -> bool:
    """Whether each old row and its new one point the same way, to the rounding of the coarser dtype."""
    if old.dim != new.dim:
        return False
    rounding = _OF_UNITS + max(float(np.finfo(t.space.dtype).eps) for t in (old, new))
    for part in chain([slice(0, _SOME)], split(len(old_rows), _PART)):
        units = unit_rows(old.take(old_rows[part])), unit_rows(new.take(new_rows[part]))
        x, y = (u.astype(np.float64) for u in units)
        apart = np.linalg.norm(x - y, axis=1)
        if not bool((np.any(x != 0, axis=1) & np.any(y != 0, axis=1) & (apart <= rounding)).all()):
            return False
    return True


def _positions(new: pa.Array, old: pa.Array) -> Rows:
    """Return the row in ``old`` of each id of ``new``; -1 where it has none."""
    if not len(old) or not len(new):
        return np.full(len(new), -1, dtype=np.int64)
    if new.equals(old):
        return np.arange(len(new))
    found: Rows = pc.index_in(new, value_set=old).fill_null(-1).to_numpy().astype(np.int64)
    return found


def _relation(changes: tuple[SpaceChange, ...], added: int, removed: int, changed: int) -> Relation:
    if any(change.breaking for change in changes):
        return Relation.RESPACED
    if changed or (added and removed):
        return Relation.CHANGED
    if added:
        return Relation.APPENDED
    return Relation.REMOVED if removed else Relation.IDENTICAL


def repair(diff: Diff, traits: Traits) -> tuple[Repair, str]:
    """Return the cheapest repair that leaves an index of these traits valid, and the reason in one line.

    Nothing to do for the same rows, or for rows that changed in length only where the type holds directions;
    ``add`` where rows were only appended and the type can add; ``update``
    (remove + add) where at most 10% of the rows went or changed and the type can remove; else ``rebuild``.
    An index with trained quantizers is rebuilt once the table outgrows its training set twofold.
    """
    cause = diff.explain()
    if diff.relation is Relation.IDENTICAL:
        return Repair.NONE, cause
    if traits.directions and diff.rescaled and not (diff.added or diff.removed or _breaking(diff)):
        return Repair.NONE, f"{cause}: an index under cosine holds directions"
    if diff.relation is Relation.RESPACED:
        return Repair.REBUILD, f"{cause}; queries must come from the new encoder"
    if traits.trained_rows is not None and diff.new_rows > TRAINING_GROWTH * traits.trained_rows:
        return Repair.REBUILD, f"{cause}; the table outgrew the {traits.trained_rows:,} rows trained on"
    if diff.relation is Relation.APPENDED:
        if traits.can_add:
            return Repair.ADD, cause
        return Repair.REBUILD, f"{cause}; this index type cannot add"
    share = (diff.removed + diff.changed) / max(1, diff.old_rows)
    if share > SMALL_CHANGE:
        return Repair.REBUILD, f"{cause} ({share:.0%})"
    if traits.can_remove and (traits.can_add or not (diff.added or diff.changed)):
        return Repair.UPDATE, cause
    return Repair.REBUILD, f"{cause}; this index type cannot remove"


def _breaking(diff: Diff) -> bool:
    return any(change.breaking for change in diff.space_changes)


#: What ``diff`` names without an index at hand: a type that can do everything.
ANY_TYPE = Traits(can_add=True, can_remove=True, trained_rows=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """How well an index that was trained on some rows holds rows; None where its type has no such figure.

    Attributes:
        clip_share: share of the components outside the range its scalar quantizer was trained on, 0 to 1.
        distortion: mean squared distance of the rows from what their codes say, over their mean squared
            distance from the centre of the table; 0 is exact.
        coarse: the same of their distance from the centroid of the inverted list they fall into.
        imbalance: imbalance factor of the inverted lists, ``nlist * sum(size^2) / sum(size)^2``; 1 is even.
    """

    clip_share: float | None = None
    distortion: float | None = None
    coarse: float | None = None
    imbalance: float | None = None

    def to_dict(self) -> dict[str, float]:
        """Return plain JSON values, those that are None left out; ``from_dict`` gives the health back."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    @classmethod
    def from_dict(cls, values: Mapping[str, float]) -> Self:
        """Read what ``to_dict`` wrote."""
        return cls(**values)


def unhealthy(old: Health, new: Health) -> str | None:
    """Return why what was trained for rows of health ``old`` does not serve rows of health ``new``, or None.

    A figure that one of the two lacks is not judged. The bounds come from GloVe 50d, 5,000 rows added to
    10,000 (PQ10, PQ10x4, SQ8, SQ4, IVF64, IVF256,PQ10x4; l2 and cosine), beside what a rebuild gains in
    recall@10 on them:

    - Rows like those there (the same draw, the next words by frequency, noise of half a standard deviation)
      have 0.97 to 1.3 times the distortion, of codes or of lists, and a rebuild gains 0.03 at most. Others
      (rotated, shifted by a standard deviation, rare words, another model's) have 1.28 to 2.9 times, and it
      gains 0.01 to 0.37. Rows of one topic are at 1.25 at most: a rebuild would gain up to 0.1, and so it
      would with the next topic.
    - Of rows like those there up to 0.1% more components clip; from 0.5% on a rebuild of SQ8 gains 0.02 to
      0.35. SQ4 is too coarse to lose by it until about 2%.
    - How uneven lists may become is a matter of time, not of recall: a search costs in proportion.
    """
    if old.clip_share is not None and (new.clip_share or 0.0) - old.clip_share > CLIP_RISE:
        rise = (new.clip_share or 0.0) - old.clip_share
        return f"{rise:.1%} more of the components out of the range its scalar quantizer was trained on"
    worse = _times(new.distortion, old.distortion)
    if worse > DISTORTION_RATIO and (new.distortion or 0.0) > DISTORTION_FLOOR:
        return f"distortion {worse:.1f} times that of the rows it was trained for"
    if (further := _times(new.coarse, old.coarse)) > DISTORTION_RATIO:
        return f"rows {further:.1f} times as far from their list's centroid as those it was trained for"
    uneven = _times(new.imbalance, old.imbalance)
    if uneven > IMBALANCE_RATIO:
        return f"lists {uneven:.1f} times as uneven as when they were trained"
    return None


def _times(new: float | None, old: float | None) -> float:
    return new / old if new is not None and old else 1.0
