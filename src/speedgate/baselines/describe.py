"""The page of `speedgate describe`: the recorded baselines of a GPU key as Markdown, for the review of a baseline file."""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

from speedgate.baselines import acknowledged, benchmark_json, promote, store
from speedgate.gate.compile_seconds import seconds_by_cache
from speedgate.results import case_table, provenance
from speedgate.results.case_key import CaseKey
from speedgate.results.case_table import NO_FIGURE, CaseRow, Column, format_figure, row_of_run, speedup
from speedgate.results.json_io import as_object, read_json
from speedgate.results.run import Baseline, Process, Run
from speedgate.results.text import markdown_code

_TOP_KERNELS = 3

BaselineColumn = Column[Baseline]


def baseline_page(root: Path, gpu_key: str) -> str:
    """Describe the newest recorded figures of each case, published ones beside them, and cases that fit no longer.

    A `ValueError` if nothing is recorded for the GPU key; it names the keys that have recordings.
    """
    stored = store.newest_cases(root, gpu_key)
    recorded = [baseline for baseline in stored.baselines.values() if baseline.run is not None]
    if not recorded:
        keys = ", ".join(
            key
            for key in store.require_gpu_keys(root)
            if any(baseline.run is not None for baseline in store.newest_baselines(root, key).values())
        )
        raise ValueError(
            f"{gpu_key}: nothing is recorded; GPU keys with recordings: {keys or 'none'}; see speedgate promote --help"
        )
    documents = {path: read_json(path) for path in store.baseline_files(root, gpu_key)}
    newest_files = {baseline.path for baseline in recorded}
    lines = [
        line for path, document in documents.items() if str(path) in newest_files for line in _origins(path, document)
    ]
    lines += [
        f"{markdown_code(case_key)}: **out of memory** according to {markdown_code(name)}"
        for case_key, name in stored.out_of_memory.items()
    ]
    lines += [
        markdown_code(note)
        for path, document in documents.items()
        for note in promote.accepted_notes(document, path=path)
    ]
    lines += [markdown_code(note) for note in acknowledged.notes(root, gpu_key)]
    lines = [f"{line}  " for line in lines]
    published = _published_baselines(root)
    for (pipeline, workload), ladder in _ladders(recorded).items():
        lines += ["", f"### {markdown_code(pipeline)} at {markdown_code(workload)}"]
        for columns in (_figures(ladder, published), _starts(ladder), _components(ladder), _health(), _kernels()):
            stage: BaselineColumn = case_table.STAGE.on(lambda baseline: row_of_run(_run(baseline)))
            lines += ["", *case_table.markdown_table([stage, *case_table.with_figures(columns, ladder)], ladder)]
    return "\n".join([*lines, ""])


def _origins(path: Path, document: Any) -> list[str]:
    """List when, at which commit and with which versions the runs of a file were measured, without repetitions."""
    session = {"measured_at": document.get("datetime"), "commit": document.get("commit_info")}
    origins = [
        provenance.describe(session | as_object(block.get("session")) | {"run": block.get("run")})
        for _, block in benchmark_json.speedgate_blocks(document, where=str(path))
    ]
    return [f"{markdown_code(path.name)}: {markdown_code(origin)}" for origin in dict.fromkeys(origins)]


def _ladders(recorded: Sequence[Baseline]) -> dict[tuple[str, str], list[Baseline]]:
    """Group the cases by pipeline and workload; a stage comes after the stages that it includes."""
    ladders: dict[tuple[str, str], list[Baseline]] = {}
    for baseline in sorted(recorded, key=lambda baseline: len(_run(baseline).stages)):
        key = CaseKey.parse(baseline.case_key)
        ladders.setdefault((key.pipeline, key.workload), []).append(baseline)
    return ladders


def _published_baselines(root: Path) -> dict[str, Baseline]:
    """Read the published baselines of all GPU keys, by case."""
    return {
        baseline.case_key: baseline
        for gpu_key in store.gpu_keys(root)
        for path in store.baseline_files(root, gpu_key)
        for baseline in store.read_baselines(path, gpu_key=gpu_key)
        if baseline.source == benchmark_json.PUBLISHED
    }


def _figures(ladder: Sequence[Baseline], published: Mapping[str, Baseline]) -> list[BaselineColumn]:
    """Make the columns that every table of cases has, the published figures, and the spread of the measurement."""
    latencies_s = {baseline.case_key: baseline.latency_s for baseline in ladder}
    published_s = {key: baseline.latency_s for key, baseline in published.items()}
    gpu_keys = {published[key].gpu_key for key in latencies_s if key in published}
    heading = f"published, {', '.join(map(markdown_code, sorted(gpu_keys)))}"

    def row(baseline: Baseline) -> CaseRow:
        return row_of_run(_run(baseline), latencies_s=latencies_s)

    def published_gain(baseline: Baseline) -> str:
        latency_s = published_s.get(baseline.case_key)
        gain = None if latency_s is None else speedup(latency_s, _run(baseline).parent_key, published_s)
        return format_figure(gain, ".2f", "x")

    return [
        case_table.LATENCY.on(row),
        case_table.VS_PARENT.on(row),
        case_table.VS_FIRST.on(row),
        Column(heading, lambda baseline: format_figure(published_s.get(baseline.case_key), ".4g", " s")),
        Column(f"{heading}, vs parent", published_gain),
        Column(
            "sd of processes", lambda each: f"{_deviation(each.process_medians_s)} of {len(each.process_medians_s)}"
        ),
        Column("sd of rounds", lambda baseline: _deviation_of_rounds(_run(baseline).processes)),
        case_table.SSIM.on(row),
        case_table.PEAK.on(row),
        Column("of the ceilings", lambda baseline: format_figure(baseline.share, ".0%")),
        case_table.RATES.on(row),
    ]


def _starts(ladder: Sequence[Baseline]) -> list[BaselineColumn]:
    """Make the columns of a stage's start, by the state of the compile cache, and of everything that was counted."""
    states = dict.fromkeys(start.cache for baseline in ladder for start in baseline.cold_starts)
    compiled = dict.fromkeys(state for baseline in ladder for state in seconds_by_cache(baseline.cold_starts))
    names = dict.fromkeys(
        name for baseline in ladder for name, count in (_run(baseline).counts or {}).items() if _is_number(count)
    )

    def start(state: str, baseline: Baseline) -> str:
        starts_s = [start.stage_s for start in baseline.cold_starts if start.cache == state]
        return f"{statistics.median(starts_s):.3g}" if starts_s else NO_FIGURE

    def compilation(state: str, baseline: Baseline) -> str:
        seconds = seconds_by_cache(baseline.cold_starts).get(state)
        return f"{statistics.median(seconds):.3g}" if seconds else NO_FIGURE

    def count(name: str, baseline: Baseline) -> str:
        return format_figure((_run(baseline).counts or {}).get(name), "g")

    return [
        *(Column(f"first image, {state}, s", functools.partial(start, state)) for state in states),
        *(Column(f"compile, {state}, s", functools.partial(compilation, state)) for state in compiled),
        *(Column(markdown_code(name), functools.partial(count, name)) for name in names),
    ]


def _components(ladder: Sequence[Baseline]) -> list[BaselineColumn]:
    """Make a column for each component: its seconds in an image and its share of them."""

    def cell(name: str, baseline: Baseline) -> str:
        components_s = _run(baseline).components_s
        if name not in components_s:
            return NO_FIGURE
        total_s = math.fsum(components_s.values())
        return f"{components_s[name]:.3g} ({components_s[name] / total_s if total_s else 0:.0%})"

    names = dict.fromkeys(name for baseline in ladder for name in _run(baseline).components_s)
    return [Column(f"{markdown_code(name)}, s", functools.partial(cell, name)) for name in names]


def _health() -> list[BaselineColumn]:
    """Make the columns of the machine's health during the rounds."""

    def column(
        heading: str, name: str, combine: Callable[[Sequence[float]], float], form: str, scale: float = 1.0
    ) -> BaselineColumn:
        def combined(baseline: Baseline) -> str:
            values = [process.health.get(name) for process in _run(baseline).processes]
            numbers = [float(value) for value in values if _is_number(value)]
            return f"{combine(numbers) * scale:{form}}" if numbers else NO_FIGURE

        return Column(heading, combined)

    def repeated_rounds(baseline: Baseline) -> str:
        return str(sum(len(process.discarded_reasons) for process in _run(baseline).processes))

    return [
        column("SM clock, lowest median, MHz", "sm_clock_median_mhz", min, "g"),
        column("highest temperature, C", "temperature_max_c", max, "g"),
        column("slowed by the power cap, ms", "power_cap_ns", sum, ".3g", 1e-6),
        column("slowed by heat, ms", "thermal_ns", sum, ".3g", 1e-6),
        column("stolen by the host, s", "stolen_s", sum, ".3g"),
        Column("rounds measured again", repeated_rounds),
    ]


def _kernels() -> list[BaselineColumn]:
    """Make the columns of the attention kernels and of the kernels with the largest share of the profiled image."""

    def attention(baseline: Baseline) -> str:
        attribution = _run(baseline).attribution
        if attribution is None:
            return NO_FIGURE
        kernels = attribution.attention_kernels.items()
        return ", ".join(f"{markdown_code(name)} x {count}" for name, count in kernels) or "none"

    def top_kernels(baseline: Baseline) -> str:
        attribution = _run(baseline).attribution
        if attribution is None or not attribution.total_s:
            return NO_FIGURE
        shares = [(kernel.name, kernel.seconds / attribution.total_s) for kernel in attribution.kernels[:_TOP_KERNELS]]
        return ", ".join(f"{markdown_code(name, limit=60)} {share:.0%}" for name, share in shares)

    return [Column("attention", attention), Column("most of the kernels' time", top_kernels)]


def _run(baseline: Baseline) -> Run:
    assert baseline.run is not None, "only recorded baselines are described"
    return baseline.run


def _deviation(values: Sequence[float]) -> str:
    return f"{statistics.stdev(map(math.log, values)):.2%}" if len(values) > 1 else NO_FIGURE


def _deviation_of_rounds(processes: Sequence[Process]) -> str:
    deviations = [statistics.stdev(map(math.log, process.seconds)) for process in processes if len(process.seconds) > 1]
    return f"{statistics.median(deviations):.2%}" if deviations else NO_FIGURE


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
