"""A desk to try other versions at: a checkout with fake workers, pins, and an index of stub wheels."""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import os
from pathlib import Path

import pytest

from speedgate.cli import main
from tests.support.stub_index import COMMITS, Index
from tests.support.suite import CONFTEST, FAKE_IMPORT_CHECK, ROOT, Folder, Suite

THREE_PAIRS = ("--device=cpu", "--stage=fp32", "--rounds=4", "--processes=3", "--max-processes=3")
LATENCY = (*THREE_PAIRS, "-k", "test_latency")
SLOW, OTHER = {"slower": 1.06}, {"structure": {"unet.int8_linears": 1}}
# 1.3 is listed and its file is gone; 1.4 cannot be imported; nothing is decided of 1.5; 1.6 dies in its first round.
BEHAVIOURS = {
    "1.0": {}, "1.1": {}, "1.2": {}, "1.3": {}, "1.4": None, "1.5": {"modes": [1.0, 1.3, 1.6]}, "1.6": {"abort": "generate"},
    "1.7": SLOW, "1.8": SLOW, "2.0": {}, "2.1": {}, "2.2": OTHER, "2.3": OTHER,
}  # fmt: skip


class Desk:
    """A checkout with fake workers, pins and an index; `run` is the command there."""

    def __init__(self, folder: Path) -> None:
        self.path = Suite(Folder(folder)).path
        conftest = (
            CONFTEST.replace("tests.support.fake_case:FakeCase", "tests.support.stub_case:StubCase") + FAKE_IMPORT_CHECK
        )
        (self.path / "conftest.py").write_text(conftest.format(paths=[str(ROOT), str(ROOT / "src")]))
        self.pins = self.path / ".github" / "pins"
        self.pins.mkdir(parents=True)
        (self.pins / "stable.txt").write_text(f"# pins\npackaging=={importlib.metadata.version('packaging')}\n")
        self.index = Index(self.path / "index")

    def run(self, *arguments: str, pytest_arguments: tuple[str, ...] = THREE_PAIRS) -> tuple[int, list[str], str]:
        """Exit status, output and errors, in that folder and without what pip would be told there."""
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


def stocked(folder: Path) -> Desk:
    """One whose index holds stubkernel in every version of `BEHAVIOURS`."""
    made = Desk(folder)
    for number, (version, behaviour) in enumerate(BEHAVIOURS.items()):
        code = "raise ImportError('undefined symbol: stub')" if behaviour is None else f"BEHAVIOUR = {behaviour!r}"
        path = made.index.add("stubkernel", version, code=code, commit=COMMITS[number])
        if version == "1.3":
            path.unlink()
    return made
