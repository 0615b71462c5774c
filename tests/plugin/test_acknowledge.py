"""`speedgate acknowledge`: a red claim that people decided to live with, from the red session to the next baseline."""

from __future__ import annotations

import pytest

from speedgate.cli import main
from speedgate.report import markdown
from speedgate.results.run import Outcome

KEY = "sdxl-tiny/sdpa/32px-4steps-b1"
CLAIMS = ("test_latency", "test_components")
RUN = ("--stage=sdpa", "--gate=enforce", "--confirm=never", "--rounds=4")
BOTH = ["test_latency[sdxl-tiny-sdpa]", "test_components[sdxl-tiny-sdpa]"]
WHY = "the new scheduler is worth it"


@pytest.fixture
def slow(bench):
    """A bench with a baseline, and a session in which sdpa is 6 % slower."""
    bench.promoted("--stage=sdpa")
    bench.slow = bench.run(*RUN, claims=CLAIMS, sdpa={"slower": 1.06})
    assert bench.slow.red == BOTH
    return bench


def command(bench, *arguments, why=WHY, case=KEY):
    """Run `speedgate acknowledge` on the results of the red session, and return the lines of its file."""
    results = bench.slow.session.options.results
    root = bench.path / "baselines"
    options = ["--root", root, "acknowledge", case, "--why", why, "--results", results, *arguments]
    assert main([str(option) for option in options]) == 0
    (path,) = root.glob("*/acknowledged.json")
    return path


def test_an_acknowledged_claim_is_shown_and_green_until_it_gets_worse(slow, capsys):
    """The reason stands before the sentence in terminal, file and Markdown; more is red, and so is a slower arm."""
    command(slow)
    lines = capsys.readouterr().out.splitlines()

    same = slow.run(*RUN, claims=CLAIMS, sdpa={"slower": 1.06})
    worse = slow.run(*RUN, claims=CLAIMS, sdpa={"slower": 1.12})
    live = slow.run("--stage=sdpa", "--rounds=4", "--processes=4", claims=CLAIMS, other={}, sdpa={"slower": 1.06})

    marked = f"ACKNOWLEDGED for 0001_recorded up to +9.2%: {WHY}"
    assert lines[0] == f"{KEY} latency: {marked}"
    assert lines[1].startswith(f"{KEY} components: ACKNOWLEDGED for 0001_recorded up to denoiser +13.3%")
    assert (same.red, same.verdict("sdpa").outcome) == ([], Outcome.SLOWER)
    assert same.verdict("sdpa").sentence.startswith(f"{marked}; 0.424 s against 0.4 s in 0001_recorded: +6.0%")
    same.terminal.fnmatch_lines(
        [
            "2 red claims are acknowledged until the next baseline: the sentence below begins with the reason.",
            f"SLOWER {KEY} latency: {marked}; *",
            "guarded: 2 claims of 1 case; *",
        ]
    )
    assert [each["gates"] for each in same.document("sdpa")["verdicts"] if "ACKNOWLEDGED" in each["sentence"]] == [
        False
    ] * 2
    assert "ACKNOWLEDGED for 0001" in markdown.render(same.folder)
    assert (live.red, worse.red) == (BOTH, BOTH)  # the other arm is no baseline
    assert worse.verdict("sdpa").sentence.startswith(f"worse than {marked}; 0.448 s against 0.4 s")


def test_a_promotion_ends_it(slow, capsys):
    """The next baseline of the case removes the entry; an entry that a merge brought back is ignored, with a remark."""
    path = command(slow)
    before = path.read_text()
    slow.record("--stage=sdpa")
    root, gpu_key = slow.path / "baselines", path.parent.name
    capsys.readouterr()

    assert main(["--root", str(root), "promote", gpu_key]) == 0

    assert (
        f"{KEY}: the acknowledgement of its latency has ended; commit acknowledged.json too" in capsys.readouterr().out
    )
    assert not path.exists()
    path.write_text(before)
    result = slow.run(*RUN, claims=CLAIMS, sdpa={"slower": 1.06})
    assert result.red == BOTH
    result.terminal.fnmatch_lines(
        [
            f"acknowledged.json: {KEY} latency was acknowledged for 0001_recorded, and it is 0002_recorded now: ignored, *"
        ]
    )
