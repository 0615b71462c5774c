"""Show two runs side by side: a row for each case, with the ratio of the latencies and its interval."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path

from speedgate.gate.intervals import Interval, between_sets
from speedgate.results import case_table, folder, provenance
from speedgate.results.case_table import NO_FIGURE, CaseRow, Column, format_figure, row_of_run, text_table, with_figures
from speedgate.results.folder import ResultFile
from speedgate.results.json_io import parse_json
from speedgate.results.text import printable

CONFIDENCE = 0.99  # of the interval, as in a verdict that is tried at a single look


@dataclasses.dataclass(frozen=True, kw_only=True)
class CasePair:
    """One case in the runs A and B; None for a run that does not have it."""

    case_key: str
    a: ResultFile | None
    b: ResultFile | None

    @property
    def rows(self) -> tuple[CaseRow, CaseRow]:
        """The figures of both runs, without any for a run that does not have the case."""
        return _row(self.a, self.case_key), _row(self.b, self.case_key)

    @property
    def is_same_gpu(self) -> bool:
        """True unless the two runs are of machines with different GPU keys."""
        return self.a is None or self.b is None or self.a.gpu_key == self.b.gpu_key

    @property
    def ratio(self) -> float | None:
        """Latency of B divided by that of A; None unless both were measured on machines of one GPU key."""
        a, b = self.rows
        if not self.is_same_gpu or a.latency_s is None or b.latency_s is None:
            return None
        return b.latency_s / a.latency_s

    @property
    def interval(self) -> Interval | None:
        """The interval of the ratio; None without a ratio, or if neither run has two processes."""
        a, b = self.rows
        if self.ratio is None:
            return None
        return between_sets(b.process_medians_s, a.process_medians_s, confidence=CONFIDENCE)


def read_run(path: Path) -> dict[str, ResultFile]:
    """Read the results of one run, a folder or the file of one case, by case key. A `ValueError` names what is wrong."""
    if path.is_dir():
        files = folder.read_folder(path)
        try:
            results = folder.parse_results(files)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
    else:
        data = folder.read_plain_file(path, str(path))
        if len(data) > folder.MAX_FILE_BYTES:
            raise ValueError(f"{path}: larger than the result of a case can be")
        results = [folder.parse_result(str(path), parse_json(data, path=path))]
    by_case: dict[str, ResultFile] = {}
    for result in results:
        if result.case_key in by_case:
            raise ValueError(f"{path}: holds {result.case_key} twice; name the folder of one run")
        by_case[result.case_key] = result
    return by_case


def pair_cases(a: Mapping[str, ResultFile], b: Mapping[str, ResultFile]) -> list[CasePair]:
    """Pair the cases of two runs, in the order of their keys."""
    return [CasePair(case_key=key, a=a.get(key), b=b.get(key)) for key in sorted({*a, *b})]


def render(pairs: list[CasePair], *, a_name: str, b_name: str) -> list[str]:
    """Format the table, then lines that say how each run was measured and which cases cannot be compared."""
    lines = [*text_table(with_figures(_COLUMNS, pairs), pairs), ""]
    for side, name, results in (("A", a_name, [pair.a for pair in pairs]), ("B", b_name, [pair.b for pair in pairs])):
        present = [result for result in results if result is not None]
        built = [result for result in present if not result.is_structure_only]  # the others state no versions
        lines += dict.fromkeys(f"{side}: {name}: {_origin(result)}" for result in built or present)
        warnings = [result.warning for result in present if result.warning]
        lines += dict.fromkeys(f"{side}: {name}: {sentence}" for name, sentence in warnings)
    lines += dict.fromkeys(remark for pair in pairs for remark in _remarks(pair))
    if any(pair.interval for pair in pairs):
        lines.append("The interval covers the spread of processes only, not what else changed between the two runs.")
    return [printable(line) for line in lines]


def _remarks(pair: CasePair) -> Iterator[str]:
    if pair.a is None or pair.b is None:
        return
    if not pair.is_same_gpu:
        yield f"not comparable: A ran on {pair.a.gpu_key}, B on {pair.b.gpu_key}; a ratio would compare machines"
    recipes = [side.run.fingerprint for side in (pair.a, pair.b) if side.run is not None]
    if len(set(recipes)) > 1:
        yield f"{pair.case_key}: the stage was built in different ways, A by recipe {recipes[0]}, B by {recipes[1]}"


def _origin(result: ResultFile) -> str:
    return ", ".join(filter(None, [result.gpu_key, provenance.describe(result.document)]))


def _row(result: ResultFile | None, case_key: str) -> CaseRow:
    if result is None or result.run is None:
        return CaseRow(case_key=case_key, outcome=result.outcome if result else None)
    return row_of_run(result.run, outcome=result.outcome)


def _bounds(interval: Interval | None) -> str:
    return NO_FIGURE if interval is None else f"{interval.low:.3f} to {interval.high:.3f}"


def _verdict(result: ResultFile | None) -> str:
    if result is None:
        return "not in this run"
    verdict = case_table.VERDICT.cell(_row(result, result.case_key))
    return f"{verdict} (structure only)" if result.is_structure_only else verdict


def _side(column: Column[CaseRow], name: str) -> Column[CasePair]:
    of_pair: Column[CasePair] = column.on(lambda pair: pair.rows["AB".index(name)])
    return dataclasses.replace(of_pair, heading=f"{name} {column.heading}")


_COLUMNS = (
    Column[CasePair]("case", lambda pair: pair.case_key, is_name=True),
    _side(case_table.LATENCY, "A"),
    _side(case_table.LATENCY, "B"),
    Column[CasePair]("B/A", lambda pair: format_figure(pair.ratio, ".3f"), is_number=True),
    Column[CasePair](f"{CONFIDENCE:.0%} interval", lambda pair: _bounds(pair.interval), is_number=True),
    _side(case_table.PEAK, "A"),
    _side(case_table.PEAK, "B"),
    Column[CasePair]("A verdict", lambda pair: _verdict(pair.a)),
    Column[CasePair]("B verdict", lambda pair: _verdict(pair.b)),
)
