"""The tables of the database, as SQLAlchemy rows. They never leave ``registry``: values do.

Here are embeddings, their versions and aliases, and the log. What depends on a version is in
``orm_dependents``, what was measured on it in ``orm_runs``: SQLAlchemy prepares every class that is loaded
before the first query, so nobody who lists versions waits for those.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, DateTime, Dialect, ForeignKey, Integer, MetaData, String, Text, UniqueConstraint
from sqlalchemy import TypeDecorator as _TypeDecorator
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


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
