"""What a history holds of one case on one machine: its runs in the order of time. Reading one, finding changes in it and
showing it all speak of these records.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True, kw_only=True)
class Point:
    """One run of a case; `run_id` is a digest of what was uploaded, so that the same upload is the same point.

    `measured_at` is UTC in ISO 8601. `versions` holds what the run's environment says (`torch`, `torch_git`, `diffusers`, ...).
    What a run did not have is None: a run without rounds has no medians and no peak. `dirty` says that the checkout had changes
    that are not in `commit`.
    """

    run_id: str
    measured_at: str
    commit: str | None
    process_medians_s: tuple[float, ...]
    peak_bytes: int | None = None
    ssim: float | None = None
    first_image_s: float | None = None
    cache: str | None = None
    fingerprint: str | None = None
    outcome: str | None = None
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    dirty: bool = False

    @property
    def latency_s(self) -> float | None:
        """Geometric mean of the process medians, in seconds, as of a `Run`; None where nothing was measured."""
        return statistics.geometric_mean(self.process_medians_s) if self.process_medians_s else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Series:
    """The points of one case on one GPU key, oldest first."""

    gpu_key: str
    case_key: str
    points: tuple[Point, ...]
