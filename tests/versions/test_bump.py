"""`speedgate bump` from the command to its files; one slow test runs pip, a stub wheel and the suite."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.desk import LATENCY, Desk, FakeRuns, stocked
from tests.support.stub_index import sha256


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return stocked(tmp_path)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> FakeRuns:
    """Neither pip nor the suite is run."""
    return FakeRuns().replace(monkeypatch)


def test_a_slower_bump_is_red(desk: Desk, runs: FakeRuns) -> None:
    """A slower version ends with exit status 1, and is red on the terminal, in the JSON file, on the page, and in the job."""
    status, lines, _ = desk.run("bump", "stubkernel==1.8", "--results=slow", pytest_arguments=LATENCY)

    assert lines[-2:] == [
        "candidate: stubkernel 1.8 (this arm); stable: the pins of .github/pins/stable.txt (other arm)",
        "red (SLOWER)",
    ]
    verdict = json.loads((desk.path / "slow" / "verdict.json").read_text())
    (case,) = verdict["cases"].values()
    page = (desk.path / "slow" / "summary.md").read_text()
    assert (status, verdict["green"], verdict["outcome"]) == (1, False, "SLOWER")
    assert case["latency_ratio"] == pytest.approx(1.06)
    assert page.startswith("## <code>stubkernel 1.8</code> against the stable pins: red (SLOWER)\n")
    assert "sdxl-tiny/fp32/32px-4steps-b1</code> | 0.742 s | 0.7 s | 1.060 | 1.000 |" in page
    assert page in (desk.path / "job.md").read_text()
    assert (desk.path / "outputs").read_text().endswith("red=true\n")


@pytest.mark.slow
def test_a_slower_wheel_is_red(desk: Desk) -> None:
    """With pip, an environment and the suite, a slower wheel is red, and pytest's own options do what they always do."""
    arguments = (*LATENCY, "--report", "page.html", "--history")

    status, _, _ = desk.run("bump", "stubkernel==1.8", "--results=slow", pytest_arguments=arguments)

    verdict = json.loads((desk.path / "slow" / "verdict.json").read_text())
    (case,) = verdict["cases"].values()
    assert (status, verdict["outcome"], case["latency_ratio"]) == (1, "SLOWER", pytest.approx(1.06))
    assert "<html" in (desk.path / "page.html").read_text()
    assert (desk.path / ".speedgate" / "history.sqlite").stat().st_size > 0


def test_a_nightly_is_judged_by_its_pin(desk: Desk, runs: FakeRuns) -> None:
    """The file that nightly.txt names by address and checksum is installed; if nothing is worse, the verdict is green."""
    wheel = desk.index.add("stubkernel", "1.1")
    pin = f"stubkernel @ {wheel.as_uri()}#sha256={sha256(wheel)}"
    (desk.pins / "nightly.txt").write_text(f"# date: 20260804\n{pin}\n")

    status, lines, _ = desk.run("bump", "--channel=nightly", "--results=nightly", pytest_arguments=LATENCY)

    assert (status, lines[-1]) == (0, "green (PASS)")
    assert [overlay.requirements for overlay in runs.overlays] == [(pin,)]
    assert json.loads((desk.path / "nightly" / "verdict.json").read_text())["green"]
    assert (desk.path / "outputs").read_text().endswith("red=false\n")


def test_the_other_pins_hold(desk: Desk, runs: FakeRuns) -> None:
    """pip may only change the bumped packages and nothing else that stable.txt pins."""
    stable = (desk.pins / "stable.txt").read_text()
    (desk.pins / "stable.txt").write_text(f"{stable}stubkernel==0.1\n")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("speedgate.versions.environment.check_stable_pins", lambda stable, where: None)
        desk.run("bump", "stubkernel==1.8")

    (overlay,) = runs.overlays
    assert [line for line in stable.splitlines() if "==" in line] == list(overlay.constraints)


def test_a_folder_with_results_is_not_judged_again(desk: Desk, runs: FakeRuns) -> None:
    """A folder with earlier results is refused, because they would be part of the verdict."""
    desk.run("bump", "stubkernel==1.8", "--results=twice")

    status, _, err = desk.run("bump", "stubkernel==1.8", "--results=twice")

    assert (status, err.count("\n")) == (2, 1)
    assert "is not empty" in err
    assert runs.versions == ["1.8"]


def test_a_bump_that_measured_nothing_is_not_judged(desk: Desk, runs: FakeRuns) -> None:
    """A run without any result, as with --fixtures, is neither green nor red: exit status 2."""
    runs.status = 0

    status, lines, err = desk.run("bump", "stubkernel==1.8", "--results=none", pytest_arguments=("--fixtures",))

    verdict = json.loads((desk.path / "none" / "verdict.json").read_text())
    assert (status, verdict["green"], verdict["judged"], verdict["verdicts"]) == (2, False, False, [])
    assert lines[-1] == "not judged, pytest ended with exit status 0 and no verdict"
    assert err == f"speedgate: {desk.path / 'none'}: not judged, pytest ended with exit status 0 and no verdict\n"
    assert (desk.path / "outputs").read_text().endswith("red=false\n")


def test_a_bump_whose_history_is_out_of_reach_was_not_judged(desk: Desk, runs: FakeRuns) -> None:
    """An error of pytest before it measures, such as a history out of reach, is not red: exit status 2."""
    runs.status = 4

    status, _, err = desk.run("bump", "stubkernel==1.8", "--results=unreached", pytest_arguments=LATENCY)

    assert (status, err.endswith("not judged, pytest ended with exit status 4\n")) == (2, True)
