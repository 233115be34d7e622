"""The tables of the database, as SQLAlchemy rows. They never leave ``registry``: values do."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, DateTime, Dialect, ForeignKey, Integer, MetaData, String, Text, UniqueConstraint
from sqlalchemy import TypeDecorator as _TypeDecorator
from sqlalchemy.orm import DeclarativeBase, Mapped, declared_attr, mapped_column, relationship


class Utc(_TypeDecorator[datetime]):
    """Aware datetimes, kept in UTC: SQLite has no time zones."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Convert to naive UTC."""
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Give the time zone back."""
        return None if value is None else value.replace(tzinfo=UTC)


class Base(DeclarativeBase):
    """Every constraint has a name, so that a migration can change it."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {dict[str, Any]: JSON, list[Any]: JSON, datetime: Utc}  # noqa: RUF012


class EmbeddingRow(Base):
    """A name under which versions are registered."""

    __tablename__ = "embeddings"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    name: Mapped[str] = mapped_column(String(128), unique=True)
    created_at: Mapped[datetime]


class VersionRow(Base):
    """One version; ``deleted_at`` hides it without forgetting it."""

    __tablename__ = "versions"
    __table_args__ = (UniqueConstraint("embedding_id", "number", name="uq_versions_number"),)
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    embedding_id: Mapped[int] = mapped_column(ForeignKey("embeddings.id"), index=True)
    number: Mapped[int]
    digest: Mapped[str] = mapped_column(String(64), index=True)
    content_digest: Mapped[str] = mapped_column(String(64), index=True)
    rows: Mapped[int]
    nbytes: Mapped[int]
    space: Mapped[dict[str, Any]]
    statistics: Mapped[dict[str, Any]]
    message: Mapped[str] = mapped_column(Text)
    source: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime]
    created_by: Mapped[str] = mapped_column(String(256))
    deleted_at: Mapped[datetime | None]
    probes: Mapped[str | None] = mapped_column(String(64))
    embedding: Mapped[EmbeddingRow] = relationship(lazy="joined")


class VersionBlobRow(Base):
    """Which blobs a version is made of: its manifest and its parts."""

    __tablename__ = "version_blobs"
    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id"), primary_key=True)
    digest: Mapped[str] = mapped_column(String(64), primary_key=True, index=True)


class AliasRow(Base):
    """A movable name of a version."""

    __tablename__ = "aliases"
    __table_args__ = (UniqueConstraint("embedding_id", "name", name="uq_aliases_name"),)
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    embedding_id: Mapped[int] = mapped_column(ForeignKey("embeddings.id"), index=True)
    name: Mapped[str] = mapped_column(String(128))
    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id"), index=True)
    protected: Mapped[bool] = mapped_column(default=False)


class AliasMoveRow(Base):
    """One move of an alias; from nothing when it was made, to nothing when it was removed."""

    __tablename__ = "alias_moves"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    embedding_id: Mapped[int] = mapped_column(ForeignKey("embeddings.id"), index=True)
    name: Mapped[str] = mapped_column(String(128))
    from_id: Mapped[int | None] = mapped_column(ForeignKey("versions.id"))
    to_id: Mapped[int | None] = mapped_column(ForeignKey("versions.id"))
    at: Mapped[datetime]
    actor: Mapped[str] = mapped_column(String(256))
    reason: Mapped[str] = mapped_column(Text)


class Judged:
    """What was made from a version and follows an alias (or ``latest``), and how the two stand now."""

    embedding_id: Mapped[int] = mapped_column(ForeignKey("embeddings.id"), index=True)
    tracks: Mapped[str] = mapped_column(String(128))
    tracked_id: Mapped[int | None] = mapped_column(ForeignKey("versions.id"))
    state: Mapped[str] = mapped_column(String(16))
    relation: Mapped[str | None] = mapped_column(String(16))
    repair: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str] = mapped_column(Text)

    @declared_attr
    def embedding(cls: type[Any]) -> Mapped[EmbeddingRow]:  # noqa: N805
        """The embedding that it follows."""
        return relationship(foreign_keys=f"{cls.__name__}.embedding_id", lazy="joined")

    @declared_attr
    def tracked(cls: type[Any]) -> Mapped[VersionRow | None]:  # noqa: N805
        """The version that ``tracks`` names now."""
        return relationship(foreign_keys=f"{cls.__name__}.tracked_id", lazy="joined")


class IndexRow(Judged, Base):
    """A FAISS index: what it tracks, and how its present build stands to that."""

    __tablename__ = "indexes"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    name: Mapped[str] = mapped_column(String(128), unique=True)
    factory: Mapped[str] = mapped_column(Text)
    search: Mapped[str] = mapped_column(Text)
    metric: Mapped[str] = mapped_column(String(16))


class DerivationRow(Judged, Base):
    """An embedding that is computed from another one; ``target`` is the second one that an adapter needs."""

    __tablename__ = "derivations"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    child_id: Mapped[int] = mapped_column(ForeignKey("embeddings.id"), unique=True)
    transform: Mapped[str] = mapped_column(String(32))
    params: Mapped[dict[str, Any]]
    target: Mapped[str | None] = mapped_column(String(256))
    child: Mapped[EmbeddingRow] = relationship(foreign_keys=[child_id], lazy="joined")


class DerivedRow(Base):
    """What one version was computed from, by which fitted transform (a blob), fitted on how many rows."""

    __tablename__ = "derived"
    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id"), primary_key=True)
    parent_id: Mapped[int] = mapped_column(ForeignKey("versions.id"), index=True)
    target_id: Mapped[int | None] = mapped_column(ForeignKey("versions.id"), index=True)
    transform: Mapped[str] = mapped_column(String(32))
    params: Mapped[dict[str, Any]]
    fitted: Mapped[str] = mapped_column(String(64))
    fitted_rows: Mapped[int | None]
    quality: Mapped[dict[str, Any]]
    version: Mapped[VersionRow] = relationship(foreign_keys=[version_id], lazy="joined")
    parent: Mapped[VersionRow] = relationship(foreign_keys=[parent_id], lazy="joined")
    target: Mapped[VersionRow | None] = relationship(foreign_keys=[target_id], lazy="joined")


class ExternalRow(Judged, Base):
    """Something that somebody else built from a version, by name, with how it is built again."""

    __tablename__ = "externals"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    name: Mapped[str] = mapped_column(String(128), unique=True)
    command: Mapped[str] = mapped_column(Text)
    note: Mapped[str] = mapped_column(Text)
    basis_id: Mapped[int] = mapped_column(ForeignKey("versions.id"))
    done_at: Mapped[datetime]
    basis: Mapped[VersionRow] = relationship(foreign_keys=[basis_id], lazy="joined")


class BuildRow(Base):
    """One build of an index: two blobs (the FAISS file and its id map), bound to one version.

    The newest build of an index is the one in use.
    """

    __tablename__ = "builds"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    index_id: Mapped[int] = mapped_column(ForeignKey("indexes.id"), index=True)
    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id"), index=True)
    method: Mapped[str] = mapped_column(String(16))
    faiss_digest: Mapped[str] = mapped_column(String(64))
    ids_digest: Mapped[str] = mapped_column(String(64))
    nbytes: Mapped[int]
    rows: Mapped[int]
    trained_rows: Mapped[int | None]
    can_add: Mapped[bool]
    can_remove: Mapped[bool]
    recall: Mapped[float | None]
    recall_k: Mapped[int]
    recall_queries: Mapped[int]
    duration_s: Mapped[float]
    health: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]
    version: Mapped[VersionRow] = relationship(lazy="joined")


class DatasetRow(Base):
    """A dataset by name; its rows are a Parquet blob."""

    __tablename__ = "datasets"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    name: Mapped[str] = mapped_column(String(128), unique=True)
    kind: Mapped[str] = mapped_column(String(16), index=True)
    digest: Mapped[str] = mapped_column(String(64))
    items: Mapped[int]
    source: Mapped[str] = mapped_column(Text)
    licence: Mapped[str] = mapped_column(Text, server_default="")
    warnings: Mapped[list[Any]] = mapped_column(server_default="[]")
    created_at: Mapped[datetime]


class RunRow(Base):
    """One suite run on one version (against one baseline, on one dataset)."""

    __tablename__ = "runs"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id"), index=True)
    baseline_id: Mapped[int | None] = mapped_column(ForeignKey("versions.id"), index=True)
    suite: Mapped[str] = mapped_column(String(64), index=True)
    suite_version: Mapped[int]
    dataset: Mapped[str | None] = mapped_column(String(128))
    dataset_digest: Mapped[str | None] = mapped_column(String(64))
    params: Mapped[dict[str, Any]]
    status: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str] = mapped_column(Text)
    verdict: Mapped[str | None] = mapped_column(String(32))
    seed: Mapped[int]
    confidence: Mapped[float] = mapped_column(server_default="0.95")
    duration_s: Mapped[float]
    cache_key: Mapped[str] = mapped_column(String(64), index=True)
    absent: Mapped[list[Any]]
    notes: Mapped[list[Any]]
    items: Mapped[str | None] = mapped_column(String(64))
    created_at: Mapped[datetime]
    version: Mapped[VersionRow] = relationship(foreign_keys=[version_id], lazy="joined")
    baseline: Mapped[VersionRow | None] = relationship(foreign_keys=[baseline_id], lazy="joined")
    measures: Mapped[list[MeasureRow]] = relationship(order_by="MeasureRow.id", lazy="selectin")


class MeasureRow(Base):
    """One number of a run."""

    __tablename__ = "measures"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id"), index=True)
    metric: Mapped[str] = mapped_column(String(128))
    labels: Mapped[dict[str, Any]]
    value: Mapped[float]
    n: Mapped[int]
    low: Mapped[float | None]
    high: Mapped[float | None]


class VerdictRow(Base):
    """What a gate said of one pair of versions."""

    __tablename__ = "verdicts"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id"), index=True)
    baseline_id: Mapped[int | None] = mapped_column(ForeignKey("versions.id"))
    version_digest: Mapped[str] = mapped_column(String(64), index=True)
    baseline_digest: Mapped[str | None] = mapped_column(String(64))
    passed: Mapped[bool]
    config_digest: Mapped[str] = mapped_column(String(64))
    checks: Mapped[list[Any]]
    created_at: Mapped[datetime]
    version: Mapped[VersionRow] = relationship(foreign_keys=[version_id], lazy="joined")
    baseline: Mapped[VersionRow | None] = relationship(foreign_keys=[baseline_id], lazy="joined")


class ArtifactRow(Base):
    """Something computed once for a version and shared: its neighbour graph, its moments."""

    __tablename__ = "artifacts"
    __table_args__ = (UniqueConstraint("version_digest", "name", name="uq_artifacts_name"),)
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    version_digest: Mapped[str] = mapped_column(String(64))
    name: Mapped[str] = mapped_column(String(128))
    digest: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime]


class EventRow(Base):
    """One line of the log."""

    __tablename__ = "events"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    at: Mapped[datetime]
    actor: Mapped[str] = mapped_column(String(256))
    action: Mapped[str] = mapped_column(String(64))
    subject: Mapped[str] = mapped_column(String(256))
    embedding: Mapped[str | None] = mapped_column(String(128), index=True)
    detail: Mapped[dict[str, Any]]
    command: Mapped[str] = mapped_column(Text)
