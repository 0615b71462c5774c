"""Cases of which it is known that they run out of memory or are not supported: that, too, is something to hold to."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Sequence

from speedgate.results.family_figure import FamilyFigure
from speedgate.results.run import Baseline, Outcome, Verdict


class Expected(enum.StrEnum):
    """What a baseline says became of a case."""

    OK = "ok"
    OOM = "oom"
    UNSUPPORTED = "unsupported"


_SAID = {Expected.OK: "fitted", Expected.OOM: "out of memory", Expected.UNSUPPORTED: "unsupported"}
# What a figure's outcome leads one to expect. A cell that was not published leads to nothing.
_BY_OUTCOME = {
    "ok": Expected.OK,
    "oom": Expected.OOM,
    "oom_after_warmup": Expected.OOM,
    "oom_after_2nd_iteration": Expected.OOM,
    "unsupported": Expected.UNSUPPORTED,
    "not_published": None,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Known:
    """What is expected of a case and the name of what says so. A family's figures alone turn nothing red: no `gates`."""

    expected: Expected
    baseline: str
    gates: bool = True


def known(
    baseline: Baseline | None, figures: Sequence[FamilyFigure], *, out_of_memory: str | None = None
) -> Known | None:
    """What this machine's baseline, or else the figures of its family, say became of a case; None where they do not.

    `out_of_memory` names the file of this machine that says so of the case. A family's figures count where each build of
    torch, and there are two, came to the same end, and that was no figure.
    """
    if baseline is not None:
        return Known(expected=Expected.OK, baseline=baseline.name)
    if out_of_memory is not None:
        return Known(expected=Expected.OOM, baseline=out_of_memory)
    ends = {expectation(figure.outcome) for figure in figures}
    if len(figures) < 2 or len(ends) > 1:
        return None
    (end,) = ends
    if end is None or end is Expected.OK:
        return None
    builds = ", ".join(f"torch {figure.build}" for figure in figures)
    return Known(expected=end, baseline=f"what was published for {figures[0].family} ({builds})", gates=False)


def expectation(outcome: str) -> Expected | None:
    """What a published outcome leads one to expect of a run, None where it says nothing."""
    if outcome not in _BY_OUTCOME:
        raise ValueError(f"outcome {outcome!r}: expected {', '.join(_BY_OUTCOME)}")
    return _BY_OUTCOME[outcome]


def judge_fit(
    case_key: str, *, expected: str | None, fits: bool, baseline: str, device_bytes: int, alone: bool = True
) -> Verdict:
    """FASTER where a case that did not run now does, BIGGER where one that fitted runs out of memory.

    `expected` is None where nothing is known of the case, as before its first recording: that is NO_BASELINE.
    `fits` is False where it ran out of memory; any other failure is the worker's and not judged here. `alone` says
    whether the device's memory was the case's own: on a shared one an out-of-memory says nothing of the case.
    """
    if expected is not None and expected not in list(Expected):
        raise ValueError(f"expected {expected!r}: choose from {', '.join(Expected)}")
    device = f"{device_bytes / 2**30:.1f} GiB"
    now = f"fits into {device}" if fits else f"out of memory on {device}"
    if not fits and not alone:
        sentence = f"{now} that other processes hold a part of: run it on a device of its own"
        return _verdict(case_key, Outcome.INVALID, sentence)
    if expected is None:
        return _verdict(case_key, Outcome.NO_BASELINE, f"{now}; nothing was stored of it before")
    before = Expected(expected)
    sentence = f"{now}, {_SAID[before]} in {baseline}"
    if fits is (before is Expected.OK):
        return _verdict(case_key, Outcome.PASS, sentence)
    if fits:
        return _verdict(case_key, Outcome.FASTER, f"{sentence}: record a new baseline")
    # BIGGER, not INVALID: nothing was wrong with the measurement. What changed is what the case needs, as with a peak
    # above the baseline's, and like that it is red where baselines are enforced and not where a new one is recorded.
    return _verdict(case_key, Outcome.BIGGER, sentence)


def _verdict(case_key: str, outcome: Outcome, sentence: str) -> Verdict:
    return Verdict(case_key=case_key, claim="fit", outcome=outcome, sentence=sentence)
