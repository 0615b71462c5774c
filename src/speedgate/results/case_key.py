"""Which other cases a run stands beside: the same pipeline and workload at the stages that it was built from."""

from __future__ import annotations

from speedgate.results.run import Run


def stages(run: Run) -> list[str]:
    """The stages that were applied, the first one first and the run's own last; that alone where a stored recipe has none."""
    found = run.recipe.get("stages")
    told = found if isinstance(found, list) and all(isinstance(stage, str) for stage in found) else []
    return list(told) or [run.stage]


def parent_key(run: Run) -> str | None:
    """The case of the stage before; None of the first."""
    return _sibling(run, stages(run)[-2]) if len(stages(run)) > 1 else None


def first_key(run: Run) -> str:
    """The case of the first stage."""
    return _sibling(run, stages(run)[0])


def _sibling(run: Run, stage: str) -> str:
    pipeline, _, workload = run.case_key.split("/")
    return f"{pipeline}/{stage}/{workload}"
