"""One row per case: its figures with their units and digits, and the table as aligned text or as Markdown.

Every table of cases takes its columns from here: the terminal, the Markdown and the HTML report, the verdict on a bump, and
the description of a baseline.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from speedgate.results.case_key import CaseKey
from speedgate.results.run import ColdStart, Outcome, Run
from speedgate.results.text import aligned, markdown_code, printable

NO_FIGURE = "-"
NOT_JUDGED, REFERENCE = "not judged", "reference"

Row = TypeVar("Row")
Other = TypeVar("Other")


@dataclasses.dataclass(frozen=True)
class Column(Generic[Row]):
    """A heading and the text of each cell.

    A name comes from elsewhere and may hold any character, so Markdown shows it as code. HTML aligns numbers to the right.
    """

    heading: str
    cell: Callable[[Row], str]
    is_name: bool = False
    is_number: bool = False

    def on(self, row_of: Callable[[Other], Row]) -> Column[Other]:
        """Make the same column of other values, which `row_of` turns into rows."""
        return Column(self.heading, lambda value: self.cell(row_of(value)), self.is_name, self.is_number)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CaseRow:
    """The figures of one case; None, or empty, where there is none.

    `rates` are iterations per second by the name of the loop. `other_latency_s` is the other arm's, and the two ratios are this
    arm over the other. `compared_with` names the baseline or the other arm; `session` is the folder of the results, and
    `injected_fault` the fault of a fire drill. `is_reference`: the case was built only for others to be compared with.
    """

    case_key: str
    outcome: Outcome | None = None
    latency_s: float | None = None
    process_medians_s: tuple[float, ...] = ()
    rates: Mapping[str, float] = dataclasses.field(default_factory=dict)
    speedup_over_parent: float | None = None
    speedup_over_first: float | None = None
    ssim: float | None = None
    peak_bytes: int | None = None
    cold_start: ColdStart | None = None
    is_regional: bool = False
    compared_with: str = NO_FIGURE
    session: str = ""
    is_reference: bool = False
    injected_fault: str = NO_FIGURE
    other_latency_s: float | None = None
    latency_ratio: float | None = None
    memory_ratio: float | None = None


def row_of_run(run: Run, *, latencies_s: Mapping[str, float] | None = None, **fields: Any) -> CaseRow:
    """Make the row of a run; `fields` are those that a run does not hold. With `latencies_s` by case key it has speed-ups."""
    measured: dict[str, Any] = {}
    if run.processes:
        measured = {"latency_s": run.latency_s, "process_medians_s": run.process_medians_s}
        measured |= {"rates": run.iterations_per_s, "peak_bytes": run.peak_bytes}
        if latencies_s is not None:
            measured["speedup_over_parent"] = speedup(run.latency_s, run.parent_key, latencies_s)
            first_key = run.first_key if run.first_key != run.case_key else None
            measured["speedup_over_first"] = speedup(run.latency_s, first_key, latencies_s)
    ssim = None
    if run.parity is not None and "ssim" in run.parity:
        stored = run.parity["ssim"]
        ssim = math.nan if stored is None else stored  # JSON has no NaN, so it is stored as null
    return CaseRow(
        case_key=run.case_key, ssim=ssim, cold_start=run.cold_start, is_regional=run.is_regional, **measured, **fields
    )


def speedup(latency_s: float, other_key: str | None, latencies_s: Mapping[str, float]) -> float | None:
    """Divide the latency of another case by this one's; None if there is no other or it was not measured."""
    if other_key is None or other_key not in latencies_s:
        return None
    return latencies_s[other_key] / latency_s


def format_figure(value: float | None, form: str, unit: str = "") -> str:
    """Format a figure with its unit, or as a dash if there is none."""
    return NO_FIGURE if value is None else f"{value:{form}}{unit}"


def format_rates(rates: Mapping[str, float], *, unit: str = "") -> str:
    """Format iterations per second, each with the name of its loop if there are several; a dash if no loop was timed."""
    return (
        ", ".join(f"{f'{name} ' if len(rates) > 1 else ''}{rate:.4g}{unit}" for name, rate in rates.items())
        or NO_FIGURE
    )


def format_peak(peak_bytes: float | None) -> str:
    """Format bytes as GiB."""
    return format_figure(None if peak_bytes is None else peak_bytes / 2**30, ".3f", " GiB")


def format_ssim(ssim: float | None) -> str:
    """Format a similarity; NaN stays visible, because a case that made NaN has failed parity."""
    return NO_FIGURE if ssim is None else "NaN" if math.isnan(ssim) else f"{ssim:.4f}"


def format_spread(medians_s: Sequence[float]) -> str:
    """Format the range of the process medians relative to the smallest; a single process has none."""
    return f"{max(medians_s) / min(medians_s) - 1:.1%}" if len(medians_s) > 1 else NO_FIGURE


def _spread_and_count(row: CaseRow) -> str:
    count = len(row.process_medians_s)
    if count < 2:
        return f"{count} proc." if count else NO_FIGURE
    return f"{format_spread(row.process_medians_s)} of {count}"


def _compile_seconds(row: CaseRow) -> str:
    """Format the compiler's seconds of the start beside which the column stands; a case that compiles nothing has none."""
    if row.cold_start is None or not row.cold_start.compile_s:
        return NO_FIGURE
    return f"{row.cold_start.compile_s:.1f} s{' (regional)' if row.is_regional else ''}"


CASE = Column[CaseRow]("case", lambda row: row.case_key, is_name=True)
STAGE = Column[CaseRow]("stage", lambda row: CaseKey.parse(row.case_key).stage, is_name=True)
VERDICT = Column[CaseRow]("verdict", lambda row: verdict_text(row))
LATENCY = Column[CaseRow]("latency", lambda row: format_figure(row.latency_s, ".4g", " s"), is_number=True)
RATES = Column[CaseRow]("it/s", lambda row: format_rates(row.rates), is_name=True, is_number=True)
PROCESSES = Column[CaseRow](
    "processes", lambda row: str(len(row.process_medians_s)) if row.process_medians_s else NO_FIGURE, is_number=True
)
SPREAD = Column[CaseRow]("spread", lambda row: format_spread(row.process_medians_s), is_number=True)
SPREAD_AND_COUNT = Column[CaseRow]("spread", _spread_and_count, is_number=True)
VS_PARENT = Column[CaseRow]("vs parent", lambda row: format_figure(row.speedup_over_parent, ".2f", "x"), is_number=True)
VS_FIRST = Column[CaseRow]("vs first", lambda row: format_figure(row.speedup_over_first, ".2f", "x"), is_number=True)
SSIM = Column[CaseRow]("SSIM", lambda row: format_ssim(row.ssim), is_number=True)
PEAK = Column[CaseRow]("peak", lambda row: format_peak(row.peak_bytes), is_number=True)
COLD_START = Column[CaseRow](
    "cold start",
    lambda row: f"{row.cold_start.total_s:.1f} s ({row.cold_start.cache})" if row.cold_start else NO_FIGURE,
)
COMPILE = Column[CaseRow]("compile", lambda row: _compile_seconds(row))
BASELINE = Column[CaseRow]("baseline", lambda row: row.compared_with, is_name=True)
SESSION = Column[CaseRow]("results", lambda row: row.session, is_name=True)
INJECTED = Column[CaseRow]("injected", lambda row: row.injected_fault, is_name=True)
OTHER_LATENCY = Column[CaseRow]("stable", lambda row: format_figure(row.other_latency_s, ".4g", " s"), is_number=True)
LATENCY_RATIO = Column[CaseRow]("ratio", lambda row: format_figure(row.latency_ratio, ".3f"), is_number=True)
MEMORY_RATIO = Column[CaseRow]("peak memory ratio", lambda row: format_figure(row.memory_ratio, ".3f"), is_number=True)


def verdict_text(row: CaseRow) -> str:
    """Return the outcome of a case, or why it has none."""
    return (REFERENCE if row.is_reference else NOT_JUDGED) if row.outcome is None else row.outcome.value


def with_figures(columns: Sequence[Column[Row]], rows: Sequence[Row]) -> list[Column[Row]]:
    """Leave out each column in which no row has a figure."""
    return [column for column in columns if any(column.cell(row) != NO_FIGURE for row in rows)]


def text_table(columns: Sequence[Column[Row]], rows: Sequence[Row]) -> list[str]:
    """Format the table as lines of aligned text, without control characters."""
    cells = [[printable(column.cell(row)) for column in columns] for row in rows]
    return aligned([[column.heading for column in columns], *cells])


def markdown_table(columns: Sequence[Column[Row]], rows: Sequence[Row]) -> list[str]:
    """Format the table as lines of Markdown."""
    return [*markdown_head(columns), *(markdown_row(columns, row) for row in rows)]


def markdown_head(columns: Sequence[Column[Row]]) -> list[str]:
    """Format the headings, which are Markdown themselves, and the line below them."""
    return [f"| {' | '.join(column.heading for column in columns)} |", f"|{' --- |' * len(columns)}"]


def markdown_row(columns: Sequence[Column[Row]], row: Row) -> str:
    """Format one row; names are shown as code, every other cell is Markdown itself."""
    cells = [(column.cell(row), column.is_name) for column in columns]
    escaped = [markdown_code(cell) if is_name and cell != NO_FIGURE else cell for cell, is_name in cells]
    return f"| {' | '.join(escaped)} |"
