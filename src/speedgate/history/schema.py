"""The current tables of a history. `migrations` creates them step by step, and a test checks that both agree.

The table `runs` holds the small figures of each run, from which a series is read. The table `documents` holds everything that
was uploaded, with the raw seconds of each process and the verdicts.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from typing import Any

VERSION_TABLE = "speedgate_schema"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tables:
    """SQLAlchemy's tables, typed as `Any` because the library is optional."""

    metadata: Any
    environments: Any
    runs: Any
    documents: Any


@functools.cache
def tables() -> Tables:
    """Define the tables. Times are UTC texts of equal length, so that they sort by time; seconds are doubles."""
    import sqlalchemy as sa

    metadata = sa.MetaData()
    environments = sa.Table(
        "speedgate_environments",
        metadata,
        sa.Column("environment_id", sa.String(32), primary_key=True),
        sa.Column("versions", sa.JSON, nullable=False),
    )
    runs = sa.Table(
        "speedgate_runs",
        metadata,
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
        sa.Column("environment_id", sa.String(32), sa.ForeignKey(environments.c.environment_id), nullable=False),
        sa.Column("drift", sa.Double),
        sa.Column("drift_baseline", sa.Text),
        sa.Column("compile_s", sa.Double),
        sa.Index("speedgate_runs_series", "case_key", "gpu_key", "measured_at"),
        sa.Index("speedgate_runs_commit", "commit_id"),
    )
    documents = sa.Table(
        "speedgate_documents",
        metadata,
        sa.Column("run_id", sa.String(64), sa.ForeignKey(runs.c.run_id), primary_key=True),
        sa.Column("document", sa.JSON, nullable=False),
    )
    return Tables(metadata=metadata, environments=environments, runs=runs, documents=documents)


def canonical_json(data: Any) -> str:
    """Write JSON as ASCII in one canonical form, for digests. PostgreSQL's type `json` stores the text unchanged."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)


def json_digest(data: Any) -> str:
    """Return the sha256 of the canonical text, in hexadecimal."""
    return hashlib.sha256(canonical_json(data).encode("ascii")).hexdigest()
