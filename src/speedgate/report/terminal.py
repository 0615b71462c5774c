"""The section of the terminal: a table with one line per case, the sentences of verdicts, and remarks on the machine."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from speedgate.gate import guard
from speedgate.gate.intervals import unseen_slowdown
from speedgate.gate.policy import Policy
from speedgate.gpu_code import claims, compare
from speedgate.gpu_code.figures import target_of_claim
from speedgate.report import confirmed, gpu_code_table
from speedgate.report.verdict_order import worst_first
from speedgate.results import case_table
from speedgate.results.case_key import CaseKey
from speedgate.results.case_table import NO_FIGURE, CaseRow, format_rates, format_spread, row_of_run
from speedgate.results.family_figure import FamilyFigure
from speedgate.results.gpu_code import GeneratedCode
from speedgate.results.run import Baseline, Comparison, Confirmation, Outcome, Run, Verdict, worst_outcome
from speedgate.results.run_marks import Injection
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
    case_table.COMPILE,
    case_table.BASELINE,
    case_table.INJECTED,
    case_table.VERDICT,
)
_ADVICE = {
    Outcome.NOT_APPLIED: "read below which fact does not hold.",
    Outcome.DIFFERENT: "compare the images: the same command with --report report.html",
    Outcome.INVALID: "read below what broke, and measure again.",
    Outcome.MORE_WORK: "read below what rose and which kernels differ.",
    Outcome.UNKNOWN: "read below why no code could be generated.",
    Outcome.MISSING: "read below which case or claim is missing.",
    Outcome.UNDECIDED: "measure on a quieter machine, or more processes (--max-processes).",
}
_OUTCOME = re.compile(rf"^({'|'.join(Outcome)})(?= )|(?<=  )({'|'.join(Outcome)})$")
# Claims whose sentence is shown though they passed: it holds figures that a reader wants.
_TELLING = ("latency", claims.QUANTISED, claims.SCALE, compare.CLAIM)
_MORE_PROCESSES = 12  # the least number that a recording with a large spread is advised to take
# pytest's markup of each outcome; red for the others.
COLOURS = {
    **dict.fromkeys((Outcome.PASS, Outcome.FASTER, Outcome.SMALLER), "green"),
    **dict.fromkeys((Outcome.STALE, Outcome.UNKNOWN, Outcome.UNDECIDED, Outcome.NO_BASELINE), "yellow"),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recording:
    """The file that a recording wrote, and the reason of each case in it that cannot become a baseline."""

    path: str
    refused: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TerminalView:
    """The results that the terminal section shows; every mapping goes by case key.

    `tests` are the arguments of pytest that name the tests. `lost_cases` have no usable measurement. `is_live` is true if
    verdicts compare with the other arm and not with baselines; `other_versions` are then its package versions.
    `is_recording` is true for `--gate record`, and `recording` is what it wrote. `health` holds the machine's load before the
    first case. `not_judged` has the reason of each claim of a case that could not be judged, and `not_built` the reasons of
    cases that this machine cannot have. `injection` is the fault of a fire drill.
    `confirmations` are the live pairs of suspected cases. `gpu_codes` has the generated code of each case by target.
    `references` were built only for others to be compared with. `ignored` are remarks on acknowledgements that have ended.
    """

    gpu_key: str
    tests: str = "bench/"
    policy: Policy = dataclasses.field(default_factory=Policy)
    is_recording: bool = False
    recording: Recording | None = None
    is_live: bool = False
    runs: Mapping[str, Run] = dataclasses.field(default_factory=dict)
    verdicts: Mapping[str, Sequence[Verdict]] = dataclasses.field(default_factory=dict)
    lost_cases: Collection[str] = ()
    explanations: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    baselines: Mapping[str, Baseline] = dataclasses.field(default_factory=dict)
    comparisons: Mapping[str, Comparison] = dataclasses.field(default_factory=dict)
    confirmations: Mapping[str, Confirmation] = dataclasses.field(default_factory=dict)
    family_figures: Mapping[str, Sequence[FamilyFigure]] = dataclasses.field(default_factory=dict)
    rooflines: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    health: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    other_versions: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    not_judged: Mapping[str, Mapping[str, str]] = dataclasses.field(default_factory=dict)
    not_built: Sequence[str] = ()
    injection: Injection | None = None
    gpu_codes: Mapping[str, Mapping[str, GeneratedCode]] = dataclasses.field(default_factory=dict)
    references: Collection[str] = ()
    ignored: Sequence[str] = ()


def table(view: TerminalView) -> list[str]:
    """Format one line per case below the headings, without columns that say nothing; empty if there is no case."""
    rows = _rows(view)
    columns = case_table.with_figures(_COLUMNS, rows)
    if rows and all(row.outcome is Outcome.NO_BASELINE or row.is_reference for row in rows):
        columns.remove(case_table.VERDICT)  # the line below the table says it
    return case_table.text_table(columns, rows) if rows else []


def _rows(view: TerminalView) -> list[CaseRow]:
    latencies_s = {key: run.latency_s for key, run in view.runs.items() if run.processes}
    outcomes = {key: worst_outcome(verdicts) for key, verdicts in view.verdicts.items()}
    rows = []
    for key, run in view.runs.items():
        baseline = view.baselines.get(key)
        compared_with = baseline.name if baseline else NO_FIGURE
        row = row_of_run(run, latencies_s=latencies_s, outcome=outcomes.get(key), compared_with=compared_with)
        row = dataclasses.replace(row, is_reference=key in view.references)
        rows.append(row if latencies_s else dataclasses.replace(row, cold_start=None))  # a session that times nothing
    rows += [CaseRow(case_key=key, outcome=outcomes.get(key)) for key in view.lost_cases if key not in view.runs]
    injection = view.injection
    if injection is None:
        return rows
    return [
        dataclasses.replace(row, injected_fault=injection.fault) if row.case_key in injection.case_keys else row
        for row in rows
    ]


def gpu_code_lines(view: TerminalView) -> list[str]:
    """Format one line per case and target of generated code; empty if none was generated."""
    rows = gpu_code_table.rows_of(view.gpu_codes, view.verdicts)
    return case_table.text_table(case_table.with_figures(gpu_code_table.COLUMNS, rows), rows) if rows else []


def section(view: TerminalView) -> list[str]:
    """Format the table, what to do next, the verdicts that a reader needs, and how many claims are guarded."""
    lines = [*table(view), *gpu_code_lines(view), "", *next_steps(view), *sentences(view), *_passes(view)]
    if view.verdicts or view.not_judged:
        lines.append(printable(guard.count_guarded(view.verdicts, view.not_judged).sentence))
    return lines if lines[0] else lines[1:]


def next_steps(view: TerminalView) -> list[str]:
    """Say what to do after this session: by the worst verdict, or with what a recording wrote."""
    if view.is_recording:
        return [printable(line) for line in _after_recording(view)]
    if view.injection is not None:
        return [printable(f"Fire drill: {view.injection.sentence}")]
    outcomes = [verdict.outcome for verdicts in view.verdicts.values() for verdict in verdicts if verdict.gates]
    worst = min(outcomes, key=lambda outcome: outcome.severity, default=None)
    record = f"pytest {view.tests} --gate record, then speedgate promote {view.gpu_key}"
    lines = []
    match worst:
        case Outcome.PASS:
            lines = ["Every verdict is PASS."]
        case Outcome.SLOWER | Outcome.BIGGER:
            intended = "" if view.is_live else f" If the change is intended: {record} --accept-slower REASON"
            if intended:
                intended += "; until then: speedgate acknowledge CASE --why REASON"
            lines = [f"Next: read below what changed.{intended}"]
        case Outcome.STALE | Outcome.FASTER | Outcome.SMALLER if not view.is_live:
            lines = [f"Next: record a new baseline: {record}"]
        case outcome if outcome in _ADVICE:
            lines = [f"Next: {_ADVICE[outcome]}"]
    acknowledged = sum(verdict.is_acknowledged for verdicts in view.verdicts.values() for verdict in verdicts)
    if acknowledged:
        claims = "1 red claim is" if acknowledged == 1 else f"{acknowledged} red claims are"
        lines = lines if worst is not Outcome.PASS else ["Every other verdict is PASS."]
        lines.append(f"{claims} acknowledged until the next baseline: the sentence below begins with the reason.")
    unknown = [key for key, verdicts in view.verdicts.items() if _has_no_baseline(verdicts)]
    if unknown:
        cases = "" if len(unknown) == len(view.runs) else f"{len(unknown)} of {len(view.runs)} cases on "
        lines.append(f"No baseline of {cases}this machine. Next: {record}")
    lines += _counts_without_data(view)
    return [printable(line) for line in lines]


def _has_no_baseline(verdicts: Iterable[Verdict]) -> bool:
    """Return True if a figure of this machine has no baseline; counts of generated code belong to no machine."""
    return any(
        verdict.outcome is Outcome.NO_BASELINE and target_of_claim(verdict.claim) is None for verdict in verdicts
    )


def _counts_without_data(view: TerminalView) -> Iterator[str]:
    """Say once for each version and target that no counts of generated code are stored."""
    counts = Counter(
        (verdict.claim, verdict.sentence)
        for verdicts in view.verdicts.values()
        for verdict in verdicts
        if verdict.outcome is Outcome.NO_BASELINE and target_of_claim(verdict.claim) is not None
    )
    yield from (f"{claim}, {_cases(count)}: {sentence}" for (claim, sentence), count in counts.items())


def _after_recording(view: TerminalView) -> Iterator[str]:
    if view.recording is None:  # unfinished: the same command continues it
        return
    path, refused = view.recording.path, view.recording.refused
    if refused:
        yield f"recorded {path}: {len(refused)} of its cases cannot become a baseline: {next(iter(refused.values()))}"
    else:
        yield f"recorded {path}. Next: speedgate promote {view.gpu_key}, then commit the new file"
    limits = {run.case_key: limit for run in view.runs.values() if (limit := _unseen(view.policy, run)) is not None}
    if limits:
        key, limit = max(limits.items(), key=lambda item: item[1])
        run = view.runs[key]
        more = max(_MORE_PROCESSES, 2 * len(run.processes))
        lower = _unseen(view.policy, run, processes=more) or limit
        yield (
            f"{format_spread(run.process_medians_s)} spread of {len(run.processes)} processes ({key}): a slowdown of less than"
            f" {limit - 1:+.1%} may stay unseen"
            + (f"; with --processes {more}, less than {lower - 1:+.1%}" if limit - lower >= 0.01 else "")
        )


def _unseen(policy: Policy, run: Run, *, processes: int | None = None) -> float | None:
    """Return the ratio up to which a slowdown may stay unseen at the last look, if the run becomes the baseline."""
    return unseen_slowdown(
        run.process_medians_s,
        later=policy.looks.last,
        confidence=policy.looks.confidence_at(policy.looks.last),
        tolerance=policy.tolerance(run.stage),
        processes=processes,
    )


def sentences(view: TerminalView) -> list[str]:
    """Format the verdicts that a reader needs, worst first, each with what changed.

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
    return lines


def _has_sentence(view: TerminalView, verdict: Verdict) -> bool:
    if verdict.claim == "fit" and verdict.case_key in view.lost_cases:
        return True  # the case ran out of memory as expected: this is why it has no figures
    if verdict.outcome is Outcome.PASS:
        return verdict.claim.startswith(_TELLING)
    return verdict.outcome is not Outcome.NO_BASELINE


def _passes(view: TerminalView) -> list[str]:
    """Count the verdicts that passed and have no sentence, by claim."""
    counts = Counter(
        verdict.claim
        for verdicts in view.verdicts.values()
        for verdict in verdicts
        if verdict.outcome is Outcome.PASS and not _has_sentence(view, verdict)
    )
    claims = "; ".join(
        f"{', '.join(claim for claim in counts if counts[claim] == count)} of {_cases(count)}"
        for count in dict.fromkeys(counts.values())
    )
    return [printable(f"{Outcome.PASS} {claims}")] if claims else []


def _cases(count: int) -> str:
    return "1 case" if count == 1 else f"{count} cases"


def split_outcome(line: str) -> tuple[str, Outcome | None, str]:
    """Split a line into the text before its outcome, the outcome, and the text after; None without one.

    A sentence begins with its outcome, and a row of the table ends with it.
    """
    match = _OUTCOME.search(line)
    if match is None:
        return line, None, ""
    return line[: match.start()], Outcome(match[0]), line[match.end() :]


def remarks(view: TerminalView) -> list[str]:
    """Format what else a reader has to know, such as claims that were not judged, and a busy machine."""
    lines = [
        *dict.fromkeys(f"not built here: {reason}" for reason in view.not_built),
        *view.ignored,
        *_published_figures(view),
        *_busy_machine(view),
        *confirmed_remarks(view),
        *_rooflines(view),
        *_discarded_rounds(view),
        *_versions(view),
    ]
    return [printable(line) for line in lines]


def confirmed_remarks(view: TerminalView) -> list[str]:
    """Format how many cases live pairs decided, what that cost, and the drift of the machine."""
    cases = [(confirmation, view.verdicts.get(key, ())) for key, confirmation in view.confirmations.items()]
    return [printable(line) for line in confirmed.remarks(cases, tolerance=view.policy.latency_tolerance)]


def _busy_machine(view: TerminalView) -> Iterator[str]:
    is_compared = view.injection is None and (view.baselines or view.is_live or view.is_recording)
    if is_compared and view.health.get("allows_busy"):
        yield "--allow-busy: rounds that other programs disturbed are used too"
    load, cores = view.health.get("load_1min"), view.health.get("cores")
    is_timed = any(run.processes for run in view.runs.values())
    if is_timed and load is not None and cores and load > cores / 2:
        yield (
            f"load average {load:.1f} on {cores} cores before the first case: the machine had other work a moment ago,"
            " and the figures of a busy machine are not reliable"
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
        processes = [*run.processes, *(view.comparisons[key].other.processes if key in view.comparisons else ())]
        if (confirmation := view.confirmations.get(key)) is not None:
            other = confirmation.comparison.other.processes if confirmation.comparison else ()
            processes += [*confirmation.processes, *other]
        reasons = [reason for process in processes for reason in process.discarded_reasons]
        if reasons:
            yield f"{len(reasons)} discarded rounds of {key} were measured again, the last one because: {reasons[-1]}"


def _versions(view: TerminalView) -> Iterator[str]:
    """Format the package versions of both arms of a live comparison, side by side."""
    if view.is_live and view.injection is None:
        codes = [code.this.versions for by_target in view.gpu_codes.values() for code in by_target.values()]
        versions: Mapping[str, Any] = next((run.environment for run in view.runs.values()), {}) or next(iter(codes), {})
        width = 2 + max(map(len, view.other_versions), default=0)
        yield f"{'':<{width}}{'this arm':<42}other arm"
        for name, other_version in view.other_versions.items():
            if codes and name not in versions:  # generated code depends on these packages alone
                continue
            yield f"{name:<{width}}{versions.get(name)!s:<42}{other_version}"


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
    figures_of_case = view.family_figures.get(run.case_key, ())
    if latencies := [figure for figure in figures_of_case if figure.latency_s is not None]:
        yield latencies, f"measured here: {run.latency_s:.4g} s"
    if others := [figure for figure in figures_of_case if figure.latency_s is None]:
        yield others, f"measured here: {format_rates(rates, unit=' it/s')}" if rates else "no loop timed here"
    batch = run.key.workload.rpartition("-")[2]
    for loop, rate in rates.items():
        for key, figures in view.family_figures.items():
            if loop and key.startswith(f"{run.key.pipeline}-{loop}/{run.stage}/") and key.endswith(f"-{batch}"):
                yield figures, f"measured here: {rate:.4g} it/s"
