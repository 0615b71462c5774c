"""Runs of `pytest bench --against` in another environment's interpreter, and what their results say of one metric."""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from speedgate.gate.policy import Mode
from speedgate.report.verdict_page import arm_ratio
from speedgate.results.case_key import RESULT_FILES
from speedgate.results.run import Outcome
from speedgate.versions.bisect_search import BisectOutcome
from speedgate.versions.environment import clean

# Of its own failure, of a mistake in its arguments, and of arguments that select no test.
_BLAMELESS = (3, 4, 5)
_IMPORT_ERROR = re.compile(r"\b(?:ImportError|ModuleNotFoundError)\b|while loading conftest")
_OTHER_ARM = "the other arm is the stable environment, or the good end of a bisect"
_NOTHING = "nothing would be measured"
# What is not pytest's to be told here, and why. pytest takes no abbreviation of its options.
_REFUSED = {
    "--results": "the verdict is made of a folder of our own; for a bump name it before `--`",
    "--against": _OTHER_ARM,
    "--against-rootdir": _OTHER_ARM,
    "--collect-only": _NOTHING,
    "--collectonly": _NOTHING,
    "--co": _NOTHING,
    "--shard": "a verdict is one session's",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metric:
    """The claims that a metric is made of, the outcome of theirs that is red, and pytest's `-k` for the tests that make them."""

    claims: frozenset[str]
    red: Outcome
    tests: str


METRICS: Mapping[str, Metric] = {
    "latency": Metric(claims=frozenset({"latency"}), red=Outcome.SLOWER, tests="test_latency"),
    "memory": Metric(claims=frozenset({"memory"}), red=Outcome.BIGGER, tests="test_memory"),
    "parity": Metric(
        claims=frozenset({"parity", "same picture"}), red=Outcome.DIFFERENT, tests="test_parity or test_same_picture"
    ),
    "structure": Metric(
        claims=frozenset({"recipe", "same structure", "compile"}),
        red=Outcome.NOT_APPLIED,
        tests="test_recipe or test_same_structure or test_compile",
    ),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Judged:
    """What a run says of one metric: the step, the sentence why, and the ratio to the other arm where the metric has one."""

    step: BisectOutcome
    reason: str
    ratio: float | None = None


def run_suite(python: Path, *, against: str, results: Path, arguments: Sequence[str], log: Path | None = None) -> int:
    """pytest's exit status after `pytest bench` in `python`; what it says goes to `log`, or to the terminal without one."""
    own = [f"--against={against}", f"--results={results}"]  # last: pytest takes the last of two
    command = [str(python), "-m", "pytest", "bench", *arguments, *own]
    if log is None:
        return subprocess.run(command, env=clean(os.environ), check=False).returncode  # noqa: S603
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as said:
        done = subprocess.run(command, env=clean(os.environ), check=False, stdout=said, stderr=subprocess.STDOUT)  # noqa: S603
    return done.returncode


def check(arguments: Sequence[str]) -> None:
    """A `ValueError` names what of pytest's arguments would replace an arm or the results, or leave nothing to judge."""
    for argument, following in itertools.zip_longest(arguments, arguments[1:], fillvalue=""):
        option, equals, value = argument.partition("=")
        asked = value if equals else following
        if option in _REFUSED:
            raise ValueError(f"{option} after `--`: {_REFUSED[option]}; leave it out")
        if option == "--gate" and asked in (Mode.REPORT, Mode.RECORD):
            raise ValueError(f"--gate {asked} after `--`: nothing would be judged; leave it out, or --gate enforce")
        if argument.startswith("@"):
            raise ValueError(f"{argument} after `--`: name the options themselves, not a file of them")


def for_metric(metric: str, arguments: Sequence[str]) -> list[str]:
    """`arguments` of pytest with `-k` narrowed to the tests that the metric is read from."""
    parser = argparse.ArgumentParser(prog="pytest", add_help=False, allow_abbrev=False)
    parser.add_argument("-k", dest="keyword")
    known, others = parser.parse_known_args(list(arguments))
    tests = METRICS[metric].tests
    return [*others, "-k", f"({tests}) and ({known.keyword})" if known.keyword else tests]


def documents(results: Path) -> list[dict[str, Any]]:
    """What a run left on disk of each case."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(results.glob(RESULT_FILES))]


def judge(metric: str, found: Sequence[Mapping[str, Any]]) -> Judged:
    """BAD where any claim of the metric is red; GOOD where all are judged and none is; SKIP where nothing can be said.

    A worker that died is no red verdict of a metric: who looks for a slowdown has to step over a version that crashes.
    """
    wanted = METRICS[metric]
    told = [(verdict, document) for document in found for verdict in document["verdicts"]]
    own = [(verdict, document) for verdict, document in told if verdict["claim"] in wanted.claims]
    red = [(verdict, document) for verdict, document in own if verdict["outcome"] == wanted.red]
    if red:
        verdict, document = max(red, key=lambda each: arm_ratio(metric, each[1]) or 0.0)
        return Judged(step=BisectOutcome.BAD, reason=_says(verdict), ratio=arm_ratio(metric, document))
    unsaid = [verdict for verdict, _ in told if verdict["outcome"] == Outcome.INVALID]
    unsaid += [verdict for verdict, _ in own if verdict["outcome"] == Outcome.UNDECIDED]
    if unsaid or not own:
        return Judged(step=BisectOutcome.SKIP, reason=_says(unsaid[0]) if unsaid else f"no verdict on its {metric}")
    ratios = [value for _, document in own if (value := arm_ratio(metric, document)) is not None]
    return Judged(step=BisectOutcome.GOOD, reason=_says(own[0][0]), ratio=max(ratios, default=None))


def broken(log: Path, *, status: int) -> str:
    """Why a run judged nothing: pytest's error, else the last thing it said."""
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith(("ERROR: ", "E   "))]
    errors += [line.partition(": error: ")[2] for line in lines if ": error: " in line]  # argparse's, below its usage
    return f"pytest ended with exit status {status}: {(errors or lines or ['it said nothing'])[-1].strip()}"


def blameless(log: Path, *, status: int) -> bool:
    """Whether a run broke for what every other candidate would break for too: arguments, a database, pytest itself.

    A version that cannot be imported may end pytest the same way, and is one to step over.
    """
    said = log.read_text(encoding="utf-8", errors="replace")
    return status in _BLAMELESS and not _IMPORT_ERROR.search(said)


def _says(verdict: Mapping[str, Any]) -> str:
    return f"{verdict['outcome']} {verdict['case_key']} {verdict['claim']}: {verdict['sentence']}"
