"""Judge whether a case fits into the device's memory, against what a baseline or published figures lead to expect."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Sequence

from speedgate.results.family_figure import FamilyFigure
from speedgate.results.run import Baseline, Outcome, Verdict


class Fit(enum.StrEnum):
    """How a case ends on a device."""

    OK = "ok"
    OOM = "oom"
    UNSUPPORTED = "unsupported"


_WORDS = {Fit.OK: "fitted", Fit.OOM: "out of memory", Fit.UNSUPPORTED: "unsupported"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Expectation:
    """The end that is expected of a case, and the name of its source. `gates` is False for figures of another machine."""

    fit: Fit
    source: str
    gates: bool = True


def expect_fit(
    baseline: Baseline | None, figures: Sequence[FamilyFigure], *, out_of_memory: str | None = None
) -> Expectation | None:
    """Return what this machine's baseline, or else the figures of its GPU family, lead to expect; None if they do not.

    `out_of_memory` is the name of the baseline file that records the case as out of memory on this machine. Figures of a
    family count only if all builds of torch, at least two, came to the same end, and that end was not a figure.
    """
    if baseline is not None:
        return Expectation(fit=Fit.OK, source=baseline.name)
    if out_of_memory is not None:
        return Expectation(fit=Fit.OOM, source=out_of_memory)
    # "oom_after_warmup" is out of memory too.
    ends = {figure.outcome.partition("_")[0] for figure in figures}
    if len(figures) < 2 or ends not in ({Fit.OOM}, {Fit.UNSUPPORTED}):
        return None
    builds = ", ".join(f"torch {figure.build}" for figure in figures)
    return Expectation(
        fit=Fit(ends.pop()), source=f"what was published for {figures[0].family} ({builds})", gates=False
    )


def judge_fit(
    case_key: str, expectation: Expectation | None, *, fits: bool, device_bytes: int, alone: bool = True
) -> Verdict:
    """FASTER if a case that did not run now does, BIGGER if one that fitted runs out of memory, NO_BASELINE if unknown.

    `fits` is False if it ran out of memory; any other failure is not judged here. `alone` is False if other processes held
    some of the device's memory: running out of it then proves nothing, which is INVALID.
    """
    device = f"{device_bytes / 2**30:.1f} GiB"
    now = f"fits into {device}" if fits else f"out of memory on {device}"
    if not fits and not alone:
        outcome, rest = Outcome.INVALID, ", of which other processes hold a part: run it on a device of its own"
    elif expectation is None:
        outcome, rest = Outcome.NO_BASELINE, "; nothing was stored of this case before"
    else:
        rest = f", {_WORDS[expectation.fit]} in {expectation.source}"
        if fits is (expectation.fit is Fit.OK):
            outcome = Outcome.PASS
        elif fits:
            outcome, rest = Outcome.FASTER, f"{rest}: record a new baseline"
        else:
            # Not INVALID: the measurement was sound, and the case needs more memory than before. As with a higher peak, it
            # is red where baselines are enforced and not where a new one is recorded.
            outcome = Outcome.BIGGER
    return Verdict(case_key=case_key, claim="fit", outcome=outcome, sentence=f"{now}{rest}")
