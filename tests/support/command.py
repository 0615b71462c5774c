"""Run the `speedgate` command in a test."""

from __future__ import annotations

from pathlib import Path

import pytest

from speedgate.cli import main


def fails(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """Run a command that must fail with status 2, and return its only line on stderr."""
    assert main([str(argument) for argument in arguments]) == 2
    line = capsys.readouterr().err
    assert line.startswith("speedgate: ")
    assert line.count("\n") == 1
    return line
