"""Judge a change of a fake worker by the claims of `bench/`, on a pretended A100 with a recorded baseline."""

from __future__ import annotations

import pytest

from fixtures.faults.registry import REFUSED, Change, Refusal
from fixtures.stages.ladder import LADDERS, STAGES
from speedgate.results.run import Verdict
from tests.support.fake_bench import BenchResult, FakeBench

LADDER = LADDERS["diffusion-fast"]
SPREAD = {"spread": 0.003}  # standard deviation between processes, relative


def run(bench: FakeBench, change: Change, stage: str) -> BenchResult:
    """Measure the stage with the change, and the stages that are built on it without."""
    _record(bench)
    bench.answer(**change.settings.get("answers", {}))
    children = [name for name in LADDER if STAGES[name].parent == stage]
    faults = {name: SPREAD | {"draw": 1} for name in LADDER}
    return bench.run(
        "--gate=enforce",
        "--rounds=4",
        f"--stage={','.join([stage, *children])}",
        *change.settings.get("arguments", ()),
        **faults | {stage: faults[stage] | change.apply()},
    )


def verdicts(result: BenchResult, stage: str) -> list[Verdict]:
    """Return the verdicts on the case of a stage."""
    by_case = result.session.outcome.verdicts
    return [verdict for key, verdicts in by_case.items() if f"/{stage}/" in key for verdict in verdicts]


def refuse(bench: FakeBench, change: Change) -> Refusal:
    """Start a session on the baselines that the change has edited; it must end before it measures anything."""
    _record(bench)
    arguments = change.apply(bench.path / "baselines")
    try:
        bench.run("--stage=fp32", *arguments)
    except pytest.UsageError as error:
        return Refusal(claim="baseline", outcome=REFUSED, sentence=str(error))
    return Refusal(claim="baseline", outcome="accepted", sentence="")


def _record(bench: FakeBench) -> None:
    bench.pretend_a100()
    bench.promoted(**{stage: SPREAD | {"draw": 0} for stage in LADDER})
