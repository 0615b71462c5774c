"""The records that pass between modules and lie on disk: frozen, raw samples kept, units in the names."""

from __future__ import annotations

import dataclasses
import enum
import statistics
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from speedgate.results import loops, profile, timings
from speedgate.results.case_key import CaseKey
from speedgate.results.json_io import expect, positive
from speedgate.results.loops import Loop
from speedgate.results.profile import Attribution
from speedgate.results.timings import Component

SCHEMA = 1


class Outcome(enum.StrEnum):
    """The result of judging one claim, worst first; the worst of a case's outcomes is shown for the case."""

    NOT_APPLIED = "NOT_APPLIED"  # the stage is not structurally what it claims to be
    DIFFERENT = "DIFFERENT"  # the output is not the reference's
    INVALID = "INVALID"  # the measurement itself cannot be used
    SLOWER = "SLOWER"
    BIGGER = "BIGGER"
    STALE = "STALE"  # the baseline was recorded for another recipe
    MISSING = "MISSING"  # the baseline holds a case that was not measured
    UNDECIDED = "UNDECIDED"
    FASTER = "FASTER"
    SMALLER = "SMALLER"
    NO_BASELINE = "NO_BASELINE"
    PASS = "PASS"  # noqa: S105 - a verdict, not a password

    @property
    def severity(self) -> int:
        """Rank in the order above: 0 is the worst. Sort by it to show the worst first."""
        return list(type(self)).index(self)


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class Verdict:
    """The judgement of one claim about one case: an outcome and the sentence that says why, in numbers.

    What does not gate is said and turns no test red: it was judged by a figure of another machine of the same family.
    """

    case_key: str
    claim: str
    outcome: Outcome
    sentence: str
    gates: bool = True

    def __repr__(self) -> str:
        """The line that a report shows, which is also what a failed assertion prints."""
        return f"{self.outcome} {self.case_key} {self.claim}: {self.sentence}"


def worst_outcome(verdicts: Iterable[Verdict]) -> Outcome | None:
    """Return the outcome that is shown for a case; None if nothing was judged."""
    return min((verdict.outcome for verdict in verdicts), key=lambda outcome: outcome.severity, default=None)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ColdStart:
    """Seconds from an empty worker to the first image; `cache_hits`/`cache_misses` count inductor's graph cache.

    `cache_load_s` went into loading a compile cache that was imported for this start; 0 where there was none.
    """

    import_s: float
    load_s: float
    apply_s: float
    first_image_s: float
    cache_hits: int
    cache_misses: int
    cache_load_s: float = 0.0

    @property
    def total_s(self) -> float:
        return self.import_s + self.load_s + self.stage_s

    @property
    def stage_s(self) -> float:
        """Seconds that the stage itself costs at a start: applying it and its first image, which compiles or loads."""
        return self.apply_s + self.cache_load_s + self.first_image_s

    @property
    def cache(self) -> str:
        """What inductor's graph cache held: "cold" where anything was missing, "warm", or "eager" where none was asked.

        "imported" is not "warm": torch builds some kernels of an imported cache again, even if it finds every graph.
        """
        if self.cache_misses:
            return "cold cache"
        if self.cache_hits and self.cache_load_s:
            return "imported cache"
        return "warm cache" if self.cache_hits else "eager"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Process:
    """What one fresh worker process measured: the seconds and peak bytes of each round, in order.

    `void` says of each round that had to be measured again why it was; `health` sums up what the machine said meanwhile;
    `loops` and `components` are those within the rounds, by name, where the worker times any.
    """

    seconds: tuple[float, ...]
    peak_bytes: tuple[int, ...]
    cold_start: ColdStart
    void: tuple[str, ...] = ()
    health: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    loops: Mapping[str, Loop] = dataclasses.field(default_factory=dict)
    components: Mapping[str, Component] = dataclasses.field(default_factory=dict)

    @property
    def median_s(self) -> float:
        return statistics.median(self.seconds)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """What was measured of one case. The process, not the round, is the unit of replication.

    `components_s` are the seconds of each component in an image, by `speedgate.results.timings.centre_s` of the processes.
    """

    case_key: str
    fingerprint: str
    environment: Mapping[str, Any]
    recipe: Mapping[str, Any]
    structure: Mapping[str, Any]
    cold_start: ColdStart
    components_s: Mapping[str, float] = dataclasses.field(default_factory=dict)
    processes: tuple[Process, ...] = ()
    counts: Mapping[str, Any] | None = None
    parity: Mapping[str, float | None] | None = None
    attribution: Attribution | None = None

    @property
    def key(self) -> CaseKey:
        return CaseKey.parse(self.case_key)

    @property
    def stage(self) -> str:
        return self.key.stage

    @property
    def stages(self) -> list[str]:
        """The stages that were applied, in order, this run's own last. Only that one if the stored recipe lists none."""
        stages = self.recipe.get("stages")
        listed = isinstance(stages, list) and all(isinstance(stage, str) for stage in stages)
        return list(stages) if stages and listed else [self.stage]

    @property
    def first_key(self) -> str:
        """Key of the same pipeline and workload at the first stage."""
        return str(self.key.at(self.stages[0]))

    @property
    def parent_key(self) -> str | None:
        """Key of the same pipeline and workload at the stage before; None for the first."""
        return str(self.key.at(self.stages[-2])) if len(self.stages) > 1 else None

    @property
    def process_medians_s(self) -> tuple[float, ...]:
        return tuple(process.median_s for process in self.processes)

    @property
    def latency_s(self) -> float:
        """Geometric mean of the process medians, in seconds: the centre that intervals are built around."""
        return statistics.geometric_mean(self.process_medians_s)

    @property
    def iterations_per_s(self) -> Mapping[str, float]:
        """Of each loop within a round, by its name, with the same centre as the latency."""
        return loops.iterations_per_s([process.loops for process in self.processes])

    @property
    def cold_starts(self) -> tuple[ColdStart, ...]:
        return tuple(process.cold_start for process in self.processes)

    @property
    def peak_bytes(self) -> int:
        return max(max(process.peak_bytes) for process in self.processes)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Baseline:
    """A stored figure for one case on one GPU key; `source` is "recorded", with its `run`, or "published".

    `share` is what share of the GPU's ceilings the run reached (`speedgate.gate.roofline`), where that was measured.
    """

    path: str
    gpu_key: str
    case_key: str
    source: str
    process_medians_s: tuple[float, ...]
    peak_bytes: int
    fingerprint: str | None
    cold_starts: tuple[ColdStart, ...] = ()
    run: Run | None = None
    share: float | None = None

    @property
    def latency_s(self) -> float:
        """Geometric mean of the process medians, in seconds."""
        return statistics.geometric_mean(self.process_medians_s)

    @property
    def name(self) -> str:
        return Path(self.path).stem


class Turns(enum.StrEnum):
    """How the two arms of a live comparison take turns."""

    ROUNDS = "rounds"
    PROCESSES = "processes"

    @property
    def description(self) -> str:
        if self is Turns.ROUNDS:
            return "taking turns round by round"
        return "taking turns process by process, because both do not fit at once"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """A live comparison of one case: the other arm's run, and the log-ratio this/other of each pair of fresh processes.

    `own_first` says of each pair whether this arm's process was opened first. `label` names the other arm.
    """

    case_key: str
    label: str
    other: Run
    turns: Turns
    log_ratios: tuple[float, ...] = ()
    own_first: tuple[bool, ...] = ()


def run_from_json(data: Mapping[str, Any], *, where: str) -> Run:
    """A `Run` from what `to_json` wrote; a `ValueError` names `where` and the field that is wrong."""
    fields = _fields(Run, data, where=where)
    for name in ("environment", "recipe", "structure", "counts", "components_s", "parity"):
        found = fields.get(name)
        may_lack = name in ("counts", "parity") or name not in fields
        expect(isinstance(found, Mapping) or (found is None and may_lack), f"{where}: {name}", "an object", found)
    for name in ("components_s", "parity"):
        for key, value in (fields.get(name) or {}).items():
            is_told = (name == "parity" and value is None) or _is_finite(value)
            expect(is_told, f"{where}: {name}.{key}", "a finite number", value)
    fields["cold_start"] = _cold_start(fields["cold_start"], where=f"{where}: cold_start")
    processes = fields.get("processes", ())
    if not isinstance(processes, list | tuple):
        raise ValueError(f"{where}: processes: expected a list, found {type(processes).__name__}")
    fields["processes"] = tuple(
        process_from_json(item, where=f"{where}: processes[{i}]") for i, item in enumerate(processes)
    )
    if fields.get("attribution") is not None:
        fields["attribution"] = profile.from_json(fields["attribution"], where=f"{where}: attribution")
    return Run(**fields)


def process_from_json(data: Any, *, where: str) -> Process:
    """A `Process` from what `to_json` wrote; a `ValueError` names `where` and the field that is wrong."""
    fields = _fields(Process, data, where=where)
    for name in ("seconds", "peak_bytes"):
        if not isinstance(fields[name], list | tuple) or not fields[name]:
            raise ValueError(f"{where}: {name}: a process holds at least one round, found {fields[name]!r}")
    fields["seconds"] = tuple(positive(value, where=f"{where}: seconds") for value in fields["seconds"])
    fields["peak_bytes"] = tuple(int(positive(value, where=f"{where}: peak_bytes")) for value in fields["peak_bytes"])
    fields["cold_start"] = _cold_start(fields["cold_start"], where=f"{where}: cold_start")
    fields["void"] = _texts(fields.get("void", ()), where=f"{where}: void")
    if not isinstance(fields.get("health", {}), Mapping):
        raise ValueError(f"{where}: health: expected an object, found {type(fields['health']).__name__}")
    for name, module in (("loops", loops), ("components", timings)):
        fields[name] = module.from_json(fields.get(name, {}), rounds=len(fields["seconds"]), where=f"{where}: {name}")
    return Process(**fields)


def _cold_start(data: Any, *, where: str) -> ColdStart:
    fields = _fields(ColdStart, data, where=where)
    for name, value in fields.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= sys.float_info.max:
            raise ValueError(f"{where}: {name}: expected a finite number, zero or above, found {value!r}")
    return ColdStart(**fields)


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _texts(values: Any, *, where: str) -> tuple[str, ...]:
    if not isinstance(values, list | tuple) or not all(isinstance(value, str) for value in values):
        raise ValueError(f"{where}: expected a list of sentences, found {values!r}")
    return tuple(values)


def _fields(cls: type, data: Any, *, where: str) -> dict[str, Any]:
    if not isinstance(data, Mapping):
        raise ValueError(f"{where}: expected an object, found {type(data).__name__}")
    known = {field.name: field for field in dataclasses.fields(cls)}
    required = {
        name
        for name, field in known.items()
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }
    for problem, names in (("missing", required - set(data)), ("unknown", set(data) - set(known))):
        if names:
            raise ValueError(f"{where}: {problem} field {', '.join(sorted(names))}")
    return dict(data)
