"""How versions stand to each other, and what was made from one to its own: frozen values, as in ``types``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .types import SpaceChange


class Relation(StrEnum):
    """How a version stands to another one, from the mildest."""

    IDENTICAL = "identical"
    APPENDED = "appended"
    REMOVED = "removed"
    CHANGED = "changed"
    RESPACED = "respaced"


class Repair(StrEnum):
    """The cheapest operation that makes a stale index valid."""

    NONE = "none"
    ADD = "add"
    UPDATE = "update"
    REBUILD = "rebuild"


@dataclass(frozen=True, slots=True, kw_only=True)
class Diff:
    """What changed from version ``old`` to version ``new``, by id.

    Attributes:
        relation: the mildest word that is true.
        reordered: the rows the two share stand in another order.
        added, removed, changed, unchanged: row counts; ``changed`` are shared ids with other bytes.
        space_changes: fields of the space that differ.
        rescaled: every row that changed kept its direction, and only its length is another.
    """

    old: str
    new: str
    relation: Relation
    reordered: bool
    added: int
    removed: int
    changed: int
    unchanged: int
    space_changes: tuple[SpaceChange, ...] = ()
    rescaled: bool = False

    @property
    def old_rows(self) -> int:
        """Rows of the old version."""
        return self.removed + self.changed + self.unchanged

    @property
    def new_rows(self) -> int:
        """Rows of the new version."""
        return self.added + self.changed + self.unchanged

    def explain(self) -> str:
        """Return the cause in one line, with its figures."""
        if self.relation is Relation.IDENTICAL:
            return "same rows in another order" if self.reordered else "same rows"
        if self.relation is Relation.RESPACED:
            breaking = [str(c) for c in self.space_changes if c.breaking]
            return "space changed: " + "; ".join(breaking)
        counts = (("added", self.added), ("removed", self.removed), ("changed", self.changed))
        told = [f"{count:,} rows {word}" for word, count in counts if count]
        only = " (in length only)" if self.rescaled else ""
        return f"{', '.join(told)} of {self.old_rows:,}{only}"


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexState:
    """A FAISS index as the registry judges it.

    Attributes:
        tracks: the ref whose moves re-judge it, ``NAME@ALIAS`` or ``NAME@latest``.
        built_from: the version its build holds.
        tracked: the version that ``tracks`` names now; None when the alias is gone.
        state: ``fresh`` or ``stale``.
        relation: of the tracked version to the built one.
        repair: the cheapest valid repair.
        reason: the cause in one line.
        search: FAISS search parameters, ``nprobe=16``; empty for the type's own.
        recall: recall@``recall_k`` against exact search, measured when it was built.
        method: how the present build came about: ``build``, ``add`` or ``update``.
    """

    name: str
    tracks: str
    built_from: str
    tracked: str | None
    state: str
    relation: Relation | None
    repair: Repair
    reason: str
    factory: str
    search: str
    metric: str
    rows: int
    nbytes: int
    recall: float | None
    recall_k: int
    recall_queries: int
    method: str
    duration_s: float
    built_at: datetime

    @property
    def stale(self) -> bool:
        """Whether the build no longer answers for the tracked version."""
        return self.state != "fresh"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependent:
    """Whatever was made from a version and follows an alias, as the registry judges it.

    Attributes:
        kind: ``index``, ``derived`` or ``external``.
        name: of the index, of the derived embedding, or of what is outside.
        tracks, tracked, state, relation, repair, reason: as of ``IndexState``.
        built_from: the version it was made from; None where none of its versions is left.
        remedy: the command that repairs it, or the note of how somebody does.
    """

    kind: str
    name: str
    tracks: str
    built_from: str | None
    tracked: str | None
    state: str
    relation: Relation | None
    repair: Repair
    reason: str
    remedy: str

    @property
    def stale(self) -> bool:
        """Whether it no longer answers for the tracked version."""
        return self.state != "fresh"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stale:
    """What a move left stale: indexes, and everything else that depends on the version that moved."""

    indexes: tuple[IndexState, ...] = ()
    others: tuple[Dependent, ...] = ()

    def __add__(self, more: Stale) -> Stale:
        return Stale(indexes=self.indexes + more.indexes, others=self.others + more.others)


@dataclass(frozen=True, slots=True, kw_only=True)
class Derivation:
    """How a version came out of another one.

    Attributes:
        parent: the version it was computed from.
        target: the second version that an adapter maps to; None for the other transforms.
        transform: its name.
        params: as they were given.
        fitted: sha256 of the fitted transform, which ``apply`` reads.
        fitted_rows: how many rows it was fitted on; None where nothing is fitted.
        quality: what was measured of it, such as an adapter's recovery on held-out rows.
    """

    parent: str
    target: str | None
    transform: str
    params: Mapping[str, Any]
    fitted: str
    fitted_rows: int | None
    quality: Mapping[str, Any]
