"""Make a `Session` without pytest, for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from speedgate.gate.policy import Policy
from speedgate.measure.machine import Machine, resolve_machine
from speedgate.measure.rounds import MeasurementPlan
from speedgate.plugin.session import Session, SessionInputs, SessionOptions


def make_session(
    folder: Path,
    *,
    policy: Policy | None = None,
    machine: Machine | None = None,
    plan: MeasurementPlan | None = None,
    isolation: str = "process",
    **inputs: Any,
) -> Session:
    """Make a session whose root is `folder`; `inputs` are fields of `SessionInputs`."""
    options = SessionOptions(
        policy=policy or Policy(),
        plan=plan or MeasurementPlan(processes=1, rounds=3),
        isolation=isolation,
        worker_timeout_s=60.0,
        root=folder,
        results=folder / "results",
    )
    return Session(options=options, machine=machine or resolve_machine("cpu"), inputs=SessionInputs(**inputs))
