"""Remarks on the cases that were measured live: how many, with which verdicts, at what cost, and the machine's drift."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from speedgate.results import machine_drift
from speedgate.results.run import Confirmation, Verdict

_CLAIM = "latency"
# A confirmation with the verdicts of its case.
Confirmed = tuple[Confirmation, Sequence[Verdict]]


def remarks(confirmed: Sequence[Confirmed], *, tolerance: float) -> list[str]:
    """Return a line on the confirmed cases, then those on the drift of the machine; none if no case was suspected."""
    if not confirmed:
        return []
    return [
        _count(confirmed),
        *machine_drift.remarks([confirmation for confirmation, _ in confirmed], tolerance=tolerance),
    ]


def _count(confirmed: Sequence[Confirmed]) -> str:
    """Count the suspected cases by the outcome of their latency, with pairs and seconds."""
    decided = [verdicts for confirmation, verdicts in confirmed if confirmation.decides]
    outcomes = Counter(verdict.outcome for verdicts in decided for verdict in verdicts if verdict.claim == _CLAIM)
    worst_first = sorted(outcomes.items(), key=lambda item: item[0].severity)
    counts = ", ".join(f"{count} {outcome}" for outcome, count in worst_first)
    rest = len(confirmed) - len(decided)
    pairs = sum(len(confirmation.processes) for confirmation, _ in confirmed)
    seconds = sum(confirmation.seconds for confirmation, _ in confirmed)
    cases, their = ("1 case", "its") if len(confirmed) == 1 else (f"{len(confirmed)} cases", "their")
    return (
        f"{cases} may be slower than {their} stored figures: pairs decided {len(decided)}{f' ({counts})' if counts else ''}"
        f"{f', {rest} not decided' if rest else ''}; {pairs} pairs in {seconds:.0f} s"
    )
