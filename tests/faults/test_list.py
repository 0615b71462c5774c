"""The list of faults and harmless changes is complete, and parity is strict at both ends."""

import ast
import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from fixtures import parity
from fixtures.pipelines.registry import pipelines
from speedgate.results.run import Outcome
from tests.faults import FAMILIES, FAULTS, HARMLESS, rows
from tests.faults.rig import FEW_PROBES

ROOT = Path(__file__).parents[2]
TINY = pipelines()["sdxl"].sizes["tiny"]
JUDGING = {"_verdict", "facts", "judge_facts", "judge_stale", "judge_no_baseline", "cannot_judge"}


def claims():
    """Return the names of claims in the suite: the values of `claim=`, and arguments of functions that judge a claim."""
    names = set()
    for path in (path for room in ("src", "fixtures", "bench") for path in (ROOT / room).rglob("*.py")):
        for call in (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)):
            claim_arguments = [word.value for word in call.keywords if word.arg == "claim"]
            judging = getattr(call.func, "attr", getattr(call.func, "id", None)) in JUDGING
            names |= {
                value.value
                for value in [*claim_arguments, *(call.args if judging else ())]
                if isinstance(value, ast.Constant)
            }
    return names


@pytest.fixture
def references(rig):
    """Return the outputs of fp32, with its precise steps, and of bf16."""
    return rig.references(TINY.workload, FEW_PROBES)


def test_there_are_faults_of_every_family_and_enough_of_both_kinds():
    """There are at least thirty faults in four families and ten harmless changes, and no name is used twice."""
    families = Counter(fault.family for fault in FAULTS)

    assert len(FAULTS) >= 30
    assert len(HARMLESS) >= 10
    assert set(families) == set(FAMILIES)
    assert min(families.values()) >= 4
    assert Counter(name for _, name, _, _ in rows()).most_common(1)[0][1] == 1


def test_every_gate_is_a_claim_of_the_suite():
    """No fault names a gate that does not exist."""
    assert {fault.gate for fault in FAULTS} <= claims()


def test_each_description_is_one_line():
    """The document's table has one line for each change."""
    descriptions = [description for _, _, _, description in rows()]

    assert [text for text in descriptions if "\n" in text or not text.endswith(".")] == []


def test_an_unquantised_image_is_too_good_for_int8(references):
    """Above the upper end of the range, bf16's image judged as int8 is DIFFERENT."""
    step_reference, image_reference = references
    figures = parity.compare(image_reference, image_reference=image_reference, step_reference=step_reference)

    verdict = parity.judge("int8", figures, ssim_range=TINY.ssim_ranges["int8"], factor=TINY.step_error_factor["int8"])

    assert verdict.outcome is Outcome.DIFFERENT


def test_nan_is_never_a_pass(references):
    """An image of NaN has no SSIM, and without an SSIM nothing passes."""
    step_reference, image_reference = references
    broken = dataclasses.replace(image_reference, image=np.full_like(image_reference.image, np.nan))
    figures = parity.compare(broken, image_reference=image_reference, step_reference=step_reference)

    assert parity.judge("bf16", figures, ssim_range=(0.0, 1.0), factor=9.0).outcome is Outcome.DIFFERENT
