"""What is kept: deleting versions, sweeping blobs, verifying that everything is still what was stored.

A blob is swept if nothing that lives refers to it and it is older than a grace period: younger ones may
belong to a publication that has not happened yet. The sweep unlinks inside a write transaction, and a
publication checks inside its own that its blobs are there (``Home.require``): neither can slip between the
other's steps.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from . import catalog, dependents, derivations
from .builtin import is_builtin
from .errors import Conflict, CorruptBlob, printable
from .home import Home, to_ref
from .manifest import Manifest
from .orm import EmbeddingRow, VersionBlobRow, VersionRow
from .orm_dependents import BuildRow, DerivedRow, IndexRow
from .orm_runs import ArtifactRow, DatasetRow, RunRow
from .types import LATEST, Problem, Progress, Pruned, Ref, Swept, Usage, Verified, Version, utc_now

GRACE_S = 3600.0
#: A partial write is spared if it was written to this recently, whatever the grace: its writer may live.
_STAGING_GRACE_S = 600.0
_MISSING = "missing"


def delete(home: Home, ref: str | Ref, *, runs_hold: bool = True) -> Version:
    """Hide a version that nothing needs; see ``Registry.delete``.

    Unless ``runs_hold``, a run that compares another version with it does not hold it back: the numbers stay.
    """
    diffs = home.diffs()

    def transaction() -> Version:
        with home.database.write() as session:
            row = catalog.resolve(session, to_ref(ref))
            version = home.version(session, f"{row.embedding.name}@{row.number}")
            if needs := _needed_by(session, row, version, runs_hold=runs_hold):
                raise Conflict(
                    f"{version.ref} is needed by {', '.join(needs)}",
                    hint="move the alias, remove the index, or delete the version that needs it, first",
                )
            row.deleted_at = utc_now()
            session.flush()
            catalog.log_event(
                session, home.actor, "version.deleted", version.ref, embedding=version.name, digest=row.digest
            )
            dependents.judge_all(session, row.embedding, LATEST, diffs, home.actor)
            dependents.judge_child(session, row.embedding, diffs)
            return version

    return diffs.settle(transaction)


def prune(home: Home, name: str, *, keep: int, runs_hold: bool, dry_run: bool) -> Pruned:
    """Delete all but the newest versions of an embedding; see ``Registry.prune``."""
    with home.database.read() as session:
        living = catalog.versions(session, name)
        older = living[: max(0, len(living) - keep)]
        needs = _needs(session, older, runs_hold=runs_hold)
    deleted = []
    # From the newest down: a run on a newer version may need an older one.
    for version in reversed(older):
        if version.ref in needs:
            continue
        if not dry_run:
            delete(home, version.ref, runs_hold=runs_hold)
        deleted.append(version.ref)
    return Pruned(dry_run=dry_run, deleted=tuple(deleted), needed=needs)


def _needs(session: Session, versions: Sequence[Version], *, runs_hold: bool) -> dict[str, str]:
    """Return which of some versions cannot go, and why, if all the others of them go.

    A version that stays may need another one, so the question is asked until the answer stands.
    """
    rows = {v.ref: catalog.resolve(session, Ref(name=v.name, number=v.number)) for v in versions}
    needs: dict[str, str] = {}
    while True:
        gone = {rows[v.ref].id for v in versions if v.ref not in needs}
        asked = [v for v in versions if v.ref not in needs]
        found = {v.ref: _needed_by(session, rows[v.ref], v, without=gone, runs_hold=runs_hold) for v in asked}
        if not any(found.values()):
            return needs
        needs |= {ref: ", ".join(needed) for ref, needed in found.items() if needed}


def usage(home: Home) -> tuple[Usage, ...]:
    """Return the disk space of every embedding, by name; see ``Registry.du``."""
    sizes = {digest: nbytes for digest, nbytes, _ in home.blobs.all()}
    with home.database.read() as session:
        named: dict[str, list[str]] = {}
        counts: dict[str, int] = {}
        for version in _versions(session):
            counts[version.embedding.name] = counts.get(version.embedding.name, 0) + 1
            query = select(VersionBlobRow.digest).where(VersionBlobRow.version_id == version.id)
            named.setdefault(version.embedding.name, []).extend(session.scalars(query))
    return tuple(
        Usage(
            name=name,
            versions=counts[name],
            nbytes=sum(sizes.get(digest, 0) for digest in set(digests)),
            logical=sum(sizes.get(digest, 0) for digest in digests),
        )
        for name, digests in sorted(named.items())
    )


def _needed_by(
    session: Session,
    row: VersionRow,
    version: Version,
    *,
    runs_hold: bool,
    without: AbstractSet[int] = frozenset(),
) -> list[str]:
    """Return what would break without a version, in words; versions ``without`` do not count."""
    needs = [f"alias '{alias}'" for alias in version.aliases]
    needs += [f"index '{name}'" for name in _indexes_of(session, row)]
    children = {d.version for d in derivations.children(session, row) if d.version_id not in without}
    needs += [f"{ref}, derived from it" for ref in sorted(map(catalog.ref_of, children))]
    if not runs_hold:
        return needs
    compared = select(VersionRow).join(RunRow, RunRow.version_id == VersionRow.id)
    compared = compared.where(RunRow.baseline_id == row.id, VersionRow.deleted_at.is_(None))
    runs = {catalog.ref_of(v) for v in session.scalars(compared) if v.id not in {row.id, *without}}
    return needs + [f"a run on {ref} as its baseline" for ref in sorted(runs)]


def _indexes_of(session: Session, row: VersionRow) -> list[str]:
    newest = select(func.max(BuildRow.id)).group_by(BuildRow.index_id)
    query = select(IndexRow.name).join(BuildRow, BuildRow.index_id == IndexRow.id)
    query = query.where(BuildRow.id.in_(newest), BuildRow.version_id == row.id)
    return list(session.scalars(query.order_by(IndexRow.name)))


def _living(session: Session) -> set[str]:
    """Return every digest that something living refers to."""
    living = select(VersionRow.id).where(VersionRow.deleted_at.is_(None))
    newest = select(func.max(BuildRow.id)).group_by(BuildRow.index_id)
    digests = select(VersionRow.digest).where(VersionRow.deleted_at.is_(None))
    queries = (
        select(VersionBlobRow.digest).where(VersionBlobRow.version_id.in_(living)),
        select(BuildRow.faiss_digest).where(BuildRow.id.in_(newest)),
        select(BuildRow.ids_digest).where(BuildRow.id.in_(newest)),
        select(DerivedRow.fitted).where(DerivedRow.version_id.in_(living)),
        select(DatasetRow.digest),
        select(RunRow.dataset_digest).where(RunRow.version_id.in_(living)),
        select(RunRow.items).where(RunRow.version_id.in_(living), RunRow.items.is_not(None)),
        select(ArtifactRow.digest).where(ArtifactRow.version_digest.in_(digests)),
    )
    return {digest for query in queries for digest in session.scalars(query) if digest is not None}


def sweep(home: Home, *, grace_s: float, dry_run: bool) -> Swept:
    """Remove what nothing refers to; see ``Registry.gc``."""
    removed: list[tuple[str, int]] = []
    young = kept = 0
    with home.database.write() as session:
        living = _living(session)
        for digest, nbytes, age in home.blobs.all():
            if digest in living:
                kept += 1
            elif age < grace_s:
                young += 1
            else:
                removed.append((digest, nbytes))
        spared = max(grace_s, _STAGING_GRACE_S)
        staged = [(path, nbytes) for path, nbytes, age in home.blobs.staging() if age >= spared]
        if not dry_run:
            for digest, _ in removed:
                home.blobs.remove(digest)
            for path, _ in staged:
                path.unlink(missing_ok=True)
        swept = Swept(
            dry_run=dry_run,
            removed=tuple(digest for digest, _ in removed),
            staged=len(staged),
            nbytes=sum(size for _, size in removed) + sum(size for _, size in staged),
            kept=kept,
            young=young,
        )
        if not dry_run and (removed or staged):
            catalog.log_event(
                session,
                home.actor,
                "gc",
                "registry",
                removed=len(removed),
                staged=len(staged),
                bytes=swept.nbytes,
            )
    return swept


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class _Claim:
    """What says that a blob is there; a ``spare`` one is computed again where it is not."""

    subject: str
    digest: str
    remedy: str
    spare: bool = False


def verify(home: Home, ref: str | Ref | None, progress: Progress | None) -> Verified:
    """Hash every blob that something refers to; see ``Registry.verify``."""
    asked = to_ref(ref) if ref is not None else None
    with home.database.read() as session:
        if asked is None and (broken := _broken_database(session)):
            return Verified(blobs=0, problems=tuple(broken), orphans=0)
        versions = [catalog.resolve(session, asked)] if asked is not None else _versions(session)
        claims = set(_claims(session, versions, everything=asked is None))
        recorded = [(catalog.ref_of(v), v.digest, v.rows, v.content_digest) for v in versions]
        orphans = 0 if asked is not None else _orphans(home, session)
    digests = sorted({claim.digest for claim in claims})
    wrong = _hash(home, digests, progress)
    if wrong and asked is None:
        # What was rebuilt or deleted, and swept, while the blobs were being hashed is nobody's loss.
        with home.database.read() as session:
            claims &= set(_claims(session, _versions(session), everything=True))
    problems = [
        Problem(subject=claim.subject, blob=claim.digest, what=wrong[claim.digest], remedy=claim.remedy)
        for claim in sorted(claims)
        if claim.digest in wrong and not (claim.spare and wrong[claim.digest] == _MISSING)
    ]
    problems += _short_versions(home, recorded)
    return Verified(blobs=len(digests), problems=tuple(problems), orphans=orphans)


def _hash(home: Home, digests: Sequence[str], progress: Progress | None) -> dict[str, str]:
    """Hash blobs, one on each core at a time; return what is wrong with those that changed."""
    wrong = {}
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        found = pool.map(lambda digest: _damage(home, digest), digests)
        for done, (digest, damage) in enumerate(zip(digests, found, strict=True), 1):
            if damage:
                wrong[digest] = damage
            if progress is not None:
                progress("blobs", done, len(digests))
    return wrong


def _damage(home: Home, digest: str) -> str:
    try:
        if home.blobs.intact(digest):
            return ""
    except CorruptBlob as exc:
        return exc.message
    return "damaged: its bytes are not those that were stored" if home.blobs.exists(digest) else _MISSING


def _claims(session: Session, versions: Sequence[VersionRow], *, everything: bool) -> Iterator[_Claim]:
    again = "register its source again, or restore the blob from a backup"
    named = {version.id: version for version in versions}
    blobs = select(VersionBlobRow.version_id, VersionBlobRow.digest)
    fitted = select(DerivedRow.version_id, DerivedRow.fitted)
    if not everything:
        blobs = blobs.where(VersionBlobRow.version_id.in_(named))
        fitted = fitted.where(DerivedRow.version_id.in_(named))
    for version_id, digest in session.execute(blobs):
        if version_id in named:
            yield _Claim(digest=digest, subject=catalog.ref_of(named[version_id]), remedy=again)
    for version_id, digest in session.execute(fitted):
        if version_id in named:
            remedy = f"'embreg derive --stale {named[version_id].embedding.name} --refit'"
            subject = f"transform of {catalog.ref_of(named[version_id])}"
            yield _Claim(digest=digest, subject=subject, remedy=remedy)
    if everything:
        yield from _other_claims(session)


def _other_claims(session: Session) -> Iterator[_Claim]:
    for state in dependents.states(session):
        build = dependents.present_build(session, dependents.find_index(session, state.name))
        remedy = f"'embreg index rebuild {state.name} --full'"
        for digest in (build.faiss_digest, build.ids_digest):
            yield _Claim(digest=digest, subject=f"index {state.name}", remedy=remedy)
    for dataset in session.scalars(select(DatasetRow)):
        yield _Claim(digest=dataset.digest, subject=f"dataset {dataset.name}", remedy="add it again")
    # Of what was removed or replaced the rows stay for the runs on them; an older sweep may have taken some.
    gone = select(RunRow.dataset, RunRow.dataset_digest).join(VersionRow, VersionRow.id == RunRow.version_id)
    gone = gone.where(VersionRow.deleted_at.is_(None))
    gone = gone.where(RunRow.dataset_digest.not_in(select(DatasetRow.digest)))
    for of, rows in session.execute(gone.distinct()):
        if of and rows and not is_builtin(of):
            remedy = "restore the blob from a backup: the numbers of the runs stand"
            yield _Claim(digest=rows, subject=f"rows of dataset {of}", remedy=remedy, spare=True)
    of_version = (VersionRow.number, EmbeddingRow.name)
    runs = select(RunRow.items, RunRow.suite, *of_version).join(
        VersionRow, VersionRow.id == RunRow.version_id
    )
    for digest, suite, number, name in _of_living(session, runs.where(RunRow.items.is_not(None))):
        remedy = f"'embreg eval {name}@{number} --suite {suite} --force' measures it again"
        yield _Claim(digest=digest, subject=f"items of {suite} on {name}@{number}", remedy=remedy)
    kept = select(ArtifactRow.digest, ArtifactRow.name, *of_version)
    kept = kept.join(VersionRow, VersionRow.digest == ArtifactRow.version_digest)
    for digest, what, number, name in _of_living(session, kept):
        remedy = "it is computed again as soon as it is needed"
        yield _Claim(digest=digest, subject=f"{what} of {name}@{number}", remedy=remedy, spare=True)


def _of_living(session: Session, query: Any) -> Iterator[Any]:
    joined = query.join(EmbeddingRow, EmbeddingRow.id == VersionRow.embedding_id)
    yield from session.execute(joined.where(VersionRow.deleted_at.is_(None)))


def _versions(session: Session) -> list[VersionRow]:
    return list(session.scalars(select(VersionRow).where(VersionRow.deleted_at.is_(None))))


def _orphans(home: Home, session: Session) -> int:
    living = _living(session)
    return sum(digest not in living for digest, _, _ in home.blobs.all())


def _broken_database(session: Session) -> list[Problem]:
    """Let the database look at its own pages and references; if they are broken, nothing else can be told."""
    found = [row[0] for row in session.execute(text("PRAGMA integrity_check(5)")) if row[0] != "ok"]
    found += [
        f"a row of '{table}' refers to nothing in '{parent}'"
        for table, _, parent, _ in session.execute(text("PRAGMA foreign_key_check")).all()[:5]
    ]
    remedy = "restore the database from its newest backup"
    return [Problem(subject="database", blob="", what=printable(what), remedy=remedy) for what in found]


def _short_versions(home: Home, recorded: Sequence[tuple[str, str, int, str]]) -> list[Problem]:
    """Check that manifests and the database tell of the same rows."""
    found = []
    for ref, digest, rows, content in recorded:
        try:
            manifest = Manifest.from_bytes(home.blobs.read(digest))
        except CorruptBlob:  # told already, or deleted meanwhile
            continue
        if (manifest.rows, manifest.content_digest) != (rows, content):
            found.append(
                Problem(
                    subject=ref,
                    blob=digest,
                    what="its manifest tells of other rows than the database",
                    remedy="restore the database from its newest backup",
                )
            )
    return found
