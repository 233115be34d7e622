"""Reading the database: references to rows, rows to values. Every query over versions lives here."""

from __future__ import annotations

import getpass
import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import String, func, select, type_coerce
from sqlalchemy.orm import Session, contains_eager

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


def events(
    session: Session,
    embedding: str | None = None,
    limit: int | None = None,
    since: datetime | int | None = None,
    until: int | None = None,
) -> tuple[Event, ...]:
    """Return the log, oldest first; only the last ``limit`` lines, and those of one embedding, if asked.

    ``since`` is a moment, or the id of the last event that is known already; ``until`` is the last id asked
    for.
    """
    query = select(
        EventRow.id,
        type_coerce(EventRow.at, String),
        EventRow.actor,
        EventRow.action,
        EventRow.subject,
        type_coerce(EventRow.detail, String),
        EventRow.command,
    ).order_by(EventRow.id.desc())
    if since is not None:
        query = query.where(EventRow.at >= since if isinstance(since, datetime) else EventRow.id > since)
    if until is not None:
        query = query.where(EventRow.id <= until)
    if embedding is not None:
        query = query.where(EventRow.embedding == find_embedding(session, embedding).name)
    if limit is not None:
        query = query.limit(limit)
    rows = session.execute(query).all()[::-1]
    # A log may hold 100,000 lines: their details are decoded in one go.
    details = json.loads(f"[{','.join(row[5] for row in rows)}]")
    return tuple(
        Event(
            id=number,
            at=datetime.fromisoformat(at).replace(tzinfo=UTC),
            actor=actor,
            action=action,
            subject=subject,
            detail=detail,
            command=command,
        )
        for (number, at, actor, action, subject, _, command), detail in zip(rows, details, strict=True)
    )


def count_events(session: Session, embedding: str | None = None) -> int:
    """Return how many lines the log has, in all or of one embedding."""
    query = select(func.count()).select_from(EventRow)
    if embedding is not None:
        query = query.where(EventRow.embedding == find_embedding(session, embedding).name)
    return session.scalar(query) or 0


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
    query = (
        select(VersionRow)
        .join(VersionRow.embedding)
        .options(contains_eager(VersionRow.embedding))
        .where(EmbeddingRow.name == ref.name, VersionRow.deleted_at.is_(None))
        .order_by(VersionRow.number.desc())
    )
    if ref.alias is not None:
        alias = find_alias(session, find_embedding(session, ref.name), ref.alias)
        query = query.where(VersionRow.id == alias.version_id)
    elif ref.number is not None:
        query = query.where(VersionRow.number == ref.number)
    elif ref.digest is not None:
        query = query.where(VersionRow.digest.startswith(ref.digest))
    found: list[VersionRow] = list(session.scalars(query.limit(2)))
    if not found:
        newest = latest(session, find_embedding(session, ref.name))
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


def protected_aliases(session: Session, name: str) -> tuple[str, ...]:
    """Return the aliases of an embedding that move by promotion only."""
    query = select(AliasRow.name).where(AliasRow.embedding_id == find_embedding(session, name).id)
    return tuple(session.scalars(query.where(AliasRow.protected).order_by(AliasRow.name)))


def ref_of(row: VersionRow) -> str:
    """Return ``NAME@NUMBER``."""
    return f"{row.embedding.name}@{row.number}"


def to_version(row: VersionRow, aliases: tuple[str, ...] = ()) -> Version:
    """Return the value of a version row."""
    return _version(row, row.embedding.name, Space.from_dict(row.space), row.statistics, aliases)


def _version(
    row: Any, name: str, space: Space, statistics: Mapping[str, Any], aliases: tuple[str, ...]
) -> Version:
    return Version(
        name=name,
        number=row.number,
        digest=row.digest,
        content_digest=row.content_digest,
        rows=row.rows,
        space=space,
        message=row.message,
        source=row.source,
        created_at=row.created_at,
        created_by=row.created_by,
        nbytes=row.nbytes,
        statistics=statistics,
        aliases=aliases,
        probes=row.probes,
    )


#: What a version takes from its row as it is, and what is JSON there.
_LISTED = (
    VersionRow.id,
    VersionRow.number,
    VersionRow.digest,
    VersionRow.content_digest,
    VersionRow.rows,
    VersionRow.nbytes,
    VersionRow.message,
    VersionRow.source,
    VersionRow.created_at,
    VersionRow.created_by,
    VersionRow.probes,
)
_DOCUMENTS = (VersionRow.space, VersionRow.statistics)


def versions(session: Session, name: str | None = None) -> tuple[Version, ...]:
    """Return the living versions of one embedding, or of all, by name and number."""
    embedding = find_embedding(session, name).id if name is not None else None
    query = (
        select(*_LISTED, EmbeddingRow.name, *(type_coerce(c, String) for c in _DOCUMENTS))
        .join_from(VersionRow, EmbeddingRow)
        .where(VersionRow.deleted_at.is_(None))
    )
    aliased = select(AliasRow.version_id, AliasRow.name).order_by(AliasRow.name)
    if embedding is not None:
        query = query.where(VersionRow.embedding_id == embedding)
        aliased = aliased.where(AliasRow.embedding_id == embedding)
    aliases: dict[int, tuple[str, ...]] = {}
    for version_id, alias in session.execute(aliased):
        aliases[version_id] = (*aliases.get(version_id, ()), alias)
    rows: list[Any] = list(session.execute(query.order_by(EmbeddingRow.name, VersionRow.number)))
    # There may be 10,000 of them, in a few spaces: rows without objects, and every space read once.
    statistics = json.loads(f"[{','.join(row[-1] for row in rows)}]")
    spaces = {text: Space.from_dict(json.loads(text)) for text in {row[-2] for row in rows}}
    return tuple(
        _version(row, row[-3], spaces[row[-2]], told, aliases.get(row.id, ()))
        for row, told in zip(rows, statistics, strict=True)
    )
