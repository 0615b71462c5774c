"""`--gate enforce` is green only if each claim of each selected case is judged, or a test says why it cannot be."""

import re
from inspect import signature

import pytest

from fixtures.plugin import CLAIMS, TWO_ARM_CLAIMS
from speedgate.plugin.promises import promised_claims
from speedgate.report import markdown
from speedgate.results.run import Outcome
from tests.support import fake_bench

QUICK = ("--processes=2", "--rounds=4")


@pytest.mark.parametrize(
    ("deselected", "names_tests", "promised"),
    [
        ({}, False, ["recipe", "memory", "latency"]),
        ({"a": ["memory"]}, False, ["recipe", "latency"]),
        ({"b": ["memory"]}, False, ["recipe", "memory", "latency"]),
        ({}, True, ["recipe"]),
    ],
)
def test_a_command_promises_all_that_it_does_not_leave_out(deselected, names_tests, promised):
    """A claim without a test is promised, unless the command deselects its test or names single tests."""
    collected = {"a": ["recipe", "full recipe"]}

    assert promised_claims(collected, deselected, claims=("recipe", "memory", "latency"), names_tests=names_tests) == {
        "a": promised
    }


def test_every_test_of_a_case_makes_a_listed_claim():
    """The claims of the suite are those of the tests in `bench/` that take a case, by their names."""
    tests = [
        function
        for _, function in fake_bench.bench_functions()
        if {"case", "selected_case"} & {*signature(function).parameters}
    ]

    names = {function.__name__.removeprefix("test_").replace("_", " ") for function in tests}
    assert names == {*CLAIMS, *TWO_ARM_CLAIMS}


@pytest.mark.parametrize(("mode", "status"), [("enforce", pytest.ExitCode.TESTS_FAILED), ("auto", pytest.ExitCode.OK)])
def test_a_claim_without_a_test_is_not_green(bench, monkeypatch, mode, status):
    """A claim whose test is gone turns the session red under enforce and is named; other claims and modes are as before."""
    bench.promoted("--stage=fp32")
    functions = [entry for entry in fake_bench.bench_functions() if entry[1].__name__ != "test_cold_start"]
    monkeypatch.setattr(fake_bench, "bench_functions", lambda: functions)

    result = bench.run(*QUICK, "--stage=fp32", f"--gate={mode}")

    assert (result.red, result.exit_status) == ([], status)
    (verdicts,) = result.session.outcome.verdicts.values()
    gaps = [verdict.claim for verdict in verdicts if verdict.outcome is Outcome.MISSING]
    assert gaps == ["cold start"] * (mode == "enforce")


@pytest.mark.parametrize(
    ("claims", "status"), [((), pytest.ExitCode.TESTS_FAILED), (("test_recipe",), pytest.ExitCode.OK)]
)
def test_a_claim_that_no_baseline_guards_is_not_green_unless_it_is_left_out(bench, claims, status):
    """Without a baseline nothing says if the case fits: red under enforce; claims that the command leaves out are counted."""
    result = bench.run("--stage=fp32", "--gate=enforce", "--skip-latency", claims=claims)

    assert (result.red, result.exit_status) == ([], status)
    assert re.search(
        r"guarded\S+ \d claims? of 1 case; not .*latency 1, .*\(left out by the command\)",
        markdown.render(result.folder),
    )
