"""How a history's schema came to be, for Alembic; `speedgate.history.database` runs it."""
