"""The least time that a machine needs for an image's operations, by ceilings that were measured on it, and what share of it
a measured image reaches (the roofline of Williams, Waterman and Patterson, CACM 52(4), 2009).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from speedgate.results.run import Outcome, Run, Verdict

# Ceilings are measured in half a second each, and clocks move: an image may seem to be this much faster than it can be.
TOLERANCE = 0.05
EVERY_KIND = ""  # what the arithmetic of a stage calls all kinds of operations that it does not name


@dataclasses.dataclass(frozen=True, kw_only=True)
class Operations:
    """What a component does for one image: FLOPs by kind, and the bytes that it reads at least."""

    flops: Mapping[str, int]
    bytes_read: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ceilings:
    """The most that a machine was seen to do: FLOPs a second by arithmetic ("bf16", "int8"), and bytes read or written."""

    flops_per_s: Mapping[str, float]
    bytes_per_s: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Roofline:
    """A case beside its machine's ceilings: the least seconds by component and of the image, and the share that is reached."""

    case_key: str
    operations: Mapping[str, Operations]
    arithmetic: Mapping[str, str]
    ceilings: Ceilings
    floors_s: Mapping[str, float]
    floor_s: float
    share: float

    @property
    def says(self) -> str:
        return (
            f"{total(self.operations) / 1e12:.4g} TFLOP an image, at least {self.floor_s:.3g} s at this machine's ceilings:"
            f" {self.share:.0%} of them reached"
        )


def total(operations: Mapping[str, Operations]) -> int:
    """The FLOPs of an image."""
    return sum(sum(component.flops.values()) for component in operations.values())


def compare(
    run: Run, operations: Mapping[str, Operations], *, arithmetic: Mapping[str, str], ceilings: Ceilings
) -> Roofline:
    """A measured run beside the ceilings. `arithmetic` maps a kind of operation, or all others, to the ceiling that it is
    held to. A component computes and reads at the same time; one component runs after the other, so that floors add up.

    A `ValueError` where no ceiling of that arithmetic was measured.
    """
    floors_s = {}
    for name, component in operations.items():
        computing_s = sum(count / _ceiling(kind, arithmetic, ceilings) for kind, count in component.flops.items())
        floors_s[name] = max(computing_s, component.bytes_read / ceilings.bytes_per_s)
    floor_s = sum(floors_s.values())
    return Roofline(
        case_key=run.case_key,
        operations=operations,
        arithmetic=arithmetic,
        ceilings=ceilings,
        floors_s=floors_s,
        floor_s=floor_s,
        share=floor_s / run.latency_s,
    )


def judge(found: Roofline) -> Verdict:
    """INVALID where an image was made sooner than its operations take: it was not waited for, or not made."""
    if found.share <= 1 + TOLERANCE:
        outcome, sentence = Outcome.PASS, found.says
    else:
        outcome = Outcome.INVALID
        sentence = f"{found.says}, which cannot be: the rounds were not waited for, or work was left out"
    return Verdict(case_key=found.case_key, claim="roofline", outcome=outcome, sentence=sentence)


def _ceiling(kind: str, arithmetic: Mapping[str, str], ceilings: Ceilings) -> float:
    name = arithmetic.get(kind, arithmetic[EVERY_KIND])
    if name not in ceilings.flops_per_s:
        raise ValueError(f"no ceiling of {name} was measured; there are: {', '.join(ceilings.flops_per_s)}")
    return ceilings.flops_per_s[name]
