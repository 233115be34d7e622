"""Dependents outside of the registry: a collection in a vector database, a classifier, a cache.

They cannot be built here. They are named, they track a ref, and when it moves they are flagged with what
changed and how somebody repairs them; once that is done, it is acknowledged.
"""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from . import catalog, dependents
from .errors import Conflict, NotFound, UsageError, did_you_mean, printable
from .home import Home, to_ref
from .orm import VersionRow
from .orm_dependents import ExternalRow
from .types import LATEST, Dependent, Ref, Repair, check_name, utc_now

_MOST = 4096


def add(
    home: Home, name: str, tracks: str | Ref, *, command: str, note: str, built_from: str | Ref | None
) -> Dependent:
    """Name something that was built from a version; see ``Registry.add_dependent``."""
    check_name(name, "name of a dependent")
    ref = to_ref(tracks)
    if ref.number is not None or ref.digest is not None:
        raise UsageError(f"'{ref}' never moves", hint="track NAME, or NAME@ALIAS")
    if not (command.strip() or note.strip()):
        raise UsageError("how is it repaired?", hint="say --command CMD or --note TEXT")
    if max(len(command), len(note)) > _MOST:  # half a command is another command
        raise UsageError(f"--command and --note have at most {_MOST:,} characters")
    diffs = home.diffs()

    def transaction() -> Dependent:
        with home.database.write() as session:
            tracked = catalog.resolve(session, ref)
            basis = _basis(session, tracked, built_from)
            if session.scalar(select(ExternalRow).where(ExternalRow.name == name)) is not None:
                raise Conflict(f"there is a dependent '{name}'", hint=f"'embreg dependent rm {name}'")
            row = ExternalRow(
                name=name,
                command=printable(command, _MOST),
                note=printable(note, _MOST),
                embedding=tracked.embedding,
                tracks=ref.alias or LATEST,
                basis=basis,
                done_at=utc_now(),
                state="fresh",
                repair=Repair.NONE,
                reason="",
            )
            session.add(row)
            session.flush()
            dependents.judge(session, row, diffs)
            catalog.log_event(
                session, home.actor, "external.added", name, embedding=ref.name, tracks=str(ref),
                built_from=catalog.ref_of(basis),
            )  # fmt: skip
            return dependents.to_dependent(session, row)

    return diffs.settle(transaction)


def _basis(session: Session, tracked: VersionRow, built_from: str | Ref | None) -> VersionRow:
    basis = catalog.resolve(session, to_ref(built_from)) if built_from is not None else tracked
    if basis.embedding_id != tracked.embedding_id:
        raise UsageError(f"'{built_from}' is no version of '{tracked.embedding.name}'")
    return basis


def done(home: Home, name: str, built_from: str | Ref | None) -> Dependent:
    """Acknowledge that a dependent was rebuilt; see ``Registry.dependent_done``."""
    diffs = home.diffs()

    def transaction() -> Dependent:
        with home.database.write() as session:
            row = _find(session, name)
            tracked = catalog.tracked(session, row.embedding, row.tracks)
            if tracked is None:
                raise NotFound(f"'{row.embedding.name}@{row.tracks}' names no version any more")
            row.basis, row.done_at = _basis(session, tracked, built_from), utc_now()
            session.flush()
            dependents.judge(session, row, diffs)
            catalog.log_event(
                session, home.actor, "external.done", name, embedding=row.embedding.name,
                version=row.basis.number,
            )  # fmt: skip
            return dependents.to_dependent(session, row)

    return diffs.settle(transaction)


def remove(home: Home, name: str) -> None:
    """Forget a dependent."""
    with home.database.write() as session:
        row = _find(session, name)
        catalog.log_event(session, home.actor, "external.removed", name, embedding=row.embedding.name)
        session.delete(row)


def _find(session: Session, name: str) -> ExternalRow:
    row = session.scalar(select(ExternalRow).where(ExternalRow.name == name))
    if row is None:
        known = session.scalars(select(ExternalRow.name)).all()
        hint = did_you_mean(name, known, "'embreg dependent list' shows them")
        raise NotFound(f"no dependent '{printable(name)}'", hint=hint)
    return row
