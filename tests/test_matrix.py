"""The table of what is covered: nothing in it that was not judged, and nothing left out."""

import json

import pytest

from fixtures import matrix
from fixtures.pipelines import pipelines

KEY = "sdxl-tiny/int8/64px-4steps-b1"
ALL_PASSED = dict.fromkeys(matrix.CLAIMS, "PASS")


def kept(folder, key=KEY, *, outcomes, ssim=0.99653):
    """A result as a session writes it."""
    folder.mkdir(exist_ok=True)
    document = {
        "gpu_key": "cpu-made-up",
        "run": {"parity": {"ssim": ssim}, "environment": {"torch": "2.13.0"}} if ssim else None,
        "verdicts": [{"claim": claim, "outcome": outcome} for claim, outcome in outcomes.items()],
    }
    (folder / f"{key.replace('/', '__')}.json").write_text(json.dumps(document))
    return folder


def row(section, name):
    """The cells of a line of the table."""
    (line,) = [line for line in section.splitlines() if line.startswith(f"| {name} |")]
    return [cell.strip() for cell in line.split("|")[2:-1]]


@pytest.mark.parametrize(
    ("outcomes", "ssim", "cell"),
    [
        (ALL_PASSED, 0.99653, "0.9965"),
        ({"recipe": "PASS"}, None, "structure"),
        (ALL_PASSED | {"parity": "DIFFERENT"}, 0.91, "parity DIFFERENT"),
        ({"recipe": "PASS", "compile": "PASS"}, None, "recipe, compile"),
        ({}, None, "not run"),
    ],
)
def test_a_cell_is_what_was_judged(tmp_path, outcomes, ssim, cell):
    """An SSIM needs all three claims; what did not pass, or was not judged, is named."""
    cells = matrix.read(kept(tmp_path / "results", outcomes=outcomes, ssim=ssim))

    assert row(matrix.table(cells), "`sdxl` tiny")[5] == cell


def test_what_was_never_run_says_so():
    """Without a result every case of every pipeline is there, and none claims anything."""
    section = matrix.table({})

    assert all(
        set(row(section, f"`{name}` {size}")) <= {"not run", "-", ""} for name in pipelines() for size in matrix.SIZES
    )


def test_the_machine_stands_beside_its_figures(tmp_path):
    """Each row names the machine that judged it."""
    cells = matrix.read(kept(tmp_path / "results", outcomes=ALL_PASSED))

    assert row(matrix.table(cells), "`sdxl` tiny")[-1] == "`cpu-made-up`"


def test_a_folder_of_something_else_is_refused(tmp_path):
    """A JSON that no session wrote is named."""
    (tmp_path / "package.json").write_text("{}")

    with pytest.raises(ValueError, match=r"package\.json: not the result of a case"):
        matrix.read(tmp_path)


def test_the_readme_holds_the_table_of_what_is_known():
    """The committed table is the one that the committed results make."""
    cells = json.loads(matrix.RECORD.read_text())

    assert f"\n\n{matrix.table(cells)}\n" in (matrix.ROOT / "README.md").read_text()


def test_the_command_prints_the_table_with_the_new_results(tmp_path, monkeypatch, capsys):
    """A folder replaces the cells of its own cases alone, and the record holds them from then on."""
    record = tmp_path / "matrix.json"
    record.write_bytes(matrix.RECORD.read_bytes())
    monkeypatch.setattr(matrix, "RECORD", record)
    cells = json.loads(record.read_text())
    folder = kept(tmp_path / "results", outcomes=ALL_PASSED, ssim=0.5)

    matrix.main([str(folder)])

    cells |= matrix.read(folder)
    assert capsys.readouterr().out == matrix.table(cells)
    assert json.loads(record.read_text()) == cells
