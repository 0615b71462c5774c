"""`speedgate describe`: what is recorded of a GPU key as Markdown, for whoever reviews a baseline or writes of a machine."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

from speedgate.baselines import benchmark_json, promote, store
from speedgate.results import case_table, json_io, provenance
from speedgate.results.case_key import CaseKey
from speedgate.results.case_table import NO_FIGURE, CaseRow, Column, format_figure, row_of_run, speedup
from speedgate.results.json_io import as_object
from speedgate.results.run import Baseline, Process, Run
from speedgate.results.text import markdown_code

_KERNELS = 3  # of a stage that are named

BaselineColumn = Column[Baseline]


def baseline_page(root: Path, gpu_key: str) -> str:
    """The newest recorded figures of each case, beside published ones, and what is out of memory or was accepted as slower; a
    `ValueError` where nothing is recorded.
    """
    stored = store.newest_cases(root, gpu_key)
    recorded = [one for one in stored.baselines.values() if one.run is not None]
    if not recorded:
        keys = ", ".join(key for key in store.require_gpu_keys(root) if _holds_runs(root, key)) or "none"
        raise ValueError(
            f"{gpu_key}: nothing is recorded; keys of which something is: {keys}; see speedgate promote --help"
        )
    documents = {path: json_io.read_json(path) for path in store.baseline_files(root, gpu_key)}
    told = {one.path for one in recorded}
    lines = [f"{line}  " for path, one in documents.items() if str(path) in told for line in _origins(path, one)]
    full = stored.out_of_memory.items()
    lines += [f"{markdown_code(key)}: **out of memory**, says {markdown_code(name)}  " for key, name in full]
    lines += [
        f"{markdown_code(line)}  " for path, one in documents.items() for line in promote.accepted_notes(one, path=path)
    ]
    published = _published(root)
    for (pipeline, workload), found in _ladders(recorded).items():
        lines += ["", f"### {markdown_code(pipeline)} at {markdown_code(workload)}"]
        for columns in (_figures(found, published), _starts(found), _components(found), _health(), _kernels()):
            shown = [case_table.STAGE.on(lambda one: row_of_run(_run(one))), *case_table.with_figures(columns, found)]
            lines += ["", *case_table.markdown_table(shown, found)]
    return "\n".join([*lines, ""])


def _holds_runs(root: Path, gpu_key: str) -> bool:
    return any(one.run is not None for one in store.newest_baselines(root, gpu_key).values())


def _origins(path: Path, document: Any) -> list[str]:
    """When, at which commit and with which versions the runs of a file were measured, each once."""
    own = {"measured_at": document.get("datetime"), "commit": document.get("commit_info")}
    said = [
        provenance.line(own | as_object(block.get("session")) | {"run": block.get("run")})
        for _, block in benchmark_json.speedgate_blocks(document, where=str(path))
    ]
    return [f"{markdown_code(path.name)}: {markdown_code(line)}" for line in dict.fromkeys(said)]


def _ladders(recorded: Sequence[Baseline]) -> dict[tuple[str, str], list[Baseline]]:
    """The cases of each pipeline and workload, a stage after those that it stands on."""
    found: dict[tuple[str, str], list[Baseline]] = {}
    for one in sorted(recorded, key=lambda one: len(_run(one).stages)):
        key = CaseKey.parse(one.case_key)
        found.setdefault((key.pipeline, key.workload), []).append(one)
    return found


def _published(root: Path) -> dict[str, Baseline]:
    keys = store.gpu_keys(root)
    stored = [
        one
        for key in keys
        for path in store.baseline_files(root, key)
        for one in store.read_baselines(path, gpu_key=key)
    ]
    return {one.case_key: one for one in stored if one.source == benchmark_json.PUBLISHED}


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
            "sd of processes",
            lambda baseline: f"{_deviation(baseline.process_medians_s)} of {len(baseline.process_medians_s)}",
        ),
        Column("sd of rounds", lambda baseline: _deviation_of_rounds(_run(baseline).processes)),
        case_table.SSIM.on(row),
        case_table.PEAK.on(row),
        Column("of the ceilings", lambda baseline: format_figure(baseline.share, ".0%")),
        case_table.RATES.on(row),
    ]


def _starts(found: Sequence[Baseline]) -> list[BaselineColumn]:
    """Applying the stage and its first image, by the state of the compile cache; then what was counted."""
    states = dict.fromkeys(start.cache for one in found for start in one.cold_starts)
    counted = dict.fromkeys(
        name for one in found for name, count in (_run(one).counts or {}).items() if _is_number(count)
    )

    def start(state: str) -> Callable[[Baseline], str]:
        return lambda one: _median([start.stage_s for start in one.cold_starts if start.cache == state])

    def count(name: str) -> Callable[[Baseline], str]:
        return lambda one: format_figure((_run(one).counts or {}).get(name), "g")

    return [
        *(Column(f"first image, {state}, s", start(state)) for state in states),
        *(Column(markdown_code(name), count(name)) for name in counted),
    ]


def _components(found: Sequence[Baseline]) -> list[BaselineColumn]:
    """Seconds of each component in an image, with its share of them all."""

    def cell(name: str) -> Callable[[Baseline], str]:
        def of(one: Baseline) -> str:
            spent = _run(one).components_s
            whole = math.fsum(spent.values())
            return f"{spent[name]:.3g} ({spent[name] / whole if whole else 0:.0%})" if name in spent else NO_FIGURE

        return of

    names = dict.fromkeys(name for one in found for name in _run(one).components_s)
    return [Column(f"{markdown_code(name)}, s", cell(name)) for name in names]


def _health() -> list[BaselineColumn]:
    """What the machine said of itself around the rounds; a machine that says nothing has no such column."""

    def over(
        name: str, rule: Callable[[Sequence[float]], float], form: str, scale: float = 1.0
    ) -> Callable[[Baseline], str]:
        def of(one: Baseline) -> str:
            asked = [process.health.get(name) for process in _run(one).processes]
            said = [float(value) for value in asked if _is_number(value)]
            return f"{rule(said) * scale:{form}}" if said else NO_FIGURE

        return of

    return [
        Column("SM clock, lowest median, MHz", over("sm_clock_median_mhz", min, "g")),
        Column("hottest, C", over("temperature_max_c", max, "g")),
        Column("held down by the power cap, ms", over("power_cap_ns", sum, ".3g", 1e-6)),
        Column("by heat, ms", over("thermal_ns", sum, ".3g", 1e-6)),
        Column("stolen by the host, s", over("stolen_s", sum, ".3g")),
        Column("rounds measured again", lambda one: str(sum(len(process.void) for process in _run(one).processes))),
    ]


def _kernels() -> list[BaselineColumn]:
    """Which attention ran, and what took most of the profiled image."""

    def attention(one: Baseline) -> str:
        found = _run(one).attribution
        return (
            ", ".join(f"{markdown_code(name)} x {count}" for name, count in found.attention_kernels.items())
            if found
            else NO_FIGURE
        )

    def most(one: Baseline) -> str:
        found = _run(one).attribution
        if found is None or not found.total_s:
            return NO_FIGURE
        shares = [(each.name, each.seconds / found.total_s) for each in found.kernels[:_KERNELS]]
        return ", ".join(f"{markdown_code(name, limit=60)} {share:.0%}" for name, share in shares)

    return [
        Column("attention", lambda one: attention(one) or "none"),
        Column("most of the kernels' time", most),
    ]


def _run(one: Baseline) -> Run:
    assert one.run is not None, "only what was recorded is described"
    return one.run


def _deviation(values: Sequence[float]) -> str:
    return f"{statistics.stdev(map(math.log, values)):.2%}" if len(values) > 1 else NO_FIGURE


def _deviation_of_rounds(processes: Sequence[Process]) -> str:
    found = [statistics.stdev(map(math.log, process.seconds)) for process in processes if len(process.seconds) > 1]
    return f"{statistics.median(found):.2%}" if found else NO_FIGURE


def _median(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.3g}" if values else NO_FIGURE


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
