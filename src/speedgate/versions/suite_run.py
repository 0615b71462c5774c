"""Run `pytest bench --against` in another environment, and read one metric from the results."""

from __future__ import annotations

import argparse
import dataclasses
import enum
import itertools
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from speedgate.gate.policy import Mode
from speedgate.gpu_code import compare
from speedgate.gpu_code.figures import claim_on
from speedgate.gpu_code.targets import TARGETS, target_of
from speedgate.measure import code_digest
from speedgate.report.verdict_page import arm_ratio
from speedgate.results.case_key import RESULT_FILES
from speedgate.results.json_io import read_json
from speedgate.results.run import Outcome
from speedgate.versions.environment import clean_variables
from speedgate.versions.index import WheelOrigin

# pytest's own failure, a wrong argument, and arguments that select no test: every other candidate would end like this too.
_SETUP_FAILURES = (3, 4, 5)
_IMPORT_ERROR = re.compile(r"\b(?:ImportError|ModuleNotFoundError)\b|while loading conftest")
_OTHER_ARM = "the other arm is the stable environment, or the good end of a bisect"
_NOTHING_MEASURED = "nothing would be measured"
# Options of pytest that must not be passed on, with the reason. pytest accepts no abbreviated options.
_REFUSED = {
    "--results": "the verdict is made from one folder; a bump takes it before `--`",
    "--against": _OTHER_ARM,
    "--against-rootdir": _OTHER_ARM,
    "--collect-only": _NOTHING_MEASURED,
    "--collectonly": _NOTHING_MEASURED,
    "--co": _NOTHING_MEASURED,
    "--quick": _NOTHING_MEASURED,
    "--inject": "the fault would be judged as a change of the candidate",
    "--shard": "a verdict needs all cases in one session",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metric:
    """The claims that judge a metric, their red outcome, and the `-k` expression for the tests that make the claims."""

    claims: frozenset[str]
    red: Outcome
    tests: str


GPU_CODE = "gpu-code"
_SUITE = ("bench", "fixtures")  # what `pytest bench` runs, and the package that its tests import
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
    GPU_CODE: Metric(
        claims=frozenset(claim_on(compare.CLAIM, target) for target in TARGETS),
        red=Outcome.MORE_WORK,
        tests="test_gpu_code or test_gpu_work",
    ),
}


class BisectOutcome(enum.StrEnum):
    """The outcome of one candidate. SKIP if it cannot be judged, like exit status 125 in `git bisect run`."""

    GOOD = "good"
    BAD = "bad"
    SKIP = "skip"


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of a candidate, the sentence why, and the ratio to the other arm if the metric has one.

    `origin` is the source of the candidate's wheel if it could be installed.
    """

    outcome: BisectOutcome = msgspec.field(name="step")
    reason: str
    ratio: float | None = None
    origin: WheelOrigin | None = None


def digest_code(root: Path) -> str:
    """Digest the Python files that decide the outcome of a run in the folder `root`: the suite's and those of this package."""
    folders = [*(root / name for name in _SUITE), Path(__file__).parents[1]]
    return code_digest.digest(path for folder in folders for path in folder.rglob("*.py"))


def run_suite(python: Path, *, against: str, results: Path, arguments: Sequence[str], log: Path | None = None) -> int:
    """Run `pytest bench` in `python` and return its exit status. Output goes to the file `log`, or to the terminal."""
    last = [f"--against={against}", f"--results={results}"]  # pytest takes the last of two equal options
    command = [str(python), "-m", "pytest", "bench", *arguments, *last]
    if log is None:
        return subprocess.run(command, env=clean_variables(), check=False).returncode  # noqa: S603
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as stream:
        return subprocess.run(  # noqa: S603
            command, env=clean_variables(), check=False, stdout=stream, stderr=subprocess.STDOUT
        ).returncode


def check_arguments(arguments: Sequence[str]) -> None:
    """Raise a `ValueError` for a pytest argument that would replace an arm or the results, or leave nothing to judge."""
    for argument, following in itertools.zip_longest(arguments, arguments[1:], fillvalue=""):
        option, equals, value = argument.partition("=")
        value = value if equals else following
        if option in _REFUSED:
            raise ValueError(f"{option} after `--`: {_REFUSED[option]}; leave it out")
        if option == "--gate" and value in (Mode.REPORT, Mode.RECORD):
            raise ValueError(f"--gate {value} after `--`: nothing would be judged; leave it out, or --gate enforce")
        if argument.startswith("@"):
            raise ValueError(f"{argument} after `--`: name the options themselves, not a file of them")


def gpu_code_arguments(targets: str | None) -> list[str]:
    """Return the arguments of pytest that generate code for these GPUs, none for None; `ValueError` for an unknown GPU."""
    if targets is None:
        return []
    try:
        names = [target_of(name).name for name in targets.split(",")]
    except ValueError as error:
        raise ValueError(f"--gpu-code: {error}") from error
    return [f"--gpu-code={','.join(names)}"]


def arguments_for_metric(metric: str, arguments: Sequence[str]) -> list[str]:
    """Narrow `-k` in the arguments of pytest to the tests that judge the metric."""
    parser = argparse.ArgumentParser(prog="pytest", add_help=False, allow_abbrev=False)
    parser.add_argument("-k", dest="keyword")
    options, others = parser.parse_known_args(list(arguments))
    tests = METRICS[metric].tests
    return [*others, "-k", f"({tests}) and ({options.keyword})" if options.keyword else tests]


def read_documents(results: Path) -> list[dict[str, Any]]:
    """Read the result file of each case that a run left in its folder."""
    return [read_json(path) for path in sorted(results.glob(RESULT_FILES))]


def judge_metric(metric: str, documents: Sequence[Mapping[str, Any]]) -> Trial:
    """Return BAD if any claim of the metric is red, GOOD if all are judged and none is red, else SKIP.

    A lost worker is a SKIP: a search for a slowdown must step over a version that crashes.
    """
    definition = METRICS[metric]
    verdicts = [(verdict, document) for document in documents for verdict in document["verdicts"]]
    of_metric = [(verdict, document) for verdict, document in verdicts if verdict["claim"] in definition.claims]
    red = [(verdict, document) for verdict, document in of_metric if verdict["outcome"] == definition.red]
    if red:
        verdict, document = max(red, key=lambda pair: arm_ratio(metric, pair[1]) or 0.0)
        return Trial(outcome=BisectOutcome.BAD, reason=_line(verdict), ratio=arm_ratio(metric, document))
    undecided = [verdict for verdict, _ in verdicts if verdict["outcome"] == Outcome.INVALID]
    undecided += [verdict for verdict, _ in of_metric if verdict["outcome"] in (Outcome.UNDECIDED, Outcome.UNKNOWN)]
    if undecided:
        return Trial(outcome=BisectOutcome.SKIP, reason=_line(undecided[0]))
    if not of_metric:
        return Trial(outcome=BisectOutcome.SKIP, reason=f"no verdict on its {metric}")
    ratios = [ratio for _, document in of_metric if (ratio := arm_ratio(metric, document)) is not None]
    return Trial(outcome=BisectOutcome.GOOD, reason=_line(of_metric[0][0]), ratio=max(ratios, default=None))


def describe_failure(log: Path, *, status: int) -> str:
    """Say why a run judged nothing: the last error of pytest in the log, or the last line."""
    lines = [line for line in _read_log(log).splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith(("ERROR: ", "E   "))]
    errors += [line.partition(": error: ")[2] for line in lines if ": error: " in line]  # argparse's, below its usage
    return f"pytest ended with exit status {status}: {(errors or lines or ['it printed nothing'])[-1].strip()}"


def is_setup_failure(log: Path, *, status: int) -> bool:
    """True if every other candidate would fail too, for example because of a wrong argument or a missing database.

    A candidate that cannot be imported may end pytest with the same status, but is only skipped.
    """
    return status in _SETUP_FAILURES and not _IMPORT_ERROR.search(_read_log(log))


def _read_log(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")


def _line(verdict: Mapping[str, Any]) -> str:
    return f"{verdict['outcome']} {verdict['case_key']} {verdict['claim']}: {verdict['sentence']}"
