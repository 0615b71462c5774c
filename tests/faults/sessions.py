"""Sessions of the suite on a pretended A100 with a recorded baseline, each run once for all of the changes that it holds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from fixtures.stages.ladder import STAGES
from speedgate.baselines import promote
from speedgate.results.run import Outcome, Verdict
from tests.faults.registry import FAULTS, HARMLESS, Change
from tests.support.suite import Folder, Suite, red

KEY = "nvidia-a100-sxm4-80gb-400w"
SPREAD = 0.003  # of the levels of processes


class Sessions:
    """Runs what a change needs, with as many other changes as there are stages left, and keeps what it found."""

    def __init__(self, folder: Path) -> None:
        self.suite = Suite(Folder(folder))
        self.suite.pretend_a100()
        self.planned = [*plan(FAULTS), *plan(HARMLESS)]
        self._done: dict[int, tuple[list[str], dict[str, Any]]] = {}
        self._baselines: Path | None = None

    def verdicts(self, change: Change, stage: str) -> list[Verdict]:
        """What the session that holds the change says of its case."""
        _, documents = self.run(next(one for one in self.planned if one.get(stage) is change))
        found: list[dict[str, Any]] = documents[stage]["verdicts"]
        return [Verdict(**verdict | {"outcome": Outcome(verdict["outcome"])}) for verdict in found]

    def run(self, changes: dict[str, Change]) -> tuple[list[str], dict[str, Any]]:
        """The ids of the red tests, and what was left on disk of each case; run when it is first asked for."""
        number = self.planned.index(changes)
        if number not in self._done:
            self._recorded()
            self.suite.misbehave(**{name: wrong(changes.get(name), draw=1 + number) for name in STAGES})
            self.suite.answer(**answers(changes))
            result = self.command("--gate=enforce", f"--stage={','.join(changes)}", *arguments(changes))
            documents = {stage: self.suite.result(stage) for stage in changes}
            self._done[number] = red(result), documents
        return self._done[number]

    def refusal(self, change: Change) -> pytest.RunResult:
        """What a command says that finds the baselines as the change has left them, which are put back."""
        folder, kept = self.suite.path / "baselines", self._recorded()
        shutil.copytree(kept, folder, dirs_exist_ok=True)
        self.suite.answer()
        try:
            return self.command("--stage=fp32", *change.act(folder))
        finally:
            shutil.rmtree(folder)
            shutil.copytree(kept, folder)

    def command(self, *arguments: str) -> pytest.RunResult:
        """`pytest bench`, its workers in the same process."""
        shutil.rmtree(self.suite.path / "results", ignore_errors=True)
        (self.suite.path / "builds.log").unlink(missing_ok=True)
        return self.suite.run("--weights=synthetic", "--isolation=none", "--rounds=4", *arguments)

    def _recorded(self) -> Path:
        if self._baselines is None:
            self.suite.misbehave(**{name: wrong(None, draw=0) for name in STAGES})
            result = self.command("--gate=record")
            assert red(result) == [], result.outlines
            promote.promote(self.suite.path / "baselines", KEY)
            self._baselines = self.suite.path / "kept"
            shutil.copytree(self.suite.path / "baselines", self._baselines)
        return self._baselines


def plan(changes: list[Change]) -> list[dict[str, Change]]:
    """The sessions: stage by stage one change each. What NVML answers holds for a whole session."""
    sessions: list[dict[str, Change]] = []
    for change in (one for one in changes if one.by == "session"):
        for stage in change.stages:
            free = (one for one in sessions if stage not in one and answers(one) == answers({stage: change}))
            session = next(free, None)
            if session is None:
                sessions.append(session := {})
            session[stage] = change
    return sessions


def wrong(change: Change | None, *, draw: int) -> dict[str, Any]:
    """How a fake worker misbehaves; its processes always spread, in a session as they do whichever ran before it."""
    return {"spread": SPREAD, "draw": draw} | (change.act() if change else {})


def answers(changes: dict[str, Change]) -> dict[str, Any]:
    """What NVML says instead in that session."""
    found = [json.dumps(change.settings.get("answers", {}), sort_keys=True) for change in changes.values()]
    assert len(set(found)) == 1, f"one GPU cannot give {found}"
    return dict(json.loads(found[0]))


def arguments(changes: dict[str, Change]) -> list[str]:
    """The options of the changes, each of which is for its own stage alone."""
    return [argument for change in changes.values() for argument in change.settings.get("arguments", ())]
