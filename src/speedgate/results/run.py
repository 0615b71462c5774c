"""The records that modules exchange and that are stored: frozen, with raw samples, units in the names.

They are `msgspec.Struct`s: `json_io.decode` checks a stored one, `msgspec.structs.replace` changes a copy.
"""

from __future__ import annotations

import enum
import math
import statistics
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from speedgate.results import timings
from speedgate.results.case_key import CaseKey
from speedgate.results.json_io import Count, Finite, NonNegative, Positive, as_object
from speedgate.results.profile import Attribution
from speedgate.results.timings import Component, ComponentName, Loop

SCHEMA = 1
# Facts of a run's environment that decide how fast a CPU computes: a baseline that was recorded with others is stale. oneDNN
# and ATen each have an instruction set of their own.
CPU_CONDITIONS = ("threads", "cores", "cpu_quota", "onednn_max_cpu_isa", "cpu_capability", "flushes_denormals")
# Ends of the names of facts of the structure.
COMPILED, COMPILED_REGIONS, EXPORTED = ".compiled", ".compiled_regions", ".exported"
WEIGHTS, WEIGHTS_DIGEST = "weights", "digest"  # fields of a recipe, and of the weights in it

ACKNOWLEDGED = "ACKNOWLEDGED"  # begins the sentence of a red verdict that people decided to live with

# Keys and names of stored records: some are another commit's data, and are shown in tables.
ShortText = Annotated[str, Meta(min_length=1, max_length=200)]
_LARGEST_RATIO = 1e6  # of two latencies of one case: beyond it a stored record was edited
PlausibleRatio = Annotated[float, Meta(ge=1 / _LARGEST_RATIO, le=_LARGEST_RATIO)]
Packages = Annotated[Mapping[ShortText, ShortText], Meta(max_length=1000)]  # versions by canonical name


class Outcome(enum.StrEnum):
    """The result of judging one claim, worst first; the worst of a case's outcomes is shown for the case."""

    NOT_APPLIED = "NOT_APPLIED"  # the stage is not structurally what it claims to be
    DIFFERENT = "DIFFERENT"  # the output is not the reference's
    INVALID = "INVALID"  # the measurement itself cannot be used
    SLOWER = "SLOWER"
    BIGGER = "BIGGER"
    MORE_WORK = "MORE_WORK"  # the code that a GPU would run does more than the other arm's
    STALE = "STALE"  # the baseline was recorded for another recipe
    MISSING = "MISSING"  # the baseline holds a case that was not measured
    UNKNOWN = "UNKNOWN"  # the code that a GPU would run could not be generated
    UNDECIDED = "UNDECIDED"
    FASTER = "FASTER"
    SMALLER = "SMALLER"
    NO_BASELINE = "NO_BASELINE"
    PASS = "PASS"  # noqa: S105 - a verdict, not a password

    @property
    def severity(self) -> int:
        """Rank in the order above: 0 is the worst. Sort by it to show the worst first."""
        return list(type(self)).index(self)


class Verdict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The judgement of one claim about one case: an outcome, and the sentence that gives the reason in numbers.

    `gates` is False if the reference is another GPU of the same family, or if people decided to live with a red verdict: it
    is shown and turns no test red.
    """

    case_key: ShortText
    claim: str
    outcome: Outcome
    sentence: str
    gates: bool = True

    @property
    def is_acknowledged(self) -> bool:
        """True if the verdict turns no test red because of a stored reason."""
        return not self.gates and self.sentence.startswith(ACKNOWLEDGED)

    def __repr__(self) -> str:
        """The line of a report, and of a failed assertion."""
        return f"{self.outcome} {self.case_key} {self.claim}: {self.sentence}"


def worst_outcome(verdicts: Iterable[Verdict]) -> Outcome | None:
    """Return the outcome that is shown for a case; None if nothing was judged."""
    return min((verdict.outcome for verdict in verdicts), key=lambda outcome: outcome.severity, default=None)


class ColdStart(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Seconds from an empty worker to the first image; `cache_hits`/`cache_misses` count inductor's graph cache.

    `cache_load_s` went into loading a compile cache that was imported for this start; 0 if there was none. `compile_s` are the
    seconds of `apply_s` and `first_image_s` that the compiler took; None if they were not recorded.
    """

    import_s: NonNegative
    load_s: NonNegative
    apply_s: NonNegative
    first_image_s: NonNegative
    cache_hits: Annotated[int, Meta(ge=0)]
    cache_misses: Annotated[int, Meta(ge=0)]
    cache_load_s: NonNegative = 0.0
    compile_s: NonNegative | None = None

    @property
    def total_s(self) -> float:
        return self.import_s + self.load_s + self.stage_s

    @property
    def stage_s(self) -> float:
        """Seconds of a start that are the stage's own: applying it, and its first image, which compiles or loads."""
        return self.apply_s + self.cache_load_s + self.first_image_s

    @property
    def cache(self) -> str:
        """State of inductor's graph cache: cold if anything was missing, warm, imported, or eager if nothing was compiled.

        "imported" is not "warm": torch builds some kernels of an imported cache again, even if it finds every graph. "no cache"
        is a compilation that did not look there, such as one ahead of time.
        """
        if self.cache_misses:
            return "cold cache"
        if self.cache_hits and self.cache_load_s:
            return "imported cache"
        if self.cache_hits:
            return "warm cache"
        return "no cache" if self.compile_s else "eager"


class Process(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The measurement of one fresh worker process: the seconds and peak bytes of each round, in order.

    `discarded_reasons` has a text for each round that was measured again; `health` sums up the machine's state meanwhile;
    `loops` and `components` are those within the rounds, by name. A `ValueError` if anything is of another number of rounds.
    """

    seconds: Annotated[tuple[Positive, ...], Meta(min_length=1)]
    peak_bytes: Annotated[tuple[Count, ...], Meta(min_length=1)]
    cold_start: ColdStart
    discarded_reasons: tuple[str, ...] = msgspec.field(default=(), name="void")
    health: Mapping[str, Any] = msgspec.field(default_factory=dict)
    loops: Mapping[str, Loop] = msgspec.field(default_factory=dict)
    components: Annotated[Mapping[ComponentName, Component], Meta(max_length=100)] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        parts: list[tuple[str, Loop | Component]] = [*self.loops.items(), *self.components.items()]
        figures = [("peak_bytes", self.peak_bytes), *((f"{name[:100]!r}", part.seconds) for name, part in parts)]
        for name, values in figures:
            if len(values) != len(self.seconds):
                raise ValueError(f"{name}: expected figures of {len(self.seconds)} rounds, found {len(values)}")

    @property
    def median_s(self) -> float:
        return statistics.median(self.seconds)


class Run(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The measurement of one case. The process, not the round, is the unit of replication.

    `components_s` are the seconds of each component in an image: `component_means_s` of the processes. `packages` has the
    versions of everything that the worker imported, by package; only a recording asks for them.
    """

    case_key: ShortText
    fingerprint: str
    environment: Mapping[str, Any]
    recipe: Mapping[str, Any]
    structure: Mapping[str, Any]
    cold_start: ColdStart
    components_s: Mapping[str, Finite] = msgspec.field(default_factory=dict)
    processes: tuple[Process, ...] = ()
    counts: Mapping[str, Any] | None = None
    parity: Mapping[str, Finite | None] | None = None
    attribution: Attribution | None = None
    packages: Packages = msgspec.field(default_factory=dict)

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
    def is_regional(self) -> bool:
        """True if regions of a model are compiled by themselves: an equal region is compiled once, which takes less time."""
        return self._has(COMPILED_REGIONS)

    @property
    def is_exported(self) -> bool:
        """True if a model runs from a package that was compiled ahead of time."""
        return self._has(EXPORTED)

    def _has(self, fact_end: str) -> bool:
        return any(bool(value) for fact, value in as_object(self.structure).items() if fact.endswith(fact_end))

    @property
    def weights(self) -> Mapping[str, Any]:
        """Where the weights came from, without their digest; empty if the stored recipe does not say."""
        return {name: value for name, value in as_object(self.recipe.get(WEIGHTS)).items() if name != WEIGHTS_DIGEST}

    @property
    def weights_digest(self) -> str | None:
        """The digest of the weights as the worker loaded them; None if it did not say, as older checkouts."""
        return as_object(self.recipe.get(WEIGHTS)).get(WEIGHTS_DIGEST)

    @property
    def process_medians_s(self) -> tuple[float, ...]:
        return tuple(process.median_s for process in self.processes)

    @property
    def latency_s(self) -> float:
        """Geometric mean of the process medians, in seconds: the centre that intervals are built around."""
        return statistics.geometric_mean(self.process_medians_s)

    @property
    def iterations_per_s(self) -> Mapping[str, float]:
        """Rate of each loop within a round, by its name, with the same centre as the latency."""
        return timings.iterations_per_s([process.loops for process in self.processes])

    @property
    def cold_starts(self) -> tuple[ColdStart, ...]:
        return tuple(process.cold_start for process in self.processes)

    @property
    def peak_bytes(self) -> int:
        return max(max(process.peak_bytes) for process in self.processes)


class Origin(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that makes the workers of a recording again: the code, and the versions of all packages that they imported.

    `commit` is None if the code that measures is in no commit; `archive` then names the file with it, beside the baseline.
    """

    python: ShortText
    packages: Packages
    code_digest: ShortText
    commit: str | None = None
    archive: str | None = None


class Baseline(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A stored figure for one case on one GPU key; `source` is "recorded", with its `run`, or "published".

    `share` is the share of the GPU's ceilings that the run reached (`speedgate.gate.roofline`), if that was measured. `origin`
    is None for a published figure, and for a recording of an older version of this project.
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
    origin: Origin | None = None

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


class Comparison(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A live comparison of one case: the other arm's run, and the log-ratio this/other of each pair of fresh processes.

    `this_first` is True for each pair whose process of this arm was opened first. `label` names the other arm.
    """

    case_key: str
    label: str
    other: Run
    turns: Turns
    log_ratios: tuple[float, ...] = ()
    this_first: tuple[bool, ...] = msgspec.field(default=(), name="own_first")


class Confirmation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A live comparison of a case that the stored rule suspected, with the code and the versions of its baseline.

    `stored` and `stored_ratio` are the outcome and the ratio by the stored figures, `processes` those of this arm in the pairs.
    `reason` says why the pairs do not decide, and the stored verdict stands; `comparison` then has the pairs until there, or
    is None. `baseline` is the baseline's path below pytest's root. A `ValueError` if the pairs do not fit together, or have
    impossible ratios.
    """

    case_key: ShortText
    stored: Outcome
    stored_ratio: PlausibleRatio
    comparison: Comparison | None = None
    processes: tuple[Process, ...] = ()
    seconds: NonNegative = 0.0
    reason: str = ""
    baseline: Annotated[str, Meta(max_length=1000)] = ""

    def __post_init__(self) -> None:
        if self.comparison is None:
            return
        if self.comparison.case_key != self.case_key:
            raise ValueError(f"expected a comparison of {self.case_key!r}, found {self.comparison.case_key[:200]!r}")
        pairs = len(self.comparison.log_ratios)
        if {pairs} != {len(self.comparison.this_first), len(self.comparison.other.processes), len(self.processes)}:
            raise ValueError("expected an order and a process of each arm for each log-ratio")
        if not all(abs(value) <= math.log(_LARGEST_RATIO) for value in self.comparison.log_ratios):
            raise ValueError(f"expected ratios of at most {_LARGEST_RATIO:.0f}")

    @property
    def decides(self) -> bool:
        """True if the verdict is that of the pairs; otherwise the stored verdict stands."""
        return self.comparison is not None and bool(self.comparison.log_ratios) and not self.reason

    def this_run(self, run: Run) -> Run:
        """Return the run with the processes of the pairs in place of those that the stored figure was compared with."""
        return msgspec.structs.replace(run, processes=self.processes)

    @property
    def drift(self) -> float | None:
        """The seconds of the baseline's own code here and now, relative to those of the recording: 1.05 if it takes 5 % longer.

        None if no pair was measured.
        """
        if self.comparison is None or not self.comparison.log_ratios:
            return None
        return self.stored_ratio / math.exp(statistics.fmean(self.comparison.log_ratios))
