"""Compute the least time that an image's operations need at a machine's measured ceilings, and the share that was reached.

This is the roofline model of Williams, Waterman and Patterson (CACM 52(4), 2009).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from speedgate.results.run import Outcome, Run, Verdict

# Ceilings are measured in half a second each, and clocks move: an image may seem to be this much faster than it can be.
TOLERANCE = 0.05
EVERY_KIND = ""  # key in a stage's arithmetic for all kinds of operations that have no entry of their own


@dataclasses.dataclass(frozen=True, kw_only=True)
class Operations:
    """The work of a component for one image: FLOPs by kind, and the least bytes that it reads."""

    flops: Mapping[str, int]
    bytes_read: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ceilings:
    """The highest measured rates of a machine: FLOPs a second by arithmetic ("bf16", "int8"), and bytes read or written."""

    flops_per_s: Mapping[str, float]
    bytes_per_s: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Roofline:
    """A case against its machine's ceilings: least seconds by component and of the image, and `share`, least / measured."""

    case_key: str
    operations: Mapping[str, Operations]
    arithmetic: Mapping[str, str]
    ceilings: Ceilings
    floors_s: Mapping[str, float]
    floor_s: float
    share: float

    @property
    def description(self) -> str:
        return (
            f"{total_flops(self.operations) / 1e12:.4g} TFLOP an image, at least {self.floor_s:.3g} s at this machine's ceilings:"
            f" {self.share:.0%} of them reached"
        )


def total_flops(operations: Mapping[str, Operations]) -> int:
    """Add up the FLOPs of an image."""
    return sum(sum(component.flops.values()) for component in operations.values())


def compute_roofline(
    run: Run, operations: Mapping[str, Operations], *, arithmetic: Mapping[str, str], ceilings: Ceilings
) -> Roofline:
    """Set a measured run against the ceilings. `arithmetic` maps a kind of operation, or `EVERY_KIND`, to a ceiling's name.

    A component computes and reads at the same time; components run one after the other, so their least seconds add up.
    A `ValueError` if no ceiling of that arithmetic was measured.
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


def judge_roofline(roofline: Roofline) -> Verdict:
    """INVALID if an image took less time than its operations need: it was not waited for, or not all of it was made."""
    if roofline.share <= 1 + TOLERANCE:
        outcome, sentence = Outcome.PASS, roofline.description
    else:
        outcome = Outcome.INVALID
        sentence = f"{roofline.description}, which cannot be: the rounds were not waited for, or work was left out"
    return Verdict(case_key=roofline.case_key, claim="roofline", outcome=outcome, sentence=sentence)


def _ceiling(kind: str, arithmetic: Mapping[str, str], ceilings: Ceilings) -> float:
    name = arithmetic.get(kind, arithmetic[EVERY_KIND])
    if name not in ceilings.flops_per_s:
        raise ValueError(f"no ceiling of {name} was measured; there are: {', '.join(ceilings.flops_per_s)}")
    return ceilings.flops_per_s[name]
