"""The fire drill: which faults can be injected into a run, and whether the right gate, and no other, has fired."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from speedgate.gate.components import CLAIM as COMPONENTS
from speedgate.results.case_key import CaseKey
from speedgate.results.run import Outcome, Verdict
from speedgate.results.run_marks import Injection

# Gates that compare figures: an injected run measures the stage without the fault too, in turns with the one that has it.
_COMPARING = ("latency", "memory")
_MEASURING = (*_COMPARING, "measurement")
# Claims that may go red together with a gate, because they judge parts of what it judges.
_COMPANIONS: Mapping[str, tuple[str, ...]] = {"latency": (COMPONENTS,)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Amount:
    """The size of a fault that has one: the default, the bounds, and the unit, such as "percent"."""

    unit: str
    default: float
    least: float
    most: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fault:
    """A fault that can be put into a worker, and the `gate` that must then reach `outcome`.

    `stages` are those that it applies to, the first of which is the default; with `any_stage` it applies to all.
    `pipelines` are the pipeline parts of the case keys that it applies to; empty for all. `device` is set if it needs one.
    """

    name: str
    gate: str
    outcome: Outcome
    description: str
    stages: tuple[str, ...]
    any_stage: bool = False
    pipelines: tuple[str, ...] = ()
    amount: Amount | None = None
    device: str | None = None

    @property
    def is_compared(self) -> bool:
        """True if the gate compares figures with those of the stage without the fault."""
        return self.gate in _COMPARING

    @property
    def needs_rounds(self) -> bool:
        """True if the gate judges measured rounds."""
        return self.gate in _MEASURING

    def applies_to(self, case_key: str) -> bool:
        """Return True if the fault can be put into this case."""
        key = CaseKey.parse(case_key)
        is_stage = self.any_stage or key.stage in self.stages
        return is_stage and (not self.pipelines or key.pipeline in self.pipelines)

    @property
    def stages_text(self) -> str:
        return "any stage" if self.any_stage else ", ".join(self.stages)

    @property
    def usage(self) -> str:
        """The name with the default amount, as it can be typed."""
        return f"{self.name}={self.amount.default:g}" if self.amount else self.name


@dataclasses.dataclass(frozen=True, kw_only=True)
class Catalogue:
    """The faults of a suite by name, and the reasons why its other faults cannot be injected."""

    faults: Mapping[str, Fault]
    impossible: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChosenFault:
    """A fault with its amount, None if it has none."""

    fault: Fault
    amount: float | None = None

    @property
    def label(self) -> str:
        return self.fault.name if self.amount is None else f"{self.fault.name}={self.amount:g}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Drill:
    """The result of a fire drill, with one sentence."""

    has_passed: bool
    sentence: str


def choose_fault(text: str, catalogue: Catalogue) -> ChosenFault:
    """Parse `NAME[=VALUE]`. A `ValueError` names a fault of a similar name, or the bounds of the value."""
    name, equals, value = text.partition("=")
    fault = catalogue.faults.get(name)
    if fault is None:
        if name in catalogue.impossible:
            raise ValueError(f"{name} cannot be injected: {catalogue.impossible[name]}")
        close = difflib.get_close_matches(name, catalogue.faults, n=1)
        hint = f", perhaps {close[0]}" if close else ""
        raise ValueError(f"{name!r} is unknown{hint}; `--inject list` prints the faults that there are")
    if fault.amount is None:
        if equals:
            raise ValueError(f"{name} takes no value, found {value!r}")
        return ChosenFault(fault=fault)
    amount = _number(value) if equals else fault.amount.default
    bounds = f"{fault.amount.least:g} to {fault.amount.most:g}"
    if not fault.amount.least <= amount <= fault.amount.most:
        raise ValueError(f"{name}={value}: expected {bounds} ({fault.amount.unit})")
    return ChosenFault(fault=fault, amount=amount)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan  # lies within no bounds


def aim(chosen: ChosenFault, case_keys: Iterable[str], *, device: str) -> Injection:
    """Return the injection into the selected cases that the fault applies to. Raises `ValueError` if there is none."""
    fault, selected = chosen.fault, list(case_keys)
    if fault.device not in (None, device):
        raise ValueError(f"{fault.name} needs the device {fault.device}, and this run is on {device}")
    targets = tuple(key for key in selected if fault.applies_to(key))
    if not targets:
        pipelines = f" of {', '.join(fault.pipelines)}" if fault.pipelines else ""
        raise ValueError(
            f"{fault.name} applies to {fault.stages_text}{pipelines}, and none of these is selected"
            f" ({', '.join(selected[:3]) or 'nothing'}{', ...' * (len(selected) > 3)})"
        )
    return Injection(fault=chosen.label, gate=fault.gate, outcome=fault.outcome, case_keys=targets)


def listing(catalogue: Catalogue) -> list[str]:
    """List every fault with the gate that must fire and its stages, then those that cannot be injected."""
    faults = catalogue.faults.values()
    rows = [("FAULT", "GATE", "STAGES", ""), *((f.usage, f.gate, f.stages_text, _description(f)) for f in faults)]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    table = ["  ".join([*map(str.ljust, row[:3], widths), row[3]]).rstrip() for row in rows]
    width = max(map(len, catalogue.impossible), default=0)
    reasons = [f"  {name.ljust(width)}  {reason}" for name, reason in catalogue.impossible.items()]
    return [*table, *(["", "Faults of the tests that cannot be injected:", *reasons] if reasons else [])]


def _description(fault: Fault) -> str:
    amount = fault.amount
    bounds = f" ({amount.unit}: {amount.least:g} to {amount.most:g})" if amount else ""
    return f"{fault.description}{bounds}{f' ({fault.device} only)' if fault.device else ''}"


def judge_drill(
    injection: Injection,
    verdicts: Mapping[str, Sequence[Verdict]],
    *,
    accepts: Callable[[Verdict], bool],
    errors: Sequence[str] = (),
) -> Drill:
    """The drill passes if the gate went red for each injected case, and nothing else did but claims about parts of the same.

    `accepts` returns True for a green verdict. `errors` are tests that ended with an exception instead of a verdict.
    """
    red = [verdict for of_case in verdicts.values() for verdict in of_case if not accepts(verdict)]
    expected = [verdict for verdict in red if _is_of(verdict, injection, (injection.gate,))]
    companions = [verdict for verdict in red if _is_of(verdict, injection, _COMPANIONS.get(injection.gate, ()))]
    others = [verdict for verdict in red if verdict not in (*expected, *companions)]
    silent = [key for key in injection.case_keys if key not in {verdict.case_key for verdict in expected}]
    also = [f"{verdict.claim} fired too ({verdict})" for verdict in others]
    also += [f"{error} ended with an error" for error in errors]
    if silent:
        ending = f"; {also[0]}" if also else ""
        reached = _reached(injection, verdicts.get(silent[0], ()))
        return _failed(f"{injection.gate} should have fired for {silent[0]} and did not: {reached}{ending}")
    if also:
        return _failed(f"{injection.gate} went red as it must, but {also[0]}")
    gates = " and ".join(dict.fromkeys(verdict.claim for verdict in (*expected, *companions)))
    return Drill(has_passed=True, sentence=f"fire drill passed: {gates} went red, and nothing else did")


def expectation(injection: Injection) -> str:
    """Say which claims of an injected run must be red, and which may be."""
    companions = "".join(f", {claim} may" for claim in _COMPANIONS.get(injection.gate, ()))
    return f"{injection.gate} must go red ({injection.outcome}){companions}, and nothing else may"


def _is_of(verdict: Verdict, injection: Injection, claims: Sequence[str]) -> bool:
    is_case = verdict.case_key in injection.case_keys
    return is_case and verdict.claim in claims and verdict.outcome is injection.outcome


def _reached(injection: Injection, verdicts: Sequence[Verdict]) -> str:
    """Return the verdict of the gate that stayed green, or say that there is none."""
    of_gate = [verdict for verdict in verdicts if verdict.claim == injection.gate]
    if not of_gate:
        return "it reached no verdict"
    hint = "; on a noisy machine a larger fault is decided sooner" if of_gate[-1].outcome is Outcome.UNDECIDED else ""
    return f"{of_gate[-1].outcome}, {of_gate[-1].sentence}{hint}"


def _failed(reason: str) -> Drill:
    return Drill(has_passed=False, sentence=f"fire drill FAILED: {reason}")
