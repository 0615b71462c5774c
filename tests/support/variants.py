"""Variants on the meta device, for the tests that look at them."""

from __future__ import annotations

from fixtures.cases import Case
from fixtures.pipelines.registry import pipelines
from fixtures.stages.ladder import apply, dtype_of


def skeleton(case):
    """A case on the meta device, with its stage applied."""
    import torch

    spec = pipelines()[case.pipeline]
    with torch.device("meta"):
        pipe = spec.sizes[case.size].build()
    pipe.to(dtype=getattr(torch, dtype_of(case.stage)))
    apply(pipe, spec, case.stage, device="cpu")
    return spec, pipe


def sdxl(stage):
    return Case(pipeline="sdxl", size="tiny", stage=stage)
