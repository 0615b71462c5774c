"""The roofline's arithmetic, with scripted ceilings, and what a session keeps of it."""

import contextlib
from types import SimpleNamespace

import pytest

from bench import test_roofline as claim
from speedgate.gate.roofline import Ceilings, Operations, compute_roofline, judge_roofline, total_flops
from speedgate.measure.machine import Machine
from speedgate.plugin.judgement import Gate
from speedgate.results import folder
from speedgate.results.run import Outcome
from tests.support.baseline_samples import INT8, KEY, make_run
from tests.support.sessions import make_session

CEILINGS = Ceilings(flops_per_s={"bf16": 100.0, "int8": 200.0}, bytes_per_s=10.0)
OPERATIONS = {
    "denoiser": Operations(flops={"quantised_linears": 100, "convolutions": 50}, bytes_read=5),
    "vae_decode": Operations(flops={"convolutions": 10}, bytes_read=2),
}


def roofline(*, latency_s=2.4, **arithmetic):
    return compute_roofline(
        make_run(medians_s=[latency_s]), OPERATIONS, arithmetic={"": "bf16"} | arithmetic, ceilings=CEILINGS
    )


@pytest.mark.parametrize(
    ("component", "arithmetic", "floor_s"),
    [
        ("denoiser", {}, 1.5),
        ("denoiser", {"quantised_linears": "int8"}, 0.5 + 0.5),
        ("vae_decode", {}, 0.2),  # reads longer than it computes
    ],
)
def test_each_component_is_held_to_its_own_ceilings(component, arithmetic, floor_s):
    """Quantised linears at twice the speed take half the time, and of computing and reading the longer one counts."""
    assert roofline(**arithmetic).floors_s[component] == pytest.approx(floor_s)


def test_components_run_one_after_the_other():
    """The image's floor is the sum of its components', the share is of the measured seconds; a missing ceiling is an error."""
    reached = roofline(latency_s=3.4)

    assert (reached.floor_s, reached.share) == pytest.approx((1.7, 0.5))
    assert total_flops(reached.operations) == 160
    with pytest.raises(ValueError, match="no ceiling of fp8 was measured; there are: bf16, int8"):
        roofline(quantised_linears="fp8")


@pytest.mark.parametrize(("latency_s", "outcome"), [(1.7, "PASS"), (1.63, "PASS"), (1.6, "INVALID"), (17, "PASS")])
def test_an_image_is_not_made_sooner_than_is_possible(latency_s, outcome):
    """An image that is faster than the ceilings allow, by more than they are uncertain, was not measured."""
    verdict = judge_roofline(roofline(latency_s=latency_s))

    assert verdict.outcome == Outcome(outcome)
    assert ("cannot be" in verdict.sentence) == (outcome == "INVALID")


@pytest.mark.parametrize(
    ("device", "latency_s", "end", "share"),
    [
        ("cuda", 2.4, None, 1.7 / 2.4),
        ("cuda", 0.5, pytest.fail.Exception, 1.7 / 0.5),
        ("cpu", 2.4, pytest.skip.Exception, None),
    ],
)
def test_the_claim_keeps_the_roofline_with_the_case(tmp_path, device, latency_s, end, share):
    """On a GPU the case's result has share and verdict, red if it is impossible; on a CPU it has the operations alone."""
    run, machine = make_run(medians_s=[latency_s]), Machine(key=KEY, device=device, name="A100", memory_bytes=1)
    session = make_session(tmp_path, machine=machine)
    session.store_run(run)
    case = SimpleNamespace(key=INT8, roofline=lambda *_: roofline(latency_s=latency_s))
    runner = SimpleNamespace(measured=lambda case: run)

    with pytest.raises(end) if end else contextlib.nullcontext():
        claim.test_roofline(case, runner, lambda case: OPERATIONS, CEILINGS, Gate(session))

    (result,) = folder.parse_results(folder.read_folder(tmp_path / "results"))
    stored = result.document["roofline"]
    assert stored["operations"]["denoiser"]["flops"] == OPERATIONS["denoiser"].flops
    assert stored.get("share") == pytest.approx(share)
    assert [verdict.claim for verdict in result.verdicts] == (["roofline"] if device == "cuda" else [])
