"""Add the drift of the machine since the baseline of a run was recorded, and that baseline."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the columns; earlier runs have no live pairs, and so no drift."""
    op.add_column("speedgate_runs", sa.Column("drift", sa.Double))
    op.add_column("speedgate_runs", sa.Column("drift_baseline", sa.Text))
