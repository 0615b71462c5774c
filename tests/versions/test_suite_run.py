"""A run of the suite becomes one outcome of a bisect, and dangerous arguments of pytest are refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from speedgate.report import verdict_page
from speedgate.versions import suite_run
from speedgate.versions.suite_run import BisectOutcome


def document(
    *verdicts: tuple[str, str], log_ratios: tuple[float, ...] = (0.0,), peak_bytes: int = 100
) -> dict[str, Any]:
    """Make the result of one case."""

    def side(peak: int) -> Mapping[str, Any]:
        return {"processes": [{"seconds": [1.0], "peak_bytes": [peak, 1]}]}

    return {
        "run": side(peak_bytes),
        "against": {"log_ratios": list(log_ratios), "other": side(100)},
        "verdicts": [
            {"case_key": "a/b/c", "claim": claim, "outcome": outcome, "sentence": "why"} for claim, outcome in verdicts
        ],
    }


@pytest.mark.parametrize(
    ("metric", "verdicts", "expected"),
    [
        ("latency", "latency PASS", BisectOutcome.GOOD),
        ("latency", "latency FASTER, recipe NOT_APPLIED", BisectOutcome.GOOD),
        ("latency", "latency SLOWER", BisectOutcome.BAD),
        ("latency", "latency SLOWER, worker INVALID", BisectOutcome.BAD),
        ("latency", "latency UNDECIDED", BisectOutcome.SKIP),
        ("latency", "latency PASS, worker INVALID", BisectOutcome.SKIP),
        ("latency", "measurement INVALID", BisectOutcome.SKIP),
        ("latency", "memory BIGGER", BisectOutcome.SKIP),
        ("latency", "", BisectOutcome.SKIP),
        ("memory", "memory BIGGER", BisectOutcome.BAD),
        ("memory", "memory SMALLER", BisectOutcome.GOOD),
        ("parity", "parity PASS, same picture DIFFERENT", BisectOutcome.BAD),
        ("structure", "recipe PASS, same structure NOT_APPLIED", BisectOutcome.BAD),
        ("structure", "recipe PASS, parity DIFFERENT", BisectOutcome.GOOD),
    ],
)
def test_a_run_is_good_bad_or_says_nothing(metric: str, verdicts: str, expected: BisectOutcome) -> None:
    """A red verdict of the metric is bad, a crash, an undecided verdict or none is a skip; other claims do not matter."""
    pairs = [(claim, outcome) for claim, _, outcome in (text.rpartition(" ") for text in verdicts.split(", ")) if claim]

    assert suite_run.judge_metric(metric, [document(*pairs)]).outcome is expected
    assert suite_run.judge_metric(metric, []).reason == f"no verdict on its {metric}"


def test_the_worst_case_speaks_for_a_step() -> None:
    """The ratio is the slowest case's; for memory it is from the median peak over processes."""
    slow = document(("latency", "SLOWER"), log_ratios=(0.1, 0.1))
    slower = document(("latency", "SLOWER"), log_ratios=(0.2, 0.4))

    assert suite_run.judge_metric("latency", [slow, slower, document(("latency", "PASS"))]).ratio == pytest.approx(
        1.34986, abs=1e-5
    )
    assert suite_run.judge_metric("memory", [document(("memory", "BIGGER"), peak_bytes=125)]).ratio == 1.25
    assert verdict_page.arm_ratio("memory", {"run": None, "verdicts": []}) is None


def test_a_run_leaves_its_output_in_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both streams of pytest are in the log, our options come last, and PYTHONPATH is not passed on."""
    monkeypatch.setenv("PYTHONPATH", "/here")
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$@"\necho "path=$PYTHONPATH" >&2\nexit 3\n')
    python.chmod(0o755)
    results, log = tmp_path / "results", tmp_path / "logs" / "1.0.log"

    status = suite_run.run_suite(python, against="good", results=results, arguments=["--stage=fp32"], log=log)

    assert status == 3
    assert log.read_text() == f"-m pytest bench --stage=fp32 --against=good --results={results}\npath=\n"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--stage=fp32"], ["--stage=fp32", "-k", "test_latency"]),
        (["-k", "not int8", "-x"], ["-x", "-k", "(test_latency) and (not int8)"]),
        (["-kint8"], ["-k", "(test_latency) and (int8)"]),
    ],
)
def test_only_the_tests_of_the_metric_are_run(arguments: list[str], expected: list[str]) -> None:
    """Only the tests of the metric are run, and of these only what `-k` selects."""
    assert suite_run.arguments_for_metric("latency", arguments) == expected


@pytest.mark.parametrize(
    "arguments",
    [
        ["--results=x"], ["-x", "--results", "x"], ["--against", "python"], ["--against-rootdir=."], ["--collect-only"],
        ["--co"], ["--collectonly"], ["--quick"], ["--shard=1/2"], ["--inject=x"],
        ["--gate=report"], ["--gate", "record"], ["@file"],
    ],
)  # fmt: skip
def test_what_takes_the_judgement_away_is_refused(arguments: list[str]) -> None:
    """Arguments that prevent a verdict are refused by name, in both forms of writing them."""
    name = arguments[-1] if arguments[-1].startswith("@") else next(a for a in arguments if a.startswith("--"))

    with pytest.raises(ValueError, match=f"^{name.partition('=')[0]}.* after `--`: "):
        suite_run.check_arguments(arguments)


def test_other_arguments_are_pytests_own_matter() -> None:
    """Arguments that select, tighten or report are accepted."""
    suite_run.check_arguments(["--history", "--report", "page.html", "--gate=enforce", "-k", "int8", "--skip-latency"])


@pytest.mark.parametrize("option", ["--collect-onl", "--junit-xm=x"])
def test_pytest_takes_no_abbreviation(pytester: pytest.Pytester, option: str) -> None:
    """pytest accepts no abbreviated options, which would get around the refusal."""
    with pytest.raises(pytest.UsageError, match="unrecognized arguments"):
        pytester.parseconfig(option)


@pytest.mark.parametrize(
    ("status", "log", "expected"),
    [
        (4, "ERROR: usage: pytest [options]\npytest: error: unrecognized arguments: --stag", True),
        (4, "ERROR: --history: cannot be reached", True),
        (4, "ImportError while loading conftest '/x/conftest.py'.", False),
        (3, "INTERNALERROR> KeyError: 'x'", True),
        (3, "INTERNALERROR> ImportError: undefined symbol: stub", False),
        (5, "no tests ran in 0.01s", True),
        (2, "Interrupted: 1 error during collection", False),
        (-11, "", False),
    ],
)
def test_a_version_is_not_blamed_for_a_mistake(tmp_path: Path, status: int, log: str, expected: bool) -> None:
    """An error that every version would have is no skip; a version that cannot be imported is a skip."""
    (tmp_path / "log").write_text(log)

    assert suite_run.is_setup_failure(tmp_path / "log", status=status) is expected


def test_each_metric_has_its_tests_in_the_suite() -> None:
    """The `-k` of each metric names existing tests, and the command line offers every metric."""
    from speedgate.versions.commands import METRICS

    bench = "".join(path.read_text(encoding="utf-8") for path in Path("bench").glob("test_*.py"))
    names = [name for metric in suite_run.METRICS.values() for name in metric.tests.split(" or ")]

    assert [name for name in names if f"def {name}" not in bench] == []
    assert tuple(suite_run.METRICS) == METRICS


def test_a_trial_depends_on_the_code_of_the_suite(tmp_path: Path) -> None:
    """A change of a test or of what it imports changes the digest, and a page or a result does not."""
    digests = []
    for name in ("bench/test_speed.py", "fixtures/sizes.py", "README.md", "results/run.json"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("1")
        digests.append(suite_run.digest_code(tmp_path))

    assert [digests.index(digest) for digest in digests] == [0, 1, 1, 1]
