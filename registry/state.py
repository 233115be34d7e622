"""What a registry is like right now: what it holds, what is stale, what failed last.

A few queries that read no more than they tell: their number does not grow with that of the versions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import func, select
from sqlalchemy.orm import aliased

from . import catalog, dependents
from .orm import AliasRow, EmbeddingRow, VersionRow
from .orm_runs import MeasureRow, RunRow, VerdictRow
from .types import Dependent

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

#: So many failed runs are told, the newest first.
MOST_FAILED = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class LastVerdict:
    """The newest answer of the gate on a version of an embedding.

    Attributes:
        reasons: of the checks that failed.
    """

    ref: str
    baseline: str | None
    passed: bool
    at: datetime
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """An embedding as it is now.

    Attributes:
        versions: how many there are, deleted ones apart.
        latest: ``NAME@NUMBER`` of the newest of them; its shape and time follow.
        measured: whether anything was measured of the newest.
        aliases: and the versions that they name.
        verdict: the newest of the gate on any of its versions; None where there is none.
    """

    name: str
    versions: int
    latest: str
    rows: int
    dim: int
    registered: datetime
    measured: bool
    aliases: Mapping[str, str]
    verdict: LastVerdict | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedRun:
    """A run that ended in an error, and was not done since."""

    id: int
    ref: str
    suite: str
    dataset: str | None
    baseline: str | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """A registry as it is now: embeddings by the time of their newest version, the newest first."""

    embeddings: tuple[Holding, ...] = ()
    stale: tuple[Dependent, ...] = ()
    failed: tuple[FailedRun, ...] = ()


def state(session: Session) -> State:
    """Return what the registry holds, what is stale in it, and what failed last."""
    return State(
        embeddings=_holdings(session),
        stale=dependents.everything(session, stale=True),
        failed=_failed(session),
    )


def measured(session: Session, name: str | None) -> tuple[str, ...]:
    """Return the metrics that were measured, of one embedding or of any, in the order of their names."""
    query = select(RunRow.suite, MeasureRow.metric).join_from(MeasureRow, RunRow)
    if name is not None:
        query = query.join(VersionRow, RunRow.version_id == VersionRow.id)
        query = query.where(VersionRow.embedding_id == catalog.find_embedding(session, name).id)
    return tuple(sorted({f"{suite}.{metric}" for suite, metric in session.execute(query.distinct())}))


def _holdings(session: Session) -> tuple[Holding, ...]:
    newest = (
        select(
            VersionRow.embedding_id.label("embedding_id"),
            func.count().label("versions"),
            func.max(VersionRow.number).label("number"),
        )
        .where(VersionRow.deleted_at.is_(None))
        .group_by(VersionRow.embedding_id)
        .subquery()
    )
    measured = select(RunRow.id).where(RunRow.version_id == VersionRow.id).exists()
    query = (
        select(
            EmbeddingRow.name,
            newest.c.versions,
            VersionRow.number,
            VersionRow.rows,
            VersionRow.space["dim"].as_integer(),
            VersionRow.created_at,
            measured,
        )
        .join_from(newest, EmbeddingRow, EmbeddingRow.id == newest.c.embedding_id)
        .join(
            VersionRow,
            (VersionRow.embedding_id == EmbeddingRow.id) & (VersionRow.number == newest.c.number),
        )
        .order_by(VersionRow.created_at.desc(), VersionRow.id.desc())
    )
    aliases, verdicts = _aliases(session), _verdicts(session)
    return tuple(
        Holding(
            name=name,
            versions=versions,
            latest=f"{name}@{number}",
            rows=rows,
            dim=dim,
            registered=at,
            measured=seen,
            aliases=aliases.get(name, {}),
            verdict=verdicts.get(name),
        )
        for name, versions, number, rows, dim, at, seen in session.execute(query)
    )


def _aliases(session: Session) -> dict[str, dict[str, str]]:
    query = (
        select(EmbeddingRow.name, AliasRow.name, VersionRow.number)
        .join_from(AliasRow, EmbeddingRow, AliasRow.embedding_id == EmbeddingRow.id)
        .join(VersionRow, AliasRow.version_id == VersionRow.id)
        .order_by(AliasRow.name)
    )
    found: dict[str, dict[str, str]] = {}
    for name, alias, number in session.execute(query):
        found.setdefault(name, {})[alias] = f"{name}@{number}"
    return found


def _verdicts(session: Session) -> dict[str, LastVerdict]:
    """Return the newest verdict on a living version of each embedding."""
    newest = (
        select(func.max(VerdictRow.id))
        .join(VersionRow, VerdictRow.version_id == VersionRow.id)
        .where(VersionRow.deleted_at.is_(None))
        .group_by(VersionRow.embedding_id)
    )
    found = {}
    for row in session.scalars(select(VerdictRow).where(VerdictRow.id.in_(newest))):
        name = row.version.embedding.name
        found[name] = LastVerdict(
            ref=catalog.ref_of(row.version),
            baseline=catalog.ref_of(row.baseline) if row.baseline else None,
            passed=row.passed,
            at=row.created_at,
            reasons=tuple(
                f"{check['metric']}: {check['reason']}"
                for check in row.checks
                if check["outcome"] == "failed"
            ),
        )
    return found


def _failed(session: Session) -> tuple[FailedRun, ...]:
    """Return the newest runs with an error after which the same was not done."""
    later = aliased(RunRow)
    mended = select(later.id).where(
        later.id > RunRow.id,
        later.version_id == RunRow.version_id,
        later.suite == RunRow.suite,
        later.status != "error",
        later.dataset.is_not_distinct_from(RunRow.dataset),
        later.baseline_id.is_not_distinct_from(RunRow.baseline_id),
    )
    query = (
        select(RunRow)
        .join(VersionRow, RunRow.version_id == VersionRow.id)
        .where(RunRow.status == "error", VersionRow.deleted_at.is_(None), ~mended.exists())
        .order_by(RunRow.id.desc())
        .limit(MOST_FAILED)
    )
    return tuple(
        FailedRun(
            id=row.id,
            ref=catalog.ref_of(row.version),
            suite=row.suite,
            dataset=row.dataset,
            baseline=catalog.ref_of(row.baseline) if row.baseline else None,
            reason=row.reason,
        )
        for row in session.scalars(query)
    )
