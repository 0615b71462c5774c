"""Count the claims that a session guards, and find those that nothing guards although something could."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from speedgate.gate.policy import Policy
from speedgate.results.run import Outcome, Verdict

# Verdicts without a comparison: nothing was measured, there was nothing to compare with, or there was too much noise.
NO_COMPARISON = frozenset(
    {
        Outcome.INVALID,
        Outcome.STALE,
        Outcome.MISSING,
        Outcome.UNKNOWN,
        Outcome.UNDECIDED,
        Outcome.NO_BASELINE,
    }
)
# Reasons why a claim is not judged. A missing baseline is a gap: a recording closes it.
NO_BASELINE, LEFT_OUT = "no baseline", "left out by the command"
# Verdicts of the runner on a case as a whole; a test makes every other claim.
_NO_TEST_CLAIMS = frozenset({"worker", "measurement", "baseline"})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Guarded:
    """The number of claims that a comparison guards and of their cases; and of each other claim, by the reason."""

    claims: int
    cases: int
    unguarded: Mapping[str, Mapping[str, int]]

    @property
    def sentence(self) -> str:
        """One line, such as "guarded: 41 claims of 6 cases; not guarded here: memory 6, ladder 6 (CPU)"."""
        claims = "1 claim" if self.claims == 1 else f"{self.claims or 'no'} claims"
        cases = f" of {'1 case' if self.cases == 1 else f'{self.cases} cases'}" if self.claims else ""
        groups = [
            f"{', '.join(f'{claim} {count}' for claim, count in counts.items())} ({reason})"
            for reason, counts in self.unguarded.items()
        ]
        return f"guarded: {claims}{cases}" + (f"; not guarded here: {'; '.join(groups)}" if groups else "")


def count_guarded(verdicts: Mapping[str, Sequence[Verdict]], not_judged: Mapping[str, Mapping[str, str]]) -> Guarded:
    """Count the claims by case key. `not_judged` has the reason of each claim of a case that was not judged.

    A claim with a verdict that compares nothing, or that gates nothing, is not guarded. An acknowledged one is: it is red
    above the ratio that was acknowledged.
    """
    guarded: Counter[str] = Counter()
    unguarded: dict[str, Counter[str]] = {}
    for key in dict.fromkeys((*verdicts, *not_judged)):
        reasons = dict(not_judged.get(key, {}))
        judged = [verdict for verdict in verdicts.get(key, ()) if verdict.claim not in _NO_TEST_CLAIMS]
        for verdict in judged:
            if verdict.outcome in NO_COMPARISON:
                reasons[verdict.claim] = verdict.outcome.value.lower().replace("_", " ")
            elif not (verdict.gates or verdict.is_acknowledged):
                reasons[verdict.claim] = "by another GPU of the family"
        guarded[key] += len({verdict.claim for verdict in judged} - reasons.keys())
        for claim, reason in reasons.items():
            unguarded.setdefault(reason, Counter())[claim] += 1
    counts = [count for count in guarded.values() if count]
    return Guarded(claims=sum(counts), cases=len(counts), unguarded=unguarded)


def unguarded_claims(
    promised: Mapping[str, Collection[str]],
    verdicts: Mapping[str, Sequence[Verdict]],
    not_judged: Mapping[str, Mapping[str, str]],
    *,
    policy: Policy,
    broken: Collection[str] = (),
) -> list[Verdict]:
    """Return MISSING for each promised claim of a case that was not judged, and of which nobody says why it cannot be.

    Cases that are red already are left out, and those in `broken`, of which nothing more could be judged.
    """
    missing = []
    for key, claims in promised.items():
        judged = verdicts.get(key, ())
        if key in broken or not all(map(policy.accepts, judged)):
            continue
        reasons = not_judged.get(key, {})
        for claim in claims:
            if any(verdict.claim == claim for verdict in judged):
                continue
            if claim not in reasons:
                sentence = "no test judged it, or gave a reason why it cannot be judged here"
            elif reasons[claim] == NO_BASELINE:
                sentence = "never judged on this machine: record a baseline with --gate record"
            else:
                continue
            missing.append(Verdict(case_key=key, claim=claim, outcome=Outcome.MISSING, sentence=sentence))
    return missing
