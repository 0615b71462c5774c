"""The `speedgate` command: what it prints, its exit status, and what it must not load."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import speedgate
from speedgate.baselines import published
from speedgate.cli import main
from speedgate.results.console import ascii_line
from speedgate.results.run import write_json
from tests.support.artifacts import SESSION, encoded, result
from tests.support.baseline_samples import BF16, INT8, KEY, make_document, make_run, obtain, store

CSV = Path(__file__).parent.parent / "baselines" / "published" / "ladder_a100.csv"


def fails(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """Run a command that must fail with status 2 and one line on stderr; the line."""
    assert main([str(argument) for argument in arguments]) == 2
    line = capsys.readouterr().err
    assert line.startswith("speedgate: ")
    assert line.count("\n") == 1
    return line


def test_baselines_lists_each_case_of_each_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Earlier figures are listed as well as the one that counts."""
    store(tmp_path, "0001_old.json", make_run(INT8, medians_s=(2.0, 2.0)))
    store(tmp_path, "0002_new.json", make_run(INT8, medians_s=(3.0, 3.0, 3.0)))

    assert main(["--root", str(tmp_path), "baselines"]) == 0

    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split() == ["GPU", "KEY", "FILE", "CASE", "SOURCE", "MEDIAN", "PROCESSES"]
    assert [row.split() for row in rows] == [
        [KEY, "0001_old.json", INT8, "recorded", "2", "s", "2"],
        [KEY, "0002_new.json", INT8, "recorded", "3", "s", "3"],
    ]


def test_a_case_out_of_memory_is_listed_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is a line and part of a file like a figure, and is not taken for one."""
    obtain(tmp_path, make_run(INT8), out_of_memory={BF16: "full"}).rename(tmp_path / KEY / "0001_a.json")

    assert [main(["--root", str(tmp_path), command]) for command in ("baselines", "check")] == [0, 0]

    out = capsys.readouterr().out
    assert f"0001_a.json  {BF16}  recorded  out of memory\n" in out
    assert "0001_a.json: 1 case, 1 more out of memory\n" in out


@pytest.mark.parametrize("command", ["baselines", "check"])
def test_a_root_without_baselines_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    """A mistyped --root is never a green check of nothing."""
    assert "no baseline files; name the folder" in fails(capsys, "--root", tmp_path, command)


def test_the_default_root_is_below_the_current_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without --root, ./baselines is read."""
    store(tmp_path / "baselines", "0001_a.json")
    monkeypatch.chdir(tmp_path)

    assert main(["check"]) == 0
    assert "0001_a.json: 1 case" in capsys.readouterr().out


def test_promote_says_what_to_do_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The new file is named, and that it is to be reviewed and committed."""
    obtain(tmp_path, make_run())

    assert main(["--root", str(tmp_path), "promote", KEY, "--name", "first"]) == 0

    assert (tmp_path / KEY / "0001_first.json").is_file()
    assert "0001_first.json: review it, then commit it" in capsys.readouterr().out


def test_promote_refuses_on_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A failing case is a line on stderr and status 2, not a traceback."""
    obtain(tmp_path, make_run(), failed={BF16: "the worker died"})

    assert f"{BF16} (the worker died)" in fails(capsys, "--root", tmp_path, "promote", KEY)


def test_promote_refuses_what_drifted_until_it_is_accepted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The refusal is one line that shows the option, and the option does what it says."""
    store(tmp_path, "0001_a.json", make_run(medians_s=(2.0, 2.0, 2.0)))
    obtain(tmp_path, make_run())
    arguments = ["--root", str(tmp_path), "promote", KEY]

    assert '--accept-slower "why"' in fails(capsys, *arguments)
    assert main([*arguments, "--accept-slower", "deterministic kernels"]) == 0
    assert '"reason": "deterministic kernels"' in (tmp_path / KEY / "0002_recorded.json").read_text()
    assert main(["--root", str(tmp_path), "check"]) == 0


def test_check_reports_every_broken_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One call shows all that is wrong, and what is right beside it."""
    store(tmp_path, "0001_good.json")
    for name in ("0002_a.json", "0003_b.json"):
        (tmp_path / KEY / name).write_text("{")
    store(tmp_path, "0001_a.json", gpu_key="t4")
    store(tmp_path, "0001_b.json", gpu_key="t4")

    assert main(["--root", str(tmp_path), "check"]) == 2

    out, err = capsys.readouterr()
    assert "0001_good.json: 1 case" in out
    assert [name for name in ("0001_b.json", "0002_a.json", "0003_b.json") if f"{name}: n" in err] == [
        "0001_b.json",
        "0002_a.json",
        "0003_b.json",
    ]
    assert err.count("\n") == 3


def test_check_of_named_files_takes_the_key_from_the_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file under another GPU's folder is refused, also when it is named from within that folder."""
    write_json(tmp_path / "nvidia-t4" / "0001_a.json", make_document(gpu_key=KEY))
    monkeypatch.chdir(tmp_path / "nvidia-t4")

    assert "gpu_key: expected 'nvidia-t4'" in fails(capsys, "check", "0001_a.json")


@pytest.mark.parametrize("name", ["absent.json", "."])
def test_check_of_what_is_no_file_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    """A missing file and a folder are reported like a broken one."""
    assert "cannot be read" in fails(capsys, "check", tmp_path / name)


def test_import_writes_the_committed_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command reproduces the committed published baseline, and may be repeated."""
    arguments = ["--root", str(tmp_path), "import-published", str(CSV)]

    assert (main(arguments), main([*arguments, "--gpu-key", KEY])) == (0, 0)

    committed = CSV.parent.parent / KEY / published.NAME
    assert (tmp_path / KEY / published.NAME).read_bytes() == committed.read_bytes()
    assert "24 cases" in capsys.readouterr().out


def test_import_does_not_take_the_number_of_another_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A recorded 0001 stays the only 0001."""
    store(tmp_path, "0001_recorded.json")

    said = fails(capsys, "--root", tmp_path, "import-published", CSV, "--pipeline", "sdxl")

    assert "has the number of 0001_published.json" in said
    assert not (tmp_path / KEY / published.NAME).exists()


def test_import_of_a_missing_csv_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An error of the operating system is reported like any other."""
    (tmp_path / "a.toml").write_text(CSV.with_suffix(".toml").read_text())

    said = fails(capsys, "import-published", tmp_path / "a.csv", "--gpu-key", KEY, "--pipeline", "sdxl")

    assert "No such file" in said


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("sdxl/int8", "sdxl/int8"),
        ("\x1b[31mred\x1b[0m", "?[31mred?[0m"),
        ("two\nlines\r\u2028", "two?lines??"),
        ("\u202egnp.exe\u200b", "?gnp.exe?"),
        ("\x9b2J\ud800", "?2J?"),
        ("\u00e9", "\\xe9"),
    ],
)
def test_printed_text_cannot_steer_the_terminal(text: str, shown: str) -> None:
    """Control, direction and line-breaking characters are replaced, other non-ASCII is escaped."""
    assert ascii_line(text) == shown


def test_a_hostile_case_key_is_printed_safely(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Escape sequences and new lines in a file do not reach stdout."""
    store(tmp_path, "0001_a.json", make_run("a\x1b[2J\n::error::b/int8/x"))

    assert main(["--root", str(tmp_path), "baselines"]) == 0

    out = capsys.readouterr().out
    assert "a?[2J?::error::b/int8/x" in out
    assert out.count("\n") == 2


def test_a_hostile_reason_is_printed_safely(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Escape sequences and new lines in a message do not reach stderr."""
    path = obtain(tmp_path, make_run(), failed={BF16: "\x1b]0;title\x07\n::error::\u009b"})

    assert "(?]0;title??::error::?)" in fails(capsys, "check", path)


def test_the_command_starts_without_heavy_imports() -> None:
    """Help needs neither torch nor pytest, so that it answers at once on any machine."""
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
    """`python -m speedgate`, in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(Path(speedgate.__file__).parents[1])}
    return subprocess.run(
        [sys.executable, "-m", "speedgate", *map(str, arguments)],
        env=environment, stderr=subprocess.PIPE, text=True, check=False, **options,
    )  # fmt: skip


def test_the_module_is_the_command() -> None:
    """`python -m speedgate` does what the script does, where that is not on the path."""
    assert command("baselines", cwd=Path(__file__).parents[1], stdout=subprocess.PIPE).returncode == 0


def test_output_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    """A full device and a reader that is gone end with status 2 and a line, not with Python's own words."""
    (tmp_path / "case.json").write_bytes(encoded(result()))
    read, write = os.pipe()
    os.close(read)

    with Path("/dev/full").open("w") as full, os.fdopen(write, "w") as gone:
        said = [command("summary", tmp_path, stdout=stream) for stream in (full, gone)]

    assert [one.stderr for one in said] == [
        "speedgate: the output: No space left on device\n", "speedgate: the output: Broken pipe\n",
    ]  # fmt: skip
    assert [one.returncode for one in said] == [2, 2]


@pytest.mark.parametrize("out", [".", "missing/summary.md", "/dev/full"])
def test_a_summary_that_cannot_be_written_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], out: str
) -> None:
    """Neither the number nor the class of the system's error is shown, and what to do is."""
    (tmp_path / "case.json").write_bytes(encoded(result()))

    said = fails(capsys, "summary", tmp_path, "--out", tmp_path / out)

    assert "name a file that can be written" in said
    assert "Errno" not in said


def test_folders_that_were_not_read_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run in a folder of the user's own naming is not silently left out of the summary of all runs."""
    for folder in (SESSION, "mine", "environments"):
        (tmp_path / folder).mkdir()
    for name in (f"{SESSION}/a__b__c.json", "mine/a__b__c.json"):
        (tmp_path / name).write_bytes(encoded(result()))

    assert main(["summary", str(tmp_path)]) == 0

    assert capsys.readouterr().err == "speedgate: not read, for it is not named like a run: mine\n"
    (tmp_path / SESSION / "a__b__c.json").unlink()
    assert main(["summary", str(tmp_path)]) == 2
    assert f"or name one that was not read ({tmp_path / 'mine'})" in capsys.readouterr().err


def test_an_empty_folder_is_named_with_the_next_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The line says where nothing was found and what makes results."""
    assert f"{tmp_path}: holds no result of a case: run pytest bench first" in fails(capsys, "summary", tmp_path)
