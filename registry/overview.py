"""What those ask who look over a whole registry: one query an answer, however many versions there are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select
from sqlalchemy.orm import aliased

from . import catalog, records
from .orm import AliasRow, EmbeddingRow, EventRow, VersionRow
from .orm_dependents import DerivedRow
from .orm_runs import RunRow, VerdictRow
from .types import Event

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from .types import VerdictRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class RunHead:
    """What a run is about, without its numbers.

    Attributes:
        id: its number in the registry; a run that is kept never changes.
        version, baseline: ``NAME@NUMBER``.
        status, verdict: as of ``RunRecord``.
    """

    id: int
    version: str
    baseline: str | None
    suite: str
    dataset: str | None
    status: str
    verdict: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """That a version was computed from others, all as ``NAME@NUMBER``; ``target`` is an adapter's second."""

    version: str
    parent: str
    target: str | None
    transform: str


def run_heads(session: Session, name: str | None = None) -> tuple[RunHead, ...]:
    """Return the runs of living versions, of one embedding or of all, in the order they were recorded."""
    base, base_name = aliased(VersionRow), aliased(EmbeddingRow)
    query: Any = (
        select(
            RunRow.id, EmbeddingRow.name, VersionRow.number, base_name.name, base.number,
            RunRow.suite, RunRow.dataset, RunRow.status, RunRow.verdict,
        )
        .join(VersionRow, RunRow.version_id == VersionRow.id)
        .join(EmbeddingRow, VersionRow.embedding_id == EmbeddingRow.id)
        .outerjoin(base, RunRow.baseline_id == base.id)
        .outerjoin(base_name, base.embedding_id == base_name.id)
        .where(VersionRow.deleted_at.is_(None))
        .order_by(RunRow.id)
    )  # fmt: skip
    if name is not None:
        query = query.where(EmbeddingRow.name == name)
    return tuple(
        RunHead(
            id=number,
            version=f"{own}@{at}",
            baseline=None if other is None else f"{other}@{other_at}",
            suite=suite,
            dataset=dataset,
            status=status,
            verdict=verdict,
        )
        for number, own, at, other, other_at, suite, dataset, status, verdict in session.execute(query)
    )


def verdicts(session: Session, name: str | None = None) -> tuple[VerdictRecord, ...]:
    """Return the newest verdict of every living version that has one, oldest first."""
    newest = select(func.max(VerdictRow.id)).group_by(VerdictRow.version_id)
    query = select(VerdictRow).join(VersionRow, VerdictRow.version_id == VersionRow.id)
    if name is not None:
        query = query.where(VersionRow.embedding_id == catalog.find_embedding(session, name).id)
    query = query.where(VerdictRow.id.in_(newest), VersionRow.deleted_at.is_(None)).order_by(VerdictRow.id)
    return tuple(records.to_verdict(row) for row in session.scalars(query))


def made(session: Session) -> tuple[Made, ...]:
    """Return which living versions were computed from which."""
    query = select(DerivedRow).join(VersionRow, DerivedRow.version_id == VersionRow.id)
    rows = session.scalars(query.where(VersionRow.deleted_at.is_(None)).order_by(VersionRow.id))
    return tuple(
        Made(
            version=catalog.ref_of(row.version),
            parent=catalog.ref_of(row.parent),
            target=None if row.target is None else catalog.ref_of(row.target),
            transform=row.transform,
        )
        for row in rows
    )


def protected(session: Session) -> frozenset[str]:
    """Return the aliases, as ``NAME@ALIAS``, that move by promotion only."""
    query = select(EmbeddingRow.name, AliasRow.name).join_from(AliasRow, EmbeddingRow)
    return frozenset(f"{name}@{alias}" for name, alias in session.execute(query.where(AliasRow.protected)))


def last_events(session: Session) -> dict[str, Event]:
    """Return the newest event of every embedding."""
    newest = select(func.max(EventRow.id)).where(EventRow.embedding.is_not(None)).group_by(EventRow.embedding)
    rows = session.scalars(select(EventRow).where(EventRow.id.in_(newest)))
    return {
        row.embedding or "": Event(
            id=row.id,
            at=row.at,
            actor=row.actor,
            action=row.action,
            subject=row.subject,
            detail=row.detail,
            command=row.command,
        )
        for row in rows
    }
