"""The injected faults and harmless changes of `tests/faults`, with what became of each when they were run."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree

HARMLESS = "harmless"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """A fault or a harmless change; `held` says that its test passed: caught by the gate that is named, or left alone."""

    family: str
    name: str
    gate: str
    says: str
    held: bool


def run(root: Path) -> list[Result]:
    """Run `tests/faults` and read the outcome of each off pytest's JUnit file."""
    from tests.faults import rows

    with tempfile.TemporaryDirectory(prefix="speedgate-proof-") as scratch:
        report = Path(scratch) / "junit.xml"
        command = [
            sys.executable,
            "-m",
            "pytest",
            "tests/faults",
            "-q",
            "-p",
            "no:cacheprovider",
            f"--junitxml={report}",
        ]
        subprocess.run(command, cwd=root, check=False, stdout=subprocess.DEVNULL)
        outcomes = dict(_outcomes(ElementTree.parse(report).getroot()))  # noqa: S314 - what pytest has just written
    return [
        Result(family=family, name=name, gate=gate, says=says, held=_held(name, outcomes))
        for family, name, gate, says in rows()
    ]


def _outcomes(root: ElementTree.Element) -> Iterable[tuple[str, bool]]:
    for case in root.iter("testcase"):
        yield str(case.get("name")), not any(case.find(kind) is not None for kind in ("failure", "error", "skipped"))


def _held(name: str, outcomes: dict[str, bool]) -> bool:
    """Whether every test of that name ran and passed; a name that stands in no test id was not tested."""
    own = [passed for test, passed in outcomes.items() if name in test.partition("[")[2].rstrip("]").split("-")]
    return bool(own) and all(own)
