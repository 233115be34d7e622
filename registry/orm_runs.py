"""The tables of what was measured: datasets, runs and their numbers, verdicts, what suites share."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Integer, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from .orm import Base, VersionRow


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


class MeasureRow(Base):
    """One number of a run.

    It stands before the run: another thread may use the tables at any line of this module, and a run without
    its measures would spoil them all.
    """

    __tablename__ = "measures"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id"), index=True)
    metric: Mapped[str] = mapped_column(String(128))
    labels: Mapped[dict[str, Any]]
    value: Mapped[float]
    n: Mapped[int]
    low: Mapped[float | None]
    high: Mapped[float | None]


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
    measures: Mapped[list[MeasureRow]] = relationship(order_by=MeasureRow.id, lazy="selectin")


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
