"""The commands about baselines: what they print, write and refuse."""

from __future__ import annotations

from pathlib import Path

import pytest

from speedgate.baselines import published
from speedgate.cli import main
from speedgate.results.json_io import write_json
from tests.support.baseline_samples import BF16, INT8, KEY, make_document, make_run, obtain, store_file
from tests.support.command import fails

CSV = Path(__file__).parents[2] / "baselines" / "published" / "ladder_a100.csv"


def test_baselines_lists_each_case_of_each_file(tmp_path, capsys):
    """Earlier figures are listed as well as the one that counts, and a case out of memory is a line and no figure."""
    store_file(tmp_path, "0001_old.json", make_run(INT8, medians_s=(2.0, 2.0)))
    obtained = obtain(tmp_path, make_run(INT8, medians_s=(3.0, 3.0, 3.0)), out_of_memory={BF16: "full"})
    obtained.rename(tmp_path / KEY / "0002_new.json")

    assert main(["--root", str(tmp_path), "baselines"]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split() == ["GPU", "KEY", "FILE", "CASE", "SOURCE", "MEDIAN", "PROCESSES"]
    assert [row.split() for row in rows] == [
        [KEY, "0001_old.json", INT8, "recorded", "2", "s", "2"],
        [KEY, "0002_new.json", INT8, "recorded", "3", "s", "3"],
        [KEY, "0002_new.json", BF16, "recorded", "out", "of", "memory"],
    ]

    assert main(["--root", str(tmp_path), "check"]) == 0
    assert "0002_new.json: 1 case, 1 more out of memory\n" in capsys.readouterr().out


def test_a_root_without_baselines_is_an_error(tmp_path, capsys, monkeypatch):
    """A mistyped --root is never a green check of nothing; without it ./baselines is read."""
    for command in ("baselines", "check"):
        assert "no baseline files; name the folder" in fails(capsys, "--root", tmp_path, command)
    store_file(tmp_path / "baselines", "0001_a.json")
    monkeypatch.chdir(tmp_path)

    assert main(["check"]) == 0
    assert "0001_a.json: 1 case" in capsys.readouterr().out


def test_promote_says_what_to_do_next(tmp_path, capsys):
    """The new file is named, and that it is to be reviewed and committed; a failing case is one line on stderr."""
    obtain(tmp_path, make_run(), failed={BF16: "the worker died"})
    assert f"{BF16} (the worker died)" in fails(capsys, "--root", tmp_path, "promote", KEY)

    obtain(tmp_path, make_run())
    assert main(["--root", str(tmp_path), "promote", KEY, "--name", "first"]) == 0
    assert (tmp_path / KEY / "0001_first.json").is_file()
    assert "0001_first.json: review it, then commit it" in capsys.readouterr().out


def test_promote_refuses_what_drifted_until_it_is_accepted(tmp_path, capsys):
    """The refusal is one line that shows the option, and the option does what it says."""
    store_file(tmp_path, "0001_a.json", make_run(medians_s=(2.0, 2.0, 2.0)))
    obtain(tmp_path, make_run())
    arguments = ["--root", str(tmp_path), "promote", KEY]

    assert '--accept-slower "why"' in fails(capsys, *arguments)
    assert main([*arguments, "--accept-slower", "deterministic kernels"]) == 0
    assert '"reason": "deterministic kernels"' in (tmp_path / KEY / "0002_recorded.json").read_text()
    assert main(["--root", str(tmp_path), "check"]) == 0


def test_check_reports_every_broken_file(tmp_path, capsys):
    """One call shows all that is wrong, and what is right beside it."""
    store_file(tmp_path, "0001_good.json")
    for name in ("0002_a.json", "0003_b.json"):
        (tmp_path / KEY / name).write_text("{")
    store_file(tmp_path, "0001_a.json", gpu_key="t4")
    store_file(tmp_path, "0001_b.json", gpu_key="t4")

    assert main(["--root", str(tmp_path), "check"]) == 2

    out, err = capsys.readouterr()
    assert "0001_good.json: 1 case" in out
    assert all(f"{name}: n" in err for name in ("0001_b.json", "0002_a.json", "0003_b.json"))
    assert err.count("\n") == 3


def test_check_of_named_files_takes_the_key_from_the_folder(tmp_path, capsys, monkeypatch):
    """A file under another GPU's folder is refused, also when it is named from within that folder."""
    write_json(tmp_path / "nvidia-t4" / "0001_a.json", make_document(gpu_key=KEY))
    monkeypatch.chdir(tmp_path / "nvidia-t4")

    assert "gpu_key: expected 'nvidia-t4'" in fails(capsys, "check", "0001_a.json")


@pytest.mark.parametrize("name", ["absent.json", "."])
def test_an_unreadable_file_is_one_line(tmp_path, capsys, name):
    """A missing file and a folder are reported like a broken one, by every command."""
    (tmp_path / "a.toml").write_text(CSV.with_suffix(".toml").read_text())

    assert "cannot be read" in fails(capsys, "check", tmp_path / name)
    assert "No such file" in fails(capsys, "import-published", tmp_path / "a.csv", "--gpu-key", KEY)


def test_import_writes_the_committed_file(tmp_path, capsys):
    """The command reproduces the committed published baseline, and may be repeated."""
    arguments = ["--root", str(tmp_path), "import-published", str(CSV)]

    assert (main(arguments), main([*arguments, "--gpu-key", KEY])) == (0, 0)

    committed = CSV.parent.parent / KEY / published.NAME
    assert (tmp_path / KEY / published.NAME).read_bytes() == committed.read_bytes()
    assert "24 cases" in capsys.readouterr().out


def test_import_does_not_take_the_number_of_another_file(tmp_path, capsys):
    """A recorded 0001 stays the only 0001."""
    store_file(tmp_path, "0001_recorded.json")

    message = fails(capsys, "--root", tmp_path, "import-published", CSV, "--pipeline", "sdxl")

    assert "has the number of 0001_published.json" in message
    assert not (tmp_path / KEY / published.NAME).exists()


def test_hostile_text_is_printed_safely(tmp_path, capsys):
    """Escape sequences and new lines in a file reach neither stdout nor stderr."""
    store_file(tmp_path, "0001_a.json", make_run("a\x1b[2J\n::error::b/int8/x"))
    assert main(["--root", str(tmp_path), "baselines"]) == 0
    out = capsys.readouterr().out
    assert "a?[2J?::error::b/int8/x" in out
    assert out.count("\n") == 2

    path = obtain(tmp_path, make_run(), failed={BF16: "\x1b]0;title\x07\n::error::\u009b"})

    assert "(?]0;title??::error::?)" in fails(capsys, "check", path)
