"""`speedgate acknowledge`: a red claim that people decided to live with, from the red session to the next baseline."""

from __future__ import annotations

import json

import pytest

from speedgate.baselines import acknowledged
from speedgate.cli import main
from speedgate.report import markdown
from speedgate.results.run import Outcome
from tests.support.command import fails

KEY = "sdxl-tiny/sdpa/64px-4steps-b1"
RUN = ("--stage=sdpa", "--gate=enforce", "--confirm=never", "--rounds=4")
BOTH = ["test_latency[sdxl-tiny-sdpa]", "test_components[sdxl-tiny-sdpa]"]
WHY = "the new scheduler is worth it"


@pytest.fixture
def slow(bench):
    """A bench with a baseline, and a session in which sdpa is 6 % slower."""
    bench.promoted("--stage=sdpa")
    bench.slow = bench.run(*RUN, sdpa={"slower": 1.06})
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
    """The reason stands before the sentence in terminal, file and Markdown; a further slowdown is red."""
    command(slow)
    lines = capsys.readouterr().out.splitlines()

    same = slow.run(*RUN, sdpa={"slower": 1.06})
    worse = slow.run(*RUN, sdpa={"slower": 1.12})

    marked = f"ACKNOWLEDGED for 0001_recorded up to +9.2%: {WHY}"
    assert lines[0] == f"{KEY} latency: {marked}"
    assert lines[1].startswith(f"{KEY} components: ACKNOWLEDGED for 0001_recorded up to denoiser +13.3%")
    assert (same.red, same.verdict("sdpa").outcome) == ([], Outcome.SLOWER)
    assert same.verdict("sdpa").sentence.startswith(f"{marked}; 0.424 s against 0.4 s in 0001_recorded: +6.0%")
    same.terminal.fnmatch_lines(
        [
            "Every verdict is PASS but 2 that people acknowledged.",
            f"SLOWER {KEY} latency: {marked}; *",
            "guarded: * not guarded here: *latency 1, components 1 (acknowledged)*",
        ]
    )
    assert [each["gates"] for each in same.document("sdpa")["verdicts"] if "ACKNOWLEDGED" in each["sentence"]] == [
        False
    ] * 2
    assert "ACKNOWLEDGED for 0001" in markdown.render(same.folder)
    assert worse.red == BOTH
    assert worse.verdict("sdpa").sentence.startswith(f"worse than {marked}; 0.448 s against 0.4 s")


def test_one_claim_can_be_acknowledged_alone(slow):
    """`--claim components` leaves the latency red."""
    command(slow, "--claim", "components")

    assert slow.run(*RUN, sdpa={"slower": 1.06}).red == BOTH[:1]


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
    result = slow.run(*RUN, sdpa={"slower": 1.06})
    assert result.red == BOTH
    result.terminal.fnmatch_lines(
        [
            f"acknowledged.json: {KEY} latency was acknowledged for 0001_recorded, and it is 0002_recorded now: ignored, *"
        ]
    )


def test_a_live_comparison_and_a_recording_take_no_acknowledgement(slow):
    """The other arm is no baseline, so a slower arm is red."""
    command(slow)

    assert slow.run("--stage=sdpa", "--rounds=4", "--processes=4", other={}, sdpa={"slower": 1.06}).red == BOTH


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"why": " "},
            "*--why ' ': expected a sentence that says why, in at most 500 printable characters on one line",
        ),
        ({"why": "a\nb"}, "*--why 'a*nb': expected a sentence that says why, *"),
        ({"why": "a" * 501}, "*expected a sentence that says why, *"),
        (
            {"case": "sdxl-tiny/sdqa/64px-4steps-b1"},
            f"*: no result of sdxl-tiny/sdqa/*; it has results of: *, {KEY}; *",
        ),
        ({"case": "sdpa"}, "*expected a case key, PIPELINE/STAGE/WORKLOAD, found 'sdpa'"),
        ({"claim": "parity"}, "*--claim parity: cannot be acknowledged; expected one of latency, components, memory"),
        ({"claim": "memory"}, f"*{KEY}: nothing to acknowledge in *: latency SLOWER, components SLOWER"),
    ],
)
def test_what_cannot_be_acknowledged_is_one_line(slow, capsys, arguments, message):
    """An unknown case, an unfit reason and a claim that is not red are refused, and nothing is written."""
    fields = {"why": WHY, "case": KEY, "claim": "latency"} | arguments
    root = slow.path / "baselines"

    error = fails(
        capsys,
        "--root",
        root,
        "acknowledge",
        fields["case"],
        "--why",
        fields["why"],
        "--claim",
        fields["claim"],
        "--results",
        slow.slow.session.options.results,
    )

    pytest.LineMatcher(error.splitlines()).fnmatch_lines([message])
    assert list(root.glob("*/acknowledged.json")) == []


def test_a_case_without_a_baseline_or_a_comparison_with_one_cannot_be_acknowledged(slow, capsys):
    """Nothing could be exceeded, or nothing was measured against it."""
    (baseline,) = (slow.path / "baselines").glob("*/0001_recorded.json")
    live = slow.run("--stage=sdpa", "--rounds=4", "--processes=4", other={}, sdpa={"slower": 1.06})
    arguments = ["--root", slow.path / "baselines", "acknowledge", KEY, "--why", WHY, "--results"]

    assert "was measured without a baseline only: live" in fails(capsys, *arguments, live.session.options.results)
    baseline.unlink()
    assert f"{KEY} has no baseline on " in fails(capsys, *arguments, slow.slow.session.options.results)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda document: document["acknowledged"][KEY].update(parity={}), "*acknowledged.json: acknowledged*"),
        (lambda document: document["acknowledged"][KEY]["latency"]["at_most"].update(latency=0.9), "*at_most*"),
        (lambda document: document["acknowledged"][KEY]["latency"].update(why=""), "*why*"),
        (lambda document: document.update(schema=2), "*acknowledged.json: schema*"),
        (lambda document: document["acknowledged"].update(sdpa={}), "*acknowledged.json: acknowledged*"),
    ],
)
def test_a_wrong_file_is_one_line_before_anything_is_measured(slow, capsys, change, message):
    """The session is refused, and `speedgate check` names the field."""
    path = command(slow)
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))

    with pytest.raises(ValueError) as raised:
        acknowledged.read_file(slow.path / "baselines", path.parent.name)

    pytest.LineMatcher([str(raised.value)]).fnmatch_lines([message])
    assert str(path) in fails(capsys, "--root", slow.path / "baselines", "check")
