"""Registering: from a source to a published version.

staging -> blobs -> manifest -> one transaction. Everything before the transaction is invisible; a crash
leaves blobs that nothing refers to, and a sweep takes them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from . import aliases, catalog, dependents, derivations
from .dependents import Diffs
from .errors import Conflict, InputError, NotFound, UsageError, printable
from .home import Home
from .manifest import Manifest
from .orm import EmbeddingRow, VersionBlobRow, VersionRow
from .types import (
    LATEST,
    Progress,
    Ref,
    Registered,
    Space,
    Stale,
    Version,
    check_alias,
    check_name,
    utc_now,
)

if TYPE_CHECKING:
    from .formats import Options, Source
    from .tables import EmbeddingTable


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """What a person says of a version; a field that is None is as in the version before."""

    model: str | None = None
    tokenizer: str | None = None
    kind: str | None = None
    metric: str | None = None
    pooling: str | None = None
    position: str | None = None
    tied: bool | None = None
    tags: Mapping[str, str] | None = None

    def said(self) -> dict[str, Any]:
        """Return the fields that were given."""
        return {name: getattr(self, name) for name in self.__slots__ if getattr(self, name) is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """How a version is to be registered.

    Attributes:
        message, alias, if_changed, on_nonfinite, storage: see ``Registry.register``.
        probes: fixed inputs with their vectors.
        allow_space_change: publish even if probes show another space.
        derivation: the version it was computed from, and by what.
    """

    message: str = ""
    alias: str | None = None
    if_changed: bool = False
    on_nonfinite: str = "fail"
    storage: str = "arrow"
    probes: EmbeddingTable | None = None
    allow_space_change: bool = False
    derivation: derivations.Origin | None = None

    @property
    def blobs(self) -> tuple[str, ...]:
        """What was stored for it beforehand: the fitted transform."""
        return () if self.derivation is None else (self.derivation.derivation.fitted,)

    def check(self) -> None:
        """Refuse words that mean nothing, before any work is done.

        Raises:
            UsageError: as its name says.
        """
        from .tables import check_storage

        if self.alias is not None:
            check_alias(self.alias)
        if self.on_nonfinite not in ("fail", "drop"):
            raise UsageError(f"--on-nonfinite {printable(self.on_nonfinite)}", hint="fail or drop")
        check_storage(self.storage)


def register(
    home: Home, name: str, source: Source, declared: Declared, order: Order, progress: Progress | None
) -> Registered:
    """Store a source and publish it as the next version; see ``Registry.register``."""
    from . import probes
    from .ingest import ingest

    check_name(name, "name of an embedding")
    order.check()
    before = _latest(home, name)
    _check_probes(home, before, source, order)
    ingested = ingest(
        source.batches(),
        space=_space(before, source, declared),
        blobs=home.blobs,
        storage=order.storage,
        on_nonfinite=order.on_nonfinite,
        source=printable(str(source.path)),
        expected_rows=source.rows,
        progress=progress,
    )
    inherited = _inherited(before, ingested.manifest.space, order)
    given = probes.store(order.probes, home.blobs) if order.probes is not None else None
    manifest = replace(ingested.manifest, probes=given or inherited)
    told = _told_of_probes(home, before, inherited, order)
    ready = _Ready(
        source=source,
        manifest=manifest,
        digest=home.blobs.put([manifest.to_bytes()]).digest,
        statistics=ingested.statistics,
        inherited=inherited,
        warnings=source.warnings + told + ingested.warnings,
    )
    diffs = home.diffs()
    return diffs.settle(lambda: _publish(home, name, ready, order, diffs))


def register_derived(
    home: Home, name: str, table: EmbeddingTable, order: Order, progress: Progress | None
) -> Registered:
    """Store computed rows and publish them; their space is theirs alone, whatever was there before."""
    from . import formats

    space = table.space.to_dict()
    declared = {field: space[field] for field in Declared.__slots__}
    source = formats.source_of_table(table)
    origin = order.derivation
    path = Path(f"{origin.derivation.transform} of {origin.derivation.parent}") if origin else source.path
    source = replace(source, path=path, declares=declared | {"transform": space["transform"]})
    return register(home, name, source, Declared(), order, progress)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ready:
    """A version whose blobs are stored, not yet in the database; its probes may be those of one before."""

    source: Source
    manifest: Manifest
    digest: str
    statistics: dict[str, Any]
    inherited: str | None
    warnings: tuple[str, ...]

    @property
    def blobs(self) -> set[str]:
        """Every blob that the version refers to."""
        probes = {self.manifest.probes} if self.manifest.probes is not None else set()
        return {self.digest, *(part.digest for part in self.manifest.parts)} | probes

    @property
    def written(self) -> set[str]:
        """Those that were stored just now; what it inherits may have been lost long ago."""
        return self.blobs - {self.inherited}


def _latest(home: Home, name: str) -> Version | None:
    try:
        return home.resolve(Ref(name=name))
    except NotFound:
        return None


def _check_probes(home: Home, before: Version | None, source: Source, order: Order) -> None:
    """Hold the probes against those of the version before, if there are both.

    Raises:
        Refused: they show another space, and nobody allowed that.
        UsageError: they are of another width than the rows.
    """
    from . import probes

    if order.probes is None:
        return
    if order.probes.dim != source.dim:
        raise UsageError(
            f"the probes have width {order.probes.dim}, the rows {source.dim}",
            hint="--probes holds vectors of the same encoder",
        )
    if before is not None and before.probes is not None and not order.allow_space_change:
        probes.check(probes.load(before.probes, home.blobs), order.probes, before.ref)


def _inherited(before: Version | None, space: Space, order: Order) -> str | None:
    """Return the probes of the version before, where none are given and nothing else says another space."""
    if order.probes is not None or order.derivation is not None or before is None:
        return None
    return None if any(c.breaking for c in before.space.changes(space)) else before.probes


def _told_of_probes(
    home: Home, before: Version | None, inherited: str | None, order: Order
) -> tuple[str, ...]:
    """Return what a person should know of what was compared."""
    from . import probes

    if before is None or before.probes is None:
        return ()
    if inherited is not None:
        return (f"no probes given: the space is taken for that of {before.ref}",)
    if order.probes is None or order.allow_space_change:
        return ()
    shared = probes.agreement(probes.load(before.probes, home.blobs), order.probes).shared
    return () if shared else (f"no probe in common with {before.ref}: the space was not compared",)


def open_source(source: str | Path | EmbeddingTable, format_: str | None, options: Options) -> Source:
    """Open a file, or a table in memory, as a stream of batches; of a table's space, what was said holds."""
    from . import formats

    if isinstance(source, str | Path):
        return formats.open_source(source, format=format_, options=options)
    own, unsaid = source.space.to_dict(), Space(dim=source.dim).to_dict()
    said = {field: own[field] for field in Declared.__slots__ if own[field] != unsaid[field]}
    return replace(formats.source_of_table(source), declares=said)


def file_digest(path: str | Path | None) -> str | None:
    """Return the sha256 of a file, 64 hex digits; None for None.

    Raises:
        InputError: it cannot be read.
    """
    if path is None:
        return None
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError as exc:
        raise InputError(f"{printable(str(path))}: {exc.strerror}", hint="--tokenizer names a file") from exc


def _space(before: Version | None, source: Source, declared: Declared) -> Space:
    """Return the space of the next version: what is said now, what the file says, what was said last."""
    last = before.space.to_dict() if before is not None else {}
    kept = {field: last[field] for field in Declared.__slots__ if field in last}
    return Space(dim=source.dim, dtype=source.dtype, **(kept | dict(source.declares) | declared.said()))


def _publish(home: Home, name: str, ready: _Ready, order: Order, diffs: Diffs) -> Registered:
    """Make the version visible: the one transaction of a registration."""
    with home.database.write() as session:
        embedding = _embedding(session, name)
        row = catalog.latest(session, embedding)
        created = row is None or not _same(row, ready.manifest, ready.digest, order)
        stale = Stale()
        if row is None or created:
            home.require(*ready.written, *order.blobs)
            _check_space(home, row, ready, order)
            row = _insert(session, embedding, ready, order, home.actor.who)
            catalog.log_event(
                session,
                home.actor,
                "version.registered",
                f"{name}@{row.number}",
                embedding=name,
                digest=ready.digest,
                rows=row.rows,
                message=order.message,
            )
            stale += dependents.judge_all(session, embedding, LATEST, diffs, home.actor)
        if order.derivation is not None:
            derivations.write(session, home.actor, row, order.derivation, diffs, created=created)
        if order.alias is not None:
            _, by_alias = aliases.move(session, home.actor, embedding, order.alias, row, diffs, "registered")
            stale += by_alias
        session.flush()
        names = catalog.alias_names(session, [row.id]).get(row.id, ())
        unsaid = () if created or not order.message else ("nothing new, so the message was not kept",)
        return Registered(
            version=catalog.to_version(row, names),
            created=created,
            warnings=ready.warnings + unsaid,
            stale=stale,
        )


def _check_space(home: Home, before: VersionRow | None, ready: _Ready, order: Order) -> None:
    """Look at the version that is the latest now: somebody may have published meanwhile."""
    from . import probes

    if before is None or before.probes is None or order.allow_space_change:
        return
    if order.probes is not None:
        probes.check(probes.load(before.probes, home.blobs), order.probes, catalog.ref_of(before))
        return
    expected = _inherited(catalog.to_version(before), ready.manifest.space, order)
    if expected not in (None, ready.inherited):
        raise Conflict(
            f"{catalog.ref_of(before)} came meanwhile, with other probes; nothing was published",
            hint="run it again",
        )


def _same(before: VersionRow, manifest: Manifest, digest: str, order: Order) -> bool:
    """Whether the latest version already is what is being registered."""
    if before.digest == digest:
        return True
    # The content digest knows nothing of attributes: with them, only the very same artifact is the same.
    if not order.if_changed or manifest.attributes or before.content_digest != manifest.content_digest:
        return False
    # Probes that say nothing new differ in their last digits; the first ones, and allowed ones, are news.
    news = manifest.probes != before.probes and (before.probes is None or order.allow_space_change)
    return not news and not Space.from_dict(before.space).changes(manifest.space)


def _embedding(session: Session, name: str) -> EmbeddingRow:
    row = session.scalar(select(EmbeddingRow).where(EmbeddingRow.name == name))
    if row is None:
        row = EmbeddingRow(name=name, created_at=utc_now())
        session.add(row)
        session.flush()
    return row


def _insert(session: Session, embedding: EmbeddingRow, ready: _Ready, order: Order, who: str) -> VersionRow:
    manifest = ready.manifest
    row = VersionRow(
        embedding=embedding,
        number=catalog.next_number(session, embedding),
        digest=ready.digest,
        content_digest=manifest.content_digest,
        rows=manifest.rows,
        nbytes=manifest.nbytes,
        space=manifest.space.to_dict(),
        statistics=ready.statistics,
        message=order.message,
        source=printable(str(ready.source.path), 4096),
        created_at=utc_now(),
        created_by=who,
        probes=manifest.probes,
    )
    session.add(row)
    session.flush()
    for blob in sorted(ready.blobs):
        session.add(VersionBlobRow(version_id=row.id, digest=blob))
    return row
