"""The list of faults and harmless changes is as long as it must be, and parity's ends are where they must be."""

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

ROOT = Path(__file__).parents[2]
TINY = pipelines()["sdxl"].sizes["tiny"]
JUDGING = {"_verdict", "facts", "judge_facts", "judge_stale", "judge_no_baseline"}


def claims():
    """The names of claims in the suite: given by name, or as an argument to what judges one."""
    found = set()
    for path in (path for room in ("src", "fixtures", "bench") for path in (ROOT / room).rglob("*.py")):
        for call in (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)):
            named = [word.value for word in call.keywords if word.arg == "claim"]
            judging = getattr(call.func, "attr", getattr(call.func, "id", None)) in JUDGING
            found |= {
                value.value for value in [*named, *(call.args if judging else ())] if isinstance(value, ast.Constant)
            }
    return found


@pytest.fixture
def references(rig):
    """fp32 with its precise outputs, and bf16."""
    return rig.references(TINY.workload)


def test_there_are_faults_of_every_family_and_enough_of_both_kinds():
    """At least thirty faults in four families and ten harmless changes, no name given twice."""
    families = Counter(fault.family for fault in FAULTS)

    assert len(FAULTS) >= 30
    assert len(HARMLESS) >= 10
    assert set(families) == set(FAMILIES)
    assert min(families.values()) >= 4
    assert Counter(name for _, name, _, _ in rows()).most_common(1)[0][1] == 1


def test_every_gate_is_a_claim_of_the_suite():
    """No fault is said to be caught by a gate that does not exist."""
    assert {fault.gate for fault in FAULTS} <= claims()


def test_each_row_says_what_is_done_in_a_line():
    """The document's table takes one sentence a change."""
    assert [says for _, _, _, says in rows() if "\n" in says or not says.endswith(".")] == []


def test_an_unquantised_image_is_too_good_for_int8(references):
    """The upper end of the band: bf16's own image under the name of int8 is DIFFERENT."""
    step_reference, image_reference = references
    figures = parity.compare(image_reference, image_reference=image_reference, step_reference=step_reference)

    verdict = parity.judge("int8", figures, band=TINY.ssim_ranges["int8"], factor=TINY.step_error_factor["int8"])

    assert verdict.outcome is Outcome.DIFFERENT


def test_nan_is_never_a_pass(references):
    """An image of NaN has no SSIM, and no SSIM is no pass."""
    step_reference, image_reference = references
    broken = dataclasses.replace(image_reference, image=np.full_like(image_reference.image, np.nan))
    figures = parity.compare(broken, image_reference=image_reference, step_reference=step_reference)

    assert parity.judge("bf16", figures, band=(0.0, 1.0), factor=9.0).outcome is Outcome.DIFFERENT
