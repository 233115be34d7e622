"""Derived versions, dependents outside of the registry, probes, protected aliases, health of builds.

Revision ID: 0002
Revises: 0001
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("versions", sa.Column("probes", sa.String(length=64), nullable=True))
    op.add_column("aliases", sa.Column("protected", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("builds", sa.Column("health", sa.JSON(), nullable=False, server_default="{}"))
    op.create_table(
        "derived",
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("parent_id", sa.Integer(), nullable=False),
        sa.Column("target_id", sa.Integer(), nullable=True),
        sa.Column("transform", sa.String(length=32), nullable=False),
        sa.Column("params", sa.JSON(), nullable=False),
        sa.Column("fitted", sa.String(length=64), nullable=False),
        sa.Column("fitted_rows", sa.Integer(), nullable=True),
        sa.Column("quality", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["parent_id"], ["versions.id"], name=op.f("fk_derived_parent_id")),
        sa.ForeignKeyConstraint(["target_id"], ["versions.id"], name=op.f("fk_derived_target_id")),
        sa.ForeignKeyConstraint(["version_id"], ["versions.id"], name=op.f("fk_derived_version_id")),
        sa.PrimaryKeyConstraint("version_id", name=op.f("pk_derived")),
    )
    op.create_index(op.f("ix_derived_parent_id"), "derived", ["parent_id"], unique=False)
    op.create_index(op.f("ix_derived_target_id"), "derived", ["target_id"], unique=False)
    op.create_table(
        "derivations",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("child_id", sa.Integer(), nullable=False),
        sa.Column("transform", sa.String(length=32), nullable=False),
        sa.Column("params", sa.JSON(), nullable=False),
        sa.Column("target", sa.String(length=256), nullable=True),
        *_judged(),
        sa.ForeignKeyConstraint(["child_id"], ["embeddings.id"], name=op.f("fk_derivations_child_id")),
        sa.ForeignKeyConstraint(
            ["embedding_id"], ["embeddings.id"], name=op.f("fk_derivations_embedding_id")
        ),
        sa.ForeignKeyConstraint(["tracked_id"], ["versions.id"], name=op.f("fk_derivations_tracked_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_derivations")),
        sa.UniqueConstraint("child_id", name=op.f("uq_derivations_child_id")),
    )
    op.create_index(op.f("ix_derivations_embedding_id"), "derivations", ["embedding_id"], unique=False)
    op.create_table(
        "externals",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("command", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("basis_id", sa.Integer(), nullable=False),
        sa.Column("done_at", sa.DateTime(), nullable=False),
        *_judged(),
        sa.ForeignKeyConstraint(["basis_id"], ["versions.id"], name=op.f("fk_externals_basis_id")),
        sa.ForeignKeyConstraint(["embedding_id"], ["embeddings.id"], name=op.f("fk_externals_embedding_id")),
        sa.ForeignKeyConstraint(["tracked_id"], ["versions.id"], name=op.f("fk_externals_tracked_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_externals")),
        sa.UniqueConstraint("name", name=op.f("uq_externals_name")),
    )
    op.create_index(op.f("ix_externals_embedding_id"), "externals", ["embedding_id"], unique=False)


def _judged() -> tuple[sa.Column[Any], ...]:
    return (
        sa.Column("embedding_id", sa.Integer(), nullable=False),
        sa.Column("tracks", sa.String(length=128), nullable=False),
        sa.Column("tracked_id", sa.Integer(), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("relation", sa.String(length=16), nullable=True),
        sa.Column("repair", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
    )
