"""Run the injected faults and harmless changes of `tests/faults` and collect the result of each."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree

HARMLESS = "harmless"
# `--exhaustive`: without it the harmless changes of a built case are not run. The table of parity has a page of its own.
COMMAND = (
    *(sys.executable, "-m", "pytest", "tests/faults", "--exhaustive", "-q", "-p", "no:cacheprovider"),
    "--ignore=tests/faults/test_parity_table.py",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """Hold the result of a fault or harmless change; `held` is True if its tests passed."""

    family: str
    name: str
    gate: str
    description: str
    held: bool


def run(root: Path) -> list[Result]:
    """Run `tests/faults` and read the results from pytest's JUnit file."""
    from tests.faults import rows

    with tempfile.TemporaryDirectory(prefix="speedgate-proof-") as scratch:
        report = Path(scratch) / "junit.xml"
        subprocess.run([*COMMAND, f"--junitxml={report}"], cwd=root, check=False, stdout=subprocess.DEVNULL)
        outcomes = dict(_outcomes(ElementTree.parse(report).getroot()))  # noqa: S314 - pytest has just written it
    return [
        Result(family=family, name=name, gate=gate, description=description, held=_held(name, outcomes))
        for family, name, gate, description in rows()
    ]


def _outcomes(root: ElementTree.Element) -> Iterable[tuple[str, bool]]:
    for case in root.iter("testcase"):
        yield str(case.get("name")), not any(case.find(kind) is not None for kind in ("failure", "error", "skipped"))


def _held(name: str, outcomes: dict[str, bool]) -> bool:
    """Return True if every test with that name in its id passed, and there is at least one."""
    passed = [
        is_passed for test, is_passed in outcomes.items() if name in test.partition("[")[2].rstrip("]").split("-")
    ]
    return bool(passed) and all(passed)
