"""The roofline's arithmetic, with scripted ceilings, and where a session keeps and shows it."""

import json

import pytest

from speedgate.gate.roofline import Ceilings, Operations, compute_roofline, judge_roofline, total_flops
from speedgate.results import folder
from speedgate.results.run import Outcome
from tests.support.artifacts import encoded, result
from tests.support.baseline_samples import make_run
from tests.support.suite import Suite, red

CEILINGS = Ceilings(flops_per_s={"bf16": 100.0, "int8": 200.0}, bytes_per_s=10.0)
OPERATIONS = {
    "denoiser": Operations(flops={"quantised_linears": 100, "convolutions": 50}, bytes_read=5),
    "vae_decode": Operations(flops={"convolutions": 10}, bytes_read=2),
}

SKELETONS = """

@pytest.fixture(scope="session")
def operations():
    from speedgate.gate.roofline import Operations

    return lambda case: {"denoiser": Operations(flops={"linears": 3 * 10**12, "attention": 10**12})}


@pytest.fixture(scope="session")
def ceilings():
    from speedgate.gate.roofline import Ceilings

    return Ceilings(flops_per_s={"tf32": 10**12, "bf16": 10**12 * %d}, bytes_per_s=1.0)
"""


def roofline(*, latency_s=2.4, **arithmetic):
    return compute_roofline(
        make_run(medians_s=[latency_s]), OPERATIONS, arithmetic={"": "bf16"} | arithmetic, ceilings=CEILINGS
    )


def test_each_kind_is_held_to_its_own_ceiling():
    """Quantised linears at twice the speed take half the time; what is not named is held to the other ceiling."""
    assert roofline().floors_s["denoiser"] == pytest.approx(1.5)
    assert roofline(quantised_linears="int8").floors_s["denoiser"] == pytest.approx(0.5 + 0.5)


def test_what_reads_longer_than_it_computes_is_held_to_the_bandwidth():
    """A component does both at once: the longer of the two counts."""
    assert roofline().floors_s["vae_decode"] == pytest.approx(0.2)


def test_components_run_one_after_the_other():
    """The image's floor is their sum, and the share is of the measured seconds."""
    result = roofline(latency_s=3.4)

    assert result.floor_s == pytest.approx(1.7)
    assert result.share == pytest.approx(0.5)
    assert total_flops(result.operations) == 160


@pytest.mark.parametrize(("latency_s", "outcome"), [(1.7, "PASS"), (1.63, "PASS"), (1.6, "INVALID"), (17, "PASS")])
def test_an_image_is_not_made_sooner_than_is_possible(latency_s, outcome):
    """Within what ceilings are uncertain by; what is faster was not measured."""
    verdict = judge_roofline(roofline(latency_s=latency_s))

    assert verdict.outcome == Outcome(outcome)
    assert ("cannot be" in verdict.sentence) == (outcome == "INVALID")


def test_an_arithmetic_without_a_ceiling_is_an_error():
    """It names what was measured."""
    with pytest.raises(ValueError, match="no ceiling of fp8 was measured; there are: bf16, int8"):
        roofline(quantised_linears="fp8")


def played(pytester, *, tera):
    """A session that plays an A100 of that many TFLOP a second, and what it says of bf16."""
    suite = Suite(pytester)
    suite.pretend_a100()
    with (suite.path / "conftest.py").open("a") as conftest:
        conftest.write(SKELETONS % tera)
    return suite, suite.run("--stage=bf16", "--weights=synthetic", "-k", "test_roofline or test_latency")


def test_a_gpu_has_its_share_in_report_and_results(pytester):
    """4 TFLOP at 1 TFLOP a second take 4 of 4.626 s: kept with the case, and shown below the table."""
    suite, session = played(pytester, tera=1)

    stored = suite.result("bf16")["roofline"]

    assert red(session) == []
    assert (stored["floor_s"], round(stored["share"], 2)) == (4.0, 0.86)
    assert stored["ceilings"]["flops_per_s"]["bf16"] == 1e12
    session.stdout.fnmatch_lines(
        ["sdxl/bf16/1024px-30steps-b1: 4 TFLOP an image, at least 4 s here; this run reaches 86%"]
    )


def test_an_impossible_figure_is_red(pytester):
    """A worker that does not wait for its device is faster than the device."""
    suite = Suite(pytester)
    suite.misbehave(bf16={"seconds": 0.5})
    suite.pretend_a100()
    with (suite.path / "conftest.py").open("a") as conftest:
        conftest.write(SKELETONS % 1)

    result = suite.run("--stage=bf16", "--weights=synthetic", "-k", "test_roofline")

    assert red(result) == ["test_roofline[sdxl-bf16]"]


def test_a_cpu_has_operations_and_no_claim(pytester):
    """The operations of an image are stored, and shown once for all stages; there is no ceiling and no share."""
    suite = Suite(pytester)
    with (suite.path / "conftest.py").open("a") as conftest:
        conftest.write(SKELETONS % 1)

    session = suite.run("--stage=fp32,bf16", "-k", "test_roofline or test_recipe and not full")

    assert list(suite.result("bf16")["roofline"]) == ["operations"]
    lines = [line for line in session.outlines if "TFLOP an image" in line]
    assert lines == ["sdxl-tiny at 64px-4steps-b1: 4 TFLOP an image"]


def test_a_result_with_a_roofline_is_read():
    """A stranger's reader knows the field."""
    document = result(roofline=json.loads('{"operations": {}}'))

    assert folder.parse_results({"case.json": encoded(document)})[0].case_key == document["run"]["case_key"]
