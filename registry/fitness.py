"""How a build stands to a version: the repair it would need, and how its codebooks hold the rows it lacks."""

from __future__ import annotations

from dataclasses import dataclass

from . import diff, health, indexes
from .diff import Health
from .indexes import Built
from .tables import EmbeddingTable
from .types import Relation, Repair


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitness:
    """How a build stands to a version.

    Attributes:
        repair: what would make it an index of the version, and ``cause`` why, in one line.
        lacking: rows of the version that it lacks: they came or changed.
        seen: how many of them were looked at.
        before: health of the rows it was trained for.
        found: health of the rows that it lacks; empty without any, or where they are of another width.
        imbalance: of the inverted lists if they held the version; None of a type without lists, or where the
            rows are of another width.
        listed: how many rows that was seen through.
    """

    repair: Repair
    cause: str
    lacking: int
    seen: int
    before: Health
    found: Health
    imbalance: float | None = None
    listed: int = 0


def judge(
    built: Built, before: Health, basis: tuple[str, EmbeddingTable], version: tuple[str, EmbeddingTable]
) -> Fitness:
    """Return how a build of one version stands to another, each given as its ref and its table.

    The repair is the one that ``builds.repair`` would set out to do. That one measures recall, too, and
    rebuilds where a cheaper repair cost some.

    Raises:
        InputError: a row is too long for float32 products.
    """
    (old_ref, old), (new_ref, new) = basis, version
    relation = diff.compare(old, new, old_ref=old_ref, new_ref=new_ref)
    action, cause = diff.repair(relation, built.traits)
    fresh = indexes.revision(old, new).fresh
    if old.dim != new.dim:
        return Fitness(
            repair=action, cause=cause, lacking=len(fresh), seen=0, before=before, found=Health()
        )  # fmt: skip
    found = health.measure(built, new, fresh) if len(fresh) else Health()
    imbalance, listed = _lists(built, new, same=relation.relation is Relation.IDENTICAL)
    if action in (Repair.ADD, Repair.UPDATE):
        reason = diff.unhealthy(before, found) if len(fresh) >= health.FEWEST else None
        reason = reason or diff.unhealthy(before, Health(imbalance=imbalance))
        action, cause = (Repair.REBUILD, f"{cause}; {reason}") if reason else (action, cause)
    return Fitness(
        repair=action,
        cause=cause,
        lacking=len(fresh),
        seen=min(len(fresh), health.SAMPLE),
        before=before,
        found=found,
        imbalance=imbalance,
        listed=listed,
    )


def _lists(built: Built, table: EmbeddingTable, *, same: bool) -> tuple[float | None, int]:
    """Return the imbalance of lists that hold the rows of a table, and how many it was seen through."""
    if same:
        return health.imbalance(built), built.rows
    return health.foreseen_imbalance(built, table) or (None, 0)
