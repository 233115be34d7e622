"""The tables of what depends on a version: indexes and their builds, derived embeddings, things outside."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Integer, String, Text
from sqlalchemy.orm import Mapped, declared_attr, mapped_column, relationship

from .orm import Base, EmbeddingRow, VersionRow


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
