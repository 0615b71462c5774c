"""Create the tables of runs, of their documents and of their environments."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the first tables."""
    op.create_table(
        "speedgate_environments",
        sa.Column("environment_id", sa.String(32), primary_key=True),
        sa.Column("versions", sa.JSON, nullable=False),
    )
    op.create_table(
        "speedgate_runs",
        sa.Column("run_id", sa.String(64), primary_key=True),
        sa.Column("gpu_key", sa.Text, nullable=False),
        sa.Column("case_key", sa.Text, nullable=False),
        sa.Column("commit_id", sa.Text),
        sa.Column("dirty", sa.Boolean, nullable=False),
        sa.Column("measured_at", sa.String(32), nullable=False),
        sa.Column("source", sa.String(16), nullable=False),
        sa.Column("process_medians_s", sa.JSON, nullable=False),
        sa.Column("peak_bytes", sa.BigInteger),
        sa.Column("ssim", sa.Double),
        sa.Column("first_image_s", sa.Double),
        sa.Column("cache", sa.Text),
        sa.Column("fingerprint", sa.Text),
        sa.Column("outcome", sa.String(16)),
        sa.Column(
            "environment_id", sa.String(32), sa.ForeignKey("speedgate_environments.environment_id"), nullable=False
        ),
    )
    op.create_index("speedgate_runs_series", "speedgate_runs", ["case_key", "gpu_key", "measured_at"])
    op.create_index("speedgate_runs_commit", "speedgate_runs", ["commit_id"])
    op.create_table(
        "speedgate_documents",
        sa.Column("run_id", sa.String(64), sa.ForeignKey("speedgate_runs.run_id"), primary_key=True),
        sa.Column("document", sa.JSON, nullable=False),
    )
