"""Run the migrations on the connection that `speedgate.history.database` has locked, inside its transaction."""

from alembic import context

from speedgate.history.schema import VERSION_TABLE, tables

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=tables().metadata,
    version_table=VERSION_TABLE,
    transactional_ddl=True,  # SQLite can roll back a failed migration, too
)
context.run_migrations()
