"""Reading the database: references to rows, rows to values. Every query over versions lives here."""

from __future__ import annotations

import getpass
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from .errors import AliasNotFound, EmbeddingNotFound, VersionNotFound, did_you_mean, printable
from .orm import AliasRow, EmbeddingRow, EventRow, VersionRow
from .types import LATEST, Event, Ref, Space, Version, utc_now


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who acts, and from which command; every event carries both."""

    who: str
    command: str

    @classmethod
    def current(cls, command: str = "") -> Actor:
        """Return the user of this process at this host."""
        try:
            user = getpass.getuser()
        except (KeyError, OSError):  # a container whose uid has no name
            user = "unknown"
        return cls(who=printable(f"{user}@{socket.gethostname()}"), command=printable(command, 1000))


def log_event(
    session: Session,
    actor: Actor,
    action: str,
    subject: str,
    *,
    embedding: str | None = None,
    **detail: Any,
) -> None:
    """Write one line of the log, in the transaction of what it tells."""
    session.add(
        EventRow(
            at=utc_now(),
            actor=actor.who,
            action=action,
            subject=subject,
            embedding=embedding,
            detail=detail,
            command=actor.command,
        )
    )


def events(session: Session, embedding: str | None = None, limit: int | None = None) -> tuple[Event, ...]:
    """Return the log, oldest first; only the last ``limit`` lines, and those of one embedding, if asked."""
    query = select(EventRow).order_by(EventRow.id.desc())
    if embedding is not None:
        query = query.where(EventRow.embedding == find_embedding(session, embedding).name)
    if limit is not None:
        query = query.limit(limit)
    return tuple(
        Event(
            id=row.id,
            at=row.at,
            actor=row.actor,
            action=row.action,
            subject=row.subject,
            detail=row.detail,
            command=row.command,
        )
        for row in reversed(session.scalars(query).all())
    )


def find_embedding(session: Session, name: str) -> EmbeddingRow:
    """Return the row of an embedding.

    Raises:
        EmbeddingNotFound: there is none of that name.
    """
    row = session.scalar(select(EmbeddingRow).where(EmbeddingRow.name == name))
    if row is None:
        known = session.scalars(select(EmbeddingRow.name)).all()
        hint = did_you_mean(name, known, "'embreg list' shows what is registered")
        raise EmbeddingNotFound(f"no embedding '{printable(name)}'", hint=hint)
    return row


def living(embedding: EmbeddingRow) -> Any:
    """Return the query for the versions of an embedding that are not deleted."""
    return select(VersionRow).where(VersionRow.embedding_id == embedding.id, VersionRow.deleted_at.is_(None))


def latest(session: Session, embedding: EmbeddingRow) -> VersionRow | None:
    """Return the living version with the highest number."""
    query = living(embedding).order_by(VersionRow.number.desc()).limit(1)
    row: VersionRow | None = session.scalar(query)
    return row


def next_number(session: Session, embedding: EmbeddingRow) -> int:
    """Return one more than the highest number ever given, deleted versions included."""
    query = select(func.max(VersionRow.number)).where(VersionRow.embedding_id == embedding.id)
    return (session.scalar(query) or 0) + 1


def find_alias(session: Session, embedding: EmbeddingRow, alias: str) -> AliasRow:
    """Return the row of an alias.

    Raises:
        AliasNotFound: the embedding has none of that name.
    """
    query = select(AliasRow).where(AliasRow.embedding_id == embedding.id)
    rows = {row.name: row for row in session.scalars(query)}
    if alias not in rows:
        hint = did_you_mean(
            alias, rows, f"'embreg alias set {embedding.name} {printable(alias)} REF' makes it"
        )
        raise AliasNotFound(f"'{embedding.name}' has no alias '{printable(alias)}'", hint=hint)
    return rows[alias]


def resolve(session: Session, ref: Ref) -> VersionRow:
    """Return the version that a reference names.

    Raises:
        EmbeddingNotFound, AliasNotFound, VersionNotFound: as their names say.
    """
    embedding = find_embedding(session, ref.name)
    query = living(embedding).order_by(VersionRow.number.desc())
    if ref.alias is not None:
        alias = find_alias(session, embedding, ref.alias)
        query = query.where(VersionRow.id == alias.version_id)
    elif ref.number is not None:
        query = query.where(VersionRow.number == ref.number)
    elif ref.digest is not None:
        query = query.where(VersionRow.digest.startswith(ref.digest))
    found: list[VersionRow] = list(session.scalars(query.limit(2)))
    if not found:
        newest = latest(session, embedding)
        hint = f"the latest is {newest.number}" if newest else "every version of it was deleted"
        raise VersionNotFound(f"no version '{ref}'", hint=hint)
    if ref.digest is not None and len(found) == 2 and found[0].digest != found[1].digest:
        raise VersionNotFound(f"'{ref}' names more than one version", hint="give more digits")
    return found[0]


def tracked(session: Session, embedding: EmbeddingRow, tracks: str) -> VersionRow | None:
    """Return the version that an alias or ``latest`` names now; None where it names nothing."""
    if tracks == LATEST:
        return latest(session, embedding)
    query = select(VersionRow).join(AliasRow, AliasRow.version_id == VersionRow.id)
    return session.scalar(query.where(AliasRow.embedding_id == embedding.id, AliasRow.name == tracks))


def alias_names(session: Session, version_ids: list[int]) -> Mapping[int, tuple[str, ...]]:
    """Return the aliases of some versions, by version id."""
    query = select(AliasRow).where(AliasRow.version_id.in_(version_ids)).order_by(AliasRow.name)
    names: dict[int, tuple[str, ...]] = {}
    for row in session.scalars(query):
        names[row.version_id] = (*names.get(row.version_id, ()), row.name)
    return names


def ref_of(row: VersionRow) -> str:
    """Return ``NAME@NUMBER``."""
    return f"{row.embedding.name}@{row.number}"


def to_version(row: VersionRow, aliases: tuple[str, ...] = ()) -> Version:
    """Return the value of a version row."""
    return Version(
        name=row.embedding.name,
        number=row.number,
        digest=row.digest,
        content_digest=row.content_digest,
        rows=row.rows,
        space=Space.from_dict(row.space),
        message=row.message,
        source=row.source,
        created_at=row.created_at,
        created_by=row.created_by,
        nbytes=row.nbytes,
        statistics=row.statistics,
        aliases=aliases,
    )


def versions(session: Session, name: str | None = None) -> tuple[Version, ...]:
    """Return the living versions of one embedding, or of all, by name and number."""
    query = select(VersionRow).join(EmbeddingRow).where(VersionRow.deleted_at.is_(None))
    if name is not None:
        query = query.where(VersionRow.embedding_id == find_embedding(session, name).id)
    rows = session.scalars(query.order_by(EmbeddingRow.name, VersionRow.number)).all()
    names = alias_names(session, [row.id for row in rows])
    return tuple(to_version(row, names.get(row.id, ())) for row in rows)
