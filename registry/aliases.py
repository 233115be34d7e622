"""Aliases: movable names of versions. A move is a compare-and-set with its history, event and judgement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from . import catalog, dependents, records
from .catalog import Actor
from .dependents import Diffs
from .errors import Conflict, Refused, UsageError, VersionNotFound, printable
from .home import Home, to_ref
from .orm import AliasMoveRow, AliasRow, EmbeddingRow, VersionRow
from .types import AliasMove, PastMove, Ref, Stale, check_alias, utc_now


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """One alias to point at a version; only if it names ``if_was`` now, where that is given."""

    name: str
    alias: str
    ref: str | Ref
    if_was: str | Ref | None = None


def set_aliases(home: Home, wishes: Sequence[Wish]) -> tuple[AliasMove, ...]:
    """Point aliases at versions, all in one transaction; see ``Registry.alias_all``."""
    for wish in wishes:
        check_alias(wish.alias)
    if len({(wish.name, wish.alias) for wish in wishes}) < len(wishes):
        raise UsageError("one alias is named twice", hint="each alias moves once in a transaction")
    diffs = home.diffs()

    def transaction() -> tuple[AliasMove, ...]:
        with home.database.write() as session:
            return tuple(_set(home, session, wish, diffs) for wish in wishes)

    return diffs.settle(transaction)


def _set(home: Home, session: Session, wish: Wish, diffs: Diffs) -> AliasMove:
    embedding = catalog.find_embedding(session, wish.name)
    target = catalog.resolve(session, to_ref(wish.ref))
    if target.embedding_id != embedding.id:
        raise UsageError(f"'{to_ref(wish.ref)}' is no version of '{wish.name}'")
    if wish.if_was is not None:
        _expect(session, embedding, wish.alias, catalog.resolve(session, to_ref(wish.if_was)))
    old, stale = move(session, home.actor, embedding, wish.alias, target, diffs)
    return AliasMove(embedding=wish.name, alias=wish.alias, old=old, new=catalog.ref_of(target), stale=stale)


def _expect(session: Session, embedding: EmbeddingRow, alias: str, expected: VersionRow) -> None:
    found = catalog.tracked(session, embedding, alias)
    if found is None or found.id != expected.id:
        names = f"version {found.number}" if found else "nothing"
        raise Conflict(
            f"'{embedding.name}@{alias}' names {names}, not version {expected.number}",
            hint="somebody moved it: look at 'embreg log' before you move it again",
        )


def move(
    session: Session,
    actor: Actor,
    embedding: EmbeddingRow,
    alias: str,
    target: VersionRow,
    diffs: Diffs,
    reason: str = "",
    *,
    promoted: bool = False,
) -> tuple[str | None, Stale]:
    """Point an alias at a version inside a transaction; judge what tracks it.

    ``reason`` is kept in the history; a protected alias moves only if it is ``promoted``: a gate allowed it.

    Raises:
        Refused: the alias is protected.

    Returns:
        The version it named before (None: it is new), and what is stale by the move.
    """
    query = select(AliasRow).where(AliasRow.embedding_id == embedding.id, AliasRow.name == alias)
    row = session.scalar(query)
    before = session.get(VersionRow, row.version_id) if row is not None else None
    if row is None:
        row = AliasRow(embedding_id=embedding.id, name=alias, version_id=target.id)
        session.add(row)
    elif not promoted:
        _check_open(embedding, row)
    row.version_id = target.id
    _write_move(session, actor, embedding, alias, before, target, reason)
    session.flush()
    stale = dependents.judge_all(session, embedding, alias, diffs, actor)
    return (catalog.ref_of(before) if before else None), stale


def _check_open(embedding: EmbeddingRow, row: AliasRow) -> None:
    if row.protected:
        raise Refused(
            f"'{embedding.name}@{row.name}' is protected: it moves by promotion only",
            hint=f"'embreg gate REF', then 'embreg promote REF {row.name}'",
        )


def protect(home: Home, name: str, alias: str, protected: bool) -> None:
    """Let an alias move by promotion only, or freely again; see ``Registry.protect``."""
    check_alias(alias)
    with home.database.write() as session:
        row = catalog.find_alias(session, catalog.find_embedding(session, name), alias)
        if row.protected != protected:
            row.protected = protected
            action = "alias.protected" if protected else "alias.unprotected"
            catalog.log_event(session, home.actor, action, f"{name}@{alias}", embedding=name)


def _write_move(
    session: Session,
    actor: Actor,
    embedding: EmbeddingRow,
    alias: str,
    old: VersionRow | None,
    new: VersionRow | None,
    reason: str,
) -> None:
    session.add(
        AliasMoveRow(
            embedding_id=embedding.id,
            name=alias,
            from_id=old.id if old else None,
            to_id=new.id if new else None,
            at=utc_now(),
            actor=actor.who,
            reason=reason,
        )
    )
    catalog.log_event(
        session,
        actor,
        "alias.moved" if new else "alias.removed",
        f"{embedding.name}@{alias}",
        embedding=embedding.name,
        old=old.number if old else None,
        new=new.number if new else None,
        reason=reason,
    )


def history(session: Session, name: str, alias: str | None) -> tuple[PastMove, ...]:
    """Return every move of an alias, or of all aliases of an embedding, oldest first."""
    embedding = catalog.find_embedding(session, name)
    query = select(AliasMoveRow).where(AliasMoveRow.embedding_id == embedding.id)
    if alias is not None:
        query = query.where(AliasMoveRow.name == alias)
    own = select(VersionRow.id, VersionRow.number).where(VersionRow.embedding_id == embedding.id)
    refs: dict[int | None, str] = {number: f"{name}@{at}" for number, at in session.execute(own)}
    return tuple(
        PastMove(
            alias=row.name,
            old=refs.get(row.from_id),
            new=refs.get(row.to_id),
            at=row.at,
            actor=row.actor,
            reason=row.reason,
        )
        for row in session.scalars(query.order_by(AliasMoveRow.id))
    )


def resolve_at(session: Session, ref: Ref, at: datetime) -> VersionRow:
    """Return the version that an alias, or ``latest``, named at a moment; it may be deleted since.

    Raises:
        VersionNotFound: it named nothing then.
        UsageError: the reference does not move.
    """
    if ref.number is not None or ref.digest is not None:
        raise UsageError(f"'{ref}' never moves", hint="ask for NAME or NAME@ALIAS at a time")
    embedding = catalog.find_embedding(session, ref.name)
    if ref.alias is None:
        there = VersionRow.deleted_at.is_(None) | (VersionRow.deleted_at > at)
        made = select(VersionRow).where(VersionRow.embedding_id == embedding.id, VersionRow.created_at <= at)
        row = session.scalar(made.where(there).order_by(VersionRow.number.desc()).limit(1))
    else:
        moves = select(AliasMoveRow).where(
            AliasMoveRow.embedding_id == embedding.id,
            AliasMoveRow.name == ref.alias,
            AliasMoveRow.at <= at,
        )
        move = session.scalar(moves.order_by(AliasMoveRow.id.desc()).limit(1))
        row = session.get(VersionRow, move.to_id) if move is not None and move.to_id is not None else None
    if row is None:
        raise VersionNotFound(
            f"'{ref}' named nothing at {at:%Y-%m-%d %H:%M:%S} UTC",
            hint=f"'embreg alias history {ref.name}' shows every move",
        )
    return row


def remove(home: Home, name: str, alias: str) -> AliasMove:
    """Remove an alias that no index tracks; see ``Registry.remove_alias``."""
    check_alias(alias)
    with home.database.write() as session:
        embedding = catalog.find_embedding(session, name)
        row = catalog.find_alias(session, embedding, alias)
        if tracking := dependents.tracking(session, embedding, alias):
            raise Conflict(
                f"'{name}@{alias}' is tracked by {', '.join(tracking)}",
                hint="remove that, or make it anew with another --track",
            )
        _check_open(embedding, row)
        old = session.get_one(VersionRow, row.version_id)
        session.delete(row)
        _write_move(session, home.actor, embedding, alias, old, None, "")
        return AliasMove(embedding=name, alias=alias, old=catalog.ref_of(old), new=None)


def promote(home: Home, ref: str | Ref, alias: str) -> AliasMove:
    """Move an alias to a version whose gate passed; see ``Registry.promote``."""
    check_alias(alias)
    asked = home.resolve(ref)
    diffs = home.diffs()

    def transaction() -> AliasMove:
        with home.database.write() as session:
            embedding = catalog.find_embedding(session, asked.name)
            target = catalog.resolve(session, to_ref(asked.ref))
            current = catalog.tracked(session, embedding, alias)
            reason = _permission(session, target, current)
            old, stale = move(session, home.actor, embedding, alias, target, diffs, reason, promoted=True)
            return AliasMove(embedding=asked.name, alias=alias, old=old, new=asked.ref, stale=stale)

    return diffs.settle(transaction)


def _permission(session: Session, target: VersionRow, current: VersionRow | None) -> str:
    """Return why ``target`` may follow ``current``: the verdict on that very pair of digests.

    Raises:
        Refused: it did not pass, or there is none.
    """
    verdict = records.newest_verdict(session, target.digest, current.digest if current else None)
    against = f"against {catalog.ref_of(current)}" if current else "without a baseline"
    if verdict is None:
        option = f"--baseline {catalog.ref_of(current)}" if current else "--no-baseline"
        raise Refused(
            f"{catalog.ref_of(target)} was never gated {against}",
            hint=f"run 'embreg gate {catalog.ref_of(target)} {option}'",
        )
    if not verdict.passed:
        failed = [c for c in verdict.checks if c.get("outcome") == "failed"]
        why = "; ".join(f"{c['metric']}: {c['reason']}" for c in failed)
        raise Refused(f"{catalog.ref_of(target)} failed its gate {against}: {printable(why, 300)}")
    return f"gate passed {against}: {len(verdict.checks)} checks, {verdict.created_at:%Y-%m-%d %H:%M:%S} UTC"
