"""Run `speedgate bump` and `bisect` in a checkout with fake workers, pins, and an index of stub wheels."""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from speedgate.cli import main
from speedgate.results.case_key import CaseKey
from speedgate.results.json_io import to_json, write_json
from speedgate.versions import environment, suite_run
from speedgate.versions.environment import InstallFailure, OverlayEnvironment
from tests.support.artifacts import result
from tests.support.baseline_samples import make_run
from tests.support.stub_index import COMMITS, Index
from tests.support.suite import CONFTEST, FAKE_IMPORT_CHECK, ROOT, Suite

THREE_PAIRS = ("--device=cpu", "--stage=fp32", "--rounds=4", "--processes=3", "--max-processes=3")
LATENCY = (*THREE_PAIRS, "-k", "test_latency")
CASE = "sdxl-tiny/fp32/32px-4steps-b1"
# The claim, outcome, sentence and latency ratio of a run of the suite; None for a version that cannot be installed.
GOOD = ("latency", "PASS", "0.7 s against 0.7 s", 1.0)
SLOW = ("latency", "SLOWER", "0.742 s against 0.7 s", 1.06)
OTHER = ("same structure", "NOT_APPLIED", "unet.int8_linears is 1, expected 0", 1.0)
RUNS: dict[str, tuple[str, str, str, float] | None] = {
    "1.0": GOOD, "1.1": GOOD, "1.2": GOOD, "1.3": None,
    "1.4": ("worker", "INVALID", "raised ImportError: undefined symbol: stub", 1.0),
    "1.5": ("latency", "UNDECIDED", "the interval is too wide", 1.0),
    "1.6": ("worker", "INVALID", "died during 'generate' (SIGABRT)", 1.0),
    "1.7": SLOW, "1.8": SLOW,
    "2.0": ("same structure", "PASS", "as in the other arm", 1.0), "2.1": ("same structure", "PASS", "as in the other arm", 1.0),
    "2.2": OTHER, "2.3": OTHER,
}  # fmt: skip


class Desk:
    """A checkout with fake workers, pins and an index; `run` is the command there."""

    def __init__(self, folder: Path) -> None:
        self.path = Suite(folder).path
        conftest = (
            CONFTEST.replace("tests.support.fake_case:FakeCase", "tests.support.stub_case:StubCase") + FAKE_IMPORT_CHECK
        )
        (self.path / "conftest.py").write_text(conftest.format(paths=[str(ROOT), str(ROOT / "src")]))
        self.pins = self.path / ".github" / "pins"
        self.pins.mkdir(parents=True)
        (self.pins / "stable.txt").write_text(f"# pins\npackaging=={importlib.metadata.version('packaging')}\n")
        self.index = Index(self.path / "index")

    def run(self, *arguments: str, pytest_arguments: tuple[str, ...] = THREE_PAIRS) -> tuple[int, list[str], str]:
        """Run the command in the folder, without settings of pip; return its exit status, output lines and errors."""
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, contextlib.chdir(self.path):
            for name in [name for name in os.environ if name.startswith("PIP_")]:
                patch.delenv(name)
            patch.setenv("PIP_CONFIG_FILE", os.devnull)
            patch.setenv("GITHUB_STEP_SUMMARY", "job.md")
            patch.setenv("GITHUB_OUTPUT", "outputs")
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                status = main([*arguments, f"--index-url={self.index.url}", "--", *pytest_arguments])
        return status, out.getvalue().splitlines(), err.getvalue()


class FakeRuns:
    """Stands in for pip and for the suite: the environment of a version is its metadata, its run is what `RUNS` says.

    `overlays` are the environments that were asked for, `versions` those that were run; `status` and `log` replace a run.
    """

    def __init__(self) -> None:
        self.overlays: list[OverlayEnvironment] = []
        self.versions: list[str] = []
        self.status: int | None = None
        self.log = ""

    def replace(self, patch: pytest.MonkeyPatch) -> FakeRuns:
        """Let the commands use the fakes."""
        patch.setattr(environment, "build", self.build)
        patch.setattr(environment, "list_versions", lambda package, **options: list(reversed(RUNS)))
        patch.setattr(suite_run, "run_suite", self.run_suite)
        return self

    def build(self, overlay: OverlayEnvironment, *, cache: Path) -> Path:
        """Make the metadata of the only requirement, `stubkernel==VERSION` or the address of its wheel."""
        self.overlays.append(overlay)
        (requirement,) = overlay.requirements
        match = re.search(r"stubkernel(?:==|-)([0-9.]+[0-9])", requirement)
        assert match is not None
        version = match[1]
        if RUNS[version] is None:
            raise InstallFailure("404 Client Error: not found")
        packages = cache.absolute() / version / "lib" / "python3" / "site-packages"
        information = packages / f"stubkernel-{version}.dist-info"
        information.mkdir(parents=True, exist_ok=True)
        home = "Project-URL: Repository, https://github.com/somebody/stubkernel"
        (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: stubkernel\nVersion: {version}\n{home}\n")
        (packages / "stubkernel").mkdir(exist_ok=True)
        commit = COMMITS[list(RUNS).index(version)]
        (packages / "stubkernel" / "version.py").write_text(f"git_version = '{commit}'\n")
        return cache.absolute() / version / "bin" / "python"

    def run_suite(
        self, python: Path, *, against: str, results: Path, arguments: Sequence[str], log: Path | None = None
    ) -> int:
        """Write the result file and the log of one case."""
        version = python.parents[1].name
        self.versions.append(version)
        if log is not None:
            log.write_text(self.log)
        if self.status is not None:
            return self.status
        run = RUNS[version]
        assert run is not None
        claim, outcome, sentence, ratio = run
        write_json(results / CaseKey.parse(CASE).file_name, document(claim, outcome, sentence, ratio))
        return 0 if outcome == "PASS" else 1


def document(claim: str, outcome: str, sentence: str, ratio: float) -> dict[str, Any]:
    """Make the result file of a case that took `ratio` times 0.7 s, against 0.7 s in the other arm."""
    verdict = {"case_key": CASE, "claim": claim, "outcome": outcome, "sentence": sentence}
    run, other = (to_json(make_run(CASE, medians_s=(seconds,) * 3)) for seconds in (0.7 * ratio, 0.7))
    against = {"log_ratios": [math.log(ratio)] * 3, "other": other}
    return result(CASE, verdicts=[verdict], run=run, against=against)


def stocked(folder: Path) -> Desk:
    """Make a desk whose index holds stubkernel 1.0, and 1.8, which is slower."""
    desk = Desk(folder)
    desk.index.add("stubkernel", "1.0", code="BEHAVIOUR = {}", commit=COMMITS[0])
    desk.index.add("stubkernel", "1.8", code="BEHAVIOUR = {'slower': 1.06}", commit=COMMITS[8])
    return desk
