"""`speedgate site` from a history to its folder: what was uploaded is what is shown, with what the trend found in it."""

import json
import shlex

import pytest

from speedgate import cli
from speedgate.history import site_commands

pytest.importorskip("sqlalchemy", reason="needs the history extra: pip install 'speedgate[history]'")

STEP_AT, RUNS = 12, 24


@pytest.fixture
def url(tmp_path):
    """A history of two stages, one with a step of 10 % and the other with three runs only."""
    from speedgate.history import database
    from speedgate.history import writing as store
    from tests.support.history_samples import document, entry

    def slower(number, case_key):
        one = document(case_key, number=number)
        factor = 1.1 if number >= STEP_AT else 1 + number % 3 / 1000
        for process in one["run"]["processes"]:
            process["seconds"] = [value * factor for value in process["seconds"]]
        return entry(case_key, number=number, run=one["run"])

    found = f"sqlite:///{tmp_path / 'history.sqlite'}"
    database.prepare(found)
    store.add(found, [slower(number, "sdxl/int8/1024px-30steps-b1") for number in range(RUNS)])
    store.add(found, [slower(number, "sdxl/fp32/1024px-30steps-b1") for number in range(3)])
    return found


@pytest.fixture(autouse=True)
def light(monkeypatch):
    """Without the bundle of the charts, which takes seconds to make."""
    monkeypatch.setattr("speedgate.history.site.pages._vega", lambda: "")


def data(path):
    """What a script of `data/` hands over."""
    return json.loads(path.read_text().split(",", 1)[1].removesuffix(");\n"))


def test_a_history_becomes_a_site(tmp_path, url, capsys):
    """Every case of the history is in the index, the change that the trend finds with it, and one line says so."""
    assert cli.main(shlex.split(f"site {tmp_path / 'site'} --history {url}")) == 0
    rows = {row["key"].split("/")[1]: row for row in data(tmp_path / "site/data/index.js")["cases"]}

    assert "27 runs of 2 cases on 1 GPU keys" in capsys.readouterr().out
    assert {stage: row["runs"] for stage, row in rows.items()} == {"int8": RUNS, "fp32": 3}
    assert rows["fp32"]["change"] is None
    assert (rows["int8"]["change"]["kind"], rows["int8"]["change"]["run"]) == ("step", STEP_AT)
    assert rows["int8"]["change"]["ratio"] == pytest.approx(1.1, rel=0.02)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--history sqlite:///{path}/none.sqlite", "none.sqlite"),
        ("", "history sqlite:///.speedgate/history.sqlite: there is no such file"),
        ("--history {url} --commit-url javascript:{{commit}}", "--commit-url"),
    ],
)
def test_bad_input_is_one_line(tmp_path, url, capsys, monkeypatch, options, said):
    """What cannot be read or linked is one line on stderr, exit status 2, and no folder."""
    monkeypatch.chdir(tmp_path)
    arguments = options.format(path=tmp_path, url=url)

    assert cli.main(["site", str(tmp_path / "site"), *shlex.split(arguments)]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert said in line
    assert not (tmp_path / "site").exists()


def test_a_foreign_folder_is_refused_before_the_work(tmp_path, capsys):
    """It is looked at first: the history need not even be there."""
    (tmp_path / "thesis.txt").write_text("mine")

    assert cli.main(["site", str(tmp_path), "--history", "sqlite:///none"]) == 2
    assert "did not write" in capsys.readouterr().err


def test_the_order_of_the_ladder_is_that_of_the_baselines(pytestconfig):
    """The published ladder's file lists its stages from the first to the last; without baselines there is no order."""
    root = pytestconfig.rootpath / "baselines"

    assert site_commands.stages_of(root) == ("fp32", "bf16", "sdpa", "compile", "fused_qkv", "int8")
    assert site_commands.stages_of(root / "none") == ()
