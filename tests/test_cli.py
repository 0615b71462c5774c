"""The `speedgate` command starts without heavy imports, and reports output that cannot be written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import speedgate
from speedgate.cli import main
from tests.support.artifacts import encoded, result


def test_the_command_starts_without_heavy_imports() -> None:
    """`python -m speedgate --help` prints the commands and imports neither torch nor pytest."""
    code = (
        "import runpy, sys\nsys.argv = ['speedgate', '--help']\n"
        "try: runpy.run_module('speedgate', run_name='__main__')\n"
        "except SystemExit as end: assert end.code == 0\n"
        "print(sorted({'torch', 'scipy', 'numpy', 'pytest', 'pytest_benchmark'} & set(sys.modules)))"
    )

    done = python("-c", code, stdout=subprocess.PIPE)

    assert "import-published" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    """`speedgate --version` prints the version of the installed package."""
    with pytest.raises(SystemExit, match=r"^0$"):
        main(["--version"])

    assert capsys.readouterr().out == f"speedgate {speedgate.__version__}\n"


def python(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run Python in a new process, with this speedgate."""
    environment = {**os.environ, "PYTHONPATH": str(Path(speedgate.__file__).parents[1])}
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        env=environment, text=True, check=False, **{"stderr": subprocess.PIPE, **options},
    )  # fmt: skip


def test_output_that_cannot_be_written_is_one_line_or_none(tmp_path: Path) -> None:
    """A full device ends with one line and status 2, a closed pipe without a word and with the status of SIGPIPE, as `ls` does.

    An error that nobody can read is no traceback either.
    """
    (tmp_path / "case.json").write_bytes(encoded(result()))
    read, write = os.pipe()
    os.close(read)

    with Path("/dev/full").open("w") as full, os.fdopen(write, "w") as gone:
        processes = [python("-m", "speedgate", "summary", tmp_path, stdout=stream) for stream in (full, gone)]
        unread = python("-m", "speedgate", "summary", tmp_path / "none", stdout=gone, stderr=gone)

    assert [process.stderr for process in processes] == ["speedgate: the output: No space left on device\n", ""]
    assert [process.returncode for process in (*processes, unread)] == [2, 141, 2]
