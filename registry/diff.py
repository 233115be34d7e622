"""Two versions -> what changed -> the cheapest repair that leaves an index valid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc

from .tables import EmbeddingTable
from .types import Diff, Relation, Repair, SpaceChange

#: Up to this share of rows removed or changed, an index is updated in place; beyond, it is rebuilt.
SMALL_CHANGE = 0.1
#: Codebooks trained on n rows are trusted up to this many times n rows.
TRAINING_GROWTH = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """What a FAISS index type can do in place.

    Attributes:
        trained_rows: rows its quantizers were trained on (as a table size); None if it needs no training.
    """

    can_add: bool
    can_remove: bool
    trained_rows: int | None


def compare(old: EmbeddingTable, new: EmbeddingTable, *, old_ref: str, new_ref: str) -> Diff:
    """Return what changed from ``old`` to ``new``, by id; reads ids and fingerprints, never vectors."""
    position = _positions(new, old)
    shared = position >= 0
    matched = position[shared]
    changed = int(np.count_nonzero(new.fingerprints[shared] != old.fingerprints[matched]))
    added, removed = int(np.count_nonzero(~shared)), old.rows - len(matched)
    changes = old.space.changes(new.space)
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
    )


def _positions(new: EmbeddingTable, old: EmbeddingTable) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return the row in ``old`` of each id of ``new``; -1 where it has none."""
    if not old.rows or not new.rows:
        return np.full(new.rows, -1, dtype=np.int64)
    rows = pc.index_in(new.ids, value_set=old.ids.combine_chunks())
    found: np.ndarray[tuple[int], np.dtype[np.int64]] = rows.fill_null(-1).to_numpy().astype(np.int64)
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

    Nothing to do for the same rows; ``add`` where rows were only appended and the type can add; ``update``
    (remove + add) where at most 10% of the rows went or changed and the type can remove; else ``rebuild``.
    An index with trained quantizers is rebuilt once the table outgrows its training set twofold.
    """
    cause = diff.explain()
    if diff.relation is Relation.IDENTICAL:
        return Repair.NONE, cause
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


#: What ``diff`` names without an index at hand: a type that can do everything.
ANY_TYPE = Traits(can_add=True, can_remove=True, trained_rows=None)
