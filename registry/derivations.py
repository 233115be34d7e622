"""Derived embeddings: which version came out of which, by which fitted transform.

What a transform computes is not known here: the registry keeps the fitted transform as a blob, remembers what
it was fitted on, and judges the child as it judges an index, which is trained on a version too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from . import catalog, dependents
from .catalog import Actor
from .dependents import Diffs
from .errors import Conflict, NotFound, did_you_mean, printable
from .home import Home, to_ref
from .orm import EmbeddingRow, VersionRow
from .orm_dependents import DerivationRow, DerivedRow
from .types import Dependent, Derivation, Ref, Repair


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where the rows of a version come from: what ``publish`` writes down with the version.

    Attributes:
        derivation: parent, transform and fit.
        track: the alias of the parent whose moves make the child stale, or ``latest``.
        target: the ref that an adapter maps to, as it was given.
    """

    derivation: Derivation
    track: str
    target: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """A derived embedding: what it follows, how it is computed, and how it stands.

    Attributes:
        child: its name.
        track: the alias of the parent, or ``latest``.
        target: the ref that an adapter maps to.
        present: how its latest version came about; None where none is left.
        state: as the registry judges it.
    """

    child: str
    track: str
    transform: str
    params: Mapping[str, Any]
    target: str | None
    present: Derivation | None
    state: Dependent


def write(
    session: Session, actor: Actor, child: VersionRow, origin: Origin, diffs: Diffs, *, created: bool
) -> None:
    """Write down what a version was computed from, let its embedding follow the parent, and judge it."""
    derivation = origin.derivation
    parent = catalog.resolve(session, to_ref(derivation.parent))
    target = catalog.resolve(session, to_ref(derivation.target)) if derivation.target else None
    check_ring(session, child.embedding.name, parent.embedding.name)
    row = session.get(DerivedRow, child.id)
    if row is None and not created:
        raise Conflict(
            f"{catalog.ref_of(child)} holds these rows already, and was not derived",
            hint="choose another name with --as",
        )
    if row is None:
        row = DerivedRow(version_id=child.id)
        session.add(row)
    # The same rows from a newer parent: the version stays, what it answers for is the newer one.
    row.parent, row.transform, row.params = parent, derivation.transform, dict(derivation.params)
    row.target, row.fitted, row.fitted_rows = target, derivation.fitted, derivation.fitted_rows
    row.quality = dict(derivation.quality)
    session.flush()
    following = _follow(session, parent.embedding, child.embedding, origin)
    dependents.judge(session, following, diffs)
    catalog.log_event(
        session,
        actor,
        "version.derived",
        catalog.ref_of(child),
        embedding=child.embedding.name,
        parent=catalog.ref_of(parent),
        transform=derivation.transform,
        fitted=derivation.fitted,
    )


def check_ring(session: Session, child: str, parent: str) -> None:
    """Refuse a child that its own parent comes from: each would make the other stale for ever.

    Raises:
        Conflict: as said; the message names the line of descent.
    """
    above = {d.child.name: d.embedding.name for d in session.scalars(select(DerivationRow))}
    line = [parent]
    while line[-1] != child and line[-1] in above and above[line[-1]] not in line:
        line.append(above[line[-1]])
    if line[-1] == child:
        names = " from ".join(f"'{name}'" for name in line)
        told = f": {names}" if len(line) > 1 else ""
        raise Conflict(f"'{child}' cannot be derived from itself{told}", hint="name it with --as")


def _follow(session: Session, parent: EmbeddingRow, child: EmbeddingRow, origin: Origin) -> DerivationRow:
    row = session.scalar(select(DerivationRow).where(DerivationRow.child_id == child.id))
    if row is None:
        row = DerivationRow(child=child, state="stale", repair=Repair.REBUILD, reason="")
        session.add(row)
    row.embedding, row.tracks = parent, origin.track
    row.transform, row.params = origin.derivation.transform, dict(origin.derivation.params)
    row.target = origin.target
    session.flush()
    return row


def followed(session: Session, name: str) -> Followed:
    """Return a derived embedding.

    Raises:
        NotFound: the embedding is not derived, or there is none of that name.
    """
    embedding = catalog.find_embedding(session, name)
    row = session.scalar(select(DerivationRow).where(DerivationRow.child_id == embedding.id))
    if row is None:
        known = [d.child.name for d in session.scalars(select(DerivationRow))]
        hint = did_you_mean(name, known, "'embreg derive REF --transform T' derives one")
        raise NotFound(f"'{printable(name)}' is not derived from anything", hint=hint)
    return _to_followed(session, row)


def all_followed(session: Session) -> tuple[Followed, ...]:
    """Return every derived embedding, parents before their children."""
    rows = {row.child_id: row for row in session.scalars(select(DerivationRow).order_by(DerivationRow.id))}

    def depth(row: DerivationRow) -> int:
        steps, seen = 0, {row.child_id}
        while (above := rows.get(row.embedding_id)) is not None and above.child_id not in seen:
            seen.add(above.child_id)
            row, steps = above, steps + 1
        return steps

    return tuple(_to_followed(session, row) for row in sorted(rows.values(), key=depth))


def _to_followed(session: Session, row: DerivationRow) -> Followed:
    present = dependents.present_derived(session, row)
    return Followed(
        child=row.child.name,
        track=row.tracks,
        transform=row.transform,
        params=row.params,
        target=row.target,
        present=to_derivation(present) if present is not None else None,
        state=dependents.to_dependent(session, row),
    )


def to_derivation(row: DerivedRow) -> Derivation:
    """Return the value of a row."""
    return Derivation(
        parent=catalog.ref_of(row.parent),
        target=catalog.ref_of(row.target) if row.target is not None else None,
        transform=row.transform,
        params=row.params,
        fitted=row.fitted,
        fitted_rows=row.fitted_rows,
        quality=row.quality,
    )


def of_version(session: Session, version: VersionRow) -> Derivation | None:
    """Return what a version was computed from; None for one that was registered from outside."""
    row = session.get(DerivedRow, version.id)
    return to_derivation(row) if row is not None else None


def resolve(home: Home, ref: str | Ref) -> Derivation | None:
    """Return how a version was computed from another one; None where it was registered from outside."""
    with home.database.read() as session:
        return of_version(session, catalog.resolve(session, to_ref(ref)))


def children(session: Session, parent: VersionRow) -> list[DerivedRow]:
    """Return what living versions were computed from a version, or map to it."""
    query = select(DerivedRow).join(VersionRow, DerivedRow.version_id == VersionRow.id)
    mine = (DerivedRow.parent_id == parent.id) | (DerivedRow.target_id == parent.id)
    return list(session.scalars(query.where(mine, VersionRow.deleted_at.is_(None)).order_by(VersionRow.id)))


def forget(home: Home, name: str) -> None:
    """Let a derived embedding stand alone: its versions stay, nothing flags it any more."""
    with home.database.write() as session:
        followed(session, name)
        child = catalog.find_embedding(session, name)
        row = session.scalars(select(DerivationRow).where(DerivationRow.child_id == child.id)).one()
        catalog.log_event(session, home.actor, "derived.forgotten", name, embedding=name)
        session.delete(row)
