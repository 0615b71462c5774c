"""Register the faults and harmless changes; the tests and the proof document read both lists."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

from speedgate.results.run import Outcome

REFUSED = "refused"  # no verdict: the command ends with exit status 4 before it measures anything


@dataclasses.dataclass(frozen=True, kw_only=True)
class Change:
    """Describe one change of a few lines: `apply` makes it, and its docstring is the `description`.

    `family` is the first word of its module's name. `gate` is the claim of the verdict that must catch it with `outcome` at
    each of `stages`, and `reason` is part of that verdict's sentence. `method` is the method of `tests.faults.rig.Rig` that
    applies and judges the change, and `settings` are its options.
    """

    name: str
    family: str
    description: str
    apply: Callable[..., Any]
    method: str
    stages: tuple[str, ...]
    gate: str
    outcome: str
    reason: str = ""
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Refusal:
    """Hold the message of a command that ends before it measures anything, with the fields of a verdict."""

    claim: str
    outcome: str
    sentence: str


FAULTS: list[Change] = []
HARMLESS: list[Change] = []


def case_fault(gate: str, *stages: str, reason: str = "") -> Callable[..., Any]:
    """Register a fault that edits a built case; parity, the case's structure or an image's counts must show it."""
    outcome = Outcome.DIFFERENT if gate == "parity" else Outcome.NOT_APPLIED
    return _register(FAULTS, method=gate, stages=stages, gate=gate, outcome=outcome, reason=reason)


def session_fault(gate: str, outcome: Outcome, *stages: str, reason: str = "", **settings: Any) -> Callable[..., Any]:
    """Register a fault of a fake worker in a session on a pretended A100; `apply` returns the stage's misbehaviour."""
    return _register(
        FAULTS, method="session", stages=stages, gate=gate, outcome=outcome, reason=reason, settings=settings
    )


def measurement_fault(*, reason: str) -> Callable[..., Any]:
    """Register a fault of the measuring; `apply` breaks `speedgate.measure.rounds` or its worker."""
    return _register(
        FAULTS, method="measurement", stages=("sdpa",), gate="measurement", outcome=Outcome.INVALID, reason=reason
    )


def refused_baseline(*, reason: str) -> Callable[..., Any]:
    """Register a baseline that must be refused; `apply` puts it in place and returns the command's arguments."""
    return _register(FAULTS, method="refusal", stages=("fp32",), gate="baseline", outcome=REFUSED, reason=reason)


def harmless_change(method: str, *stages: str) -> Callable[..., Any]:
    """Register a change that no gate may fire on."""
    return _register(HARMLESS, method=method, stages=stages, gate="every gate", outcome=Outcome.PASS)


def _register(changes: list[Change], **fields: Any) -> Callable[..., Any]:
    def decorate(apply: Callable[..., Any]) -> Callable[..., Any]:
        family = apply.__module__.rpartition(".")[2].partition("_")[0]
        description = (inspect.getdoc(apply) or "").strip()
        assert description and fields["stages"], f"{apply.__name__}: a change needs a docstring and a stage"
        changes.append(Change(name=apply.__name__, family=family, description=description, apply=apply, **fields))
        return apply

    return decorate
