"""The list of faults and of harmless changes, which the tests and the proof document both read."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

from speedgate.results.run import Outcome

REFUSED = "refused"  # not a verdict: the command ends with exit status 4 before anything is measured


@dataclasses.dataclass(frozen=True, kw_only=True)
class Change:
    """A few lines that change one thing: `act`, whose docstring is `says`.

    `family` is the first word of the module that it stands in, `gate` the claim of the verdict that must catch it with
    `outcome`, at each of `stages`, and `because` is a part of that verdict's sentence. `by` is the method of
    `tests.faults.rig.Rig` that makes the change and has it judged, `settings` what that needs.
    """

    name: str
    family: str
    says: str
    act: Callable[..., Any]
    by: str
    stages: tuple[str, ...]
    gate: str
    outcome: str
    because: str = ""
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Refusal:
    """What a command says that ends before anything is measured; read as a verdict is, which it is not."""

    claim: str
    outcome: str
    sentence: str


FAULTS: list[Change] = []
HARMLESS: list[Change] = []


def edits(gate: str, *stages: str, because: str = "") -> Callable[..., Any]:
    """A fault that edits a built case, judged by parity, by its structure or by what an image counts."""
    outcome = Outcome.DIFFERENT if gate == "parity" else Outcome.NOT_APPLIED
    return _change(FAULTS, by=gate, stages=stages, gate=gate, outcome=outcome, because=because)


def fakes(gate: str, outcome: Outcome, *stages: str, because: str = "", **settings: Any) -> Callable[..., Any]:
    """A fault of a fake worker, in a session of the suite on a pretended A100: `act` returns what is wrong with the stage."""
    return _change(FAULTS, by="session", stages=stages, gate=gate, outcome=outcome, because=because, settings=settings)


def measures(*, because: str) -> Callable[..., Any]:
    """A fault of the measuring itself: `act` breaks what `speedgate.measure.rounds` does, or the worker that it asks."""
    return _change(
        FAULTS, by="measurement", stages=("sdpa",), gate="measurement", outcome=Outcome.INVALID, because=because
    )


def refused(*, because: str) -> Callable[..., Any]:
    """A baseline that must not be compared with: `act` puts it in place and returns the command's arguments."""
    return _change(FAULTS, by="refusal", stages=("fp32",), gate="baseline", outcome=REFUSED, because=because)


def harmless(by: str, *stages: str) -> Callable[..., Any]:
    """A change that no gate may fire on."""
    return _change(HARMLESS, by=by, stages=stages, gate="every gate", outcome=Outcome.PASS)


def _change(registry: list[Change], **fields: Any) -> Callable[..., Any]:
    def register(act: Callable[..., Any]) -> Callable[..., Any]:
        family = act.__module__.rpartition(".")[2].partition("_")[0]
        says = (inspect.getdoc(act) or "").strip()
        assert says and fields["stages"], f"{act.__name__}: a change says what it does, and at which stage"
        registry.append(Change(name=act.__name__, family=family, says=says, act=act, **fields))
        return act

    return register
