"""The table of generated code: one row per case and target, for the terminal, the Markdown summary and the HTML report."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from speedgate.gpu_code import figures
from speedgate.gpu_code.figures import format_bytes, moved_bytes_per_image, products_by_dtype, target_of_claim
from speedgate.results.case_table import NO_FIGURE, NOT_JUDGED, Column
from speedgate.results.gpu_code import GeneratedCode, GpuCode
from speedgate.results.run import Outcome, Verdict, worst_outcome

CAPTION = "Generated code: kernels and launches of one call of each module, bytes moved by all calls of an image"


@dataclasses.dataclass(frozen=True, kw_only=True)
class GpuCodeRow:
    """The code of a case for a target in this arm, in the other arm of a live comparison, and the worst verdict on it."""

    code: GpuCode
    other: GpuCode | None
    outcome: Outcome | None


def rows_of(
    codes: Mapping[str, Mapping[str, GeneratedCode]], verdicts: Mapping[str, Sequence[Verdict]]
) -> list[GpuCodeRow]:
    """Make the rows of all cases. Both mappings have the case key first; `codes` then has the target."""
    return [
        GpuCodeRow(code=code.this, other=code.other, outcome=_outcome(verdicts.get(case_key, ()), target))
        for case_key, by_target in codes.items()
        for target, code in by_target.items()
    ]


def _outcome(verdicts: Iterable[Verdict], target: str) -> Outcome | None:
    return worst_outcome(verdict for verdict in verdicts if target_of_claim(verdict.claim) == target)


def _graphs(row: GpuCodeRow) -> str:
    return str(sum(module.graphs for module in row.code.modules)) if row.code.modules else NO_FIGURE


def _kernels(row: GpuCodeRow) -> str:
    modules = row.code.modules
    if not modules:
        return NO_FIGURE
    return f"{sum(len(module.kernels) for module in modules)} / {sum(module.launches for module in modules)}"


def _moved(row: GpuCodeRow) -> str:
    return format_bytes(moved_bytes_per_image(row.code)) if row.code.modules else NO_FIGURE


def _change(row: GpuCodeRow) -> str:
    if row.other is None or not (row.code.modules and row.other.modules):
        return NO_FIGURE
    before, after = moved_bytes_per_image(row.other), moved_bytes_per_image(row.code)
    return "equal" if after == before else f"{after / before - 1:+.2%}" if before else NO_FIGURE


def _products(row: GpuCodeRow) -> str:
    counts = products_by_dtype(row.code.modules)
    return ", ".join(f"{dtype} {count}" for dtype, count in counts.items()) or NO_FIGURE


def _spills(row: GpuCodeRow) -> str:
    spilled = figures.spilled_bytes(row.code.modules)
    return NO_FIGURE if spilled is None else format_bytes(spilled)


COLUMNS = (
    Column[GpuCodeRow]("case", lambda row: row.code.case_key, is_name=True),
    Column[GpuCodeRow]("target", lambda row: row.code.target, is_name=True),
    Column[GpuCodeRow]("graphs", _graphs, is_number=True),
    Column[GpuCodeRow]("kernels / launches", _kernels, is_number=True),
    Column[GpuCodeRow]("moved", _moved, is_number=True),
    Column[GpuCodeRow]("other arm", _change, is_number=True),
    Column[GpuCodeRow]("products", _products, is_name=True),
    Column[GpuCodeRow]("spilled", _spills, is_number=True),
    Column[GpuCodeRow]("verdict", lambda row: NOT_JUDGED if row.outcome is None else row.outcome.value),
)
