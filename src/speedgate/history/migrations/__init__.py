"""Alembic's migrations of a history's schema; `speedgate.history.database` runs them."""
