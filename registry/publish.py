"""Registering: from a source to a published version.

staging -> blobs -> manifest -> one transaction. Everything before the transaction is invisible; a crash
leaves blobs that nothing refers to, and a sweep takes them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from . import aliases, catalog, dependents
from .dependents import Diffs
from .errors import InputError, NotFound, UsageError, printable
from .home import Home
from .manifest import Manifest
from .orm import EmbeddingRow, VersionBlobRow, VersionRow
from .types import LATEST, IndexState, Progress, Ref, Registered, Space, check_alias, check_name, utc_now

if TYPE_CHECKING:
    from .formats import Options, Source
    from .ingest import Ingested
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
    """How a version is to be registered."""

    message: str = ""
    alias: str | None = None
    if_changed: bool = False
    on_nonfinite: str = "fail"
    storage: str = "arrow"

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
    from .ingest import ingest

    check_name(name, "name of an embedding")
    order.check()
    ingested = ingest(
        source.batches(),
        space=_space(home, name, source, declared),
        blobs=home.blobs,
        storage=order.storage,
        on_nonfinite=order.on_nonfinite,
        source=printable(str(source.path)),
        expected_rows=source.rows,
        progress=progress,
    )
    digest = home.blobs.put([ingested.manifest.to_bytes()]).digest
    diffs = home.diffs()
    return diffs.settle(lambda: _publish(home, name, source, ingested, digest, order, diffs))


def open_source(source: str | Path | EmbeddingTable, format_: str | None, options: Options) -> Source:
    """Open a file, or a table in memory, as a stream of batches."""
    from . import formats

    if isinstance(source, str | Path):
        return formats.open_source(source, format=format_, options=options)
    return formats.source_of_table(source)


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


def _space(home: Home, name: str, source: Source, declared: Declared) -> Space:
    """Return the space of the next version: what is said now, what the file says, what was said last."""
    with home.database.read() as session:
        try:
            before = catalog.resolve(session, Ref(name=name)).space
        except NotFound:
            before = {}
    kept = {field: before[field] for field in Declared.__slots__ if field in before}
    return Space(dim=source.dim, dtype=source.dtype, **(kept | dict(source.declares) | declared.said()))


def _publish(
    home: Home, name: str, source: Source, ingested: Ingested, digest: str, order: Order, diffs: Diffs
) -> Registered:
    """Make the version visible: the one transaction of a registration."""
    with home.database.write() as session:
        embedding = _embedding(session, name)
        row = catalog.latest(session, embedding)
        created = row is None or not _same(row, ingested.manifest, digest, order.if_changed)
        stale: list[IndexState] = []
        if row is None or created:
            home.require(digest, *(part.digest for part in ingested.manifest.parts))
            row = _insert(session, embedding, ingested, digest, source, order, home.actor.who)
            catalog.log_event(
                session,
                home.actor,
                "version.registered",
                f"{name}@{row.number}",
                embedding=name,
                digest=digest,
                rows=row.rows,
                message=order.message,
            )
            stale += dependents.judge_all(session, embedding, LATEST, diffs, home.actor)
        if order.alias is not None:
            _, by_alias = aliases.move(session, home.actor, embedding, order.alias, row, diffs, "registered")
            stale += by_alias
        session.flush()
        names = catalog.alias_names(session, [row.id]).get(row.id, ())
        unsaid = () if created or not order.message else ("nothing new, so the message was not kept",)
        return Registered(
            version=catalog.to_version(row, names),
            created=created,
            warnings=source.warnings + ingested.warnings + unsaid,
            stale_indexes=tuple(stale),
        )


def _same(before: VersionRow, manifest: Manifest, digest: str, if_changed: bool) -> bool:
    """Whether the latest version already is what is being registered."""
    if before.digest == digest:
        return True
    # The content digest knows nothing of attributes: with them, only the very same artifact is the same.
    if not if_changed or manifest.attributes or before.content_digest != manifest.content_digest:
        return False
    return not Space.from_dict(before.space).changes(manifest.space)


def _embedding(session: Session, name: str) -> EmbeddingRow:
    row = session.scalar(select(EmbeddingRow).where(EmbeddingRow.name == name))
    if row is None:
        row = EmbeddingRow(name=name, created_at=utc_now())
        session.add(row)
        session.flush()
    return row


def _insert(
    session: Session,
    embedding: EmbeddingRow,
    ingested: Ingested,
    digest: str,
    source: Source,
    order: Order,
    who: str,
) -> VersionRow:
    manifest = ingested.manifest
    row = VersionRow(
        embedding=embedding,
        number=catalog.next_number(session, embedding),
        digest=digest,
        content_digest=manifest.content_digest,
        rows=manifest.rows,
        nbytes=manifest.nbytes,
        space=manifest.space.to_dict(),
        statistics=ingested.statistics,
        message=order.message,
        source=printable(str(source.path), 4096),
        created_at=utc_now(),
        created_by=who,
    )
    session.add(row)
    session.flush()
    for blob in {digest, *(part.digest for part in manifest.parts)}:
        session.add(VersionBlobRow(version_id=row.id, digest=blob))
    return row
