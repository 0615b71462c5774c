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


def verdicts_of(text):
    """Make verdicts from texts such as "latency SLOWER" or "latency SLOWER sdpa", by the key of their case."""
    by_case = {}
    for claim, outcome, *other in (each.split() for each in text.split(", ") if each):
        case_key = SDPA if other else BF16
        verdict = Verdict(case_key=case_key, claim=claim, outcome=Outcome(outcome), sentence="a reason")
        by_case.setdefault(case_key, []).append(verdict)
    return by_case


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


SILENT = f"latency should have fired for {BF16} and did not"
RED = "latency went red as it must, but"


@pytest.mark.parametrize(
    ("verdicts", "errors", "sentence"),
    [
        ("latency SLOWER, parity PASS", [], "passed: latency went red, and nothing else did"),
        ("latency SLOWER, components SLOWER", [], "passed: latency and components went red, and nothing else did"),
        ("", [], f"{SILENT}: it reached no verdict"),
        (
            "latency UNDECIDED",
            [],
            f"{SILENT}: UNDECIDED, a reason; on a noisy machine a larger fault is decided sooner",
        ),
        ("latency INVALID", [], f"{SILENT}: INVALID"),
        ("worker INVALID", [], f"it reached no verdict; worker fired too (INVALID {BF16} worker: a reason)"),
        ("latency SLOWER, parity DIFFERENT", [], f"{RED} parity fired too (DIFFERENT {BF16} parity: a reason)"),
        ("latency SLOWER, latency SLOWER sdpa", [], f"{RED} latency fired too (SLOWER {SDPA} latency: a reason)"),
        ("latency SLOWER", ["test_roofline"], "but test_roofline ended with an error"),
        ("latency UNDECIDED, components SLOWER", [], SILENT),
        ("latency SLOWER, components SLOWER sdpa", [], "but components fired too"),
    ],
)
def test_a_drill_passes_only_if_its_gate_and_no_other_went_red(verdicts, errors, sentence):
    """Every other ending fails the drill with a sentence that says what was missing or too much."""
    drill = judge_drill(INJECTION, verdicts_of(verdicts), accepts=Policy().accepts, errors=errors)

    assert drill.has_passed == sentence.startswith("passed")
    assert sentence in drill.sentence


def test_every_injected_case_must_go_red():
    """One injected case that stays green fails the drill, whatever the others do."""
    injection = Injection(fault="slower_step=25", gate="latency", outcome=Outcome.SLOWER, case_keys=(BF16, SDPA))

    drill = judge_drill(injection, verdicts_of("latency SLOWER, latency PASS sdpa"), accepts=Policy().accepts)

    assert not drill.has_passed
    assert f"should have fired for {SDPA} and did not: PASS" in drill.sentence
