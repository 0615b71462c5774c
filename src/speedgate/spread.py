"""How far the runs of a series lie apart, and how far the processes of one run: what a run weighs, and whether that grew."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from speedgate import changepoints
from speedgate.changepoints import Floats, Noise, Step

SHORTEST = 8  # points on either side of a change of spread
_LEAST = 1.3  # the smallest change of spread worth a word


@dataclasses.dataclass(frozen=True, kw_only=True)
class Runs:
    """Logarithms of process medians, one run's after the other's (shape `(processes,)`), and how many each run has."""

    logs: Floats
    counts: NDArray[np.int64]

    @classmethod
    def of(cls, medians_s: Sequence[Sequence[float]]) -> Runs:
        """Of at least one run, and at least one process a run."""
        counts = np.array([len(processes) for processes in medians_s], dtype=np.int64)
        return cls(logs=np.log(np.array([seconds for processes in medians_s for seconds in processes])), counts=counts)

    def mean(self, values: Floats) -> Floats:
        """Of each run, what these values (one a process) are on average."""
        return np.asarray(np.add.reduceat(values, np.cumsum(self.counts) - self.counts) / self.counts, dtype=np.float64)

    def squares(self, levels: Floats) -> Floats:
        """Of each run, the mean square of its processes around its level."""
        return self.mean((self.logs - np.repeat(levels, self.counts)) ** 2)

    def only(self, chosen: NDArray[np.bool_]) -> Runs:
        """Some of the runs."""
        return Runs(logs=self.logs[np.repeat(chosen, self.counts)], counts=self.counts[chosen])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spread:
    """Variances of log-latencies: `of_runs` beyond what their processes explain, `of_processes` within a run."""

    of_runs: float
    of_processes: float

    def variances(self, counts: NDArray[np.int64]) -> Floats:
        """Of a run's mean, by its number of processes."""
        return self.of_runs + self.of_processes / counts

    def freedoms(self, counts: NDArray[np.int64]) -> Floats:
        """Of the mean square of a run's processes around the level (Satterthwaite): about one where runs differ most."""
        of_run, of_process = self.of_runs, self.of_processes
        variance = 2 * of_run**2 + (4 * of_run * of_process + 2 * of_process**2) / counts
        return 2 * (of_run + of_process) ** 2 / variance


def split(runs: Runs, noise: Noise) -> Spread:
    """Of the scatter of runs, what is their processes' own."""
    freedom = int((runs.counts - 1).sum())
    if not freedom:
        return Spread(of_runs=noise.scale**2, of_processes=0.0)
    of_processes = float((runs.squares(runs.mean(runs.logs)) * runs.counts).sum()) / freedom
    of_runs = noise.scale**2 - of_processes * float((1 / runs.counts).mean())
    if of_runs > 0:
        return Spread(of_runs=of_runs, of_processes=of_processes)
    # Less than the processes explain, by chance: all of it is theirs.
    return Spread(of_runs=0.0, of_processes=noise.scale**2 / float((1 / runs.counts).mean()))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Widening:
    """The spread after a change over the one before (standard deviations), as a logarithm with its error."""

    step: Step
    log_ratio: float
    error: float


def widenings(runs: Runs, levels: Floats, spread: Spread) -> list[Widening]:
    """Where the spread around `levels` changed, up or down.

    A run's score is the cube root of the mean square of its processes, which is nearly normal for the chi-squared (Wilson and
    Hilferty, PNAS 17, 1931), so that a change of spread is a change of level like any other.
    """
    from scipy import special

    half = spread.freedoms(runs.counts) / 2
    expected = np.exp(special.gammaln(half + 1 / 3) - special.gammaln(half) - np.log(half) / 3)
    scores = np.cbrt(runs.squares(levels)) / expected
    noise = changepoints.noise(scores, least=1e-3 * max(float(scores.mean()), 1e-12))
    weights = np.full(len(scores), noise.scale**-2)
    found = []
    for step in changepoints.steps(scores, weights, noise=noise, shortest=SHORTEST):
        after = step.level + step.shift
        log_ratio = 1.5 * math.log(max(after, 1e-9) / max(step.level, 1e-9))
        if abs(log_ratio) >= math.log(_LEAST):
            found.append(Widening(step=step, log_ratio=log_ratio, error=1.5 * step.error / max(after, 1e-9)))
    return found
