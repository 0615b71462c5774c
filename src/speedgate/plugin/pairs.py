"""Measure a case by pairs of fresh processes, one of each arm: which arm opens first, and the log-ratio of each pair."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Protocol

import msgspec

from speedgate.measure.monitor import Monitor
from speedgate.measure.rounds import InvalidMeasurement, Measurement, measure_pair, measure_process
from speedgate.measure.worker import WorkerFailure
from speedgate.plugin.builder import Builder, BuiltWorker, CaseSpec
from speedgate.plugin.progress import Progress
from speedgate.results.run import Comparison, Process, Run, Turns
from speedgate.results.timings import log_ratio

ROUNDS_IN_TURN = "rounds in turn"  # the activity of a pair, as progress shows it


class PairedCase(Protocol):
    """The two arms of one case. The live case of the runner satisfies this, and a case that is confirmed."""

    @property
    def case(self) -> CaseSpec:
        """The case of both arms."""

    @property
    def title(self) -> str:
        """The name of a pair in progress lines."""

    @property
    def monitor(self) -> Monitor:
        """The monitor of the device, which is told how many workers are alive."""

    @property
    def progress(self) -> Progress:
        """The progress lines."""

    def build_fresh(self, *, other: bool) -> BuiltWorker:
        """Return a worker of that arm in which no round was measured; the caller closes the one of the other arm."""

    def close(self) -> None:
        """End the worker of this arm, if one is alive."""

    def measurement(self, built: BuiltWorker, *, other: bool) -> Measurement:
        """Return the rounds of a worker, none of which is measured yet."""

    def collect(self, built: BuiltWorker, *, other: bool) -> Run:
        """Collect what other claims and explanations need, after the rounds; return the arm's run without rounds."""

    def other_label(self) -> str:
        """Return the text that names the other arm."""

    def wanted(self) -> int:
        """Return how many pairs are wanted, given those stored so far."""

    def at_most(self) -> int:
        """Return how many pairs are measured if the verdict stays undecided."""

    def store(self, processes: tuple[Process, ...], comparison: Comparison | None) -> None:
        """Store the pairs so far: the processes of this arm, and the comparison; None if there is no pair."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Pair:
    """One process of each arm, and the other arm's run without rounds."""

    this: Process
    other: Process
    other_run: Run


def measure_pairs(paired: PairedCase) -> None:
    """Measure as many pairs as the verdict needs, and store each.

    Both workers are alive and take turns round by round. If both do not fit into memory, they run one after the other.
    """
    turns = Turns.ROUNDS
    processes: tuple[Process, ...] = ()
    comparison: Comparison | None = None
    while len(processes) < paired.wanted():
        paired.monitor.expected_workers = 2 if turns is Turns.ROUNDS else 1
        number = len(processes)
        this_first = number % 2 == 0
        order = f"{'this' if this_first else 'the other'} arm first"
        paired.progress.heading(f"{paired.case.id}: {paired.title} {number + 1} of at most {paired.at_most()}, {order}")
        try:
            pair = (_in_turns if turns is Turns.ROUNDS else _one_after_the_other)(paired, this_first)
        except WorkerFailure as failure:
            if turns is Turns.PROCESSES or not failure.out_of_memory:
                raise
            turns = Turns.PROCESSES
            paired.progress.note(
                f"{paired.case.id}: both arms do not fit into memory together ({failure.reason}); measured one after the other"
            )
            processes, comparison = (), None
        else:
            comparison = _with_pair(comparison, paired, pair, turns, this_first)
            processes = (*processes, pair.this)
        paired.store(processes, comparison)


def build_other(builder: Builder, case: CaseSpec, *, check: Callable[[Run], None]) -> BuiltWorker:
    """Build a case in a fresh worker of the other arm. Ends the worker if `check` rejects its run (`InvalidMeasurement`)."""
    built = builder.build(case, other=True)
    try:
        check(built.run)
    except InvalidMeasurement:
        built.worker.close()  # nobody else knows of it yet
        raise
    return built


def check_same_weights(this: Run, other: Run, *, other_name: str) -> None:
    """Raise `InvalidMeasurement` if the arms loaded different weights: their images would differ without any fault."""
    here, there = this.weights_digest, other.weights_digest
    if here is None or there is None or here == there:  # an older checkout's worker has no digest
        return
    raise InvalidMeasurement(
        f"the arms did not load the same weights (digest {here} here, {there} of {other_name}), so their images and seconds"
        " cannot be compared: give both the same files with --weights FOLDER"
    )


def _with_pair(
    before: Comparison | None, paired: PairedCase, pair: _Pair, turns: Turns, this_first: bool
) -> Comparison:
    """Return the comparison so far with one more pair."""
    ratio = log_ratio(pair.this.seconds, pair.other.seconds, rounds_in_turn=turns is Turns.ROUNDS)
    before = before or Comparison(
        case_key=paired.case.key, label=paired.other_label(), other=pair.other_run, turns=turns
    )
    return msgspec.structs.replace(
        before,
        other=msgspec.structs.replace(before.other, processes=(*before.other.processes, pair.other)),
        log_ratios=(*before.log_ratios, ratio),
        this_first=(*before.this_first, this_first),
    )


def _in_turns(paired: PairedCase, this_first: bool) -> _Pair:
    """Measure both arms alive at once, taking turns round by round."""
    if this_first:
        paired.build_fresh(other=False)
    else:
        paired.close()
    other = paired.build_fresh(other=True)
    try:
        this = paired.build_fresh(other=False)
        with paired.progress.activity(f"{paired.case.id}: {ROUNDS_IN_TURN}"):
            processes = measure_pair(paired.measurement(this, other=False), paired.measurement(other, other=True))
        paired.collect(this, other=False)
        other_run = paired.collect(other, other=True)
    finally:
        other.worker.close()
    return _Pair(this=processes[0], other=processes[1], other_run=other_run)


def _one_after_the_other(paired: PairedCase, this_first: bool) -> _Pair:
    """Measure one arm at a time."""
    processes: dict[bool, Process] = {}
    runs: dict[bool, Run] = {}
    for other in (not this_first, this_first):
        paired.close()
        built = paired.build_fresh(other=other)
        try:
            with paired.progress.activity(f"{paired.case.id}: rounds of {'the other' if other else 'this'} arm"):
                processes[other] = measure_process(paired.measurement(built, other=other))
            runs[other] = paired.collect(built, other=other)
        finally:
            if other:
                built.worker.close()
            else:
                paired.close()
    return _Pair(this=processes[False], other=processes[True], other_run=runs[True])
