"""`--gpu-code`: judge the code that a GPU would run, on a machine without one. The options, and what they contradict."""

from __future__ import annotations

import os

import pytest

from speedgate.gate.policy import Mode
from speedgate.gpu_code.targets import TARGETS, target_of


def add_options(group: pytest.OptionGroup) -> None:
    """Add `--gpu-code` and the number of its processes."""
    group.addoption(
        "--gpu-code",
        metavar="TARGET[,TARGET]",
        help="judge the code that torch.compile generates for these GPUs, and measure nothing; needs torch built for"
        f" CUDA, but no GPU; in the tiny size unless --size full is given. Targets: {', '.join(TARGETS)}",
    )
    group.addoption(
        "--gpu-code-processes",
        type=int,
        metavar="N",
        help="cases whose code is generated at the same time (default: half of the cores)",
    )


def targets(config: pytest.Config) -> list[str]:
    """Return the targets of `--gpu-code`, none without it. `pytest.UsageError` lists the targets that exist."""
    text: str | None = config.getoption("gpu_code")
    if text is None:
        return []
    try:
        return list(dict.fromkeys(target_of(name).name for name in text.split(",")))
    except ValueError as error:
        raise pytest.UsageError(f"--gpu-code: {error}") from error


def processes(config: pytest.Config) -> int:
    """Return how many cases are worked on at the same time."""
    number: int | None = config.getoption("gpu_code_processes")
    if number is not None and number < 1:
        raise pytest.UsageError(f"--gpu-code-processes {number}: expected a whole number, 1 or more")
    return number or max(1, len(os.sched_getaffinity(0)) // 2)


def check_options(config: pytest.Config) -> None:
    """Raise `pytest.UsageError` for an unknown target, and for an option that needs a measurement."""
    if not targets(config):
        if config.getoption("gpu_code_processes") is not None:
            raise pytest.UsageError("--gpu-code-processes: only with --gpu-code TARGET; drop it, or name a target")
        return
    processes(config)
    option = config.option
    measuring = {
        "--gate record": option.gate == Mode.RECORD,
        "--history": option.history is not None,
        "--inject": bool(option.inject),
        "--quick": option.quick,
        "--images": bool(getattr(option, "images", None)),
    }
    for name, is_chosen in measuring.items():
        if is_chosen:
            raise pytest.UsageError(
                f"--gpu-code: cannot be used with {name}, because --gpu-code measures nothing and makes no image;"
                " drop one of them"
            )
