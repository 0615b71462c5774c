"""The section of the terminal: a table with one line per case, the sentences of verdicts, and remarks on the machine."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from speedgate.report.verdict_order import worst_first
from speedgate.results import case_table
from speedgate.results.case_key import CaseKey
from speedgate.results.case_table import CaseRow, format_rates, row_of_run
from speedgate.results.family_figure import FamilyFigure
from speedgate.results.run import Baseline, Comparison, Outcome, Run, Verdict, worst_outcome
from speedgate.results.text import printable

_COLUMNS = (
    case_table.CASE,
    case_table.LATENCY,
    case_table.RATES,
    case_table.SPREAD_AND_COUNT,
    case_table.VS_PARENT,
    case_table.VS_FIRST,
    case_table.SSIM,
    case_table.PEAK,
    case_table.COLD_START,
    case_table.BASELINE,
    case_table.VERDICT,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TerminalView:
    """The results that the terminal section shows; every mapping goes by case key.

    `lost_cases` have no usable measurement. `is_live` is true if verdicts compare with the other arm and not with baselines;
    `other_versions` are then its package versions. `is_recording` is true for `--gate record`. `health` holds the machine's
    load before the first case.
    """

    gpu_key: str
    is_recording: bool = False
    is_live: bool = False
    runs: Mapping[str, Run] = dataclasses.field(default_factory=dict)
    verdicts: Mapping[str, Sequence[Verdict]] = dataclasses.field(default_factory=dict)
    lost_cases: Collection[str] = ()
    explanations: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    baselines: Mapping[str, Baseline] = dataclasses.field(default_factory=dict)
    comparisons: Mapping[str, Comparison] = dataclasses.field(default_factory=dict)
    family_figures: Mapping[str, Sequence[FamilyFigure]] = dataclasses.field(default_factory=dict)
    rooflines: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    health: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    other_versions: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def table(view: TerminalView) -> list[str]:
    """Format one line per case below the headings, without columns that have no figure; empty if there is no case."""
    rows = _rows(view)
    return case_table.text_table(case_table.with_figures(_COLUMNS, rows), rows) if rows else []


def _rows(view: TerminalView) -> list[CaseRow]:
    latencies_s = {key: run.latency_s for key, run in view.runs.items() if run.processes}
    outcomes = {key: worst_outcome(verdicts) for key, verdicts in view.verdicts.items()}
    rows = []
    for key, run in view.runs.items():
        baseline = view.baselines.get(key)
        compared_with = baseline.name if baseline else "other arm" if view.is_live else "none here"
        rows.append(row_of_run(run, latencies_s=latencies_s, outcome=outcomes.get(key), compared_with=compared_with))
    lost = [key for key in view.lost_cases if key not in view.runs]
    return [*rows, *(CaseRow(case_key=key, outcome=outcomes.get(key)) for key in lost)]


def sentences(view: TerminalView) -> list[str]:
    """Format the verdicts that a reader needs, worst first, each with what changed, then the cases without a baseline.

    A latency that passed has its sentence too: its interval says which slowdown would have been seen.
    """
    cases = [
        ([verdict for verdict in verdicts if _has_sentence(view, verdict)], view.explanations.get(key, ()))
        for key, verdicts in view.verdicts.items()
    ]
    lines = []
    for verdict, explanation in worst_first(cases):
        lines.append(printable(str(verdict)))
        lines += [f"  {printable(line)}" for line in explanation]
    missing = [
        key for key, verdicts in view.verdicts.items() if any(v.outcome is Outcome.NO_BASELINE for v in verdicts)
    ]
    if missing and not view.is_recording:
        where = f"on {view.gpu_key}: not judged; record them with --gate record"
        lines.append(printable(f"{Outcome.NO_BASELINE} for {len(missing)} of {len(view.runs)} cases {where}"))
    return lines


def _has_sentence(view: TerminalView, verdict: Verdict) -> bool:
    if verdict.claim == "fit" and verdict.case_key in view.lost_cases:
        return True  # the case ran out of memory as expected: this is why it has no figures
    if verdict.outcome is Outcome.PASS:
        return verdict.claim == "latency"
    return verdict.outcome is not Outcome.NO_BASELINE


def remarks(view: TerminalView) -> list[str]:
    """Format what else a reader has to know: published figures, a busy machine, rooflines, discarded rounds and versions."""
    lines = [
        *_published_figures(view),
        *_busy_machine(view),
        *_rooflines(view),
        *_discarded_rounds(view),
        *_versions(view),
    ]
    return [printable(line) for line in lines]


def _busy_machine(view: TerminalView) -> Iterator[str]:
    load, cores = view.health.get("load_1min"), view.health.get("cores")
    if view.runs and load is not None and cores and load > cores / 2:
        yield (
            f"load average {load:.1f} on {cores} cores before the first case: the machine had other work a moment ago,"
            " and figures of a busy machine mean nothing"
        )


def _rooflines(view: TerminalView) -> list[str]:
    """Format the operations of an image and the share of the machine that a case reaches.

    Without known ceilings every stage of a workload has the same operations, so the workload has one line.
    """
    lines: dict[str, str] = {}
    for case_key, roofline in view.rooflines.items():
        key = CaseKey.parse(case_key)
        tflop = sum(sum(component["flops"].values()) for component in roofline["operations"].values()) / 1e12
        if "share" in roofline:
            floor = f"at least {roofline['floor_s']:.3g} s here"
            lines[case_key] = (
                f"{case_key}: {tflop:.4g} TFLOP an image, {floor}; this run reaches {roofline['share']:.0%}"
            )
        else:
            workload = f"{key.pipeline} at {key.workload}"
            lines[workload] = f"{workload}: {tflop:.4g} TFLOP an image"
    return list(lines.values())


def _discarded_rounds(view: TerminalView) -> Iterator[str]:
    for key, run in view.runs.items():
        arms = [run, view.comparisons[key].other] if key in view.comparisons else [run]
        count = sum(len(process.discarded_reasons) for arm in arms for process in arm.processes)
        if count:
            yield f"{count} discarded rounds of {key} were measured again"


def _versions(view: TerminalView) -> Iterator[str]:
    """Format the package versions of both arms of a live comparison, side by side."""
    if view.is_live:
        versions = next((run.environment for run in view.runs.values()), {})
        yield f"{'':<14}{'this arm':<42}other arm"
        for name, other_version in view.other_versions.items():
            yield f"{name:<14}{versions.get(name)!s:<42}{other_version}"


def _published_figures(view: TerminalView) -> list[str]:
    """Format a line for each measured case, or loop of one, with a figure that was published for this family of GPUs."""
    return [
        f"published for this family ({figures[0].family}), not gated: {figures[0].case_key}:"
        f" {', '.join(figure.description for figure in figures)}; {measured_here}"
        for run in view.runs.values()
        if run.processes
        for figures, measured_here in _figures_of_family(view, run)
    ]


def _figures_of_family(view: TerminalView, run: Run) -> Iterator[tuple[Sequence[FamilyFigure], str]]:
    """Yield published figures, each with what was measured here.

    If a case has several loops, a table may list each by itself: under the pipeline's and the loop's name, and with another
    size, such as `cascade-second/fp16/256px-50steps-b1`.
    """
    rates = run.iterations_per_s
    if run.case_key in view.family_figures:
        here = f"measured here: {format_rates(rates, unit=' it/s')}" if rates else "no loop timed here"
        yield view.family_figures[run.case_key], here
    batch = run.key.workload.rpartition("-")[2]
    for loop, rate in rates.items():
        for key, figures in view.family_figures.items():
            if loop and key.startswith(f"{run.key.pipeline}-{loop}/{run.stage}/") and key.endswith(f"-{batch}"):
                yield figures, f"measured here: {rate:.4g} it/s"
