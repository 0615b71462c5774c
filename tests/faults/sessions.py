"""Run sessions of the suite on a pretended A100 with a recorded baseline, each once for all of its changes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from fixtures.faults.registry import FAULTS, HARMLESS, Change
from fixtures.stages.ladder import STAGES
from speedgate.baselines import promote
from speedgate.results.run import Outcome, Verdict
from tests.support.suite import Folder, Suite, red

KEY = "nvidia-a100-sxm4-80gb-400w"
SPREAD = 0.003  # standard deviation between processes, relative


class Sessions:
    """Run the session of a change together with changes of other stages, and remember the results."""

    def __init__(self, folder: Path) -> None:
        self.suite = Suite(Folder(folder))
        self.suite.pretend_a100()
        self.planned = [*plan_sessions(FAULTS), *plan_sessions(HARMLESS)]
        self._done: dict[int, tuple[list[str], dict[str, Any]]] = {}
        self._baselines: Path | None = None

    def verdicts(self, change: Change, stage: str) -> list[Verdict]:
        """Return the verdicts on the case of the change."""
        _, documents = self.run(next(session for session in self.planned if session.get(stage) is change))
        verdicts: list[dict[str, Any]] = documents[stage]["verdicts"]
        return [Verdict(**verdict | {"outcome": Outcome(verdict["outcome"])}) for verdict in verdicts]

    def run(self, changes: dict[str, Change]) -> tuple[list[str], dict[str, Any]]:
        """Run a session once; return the ids of the failed tests and the result document of each stage."""
        number = self.planned.index(changes)
        if number not in self._done:
            self._record_baselines()
            self.suite.misbehave(**{name: misbehaviour(changes.get(name), draw=1 + number) for name in STAGES})
            self.suite.answer(**nvml_answers(changes))
            result = self.command("--gate=enforce", f"--stage={','.join(changes)}", *command_arguments(changes))
            documents = {stage: self.suite.result(stage) for stage in changes}
            self._done[number] = red(result), documents
        return self._done[number]

    def refusal(self, change: Change) -> pytest.RunResult:
        """Run a command on the baselines that the change has edited, and restore them afterwards."""
        folder, intact = self.suite.path / "baselines", self._record_baselines()
        shutil.copytree(intact, folder, dirs_exist_ok=True)
        self.suite.answer()
        try:
            return self.command("--stage=fp32", *change.apply(folder))
        finally:
            shutil.rmtree(folder)
            shutil.copytree(intact, folder)

    def command(self, *arguments: str) -> pytest.RunResult:
        """Run `pytest bench` with its workers in the same process."""
        shutil.rmtree(self.suite.path / "results", ignore_errors=True)
        (self.suite.path / "builds.log").unlink(missing_ok=True)
        return self.suite.run("--weights=synthetic", "--isolation=none", "--rounds=4", *arguments)

    def _record_baselines(self) -> Path:
        if self._baselines is None:
            self.suite.misbehave(**{name: misbehaviour(None, draw=0) for name in STAGES})
            result = self.command("--gate=record")
            assert red(result) == [], result.outlines
            promote.promote(self.suite.path / "baselines", KEY)
            self._baselines = self.suite.path / "intact-baselines"
            shutil.copytree(self.suite.path / "baselines", self._baselines)
        return self._baselines


def plan_sessions(changes: list[Change]) -> list[dict[str, Change]]:
    """Assign the changes to sessions: one change per stage, and the same NVML answers in a whole session."""
    sessions: list[dict[str, Change]] = []
    for change in (change for change in changes if change.method == "session"):
        for stage in change.stages:
            needed = nvml_answers({stage: change})
            free = (session for session in sessions if stage not in session and nvml_answers(session) == needed)
            session = next(free, None)
            if session is None:
                sessions.append(session := {})
            session[stage] = change
    return sessions


def misbehaviour(change: Change | None, *, draw: int) -> dict[str, Any]:
    """Return how a fake worker misbehaves. Its processes always spread, by the same amounts whichever session ran before."""
    return {"spread": SPREAD, "draw": draw} | (change.apply() if change else {})


def nvml_answers(changes: dict[str, Change]) -> dict[str, Any]:
    """Return NVML's answers in that session."""
    scripts = [json.dumps(change.settings.get("answers", {}), sort_keys=True) for change in changes.values()]
    assert len(set(scripts)) == 1, f"one GPU cannot give {scripts}"
    return dict(json.loads(scripts[0]))


def command_arguments(changes: dict[str, Change]) -> list[str]:
    """Return the command's options for the changes; each affects its own stage only."""
    return [argument for change in changes.values() for argument in change.settings.get("arguments", ())]
