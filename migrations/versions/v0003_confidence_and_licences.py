"""The confidence of a run's intervals; the licence of a dataset, and what is suspicious about it.

Revision ID: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("runs", sa.Column("confidence", sa.Double(), nullable=False, server_default="0.95"))
    op.add_column("datasets", sa.Column("licence", sa.Text(), nullable=False, server_default=""))
    op.add_column("datasets", sa.Column("warnings", sa.JSON(), nullable=False, server_default="[]"))
