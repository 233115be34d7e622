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

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from . import catalog, dependents
from .errors import Conflict, CorruptBlob
from .home import Home, to_ref
from .manifest import Manifest
from .orm import ArtifactRow, BuildRow, DatasetRow, RunRow, VersionBlobRow, VersionRow
from .types import LATEST, Problem, Progress, Pruned, Ref, Swept, Usage, Verified, Version, utc_now

GRACE_S = 3600.0
#: A partial write is spared if it was written to this recently, whatever the grace: its writer may live.
_STAGING_GRACE_S = 600.0


def delete(home: Home, ref: str | Ref) -> Version:
    """Hide a version that nothing needs; see ``Registry.delete``."""
    diffs = home.diffs()

    def transaction() -> Version:
        with home.database.write() as session:
            row = catalog.resolve(session, to_ref(ref))
            version = home.version(session, f"{row.embedding.name}@{row.number}")
            if needs := _needed_by(session, row, version):
                raise Conflict(
                    f"{version.ref} is needed by {', '.join(needs)}",
                    hint="move the alias, remove the index, or delete the version whose run it is, first",
                )
            row.deleted_at = utc_now()
            session.flush()
            catalog.log_event(
                session, home.actor, "version.deleted", version.ref, embedding=version.name, digest=row.digest
            )
            dependents.judge_all(session, row.embedding, LATEST, diffs, home.actor)
            return version

    return diffs.settle(transaction)


def prune(home: Home, name: str, *, keep: int, dry_run: bool) -> Pruned:
    """Delete all but the newest versions of an embedding; see ``Registry.prune``."""
    with home.database.read() as session:
        living = catalog.versions(session, name)
        older = living[: max(0, len(living) - keep)]
        needs = _needs(session, older)
    deleted = []
    # From the newest down: a run on a newer version may need an older one.
    for version in reversed(older):
        if version.ref in needs:
            continue
        if not dry_run:
            delete(home, version.ref)
        deleted.append(version.ref)
    return Pruned(dry_run=dry_run, deleted=tuple(deleted), needed=needs)


def _needs(session: Session, versions: Sequence[Version]) -> dict[str, str]:
    """Return which of some versions cannot go, and why, if all the others of them go.

    A version that stays may need another one, so the question is asked until the answer stands.
    """
    rows = {v.ref: catalog.resolve(session, Ref(name=v.name, number=v.number)) for v in versions}
    needs: dict[str, str] = {}
    while True:
        gone = {rows[v.ref].id for v in versions if v.ref not in needs}
        asked = [v for v in versions if v.ref not in needs]
        found = {v.ref: _needed_by(session, rows[v.ref], v, without=gone) for v in asked}
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
    session: Session, row: VersionRow, version: Version, without: AbstractSet[int] = frozenset()
) -> list[str]:
    """Return what would break without a version, in words; versions ``without`` do not count."""
    needs = [f"alias '{alias}'" for alias in version.aliases]
    needs += [f"index '{s.name}'" for s in dependents.states(session) if s.built_from == version.ref]
    compared = select(VersionRow).join(RunRow, RunRow.version_id == VersionRow.id)
    compared = compared.where(RunRow.baseline_id == row.id, VersionRow.deleted_at.is_(None))
    runs = {catalog.ref_of(v) for v in session.scalars(compared) if v.id not in {row.id, *without}}
    return needs + [f"a run on {ref} as its baseline" for ref in sorted(runs)]


def _living(session: Session) -> set[str]:
    """Return every digest that something living refers to."""
    living = select(VersionRow.id).where(VersionRow.deleted_at.is_(None))
    newest = select(func.max(BuildRow.id)).group_by(BuildRow.index_id)
    digests = select(VersionRow.digest).where(VersionRow.deleted_at.is_(None))
    queries = (
        select(VersionBlobRow.digest).where(VersionBlobRow.version_id.in_(living)),
        select(BuildRow.faiss_digest).where(BuildRow.id.in_(newest)),
        select(BuildRow.ids_digest).where(BuildRow.id.in_(newest)),
        select(DatasetRow.digest),
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Claim:
    """A blob and what says that it is there."""

    digest: str
    subject: str
    remedy: str


def verify(home: Home, ref: str | Ref | None, progress: Progress | None) -> Verified:
    """Hash every blob that something refers to; see ``Registry.verify``."""
    with home.database.read() as session:
        claims = list(_claims(session, to_ref(ref) if ref is not None else None))
        orphans = 0 if ref is not None else _orphans(home, session)
    unique = sorted({claim.digest for claim in claims})
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        intact = {}
        for done, (digest, good) in enumerate(
            zip(unique, pool.map(home.blobs.intact, unique), strict=True), 1
        ):
            intact[digest] = good
            if progress is not None:
                progress("blobs", done, len(unique))
    problems = [
        Problem(
            subject=claim.subject, blob=claim.digest, what=_damage(home, claim.digest), remedy=claim.remedy
        )
        for claim in claims
        if not intact[claim.digest]
    ]
    problems += _short_versions(home, ref, {p.blob for p in problems})
    return Verified(blobs=len(unique), problems=tuple(problems), orphans=orphans)


def _claims(session: Session, ref: Ref | None) -> Iterator[_Claim]:
    again = "register its source again, or restore the blob from a backup"
    versions = [catalog.resolve(session, ref)] if ref is not None else _versions(session)
    for version in versions:
        query = select(VersionBlobRow.digest).where(VersionBlobRow.version_id == version.id)
        for digest in session.scalars(query):
            yield _Claim(digest=digest, subject=catalog.ref_of(version), remedy=again)
    if ref is not None:
        return
    for state in dependents.states(session):
        build = dependents.present_build(session, dependents.find_index(session, state.name))
        remedy = f"'embreg index rebuild {state.name} --full'"
        for digest in (build.faiss_digest, build.ids_digest):
            yield _Claim(digest=digest, subject=f"index {state.name}", remedy=remedy)
    for dataset in session.scalars(select(DatasetRow)):
        yield _Claim(digest=dataset.digest, subject=f"dataset {dataset.name}", remedy="add it again")
    for run in session.scalars(select(RunRow).where(RunRow.items.is_not(None))):
        if run.version.deleted_at is None and run.items is not None:
            subject = f"items of {run.suite} on {catalog.ref_of(run.version)}"
            yield _Claim(digest=run.items, subject=subject, remedy="run it again with 'embreg eval --force'")


def _versions(session: Session) -> list[VersionRow]:
    return list(session.scalars(select(VersionRow).where(VersionRow.deleted_at.is_(None))))


def _orphans(home: Home, session: Session) -> int:
    living = _living(session)
    return sum(digest not in living for digest, _, _ in home.blobs.all())


def _damage(home: Home, digest: str) -> str:
    try:
        home.blobs.path(digest)
    except CorruptBlob:
        return "missing"
    return "damaged: its bytes are not those that were stored"


def _short_versions(home: Home, ref: str | Ref | None, damaged: set[str]) -> list[Problem]:
    """Check that manifests and the database tell of the same rows."""
    found = []
    with home.database.read() as session:
        rows = [catalog.resolve(session, to_ref(ref))] if ref is not None else _versions(session)
        for row in rows:
            if row.digest in damaged:
                continue
            manifest = Manifest.from_bytes(home.blobs.read(row.digest))
            if (manifest.rows, manifest.content_digest) != (row.rows, row.content_digest):
                found.append(
                    Problem(
                        subject=catalog.ref_of(row),
                        blob=row.digest,
                        what="its manifest tells of other rows than the database",
                        remedy="restore the database from its newest backup",
                    )
                )
    return found
