"""Order verdicts for every report: worst first, and what changed in a case below one of its verdicts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from speedgate.gate.explain import explains_verdict
from speedgate.results.run import Verdict


def worst_first(cases: Iterable[tuple[Iterable[Verdict], Sequence[str]]]) -> list[tuple[Verdict, Sequence[str]]]:
    """Sort the verdicts of all cases, each case given with the lines that explain it.

    The lines come back with the first verdict of the case that they belong to, and with no other.
    """
    explained: list[tuple[Verdict, Sequence[str]]] = []
    for verdicts, lines in cases:
        ordered = sorted(verdicts, key=lambda verdict: verdict.outcome.severity)
        first = next((v for v in ordered if explains_verdict(lines, claim=v.claim, outcome=v.outcome)), None)
        explained += [(verdict, lines if verdict is first else ()) for verdict in ordered]
    return sorted(explained, key=lambda item: item[0].outcome.severity)
