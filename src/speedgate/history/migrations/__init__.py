"""How a history's schema came to be, for Alembic; `speedgate.store.database` runs it."""
