"""The fire drill: how a fault is named, where it applies, and when the drill has passed."""

import re

import pytest

from speedgate.gate.drill import Amount, Catalogue, Fault, aim, choose_fault, judge_drill, listing
from speedgate.gate.policy import Policy
from speedgate.results.run import Outcome, Verdict
from speedgate.results.run_marks import Injection

SLOWER = Fault(
    name="slower_step",
    gate="latency",
    outcome=Outcome.SLOWER,
    description="Each step takes longer.",
    stages=("bf16",),
    any_stage=True,
    amount=Amount(unit="percent", default=25, least=5, most=400),
)
SCALE = Fault(
    name="attention_scale",
    gate="parity",
    outcome=Outcome.DIFFERENT,
    description="Attention is wrong.",
    stages=("sdpa",),
    pipelines=("sdxl", "sdxl-tiny"),
)
SYNC = Fault(
    name="hidden_sync",
    gate="compile",
    outcome=Outcome.NOT_APPLIED,
    description="The host waits.",
    stages=("bf16",),
    device="cuda",
)
CATALOGUE = Catalogue(
    faults={fault.name: fault for fault in (SLOWER, SCALE, SYNC)},
    impossible={"gpu_shared": "it is the machine's state"},
)
BF16, SDPA = "sdxl-tiny/bf16/one", "sdxl-tiny/sdpa/one"
INJECTION = Injection(fault="slower_step=25", gate="latency", outcome=Outcome.SLOWER, case_keys=(BF16,))


def verdict(claim, outcome, case_key=BF16):
    """Make a verdict of one sentence."""
    return Verdict(case_key=case_key, claim=claim, outcome=outcome, sentence="a reason")


@pytest.mark.parametrize(
    ("text", "label"), [("slower_step", "slower_step=25"), ("slower_step=7.5", "slower_step=7.5"), (SCALE.name,) * 2]
)
def test_a_fault_is_chosen_by_name_and_amount(text, label):
    """Without an amount the default is used, and the label states it."""
    assert choose_fault(text, CATALOGUE).label == label


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("slow_step", "'slow_step' is unknown, perhaps slower_step; `--inject list` prints the faults that there are$"),
        ("", "'' is unknown; `--inject list` prints"),
        ("gpu_shared", "gpu_shared cannot be injected: it is the machine's state"),
        ("attention_scale=2", "attention_scale takes no value, found '2'"),
        ("slower_step=", "slower_step=: expected 5 to 400 .percent.$"),
        ("slower_step=4.9", "slower_step=4.9: expected 5 to 400 .percent.$"),
        ("slower_step=401", "slower_step=401: expected 5 to 400 .percent.$"),
        ("slower_step=nan", "slower_step=nan: expected 5 to 400 .percent.$"),
        ("slower_step=ten", "slower_step=ten: expected 5 to 400 .percent.$"),
    ],
)
def test_a_bad_fault_is_refused_with_what_is_valid(text, message):
    """An unknown name leads to a similar one and to the list, and a value outside its bounds states them."""
    with pytest.raises(ValueError, match="^" + message):
        choose_fault(text, CATALOGUE)


def test_a_fault_goes_into_the_stages_that_it_applies_to_and_no_other():
    """A stage that a fault does not apply to stays as it is; a fault of any stage goes into all."""
    keys = [BF16, SDPA, "flux/sdpa/one"]

    assert aim(choose_fault("attention_scale", CATALOGUE), keys, device="cpu").case_keys == (SDPA,)
    assert aim(choose_fault("slower_step", CATALOGUE), keys, device="cpu").case_keys == tuple(keys)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("attention_scale", "applies to sdpa of sdxl, sdxl-tiny, and none of these is selected .sdxl-tiny/bf16/one."),
        ("hidden_sync", "hidden_sync needs the device cuda, and this run is on cpu"),
    ],
)
def test_a_fault_that_hits_no_selected_case_is_refused(text, message):
    """Such a run would pass every gate and say nothing of them."""
    with pytest.raises(ValueError, match=message):
        aim(choose_fault(text, CATALOGUE), [BF16], device="cpu")


def test_the_list_has_gate_and_stages_of_each_fault_and_the_reasons_of_the_others():
    """Whoever reads the list knows what to type and what must go red."""
    lines = listing(CATALOGUE)

    columns = ["slower_step=25", "latency", "any stage", "Each step takes longer. (percent: 5 to 400)"]
    assert re.split("  +", lines[1]) == columns
    assert lines[2].split()[:3] == ["attention_scale", "parity", "sdpa"]
    assert lines[3].endswith("(cuda only)")
    assert lines[-1].split(maxsplit=1) == ["gpu_shared", "it is the machine's state"]


@pytest.mark.parametrize(
    ("verdicts", "errors", "sentence"),
    [
        ([verdict("latency", Outcome.SLOWER), verdict("parity", Outcome.PASS)], [], ""),
        ([], [], "latency should have fired for sdxl-tiny/bf16/one and did not: it reached no verdict"),
        (
            [verdict("latency", Outcome.UNDECIDED)],
            [],
            "latency should have fired for sdxl-tiny/bf16/one and did not: UNDECIDED, a reason; on a noisy machine a larger fault"
            " is decided sooner",
        ),
        (
            [verdict("latency", Outcome.INVALID)],
            [],
            "latency should have fired for sdxl-tiny/bf16/one and did not: INVALID",
        ),
        (
            [verdict("worker", Outcome.INVALID)],
            [],
            "and did not: it reached no verdict; worker fired too (INVALID sdxl-tiny/bf16/one worker: a reason)",
        ),
        (
            [verdict("latency", Outcome.SLOWER), verdict("parity", Outcome.DIFFERENT)],
            [],
            "latency went red as it must, but parity fired too (DIFFERENT sdxl-tiny/bf16/one parity: a reason)",
        ),
        (
            [verdict("latency", Outcome.SLOWER), verdict("latency", Outcome.SLOWER, SDPA)],
            [],
            "latency went red as it must, but latency fired too (SLOWER sdxl-tiny/sdpa/one latency: a reason)",
        ),
        ([verdict("latency", Outcome.SLOWER)], ["test_roofline"], "but test_roofline ended with an error"),
        ([verdict("latency", Outcome.SLOWER), verdict("components", Outcome.SLOWER)], [], ""),
        (
            [verdict("latency", Outcome.UNDECIDED), verdict("components", Outcome.SLOWER)],
            [],
            "latency should have fired for sdxl-tiny/bf16/one and did not",
        ),
        (
            [verdict("latency", Outcome.SLOWER), verdict("components", Outcome.SLOWER, SDPA)],
            [],
            "but components fired too",
        ),
    ],
    ids=[
        "passed",
        "silent",
        "undecided",
        "red otherwise",
        "worker lost",
        "another gate",
        "another case",
        "exception",
        "with components",
        "components alone",
        "components of another case",
    ],
)
def test_a_drill_passes_only_if_its_gate_and_no_other_went_red(verdicts, errors, sentence):
    """Every other ending fails the drill with a sentence that says what was missing or too much."""
    by_case = {}
    for one_verdict in verdicts:
        by_case.setdefault(one_verdict.case_key, []).append(one_verdict)

    drill = judge_drill(INJECTION, by_case, accepts=Policy().accepts, errors=errors)

    assert drill.has_passed == (not sentence)
    gates = " and ".join(dict.fromkeys(each.claim for each in verdicts if each.outcome is Outcome.SLOWER))
    assert (sentence or f"fire drill passed: {gates} went red, and nothing else did") in drill.sentence


def test_every_injected_case_must_go_red():
    """One injected case that stays green fails the drill, whatever the others do."""
    injection = Injection(fault="slower_step=25", gate="latency", outcome=Outcome.SLOWER, case_keys=(BF16, SDPA))
    verdicts = {BF16: [verdict("latency", Outcome.SLOWER)], SDPA: [verdict("latency", Outcome.PASS, SDPA)]}

    drill = judge_drill(injection, verdicts, accepts=Policy().accepts)

    assert not drill.has_passed
    assert f"should have fired for {SDPA} and did not: PASS" in drill.sentence
