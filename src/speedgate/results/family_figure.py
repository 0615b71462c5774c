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

    A figure is either the rate of the denoising loop alone, or the seconds of an image; both are None unless the outcome is
    "ok". `source` names the publication if a table has several.
    """

    family: str
    case_key: str
    build: str
    mode: str
    outcome: str
    iterations_per_s: float | None = None
    note: str = ""
    latency_s: float | None = None
    source: str = ""

    @property
    def description(self) -> str:
        """The figure, or why there is none."""
        if self.latency_s is not None:
            remarks = "; ".join(filter(None, (f"torch {self.build}", self.source, self.note)))
            return f"{self.latency_s:.4g} s an image ({remarks})"
        if self.iterations_per_s is None:
            return f"{OUTCOMES[self.outcome]} (torch {self.build})"
        return f"{self.iterations_per_s:.4g} it/s (torch {self.build})"
