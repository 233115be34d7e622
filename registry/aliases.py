"""Aliases: movable names of versions. A move is a compare-and-set with its history, event and judgement."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from . import catalog, dependents, records
from .catalog import Actor
from .dependents import Diffs
from .errors import Conflict, Refused, UsageError, printable
from .home import Home, to_ref
from .orm import AliasMoveRow, AliasRow, EmbeddingRow, IndexRow, VersionRow
from .types import AliasMove, IndexState, Ref, check_alias, utc_now


def set_alias(home: Home, name: str, alias: str, ref: str | Ref, if_was: str | Ref | None) -> AliasMove:
    """Point an alias at a version; see ``Registry.alias``."""
    check_alias(alias)
    diffs = home.diffs()

    def transaction() -> AliasMove:
        with home.database.write() as session:
            embedding = catalog.find_embedding(session, name)
            target = catalog.resolve(session, to_ref(ref))
            if target.embedding_id != embedding.id:
                raise UsageError(f"'{to_ref(ref)}' is no version of '{name}'")
            if if_was is not None:
                _expect(session, embedding, alias, catalog.resolve(session, to_ref(if_was)))
            old, stale = move(session, home.actor, embedding, alias, target, diffs, "")
            return AliasMove(
                embedding=name, alias=alias, old=old, new=catalog.ref_of(target), stale_indexes=stale
            )

    return diffs.settle(transaction)


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
    reason: str,
) -> tuple[str | None, tuple[IndexState, ...]]:
    """Point an alias at a version inside a transaction; judge what tracks it.

    Returns:
        The version it named before (None: it is new), and the indexes that are stale by the move.
    """
    query = select(AliasRow).where(AliasRow.embedding_id == embedding.id, AliasRow.name == alias)
    row = session.scalar(query)
    before = session.get(VersionRow, row.version_id) if row is not None else None
    if row is None:
        row = AliasRow(embedding_id=embedding.id, name=alias, version_id=target.id)
        session.add(row)
    row.version_id = target.id
    _write_move(session, actor, embedding, alias, before, target, reason)
    session.flush()
    stale = dependents.judge_all(session, embedding, alias, diffs, actor)
    return (catalog.ref_of(before) if before else None), stale


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


def remove(home: Home, name: str, alias: str) -> AliasMove:
    """Remove an alias that no index tracks; see ``Registry.remove_alias``."""
    check_alias(alias)
    with home.database.write() as session:
        embedding = catalog.find_embedding(session, name)
        row = catalog.find_alias(session, embedding, alias)
        query = select(IndexRow.name).where(IndexRow.embedding_id == embedding.id, IndexRow.tracks == alias)
        if tracking := session.scalars(query).all():
            raise Conflict(
                f"'{name}@{alias}' is tracked by index {', '.join(tracking)}",
                hint="remove the index, or build it anew with another --track",
            )
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
            old, stale = move(session, home.actor, embedding, alias, target, diffs, reason)
            return AliasMove(embedding=asked.name, alias=alias, old=old, new=asked.ref, stale_indexes=stale)

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
