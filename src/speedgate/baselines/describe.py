"""`speedgate describe`: what is recorded of a GPU key as Markdown, for whoever reviews a baseline or writes of a machine."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

from speedgate.baselines import benchmark_json, promote, store
from speedgate.results import json_io, provenance
from speedgate.results.case_key import CaseKey
from speedgate.results.json_io import as_object
from speedgate.results.run import Baseline, Process, Run
from speedgate.results.text import markdown_code

GIB = 2**30
_KERNELS = 3  # of a stage that are named
_NONE = "-"

Column = tuple[str, Callable[[Baseline], str]]


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
            lines += ["", *_table(columns, found)]
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


def _figures(found: Sequence[Baseline], published: Mapping[str, Baseline]) -> list[Column]:
    own = {one.case_key: one.latency_s for one in found}
    theirs = {key: one.latency_s for key, one in published.items()}
    where = {published[key].gpu_key for key in own if key in published}
    named = f"published, {', '.join(map(markdown_code, sorted(where)))}"
    return [
        ("s", lambda one: f"{one.latency_s:.4g}"),
        ("to its parent", lambda one: _gain(one, own, _run(one).parent_key)),
        ("to the first", lambda one: _gain(one, own, _run(one).first_key)),
        (f"{named}, s", lambda one: _number(theirs.get(one.case_key), ".4g")),
        (f"{named}, to its parent", lambda one: _gain(one, theirs, _run(one).parent_key)),
        ("sd of processes", lambda one: f"{_deviation(one.process_medians_s)} of {len(one.process_medians_s)}"),
        ("sd of rounds", lambda one: _deviation_of_rounds(_run(one).processes)),
        ("SSIM", lambda one: _number((_run(one).parity or {}).get("ssim"), ".4f")),
        ("peak GiB", lambda one: f"{one.peak_bytes / GIB:.2f}"),
        ("of the ceilings", lambda one: _number(one.share, ".0%")),
        ("it/s", lambda one: ", ".join(f"{rate:.4g}" for rate in _run(one).iterations_per_s.values()) or _NONE),
    ]


def _starts(found: Sequence[Baseline]) -> list[Column]:
    """Applying the stage and its first image, by the state of the compile cache; then what was counted."""
    states = dict.fromkeys(start.cache for one in found for start in one.cold_starts)
    counted = dict.fromkeys(
        name for one in found for name, count in (_run(one).counts or {}).items() if _is_number(count)
    )

    def start(state: str) -> Callable[[Baseline], str]:
        return lambda one: _median([start.stage_s for start in one.cold_starts if start.cache == state])

    def count(name: str) -> Callable[[Baseline], str]:
        return lambda one: _number((_run(one).counts or {}).get(name), "g")

    return [
        *((f"first image, {state}, s", start(state)) for state in states),
        *((markdown_code(name), count(name)) for name in counted),
    ]


def _components(found: Sequence[Baseline]) -> list[Column]:
    """Seconds of each component in an image, with its share of them all."""

    def cell(name: str) -> Callable[[Baseline], str]:
        def of(one: Baseline) -> str:
            spent = _run(one).components_s
            whole = math.fsum(spent.values())
            return f"{spent[name]:.3g} ({spent[name] / whole if whole else 0:.0%})" if name in spent else _NONE

        return of

    names = dict.fromkeys(name for one in found for name in _run(one).components_s)
    return [(f"{markdown_code(name)}, s", cell(name)) for name in names]


def _health() -> list[Column]:
    """What the machine said of itself around the rounds; a machine that says nothing has no such column."""

    def over(
        name: str, rule: Callable[[Sequence[float]], float], form: str, scale: float = 1.0
    ) -> Callable[[Baseline], str]:
        def of(one: Baseline) -> str:
            asked = [process.health.get(name) for process in _run(one).processes]
            said = [float(value) for value in asked if _is_number(value)]
            return f"{rule(said) * scale:{form}}" if said else _NONE

        return of

    return [
        ("SM clock, lowest median, MHz", over("sm_clock_median_mhz", min, "g")),
        ("hottest, C", over("temperature_max_c", max, "g")),
        ("held down by the power cap, ms", over("power_cap_ns", sum, ".3g", 1e-6)),
        ("by heat, ms", over("thermal_ns", sum, ".3g", 1e-6)),
        ("stolen by the host, s", over("stolen_s", sum, ".3g")),
        ("rounds measured again", lambda one: str(sum(len(process.void) for process in _run(one).processes))),
    ]


def _kernels() -> list[Column]:
    """Which attention ran, and what took most of the profiled image."""

    def attention(one: Baseline) -> str:
        found = _run(one).attribution
        return (
            ", ".join(f"{markdown_code(name)} x {count}" for name, count in found.attention_kernels.items())
            if found
            else _NONE
        )

    def most(one: Baseline) -> str:
        found = _run(one).attribution
        if found is None or not found.total_s:
            return _NONE
        shares = [(each.name, each.seconds / found.total_s) for each in found.kernels[:_KERNELS]]
        return ", ".join(f"{markdown_code(name, limit=60)} {share:.0%}" for name, share in shares)

    return [("attention", lambda one: attention(one) or "none"), ("most of the kernels' time", most)]


def _table(columns: Sequence[Column], found: Sequence[Baseline]) -> Iterator[str]:
    """A row a case; a column of which no case says anything is left out."""
    cells = [(name, [cell(one) for one in found]) for name, cell in columns]
    kept = [("stage", [markdown_code(_run(one).stage) for one in found]), *(c for c in cells if set(c[1]) != {_NONE})]
    yield f"| {' | '.join(name for name, _ in kept)} |"
    yield f"|{' --- |' * len(kept)}"
    for row in zip(*(column for _, column in kept), strict=True):
        yield f"| {' | '.join(row)} |"


def _run(one: Baseline) -> Run:
    assert one.run is not None, "only what was recorded is described"
    return one.run


def _gain(one: Baseline, latencies_s: Mapping[str, float], other: str | None) -> str:
    if other is None or other not in latencies_s or one.case_key not in latencies_s:
        return _NONE
    return f"{latencies_s[other] / latencies_s[one.case_key]:.2f}x"


def _deviation(values: Sequence[float]) -> str:
    return f"{statistics.stdev(map(math.log, values)):.2%}" if len(values) > 1 else _NONE


def _deviation_of_rounds(processes: Sequence[Process]) -> str:
    found = [statistics.stdev(map(math.log, process.seconds)) for process in processes if len(process.seconds) > 1]
    return f"{statistics.median(found):.2%}" if found else _NONE


def _median(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.3g}" if values else _NONE


def _number(value: float | None, form: str) -> str:
    return _NONE if value is None else f"{value:{form}}"


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
