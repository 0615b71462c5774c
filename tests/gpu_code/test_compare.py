"""The code of one case in two environments: which differences are more work, and how kernels are named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from speedgate.cli import main
from speedgate.gpu_code.compare import judge_work
from speedgate.results.json_io import to_json, write_json
from speedgate.results.run import Outcome
from tests.support.gpu_codes import NAME, make_code, make_kernel, make_module

OTHER = "torch 2.12.1"


def judge(**fields: Any) -> tuple[Outcome, str]:
    """Judge a denoiser that differs in these fields from the other arm's."""
    verdict, _ = judge_work(make_code(make_module(**fields)), make_code(), label=OTHER)
    return verdict.outcome, verdict.sentence


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"moved_bytes": 4_040_001}, "bytes moved 4 MB -> 4.04 MB (+1.00%)"),
        ({"external": {"mm bfloat16": 64, "addmm bfloat16": 42, "flash_attention bfloat16": 16}}, "launches 120 -> 126 (+5.00%)"),
        ({"flops": {"bfloat16": 2 * 10**9}}, "FLOPs 1e+09 -> 2e+09 (+100.00%)"),
        ({"graphs": 2}, "graphs 1 -> 2"),
        ({"device_copies": 1}, "copies between devices 0 -> 1"),
        ({"cpu_tensors": 3}, "CPU tensors 0 -> 3"),
        ({"cpu_scalars": 3}, "numbers from the CPU 0 -> 3"),
        ({"fallbacks": {"aten.sort": 1}}, "fallbacks to aten.sort 0 -> 1"),
        ({"cudagraph_skips": ("cpu device",)}, "no CUDA graph any more: cpu device"),
        (
            {"kernels": (make_kernel("a"), make_kernel("bb", spilled_bytes=8))},
            f"spilled registers 0 -> 8 bytes ({NAME}_2)",
        ),
        (
            {"external": {"mm bfloat16": 60, "mm float32": 1, "addmm bfloat16": 39, "flash_attention bfloat16": 16}},
            "products of at most 16 bits 100 -> 99, of more bits 0 -> 1",
        ),
    ],
)  # fmt: skip
def test_more_work_is_red_and_says_what_rose(fields: dict[str, Any], sentence: str) -> None:
    """Each kind of further work is MORE_WORK, with the figure of both arms, the other arm's first."""
    assert judge(**fields) == (Outcome.MORE_WORK, f"denoiser: {sentence}; against {OTHER}")


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({}, "equal to the digit: denoiser 4 MB and 120 launches a call"),
        ({"moved_bytes": 4_040_000}, "no more work: denoiser: bytes moved 4 MB -> 4.04 MB (+1.00%)"),
        ({"moved_bytes": 3_000_000}, "no more work: denoiser: bytes moved 4 MB -> 3 MB (-25.00%)"),
        (
            {"external": {"mm bfloat16": 60, "addmm bfloat16": 40, "efficient_attention bfloat16": 16}},
            "no more work: denoiser: flash_attention bfloat16 16 -> 0, efficient_attention bfloat16 0 -> 16",
        ),
        (
            {"kernels": (make_kernel("c"), make_kernel("dd"))},
            "equal to the digit: denoiser 4 MB and 120 launches a call",
        ),
        ({"kernels": (make_kernel("a", spilled_bytes=None), make_kernel("bb", spilled_bytes=8))}, None),
    ],
)
def test_equal_or_less_work_passes(fields: dict[str, Any], sentence: str | None) -> None:
    """Equal figures, a fall, and a rise of 1 % are a PASS; spills are not compared if an arm compiled no cubins."""
    outcome, text = judge(**fields)

    assert outcome is Outcome.PASS
    assert sentence is None or text == f"{sentence}; against {OTHER}"


def test_int8_that_became_bfloat16_is_more_work() -> None:
    """One int8 product that is a bfloat16 product in this arm is red, though launches are equal."""
    before = make_module(external={"_int_mm int8": 76, "mm bfloat16": 4})
    after = make_module(external={"_int_mm int8": 75, "mm bfloat16": 5})

    verdict, _ = judge_work(make_code(after), make_code(before), label=OTHER)

    assert verdict.outcome is Outcome.MORE_WORK
    assert "products of at most 8 bits 76 -> 75, of more bits 4 -> 5" in verdict.sentence


def test_a_module_of_one_arm_is_more_work_even_if_the_sum_is_smaller() -> None:
    """Each module is judged by itself: a decoder that is compiled in one arm only is not compared with nothing."""
    verdict, _ = judge_work(make_code(), make_code(make_module(), make_module("vae_decode")), label=OTHER)

    assert (verdict.outcome, verdict.sentence) == (
        Outcome.MORE_WORK, f"vae_decode: is compiled in one arm only; against {OTHER}",
    )  # fmt: skip


@pytest.mark.parametrize("unknown_arm", ["this", "other"])
def test_an_unknown_arm_is_unknown(unknown_arm: str) -> None:
    """If the code of one arm could not be generated, nothing is known of the work, and the reason is in the sentence."""
    unknown = make_code(unknown="a stub does not fit torch 2.15", modules=())
    this, other = (unknown, make_code()) if unknown_arm == "this" else (make_code(), unknown)

    verdict, lines = judge_work(this, other, label=OTHER)

    assert (verdict.outcome, lines) == (Outcome.UNKNOWN, [])
    arm = "this arm" if unknown_arm == "this" else OTHER
    assert verdict.sentence == f"{arm} is unknown: a stub does not fit torch 2.15"


def test_records_of_two_cases_are_not_compared() -> None:
    """A record of another case or target is refused."""
    with pytest.raises(
        ValueError, match=r"expected two records of one case and target, found .* for a100 and .* for h100"
    ):
        judge_work(make_code(), make_code(target="h100"), label=OTHER)


def test_kernels_that_differ_are_named_with_their_share() -> None:
    """Kernels appear, vanish, change under their name, or are launched more often; each has its share of the bytes."""
    before = (
        make_kernel("same"), make_kernel("often"), make_kernel("old", name="triton_red_1"),
        make_kernel("gone", name="triton_per_7", moved_bytes=2_000_000),
    )  # fmt: skip
    after = (
        make_kernel("same", name="renumbered_9"), make_kernel("often", launches=3), make_kernel("new", name="triton_red_4"),
        make_kernel("fresh", name="triton_tem_0", moved_bytes=400_000),
    )  # fmt: skip

    _, lines = judge_work(make_code(make_module(kernels=after)), make_code(make_module(kernels=before)), label=OTHER)

    assert lines == [
        "a100 denoiser: kernels appeared: triton_tem_0 fresh (10.0% of the bytes)",
        "a100 denoiser: kernels vanished: triton_per_7 gone (50.0% of the bytes)",
        "a100 denoiser: kernels changed: triton_red_4 new (25.0% of the bytes)",
        f"a100 denoiser: kernels launched more or less often: {NAME}_5 often (25.0% of the bytes)",
    ]


def test_many_kernels_are_counted_and_not_named() -> None:
    """Three kernels of a line are named, those that move most; the others are counted with their share."""
    kernels = tuple(make_kernel(f"new{n}", name=f"k{n}_x", moved_bytes=100_000 * n) for n in range(1, 9))

    _, lines = judge_work(make_code(make_module(kernels=kernels)), make_code(make_module(kernels=())), label=OTHER)

    assert lines[0].startswith("a100 denoiser: kernels appeared: k8_x new8 (20.0% of the bytes), k7_x")
    assert lines[0].endswith(", 5 more (37.5% of the bytes)")


def test_the_command_judges_one_record_by_another(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`speedgate gpu-code compare OLD NEW` ends with 1 for more work, 0 for equal records, and 2 for an unknown one."""
    records = {
        "old": make_code(),
        "new": make_code(make_module(device_copies=1)),
        "unknown": make_code(unknown="no stub", modules=()),
    }
    for name, record in records.items():
        write_json(tmp_path / f"{name}.json", to_json(record))

    statuses = [
        main(["gpu-code", "compare", str(tmp_path / "old.json"), str(tmp_path / f"{name}.json")]) for name in records
    ]

    out, err = capsys.readouterr()
    assert statuses == [0, 1, 2]
    assert out.splitlines()[0].startswith("PASS sdxl-tiny/compile/32px-4steps-b1 gpu work on a100: equal to the digit")
    assert "copies between devices 0 -> 1; against " in out.splitlines()[1]
    assert "unknown: no stub" in err
