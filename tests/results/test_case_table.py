"""The row of a case: its figures, and what becomes of them and of names in each format."""

import msgspec
import pytest

from speedgate.results import case_table
from speedgate.results.case_table import CaseRow, row_of_run
from speedgate.results.run import Outcome
from tests.support.baseline_samples import BF16, INT8, make_run

ROW = CaseRow(case_key="sdxl/in<t8\x1b/w", outcome=Outcome.SLOWER, latency_s=2.0, peak_bytes=3 * 2**30)
COLUMNS = [case_table.CASE, case_table.LATENCY, case_table.SSIM, case_table.PEAK, case_table.VERDICT]


def test_a_row_holds_the_figures_of_its_run():
    """Latency, medians, peak and cold start are the run's, and the rest is what the caller adds."""
    row = row_of_run(make_run(INT8), outcome=Outcome.PASS, compared_with="0002_recorded")

    assert (row.latency_s, row.peak_bytes) == (pytest.approx(2.45, rel=1e-3), 9)
    assert row.process_medians_s == (2.4, 2.45, 2.5)
    assert (row.outcome, row.compared_with, row.speedup_over_first) == (Outcome.PASS, "0002_recorded", None)


def test_a_run_without_rounds_has_no_figures():
    """Only its cold start and its similarity are known, and every figure is a dash."""
    row = row_of_run(msgspec.structs.replace(make_run(INT8), processes=(), parity={"ssim": 1.0}))

    cells = {column.heading: column.cell(row) for column in (*COLUMNS, case_table.RATES, case_table.PROCESSES)}
    assert (cells["latency"], cells["peak"], cells["it/s"], cells["processes"]) == ("-", "-", "-", "-")
    assert (cells["SSIM"], case_table.COLD_START.cell(row)) == ("1.0000", "10.0 s (cold cache)")


def test_a_speed_up_is_over_a_measured_case():
    """The parent and the first stage are found by the recipe; a case that was not measured gives no ratio."""
    run = msgspec.structs.replace(make_run(INT8, medians_s=[2.0]), recipe={"stages": ["fp32", "bf16", "int8"]})

    row = row_of_run(run, latencies_s={BF16: 3.0})

    assert (row.speedup_over_parent, row.speedup_over_first) == (1.5, None)
    assert case_table.VS_PARENT.cell(row) == "1.50x"


@pytest.mark.parametrize(
    ("compile_s", "structure", "shown"),
    [
        (67.44, {"unet.compiled": True}, "67.4 s"),
        (9.6, {"unet.compiled_regions": 2}, "9.6 s (regional)"),
        (0.0, {}, "-"),
        (None, {"unet.compiled": True}, "-"),
    ],
)
def test_compile_seconds_say_if_they_are_of_regions(compile_s, structure, shown):
    """A case that compiles nothing has none, nor has one of an older file."""
    run = make_run(INT8)
    start = msgspec.structs.replace(run.cold_start, compile_s=compile_s)

    assert (
        case_table.COMPILE.cell(row_of_run(msgspec.structs.replace(run, cold_start=start, structure=structure)))
        == shown
    )


@pytest.mark.parametrize(
    ("parity", "shown"), [(None, "-"), ({}, "-"), ({"ssim": None}, "NaN"), ({"ssim": 0.5}, "0.5000")]
)
def test_nan_is_not_hidden(parity, shown):
    """A similarity that is no number is stored as null, and differs from one that was never computed."""
    assert case_table.SSIM.cell(row_of_run(msgspec.structs.replace(make_run(INT8), parity=parity))) == shown


def test_a_table_is_aligned_text_or_markdown():
    """Text has no control characters, Markdown shows a name as code, and a column can be used for other values."""
    columns = case_table.with_figures(COLUMNS, [ROW])
    latency = case_table.LATENCY.on(lambda seconds: CaseRow(case_key="a/b/c", latency_s=seconds))

    assert case_table.text_table(columns, [ROW]) == [
        "case           latency  peak       verdict",
        "sdxl/in<t8?/w  2 s      3.000 GiB  SLOWER",
    ]
    assert case_table.markdown_table(columns, [ROW]) == [
        "| case | latency | peak | verdict |",
        "| --- | --- | --- | --- |",
        "| <code>sdxl/in&#60;t8?/w</code> | 2 s | 3.000 GiB | SLOWER |",
    ]
    assert (latency.heading, latency.cell(1.5), latency.is_number) == ("latency", "1.5 s", True)
