"""Add the seconds that the compiler took at the first start of a run."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the column; earlier runs did not record the figure."""
    op.add_column("speedgate_runs", sa.Column("compile_s", sa.Double))
