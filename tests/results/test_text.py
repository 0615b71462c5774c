"""Command lines that are shown or stored hold no password."""

from __future__ import annotations

import dataclasses
import json
import shlex
import sys
from pathlib import Path

import pytest

from speedgate.baselines.lock import recording_lock
from speedgate.cli import main
from speedgate.results.text import command_line, redact_password
from speedgate.versions.bisect import BisectState
from tests.support.baseline_samples import KEY
from tests.versions.test_bisect import RELEASES, REQUEST

URL = "postgresql://boss:S3cret!pw@h/db"


@pytest.mark.parametrize(
    ("word", "redacted"),
    [
        (f"--history={URL}", "--history=postgresql://boss@h/db"),
        (URL, "postgresql://boss@h/db"),
        ("postgresql://:S3cret@h/db", "postgresql://@h/db"),
        ("postgresql://u:S3cret@S3cret@h:5432/db", "postgresql://u@h:5432/db"),
        ("postgresql://u:S3/cr?et#S3cret@h/db", "postgresql://u@h/db"),
        ("postgresql://a@b:S3cret\nS3cret@h/db", "postgresql://a@b@h/db"),
        ("postgresql://u@h/db?password=S3cret&sslmode=require", "postgresql://u@h/db?sslmode=require"),
        ("postgresql://u@h/db?sslmode=require&sslPassword=S3cret", "postgresql://u@h/db?sslmode=require"),
        ("sqlite:////tmp/history.sqlite", "sqlite:////tmp/history.sqlite"),
        ("http://host:8080/path", "http://host:8080/path"),
        ("bench/test_parity.py::test_parity[a@b]", "bench/test_parity.py::test_parity[a@b]"),
    ],
)
def test_a_url_is_shown_without_its_password(word, redacted):
    """Whatever characters stand in it, and wherever it stands; other arguments stay as they are."""
    assert redact_password(word) == redacted
    assert shlex.split(command_line(["pytest", word])) == ["pytest", redacted]


def test_the_facts_beside_a_lock_hold_no_password(tmp_path, monkeypatch):
    """It lies where others may read it."""
    monkeypatch.setattr(sys, "orig_argv", ["pytest", "bench", f"--history={URL}"])

    with recording_lock(KEY, folder=tmp_path):
        (path,) = tmp_path.glob("*.json")
        assert json.loads(path.read_text())["command"] == "pytest bench --history=postgresql://boss@h/db"


@pytest.mark.parametrize("words", [["trend"], ["history", "upgrade"], ["bump", "torch==1"]])
def test_a_mistyped_option_is_told_without_its_password(capsys, words):
    """The error of every command repeats the option without the password."""
    with pytest.raises(SystemExit):
        main([*words, f"--histroy={URL}"])

    message = capsys.readouterr().err
    assert "--histroy=postgresql://boss@h/db" in message
    assert "S3cret" not in message


def test_what_a_bisect_leaves_tells_no_password(tmp_path: Path) -> None:
    """Its request is stored with the arguments of pytest, among them a history's URL."""
    request = dataclasses.replace(REQUEST, arguments=("--stage=fp32", f"--history={URL}"))
    BisectState(tmp_path / "state.json", request, list_versions=lambda: RELEASES)

    state = (tmp_path / "state.json").read_text()
    assert json.loads(state)["question"]["arguments"] == ["--stage=fp32", "--history=postgresql://boss@h/db"]
