"""The code that a GPU would run does what the stage promises (`--gpu-code TARGET`); no GPU is needed."""

import pytest

from speedgate.gpu_code import claims


def test_gpu_code(generated, gate):
    """Code is generated for the target by the installed versions of torch and Triton."""
    gate.check(gate.add(claims.judge_generated(generated.record)))


def test_gpu_graphs(generated, gate):
    """Each compiled module is one graph, and each shape of a compiled region is one."""
    gate.check(gate.add(claims.judge_graphs(generated.code, generated.promise)))


def test_gpu_placement(generated, gate):
    """The code uses no tensor on the CPU and copies nothing between devices."""
    gate.check(gate.add(claims.judge_placement(generated.code, generated.promise)))


def test_gpu_fallbacks(generated, gate):
    """No operator is left to aten without a listed reason."""
    gate.check(gate.add(claims.judge_fallbacks(generated.code, generated.promise)))


def test_gpu_quantised_products(generated, gate):
    """Each quantised layer that is called is one int8 or float8 product."""
    verdict = claims.judge_quantised(generated.code, generated.promise)
    if verdict is None:
        gate.cannot_judge(
            generated.case_key,
            claims.QUANTISED,
            "the stage promises none",
            f"{generated.case_key} quantises no product",
        )

    gate.check(gate.add(verdict))


def test_gpu_fused_scale(generated, gate):
    """The scale of an int8 product is multiplied in the product's own kernel, or a reason is listed why it is not."""
    verdict = claims.judge_fused_scale(generated.code, generated.promise)
    if verdict is None:
        gate.cannot_judge(
            generated.case_key, claims.SCALE, "the stage promises none", f"{generated.case_key} forces no fusion"
        )

    gate.check(gate.add(verdict))


def test_gpu_fused_products(generated, gate):
    """With fused projections a call needs exactly as many products fewer as the architecture has projections to fuse."""
    if generated.promise.parent is None:
        gate.cannot_judge(
            generated.case_key, claims.FUSED, "the stage promises none", f"{generated.case_key} fuses nothing"
        )

    verdict = claims.judge_fused_products(generated.code, generated.parent_code, generated.promise)

    gate.check(gate.add(verdict))


def test_gpu_spills(generated, gate):
    """No kernel spills registers to memory."""
    verdict = claims.judge_spills(generated.code)
    if verdict is None:
        gate.cannot_judge(
            generated.case_key, claims.SPILLS, "no machine code", f"{generated.case_key}: the kernels were not compiled"
        )

    gate.check(gate.add(verdict))


def test_gpu_attention(generated, gate):
    """The denoisers call an attention kernel as often as they have attentions, and the one that the stage names."""
    verdict = claims.judge_attention(generated.code, generated.promise)
    if verdict is None:
        gate.cannot_judge(
            generated.case_key, claims.ATTENTION, "regional", f"{generated.case_key} compiles each repeated block once"
        )

    gate.check(gate.add(verdict))


def test_gpu_cuda_graphs(generated, gate):
    """Inductor has no reason to skip CUDA graphs in a mode that uses them."""
    verdict = claims.judge_cuda_graphs(generated.code, generated.promise)
    if verdict is None:
        gate.cannot_judge(
            generated.case_key, claims.CUDA_GRAPHS, "the stage uses none", f"the mode of {generated.case_key} has none"
        )

    gate.check(gate.add(verdict))


def test_gpu_counts(generated, gate):
    """Graphs, kernels, launches, products, bytes and FLOPs are exactly those that are stored for this version of torch."""
    if gate.is_live:
        gate.cannot_judge(
            generated.case_key, claims.COUNTS, "live comparison", "the other arm is what this one is compared with"
        )

    verdict = claims.judge_counts(generated.code, generated.expected_counts(), version=generated.version)

    gate.check(gate.add(verdict))


@pytest.mark.usefixtures("other_arm")
def test_gpu_work(generated, gate):
    """In a live comparison (--against), the code of this arm makes the GPU do no more work than that of the other arm."""
    gate.check(gate.add(generated.judge_work()))
