"""Read `--inject`, and refuse it together with options that it contradicts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from speedgate.gate.drill import Catalogue, ChosenFault, aim, choose_fault
from speedgate.gate.policy import Mode
from speedgate.results.run_marks import Injection

LIST = "list"
_CHOSEN = pytest.StashKey[ChosenFault | None]()
_NEVER_STORED = "the figures of a fault are not those of the code"
# Options that cannot be combined with --inject, with the value that counts as absent, and the reason.
_EXCLUDED: dict[str, tuple[Any, str]] = {
    "history": (None, f"an injected run is never added to a history: {_NEVER_STORED}"),
    "against": (None, "an injected run is compared with the same code without the fault, not with another environment"),
    "against_rootdir": (None, "an injected run is compared with the same code without the fault, not with another one"),
    "benchmark_save": (None, f"an injected run is never saved: {_NEVER_STORED}; --benchmark-json writes a marked file"),
    "benchmark_autosave": (False, f"an injected run is never saved: {_NEVER_STORED}"),
    "benchmark_compare": ([], "an injected run is compared with the same code without the fault, not with a baseline"),
    "benchmark_compare_fail": ([], "an injected run is not compared with a baseline"),
    "maxfail": (0, "the claims after the first red one would not be judged, and one of them may be red too"),
}


def add_option(group: pytest.OptionGroup) -> None:
    """Add `--inject`."""
    group.addoption(
        "--inject",
        action="append",
        metavar="NAME[=VALUE]",
        help="fire drill: put this fault into the selected cases, and end with status 0 only if its gate, and no other, goes"
        " red; without --stage one stage is selected. `--inject list` lists the faults",
    )


def catalogue(config: pytest.Config) -> Catalogue:
    """Return the faults of the suite; `pytest.UsageError` if it has none."""
    faults: Catalogue | None = config.hook.pytest_speedgate_faults()
    if faults is None:
        raise pytest.UsageError("--inject: this suite has no faults to inject")
    return faults


def chosen_fault(config: pytest.Config) -> ChosenFault | None:
    """Return the fault of `--inject`, None without that option. Raises `pytest.UsageError` if it cannot be injected."""
    if _CHOSEN not in config.stash:
        config.stash[_CHOSEN] = _choose(config)
    return config.stash[_CHOSEN]


def _choose(config: pytest.Config) -> ChosenFault | None:
    texts = config.getoption("inject")
    if not texts:
        return None
    if len(texts) > 1:
        raise pytest.UsageError(f"--inject: one fault at a time, found {len(texts)}: {', '.join(texts)}")
    try:
        chosen = choose_fault(texts[0], catalogue(config))
    except ValueError as error:
        raise pytest.UsageError(f"--inject: {error}") from error
    _check_options(config, chosen)
    return chosen


def _check_options(config: pytest.Config, chosen: ChosenFault) -> None:
    """Refuse options that would store the run, or that would keep the gate from going red."""
    option = config.option
    for name, (absent, reason) in _EXCLUDED.items():
        if getattr(option, name, absent) not in (absent, None):
            raise _refusal(f"--{name.replace('_', '-')}", reason)
    if option.gate in (Mode.RECORD, Mode.REPORT):
        reasons = {
            Mode.RECORD: f"an injected run is never recorded: {_NEVER_STORED}",
            Mode.REPORT: "no verdict is red with it, so no gate could fire",
        }
        raise _refusal(f"--gate {option.gate}", reasons[Mode(option.gate)])
    if option.shard.of > 1:
        raise _refusal(f"--shard {option.shard}", "a fire drill is judged as a whole")
    if option.skip_latency and chosen.fault.needs_rounds:
        raise _refusal("--skip-latency", f"it leaves out {chosen.fault.gate}, the gate that must fire")
    if option.isolation == "none" and chosen.fault.is_compared:
        raise _refusal("--isolation none", "the stage with the fault and the one without it need a process each")


def _refusal(option: str, reason: str) -> pytest.UsageError:
    return pytest.UsageError(f"--inject: cannot be used with {option}: {reason}; drop one of them")


def aim_injection(config: pytest.Config, case_keys: Iterable[str], *, device: str) -> Injection | None:
    """Return the injection into the selected cases, None without `--inject`. Raises `pytest.UsageError` if it hits none.

    Tests that measure rounds are left out if the gate of the fault judges none.
    """
    chosen = chosen_fault(config)
    if chosen is None:
        return None
    try:
        injection = aim(chosen, case_keys, device=device)
    except ValueError as error:
        raise pytest.UsageError(f"--inject: {error}") from error
    config.option.skip_latency = not chosen.fault.needs_rounds
    return injection
