"""Bad input to a live comparison, and to how much is measured: one clear line, exit status 4, nothing built."""

import sys
import tempfile

import pytest

from tests.support.suite import Suite, environment

NEEDS = "; name the python of an environment that holds torch and diffusers"


@pytest.fixture
def refusal(pytester, monkeypatch):
    """Run the suite in this process; the one line that it ends with."""
    suite = Suite(pytester)
    monkeypatch.setattr(tempfile, "tempdir", None)  # the inner conftest sets it, and it is put back

    def run(*arguments):
        result = pytester.runpytest_inprocess(*suite.arguments("--stage=fp32", *arguments))
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        assert "Traceback" not in result.stdout.str() + result.stderr.str()
        assert not (suite.path / "builds.log").exists()
        (line,) = [line for line in result.errlines if "ERROR: --" in line or "error: argument" in line]
        return line.removeprefix("ERROR: ")

    run.path = suite.path
    return run


def test_what_is_no_interpreter_is_refused(refusal):
    """A path that does not exist, a folder, a file that cannot be run and a program that is no Python are told apart."""
    environment(refusal.path / "bare", packages=False)
    (refusal.path / "a-file").touch()

    said = [refusal(f"--against={path}") for path in ("nowhere", "bare", "bench", "a-file", "/bin/true")]

    assert said == [
        f"--against nowhere: does not exist{NEEDS}",
        "--against bare: a folder; name bare/bin/python",
        "--against bench: a folder; name the interpreter in it",
        f"--against a-file: cannot be run{NEEDS}",
        f"--against /bin/true: is no Python interpreter{NEEDS}",
    ]


def test_an_old_python_is_refused(refusal):
    """An interpreter that is older than the suite can bear is told its version and which would do."""
    old = refusal.path / "python"
    old.write_text("#!/bin/sh\necho Python 3 10\n")
    old.chmod(0o755)

    assert refusal("--against=./python").startswith(
        "--against ./python: is Python 3.10, this suite needs 3.11 or later"
    )


@pytest.mark.parametrize(
    ("stub", "said"),
    [
        (None, "raised ModuleNotFoundError: No module named "),
        (
            "torchao",
            "raised ImportError: cannot import name 'Int8DynamicActivationInt8WeightConfig' from 'torchao.quan",
        ),
    ],
)
def test_an_environment_that_cannot_build_a_case_is_refused(refusal, stub, said):
    """The import error of that side is quoted: nothing installed, or a version that lacks what a case needs."""
    python = environment(refusal.path / "other", packages=stub is not None)
    if stub is not None:
        (site_packages,) = (refusal.path / "other").glob("lib/python*/site-packages")
        (site_packages / stub / "quantization").mkdir(parents=True)
        (site_packages / stub / "__init__.py").touch()
        (site_packages / stub / "quantization" / "__init__.py").touch()

    line = refusal(f"--against={python}")

    assert line.startswith(f"--against {python}: that side cannot build a case: 'versions' of the worker {said}")
    assert line.endswith("; it needs torch, diffusers, torchao and transformers in versions that this suite supports")


def test_a_folder_that_is_no_checkout_is_refused(refusal):
    """`--against-rootdir` names what the folder lacks."""
    line = refusal("--against-rootdir=bench")

    assert line == (
        f"--against-rootdir bench: no {refusal.path}/bench/fixtures; name the root of a checkout of this repository"
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            "--against=python --gate=record",
            "--against: a live comparison needs two worker processes and stores no baseline;",
        ),
        (
            "--against=python --isolation=none",
            "--against: a live comparison needs two worker processes and stores no baseline;",
        ),
        ("--processes=3 --gate=record", "--processes 3: a recording needs at least "),
        ("--max-processes=2 --processes=5", "--max-processes 2: less than --processes 5; raise it to 5 or more"),
        ("--tolerance=int9=5", "--tolerance int9: unknown; choose from fp32, bf16, sdpa, compile, fused_qkv, int8"),
        *[
            (
                f"--tolerance={text}",
                f"argument --tolerance: {text}: expected PERCENT or STAGE=PERCENT, above 0 and below",
            )
            for text in ("0", "abc", "=3", "int8=", "150", "nan", "int8=-1")
        ],
        ("--processes=many", "argument --processes: many: expected a whole number, 1 or more"),
        ("--rounds=0", "argument --rounds: 0: expected a whole number, 1 or more"),
        ("--worker-timeout=never", "argument --worker-timeout: never: expected a number of seconds, above 0"),
    ],
)
def test_options_that_contradict_or_say_nothing_are_refused(refusal, arguments, said):
    """The line names the option, what it said and what would do."""
    assert said in refusal(*arguments.split())


def test_this_interpreter_is_found_by_its_path_alone(monkeypatch):
    """An interpreter is taken as it is named, links included, and a bare name is looked up."""
    from speedgate.measure.other_arm import find_interpreter

    monkeypatch.setenv("PATH", str(sys.prefix) + "/bin")

    assert find_interpreter("python") == f"{sys.prefix}/bin/python"
