"""The `speedgate` command starts without heavy imports, and reports output that cannot be written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import speedgate
from tests.support.artifacts import encoded, result


def test_the_command_starts_without_heavy_imports() -> None:
    """`--help` imports neither torch nor pytest, so it is fast on any machine."""
    code = (
        "import sys\nfrom speedgate.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "print(sorted({'torch', 'scipy', 'numpy', 'pytest', 'pytest_benchmark'} & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(speedgate.__file__).parent.parent)}

    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)

    assert "import-published" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def command(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run `python -m speedgate` in a new process."""
    environment = {**os.environ, "PYTHONPATH": str(Path(speedgate.__file__).parents[1])}
    return subprocess.run(
        [sys.executable, "-m", "speedgate", *map(str, arguments)],
        env=environment, stderr=subprocess.PIPE, text=True, check=False, **options,
    )  # fmt: skip


def test_the_module_is_the_command() -> None:
    """`python -m speedgate` does the same as the script."""
    assert command("baselines", cwd=Path(__file__).parents[1], stdout=subprocess.PIPE).returncode == 0


def test_output_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    """A full device and a closed pipe end with status 2 and one line, not with Python's own message."""
    (tmp_path / "case.json").write_bytes(encoded(result()))
    read, write = os.pipe()
    os.close(read)

    with Path("/dev/full").open("w") as full, os.fdopen(write, "w") as gone:
        processes = [command("summary", tmp_path, stdout=stream) for stream in (full, gone)]

    assert [process.stderr for process in processes] == [
        "speedgate: the output: No space left on device\n", "speedgate: the output: Broken pipe\n",
    ]  # fmt: skip
    assert [process.returncode for process in processes] == [2, 2]
