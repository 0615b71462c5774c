"""The terminal section: one line a case, then a sentence for everything that is not a plain PASS."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from speedgate.gate.explain import explains_verdict
from speedgate.results.case_key import CaseKey
from speedgate.results.family_figure import FamilyFigure
from speedgate.results.run import Baseline, Comparison, Outcome, Run, Verdict, worst_outcome
from speedgate.results.text import printable

_HEADER = (
    "case", "latency", "it/s", "spread", "vs parent", "vs first", "SSIM", "peak", "cold start", "baseline", "verdict"
)  # fmt: skip


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
    """The section's lines: figures are rounded here and nowhere else. A column with no figure of any case is left out."""
    rows = [_row(view, run) for run in view.runs.values()]
    rows += [_lost_row(view, key) for key in view.lost_cases if key not in view.runs]
    if not rows:
        return []
    columns = [
        column for column in zip(_HEADER, *rows, strict=True) if set(column[1:]) != {"-"} or column[0] == "verdict"
    ]
    widths = [max(map(len, column)) for column in columns]
    lines = ["  ".join(map(str.ljust, row, widths)) for row in zip(*columns, strict=True)]
    return [line.rstrip() for line in lines]


def sentences(view: TerminalView) -> list[str]:
    """Each verdict that is neither PASS nor NO_BASELINE, worst first; of what passed each latency, for its interval tells
    what it would have seen, and why a case without figures is none the less one; then what has no baseline.
    """
    said = [verdict for verdicts in view.verdicts.values() for verdict in verdicts]
    missing = list(dict.fromkeys(v.case_key for v in said if v.outcome is Outcome.NO_BASELINE))
    told = [
        verdict
        for verdict in said
        if verdict.outcome not in (Outcome.PASS, Outcome.NO_BASELINE)
        or (verdict.outcome is Outcome.PASS and verdict.claim == "latency")
        or (verdict.claim == "fit" and verdict.case_key in view.lost_cases)
    ]
    lines, explained = [], set()
    for verdict in sorted(told, key=lambda verdict: verdict.outcome.severity):
        lines.append(printable(str(verdict)))
        changed = view.explanations.get(verdict.case_key, ())
        if verdict.case_key not in explained and explains_verdict(
            changed, claim=verdict.claim, outcome=verdict.outcome
        ):
            explained.add(verdict.case_key)  # a case's verdicts have one explanation
            lines += [f"  {printable(line)}" for line in changed]
    if missing and not view.is_recording:
        where = f"on {view.gpu_key}: not judged; record them with --gate record"
        lines.append(printable(f"{Outcome.NO_BASELINE} for {len(missing)} of {len(view.runs)} cases {where}"))
    return lines


def remarks(view: TerminalView) -> list[str]:
    """What the reader has to know of the machine and of the other arm, and what was published for GPUs like this one."""
    lines = [printable(line) for line in _published(view)]
    load, cores = view.health.get("load_1min"), view.health.get("cores")
    if view.runs and load is not None and cores and load > cores / 2:
        lines.append(
            f"load average {load:.1f} on {cores} cores before the first case: the machine had other work a moment ago,"
            " and figures of a busy machine mean nothing"
        )
    lines += [printable(line) for line in _rooflines(view)]
    for key, run in view.runs.items():
        other = [view.comparisons[key].other] if key in view.comparisons else []
        count = sum(len(process.void) for side in (run, *other) for process in side.processes)
        if count:
            lines.append(printable(f"{count} void rounds of {key} were measured again"))
    if view.is_live:
        own = next((run.environment for run in view.runs.values()), {})
        lines.append(f"{'':<14}{'this arm':<42}other arm")
        lines += [printable(f"{name:<14}{own.get(name)!s:<42}{value}") for name, value in view.other_versions.items()]
    return lines


def _rooflines(view: TerminalView) -> list[str]:
    """What an image takes and the share of the machine that it reaches; where no ceiling is known, once a workload."""
    lines: dict[str, str] = {}
    for key, found in view.rooflines.items():
        parts = CaseKey.parse(key)
        tflop = sum(sum(one["flops"].values()) for one in found["operations"].values()) / 1e12
        if "share" in found:
            lines[key] = (
                f"{key}: {tflop:.4g} TFLOP an image, {found['floor_s']:.3g} s at least here; {found['share']:.0%} of it reached"
            )
        else:
            lines[f"{parts.pipeline}//{parts.workload}"] = (
                f"{parts.pipeline} at {parts.workload}: {tflop:.4g} TFLOP an image"
            )
    return list(lines.values())


def _published(view: TerminalView) -> list[str]:
    """A line for each measured case, or loop of one, of which a figure was published for this family of GPUs."""
    measured = [run for run in view.runs.values() if run.processes]
    return [
        f"published for this family ({figures[0].family}), not gated: {figures[0].case_key}:"
        f" {', '.join(figure.description for figure in figures)}; {here}"
        for run in measured
        for figures, here in _of_family(view, run)
    ]


def _of_family(view: TerminalView, run: Run) -> list[tuple[Sequence[FamilyFigure], str]]:
    """Published figures with what was measured beside them. Where a case has several loops each may stand by itself, under
    the pipeline's name with the loop's, and with sizes of its own: `cascade-second/fp16/256px-50steps-b1`.
    """
    rates = _rates(run, unit=" it/s")
    here = f"measured here: {rates}" if rates else "no loop timed here"
    found: list[tuple[Sequence[FamilyFigure], str]] = (
        [(view.family_figures[run.case_key], here)] if run.case_key in view.family_figures else []
    )
    batch = run.key.workload.rpartition("-")[2]
    for loop, rate in run.iterations_per_s.items():
        found += [
            (figures, f"measured here: {rate:.4g} it/s")
            for key, figures in view.family_figures.items()
            if loop and key.startswith(f"{run.key.pipeline}-{loop}/{run.stage}/") and key.endswith(f"-{batch}")
        ]
    return found


def _row(view: TerminalView, run: Run) -> tuple[str, ...]:
    baseline = view.baselines.get(run.case_key)
    verdict = worst_outcome(view.verdicts.get(run.case_key, ()))
    measured = bool(run.processes)
    return (
        printable(run.case_key),
        f"{run.latency_s:.4g} s" if measured else "-",
        _rates(run) or "-",
        _spread(run.process_medians_s),
        _speedup(view, run, run.parent_key),
        _speedup(view, run, run.first_key),
        _ssim(run),
        f"{run.peak_bytes / 2**30:.3f} GiB" if measured else "-",
        f"{run.cold_start.total_s:.1f} s ({run.cold_start.cache})",
        printable(baseline.name) if baseline else "other arm" if view.is_live else "none here",
        verdict.value if verdict else "-",
    )


def _rates(run: Run, *, unit: str = "") -> str:
    """Iterations per second of each loop in a round, with its name where there is more than one; "" where there is none."""
    rates = run.iterations_per_s
    return ", ".join(
        printable(f"{f'{name} ' if len(rates) > 1 else ''}{value:.4g}{unit}") for name, value in rates.items()
    )


def _ssim(run: Run) -> str:
    if run.parity is None:
        return "-"
    value = run.parity["ssim"]
    return "NaN" if value is None else f"{value:.4f}"


def _lost_row(view: TerminalView, case_key: str) -> tuple[str, ...]:
    verdict = worst_outcome(view.verdicts.get(case_key, ()))
    assert verdict is not None, f"{case_key} is over and nobody said why"
    return (printable(case_key), *("-" for _ in _HEADER[2:]), verdict.value)


def _spread(medians_s: Sequence[float]) -> str:
    """Range of the process medians relative to the smallest; one process says nothing about it."""
    if len(medians_s) < 2:
        return f"{len(medians_s)} proc." if medians_s else "-"
    return f"{max(medians_s) / min(medians_s) - 1:.1%} of {len(medians_s)}"


def _speedup(view: TerminalView, run: Run, other_key: str | None) -> str:
    other = view.runs.get(other_key) if other_key else None
    if other is None or not (other.processes and run.processes):
        return "-"
    return f"{other.latency_s / run.latency_s:.2f}x"
