"""Schema migrations (Alembic). ``embreg db upgrade`` runs them."""
