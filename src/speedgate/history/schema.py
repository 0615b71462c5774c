"""The tables of a history as they are now; `migrations` says how they came to be, and a test that both agree.

A run's small figures stand in `runs`, which a series is read from; everything that was uploaded of it, raw seconds of each
process and verdicts included, in `documents`.
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
    """SQLAlchemy's tables, which are typed as anything because the library is optional."""

    metadata: Any
    environments: Any
    runs: Any
    documents: Any


@functools.cache
def tables() -> Tables:
    """The tables: times are UTC texts of one length, whose order is that of time; seconds are doubles."""
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
    """One text for the same JSON, in ASCII: PostgreSQL's `json` keeps it as it is, and digests are made of it."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)


def json_digest(data: Any) -> str:
    """sha256 of the canonical text, in hexadecimal."""
    return hashlib.sha256(canonical_json(data).encode("ascii")).hexdigest()
