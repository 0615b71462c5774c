"""The page of a GPU key's baselines: its figures, the published ones beside them, and harmless names."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest

from speedgate.baselines import describe, promote, store
from speedgate.cli import main
from speedgate.results.profile import Attribution, Kernel
from speedgate.results.run import Run
from tests.support.baseline_samples import BF16, COLD, KEY, make_run, obtain, store_file

FP32 = "sdxl/fp32/1024px-30steps-b1"
PUBLISHED = Path(__file__).parents[2] / "baselines" / KEY / "0001_published.json"
WARM = msgspec.structs.replace(COLD, first_image_s=0.5, compile_s=0.25, cache_hits=5, cache_misses=0)


def run(case_key: str, latency_s: float, *stages: str, **fields: Any) -> Run:
    """A run of five processes around a latency, half a percent apart, the first of them with a cold cache."""
    medians_s = [latency_s * math.exp(0.005 * step) for step in (-2, -1, 0, 1, 2)]
    plain = make_run(case_key, medians_s=medians_s, peak_bytes=(2**31,) * 3)
    processes = [
        msgspec.structs.replace(process, cold_start=WARM if number else COLD)
        for number, process in enumerate(plain.processes)
    ]
    return msgspec.structs.replace(plain, processes=tuple(processes), recipe={"stages": [*stages]}, **fields)


def described(root: Path) -> list[list[list[str]]]:
    """The cells of each table of the page, as they are shown, without the line below the header."""
    blocks = describe.baseline_page(root, KEY).split("\n\n")
    tables = [block.splitlines() for block in blocks if block.startswith("|")]
    return [[[cell.strip() for cell in line.strip("|").split("|")] for line in (t[0], *t[2:])] for t in tables]


def column(table: list[list[str]], name: str) -> list[str]:
    """The cells of a column."""
    return [row[table[0].index(name)] for row in table[1:]]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """bf16 recorded before fp32, beside the published ladder."""
    store_file(tmp_path, "0002_recorded.json", run(BF16, 2.0, "fp32", "bf16"), run(FP32, 5.0, "fp32"))
    shutil.copy(PUBLISHED, tmp_path / KEY)
    return tmp_path


def test_each_step_stands_beside_the_published_one(root):
    """In the order in which stages stand on each other, with seconds and gains of both machines."""
    (table, *_) = described(root)
    published = {
        baseline.case_key: baseline.latency_s
        for baseline in store.read_baselines(root / KEY / PUBLISHED.name, gpu_key=KEY)
    }
    named = "published, <code>nvidia-a100-sxm4-80gb-400w</code>"

    assert column(table, "stage") == ["<code>fp32</code>", "<code>bf16</code>"]
    assert (column(table, "latency"), column(table, "vs parent")) == (["5 s", "2 s"], ["-", "2.50x"])
    assert column(table, named) == [f"{published[key]:.4g} s" for key in (FP32, BF16)]
    assert column(table, f"{named}, vs parent") == ["-", f"{published[FP32] / published[BF16]:.2f}x"]


def test_spread_and_starts_have_their_columns(root):
    """Spread is the standard deviation of logarithms, starts are apart by the state of the cache, empty columns left out."""
    table, starts, *rest = described(root)

    assert column(table, "sd of processes") == ["0.79% of 5", "0.79% of 5"]
    assert column(table, "sd of rounds") == ["0.20%", "0.50%"]
    assert column(starts, "first image, cold cache, s") == ["7", "7"]
    assert column(starts, "first image, warm cache, s") == ["3.5", "3.5"]
    assert column(starts, "compile, warm cache, s") == ["0.25", "0.25"]
    names = {name for each in (table, starts, *rest) for name in each[0]}
    assert {"SSIM", "of the ceilings", "highest temperature, C", "it/s", "compile, cold cache, s"}.isdisjoint(names)
    assert "rounds measured again" in names


def test_parity_counts_and_shares_are_shown(tmp_path):
    """Parity, counts, the share of components and kernels, and of the ceilings that the recording has measured."""
    kernels = (Kernel(name="gemm", count=3, seconds=0.75), Kernel(name="copy", count=1, seconds=0.25))
    measured = run(
        BF16,
        2.0,
        "fp32",
        "bf16",
        components_s={"denoiser": 1.5, "vae_decode": 0.5},
        parity={"ssim": 0.99876},
        counts={"graphs": 2, "syncs_per_step": 0.0, "attention_kernels": {"flash": 70}},
        attribution=Attribution(kernels=kernels, attention_kernels={"flash": 70}),
    )
    obtain(tmp_path, measured, rooflines={BF16: {"share": 0.421}})
    promote.promote(tmp_path, KEY)

    row = {name: cell for header, cells in described(tmp_path) for name, cell in zip(header, cells, strict=True)}

    assert (row["SSIM"], row["of the ceilings"], row["peak"]) == ("0.9988", "42%", "2.000 GiB")
    assert (row["<code>graphs</code>"], row["<code>syncs&#95;per&#95;step</code>"]) == ("2", "0")
    assert row["<code>denoiser</code>, s"] == "1.5 (75%)"
    assert row["attention"] == "<code>flash</code> x 70"
    assert row["most of the kernels' time"] == "<code>gemm</code> 75%, <code>copy</code> 25%"


def test_a_name_makes_no_markup(tmp_path):
    """The name of a kernel or a component is shown as text: it is no markup and breaks no table."""
    evil = "<img src=x>|[a](b)@someone"
    kernels = (Kernel(name=evil, count=1, seconds=1.0),)
    store_file(
        tmp_path,
        "0001_a.json",
        run(BF16, 2.0, "bf16", components_s={evil: 1.0}, attribution=Attribution(kernels=kernels)),
    )

    text = describe.baseline_page(tmp_path, KEY)

    assert not any(part in text for part in ("<img", "[a]", "@someone"))
    assert all(len(row) == len(table[0]) for table in described(tmp_path) for row in table)


def test_cases_out_of_memory_or_accepted_as_slower_stand_above(root):
    """A reviewer reads them before the figures, below a line that says when and with what each recorded file was measured."""
    head = describe.baseline_page(root, KEY).splitlines()[0]
    assert head.startswith("<code>0002&#95;recorded.json</code>: <code>measured 2026-01-01")
    assert "torch 2.13.0" in head

    obtain(root, run(FP32, 9.0, "fp32"), out_of_memory={BF16: "full"})
    promote.promote(root, KEY, accept_slower="a bigger picture")

    _, full, *accepted = describe.baseline_page(root, KEY).split("\n\n")[0].splitlines()

    assert full.startswith(
        "<code>sdxl/bf16/1024px-30steps-b1</code>: **out of memory** according to <code>0003&#95;recorded</code>"
    )
    assert len(accepted) == 2
    assert all("a bigger picture" in line for line in accepted)


def test_the_command_prints_the_page_or_the_keys_that_have_one(root, capsys):
    """The whole page and nothing else; a GPU key without a recording is refused with those that have one, if any."""
    arguments = ["--root", str(root), "describe"]
    assert main([*arguments, KEY]) == 0
    assert capsys.readouterr().out == describe.baseline_page(root, KEY)

    assert main([*arguments, "nvidia-h200"]) == 2
    assert f"GPU keys with recordings: {KEY}; see speedgate promote" in capsys.readouterr().err
    (root / KEY / "0002_recorded.json").unlink()
    assert main([*arguments, KEY]) == 2
    assert "GPU keys with recordings: none; see speedgate promote" in capsys.readouterr().err
