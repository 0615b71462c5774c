"""Published figures of a GPU family: what a publication measured on "A100" or "RTX 3090", without SKU or power limit."""

from __future__ import annotations

import dataclasses

OK = "ok"
# Each outcome of a published cell, with the words that a report shows in place of a figure.
OUTCOMES = {
    OK: "",
    "oom": "out of memory",
    "oom_after_warmup": "out of memory after the warm-up",
    "oom_after_2nd_iteration": "out of memory after the second iteration",
    "unsupported": "unsupported",
    "not_published": "not published",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class FamilyFigure:
    """One published cell: the result of one build of torch for a case on some GPU of the family.

    `iterations_per_s` is of the denoising loop alone. It is None unless the outcome is "ok".
    """

    family: str
    case_key: str
    build: str
    mode: str
    outcome: str
    iterations_per_s: float | None
    note: str = ""

    @property
    def description(self) -> str:
        """The figure, or why there is none."""
        if self.iterations_per_s is None:
            return f"{OUTCOMES[self.outcome]} (torch {self.build})"
        return f"{self.iterations_per_s:.4g} it/s (torch {self.build})"
