"""Alembic's entry point: migrates over the connection it is given, inside the caller's transaction."""

from alembic import context

from embreg.registry import orm_dependents, orm_runs  # noqa: F401  the rest of the tables
from embreg.registry.orm import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
