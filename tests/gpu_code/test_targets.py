"""The targets: every fact has a source, and names are checked."""

import dataclasses

import pytest

from speedgate.gpu_code.targets import KIB, TARGETS, target_of


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_every_fact_has_a_source(target):
    """Each field of a target but its short name says which document and table it was taken from."""
    facts = {field.name for field in dataclasses.fields(target)} - {"name", "sources"}

    assert set(target.sources) == facts


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_a_block_leaves_one_kib_of_shared_memory(target):
    """From capability 8.0 on CUDA reserves 1 KiB of shared memory for each block, so both limits differ by it."""
    assert target.shared_bytes_per_multiprocessor - target.shared_bytes_per_block_optin == KIB


def test_only_gpus_with_fp8_have_a_peak_for_it():
    """fp8 products need capability 8.9, so an A100 has no entry that a least time could be computed with."""
    assert {name: "fp8" in target.flops_per_s for name, target in TARGETS.items()} == {
        name: target.capability >= (8, 9) for name, target in TARGETS.items()
    }


def test_an_unknown_target_is_named_with_the_known_ones():
    """A name that is not a target ends in one line that lists all of them."""
    with pytest.raises(ValueError, match=r"'v100' is no GPU.*a100, h100, rtx-4090"):
        target_of("v100")
