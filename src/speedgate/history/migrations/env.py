"""What Alembic runs: the steps on the connection that `speedgate.history.database` has locked, in its transaction."""

from alembic import context

from speedgate.history.schema import VERSION_TABLE, tables

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=tables().metadata,
    version_table=VERSION_TABLE,
    transactional_ddl=True,  # SQLite's is: a step that fails leaves nothing behind there either
)
context.run_migrations()
