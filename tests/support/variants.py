"""Build variants on the meta device."""

from __future__ import annotations

from fixtures.cases import Case
from fixtures.pipelines.registry import pipelines
from fixtures.stages.ladder import apply, dtype_of


def skeleton(case):
    """Build a case on the meta device and apply its stage; return its pipeline definition and the pipeline."""
    import torch

    spec = pipelines()[case.pipeline]
    with torch.device("meta"):
        pipe = spec.sizes[case.size].build()
    pipe.to(dtype=getattr(torch, dtype_of(case.stage)))
    apply(pipe, spec, case.stage, device="cpu")
    return spec, pipe


def sdxl(stage):
    return Case(pipeline="sdxl", size="tiny", stage=stage)
