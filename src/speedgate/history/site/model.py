"""The data of the site as plain JSON: each case with all its runs, the index, the ladders and the sessions.

Nothing is escaped here: the pages show every text with `textContent`, which never interprets it as HTML.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from speedgate.history.machine import MachineSeries
from speedgate.history.trend import Series, SeriesPoint, TrendChange
from speedgate.results.case_key import CaseKey
from speedgate.results.json_io import positive

MAX_LINE_POINTS = 250  # of a stage in the chart of a ladder over time; the eye cannot tell more points apart
MAX_DRIFTS = 100  # of a machine: rows of one table
MAX_SESSIONS = 1000  # of a GPU key, the latest ones; each is a file
_DIGITS = 6  # significant digits; process medians repeat to three at best


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rung:
    """A stage of a ladder: its latest latency, and a line over time of milliseconds since 1970 and seconds of latency."""

    gpu_key: str
    key: CaseKey
    case_id: str
    at_ms: int
    latency_s: float
    line: tuple[tuple[int, float], ...]


def short_digest(*texts: str) -> str:
    """Return 16 hexadecimal digits for any texts, the same in every site: an address or file name holds no text of a history."""
    return hashlib.sha256("\0".join(texts).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def check_figures(series: Series) -> Series:
    """Return the series. A `ValueError` names a run with a figure that cannot be shown."""
    for point in series.points:
        where = f"{series.case_key} on {series.gpu_key}, run {point.run_id}"
        for median_s in point.process_medians_s:
            positive(median_s, where=f"{where}: process median")
        for name in ("peak_bytes", "ssim", "first_image_s", "compile_s"):
            value = getattr(point, name)
            if value is not None and (isinstance(value, bool) or not math.isfinite(value)):
                raise ValueError(f"{where}: {name}: expected a finite number, found {value!r}")
        epoch_ms(point.measured_at, where=where)
    return series


def epoch_ms(measured_at: str, *, where: str) -> int:
    """Convert a time in ISO 8601 to milliseconds since 1970, as JavaScript needs it. A time without a zone is UTC."""
    try:
        moment = datetime.datetime.fromisoformat(measured_at)
    except ValueError as error:
        raise ValueError(f"{where}: measured at {measured_at!r}: expected ISO 8601") from error
    return round(moment.replace(tzinfo=moment.tzinfo or datetime.UTC).timestamp() * 1000)


def case_document(series: Series, changes: Sequence[TrendChange]) -> dict[str, Any]:
    """Make the file of a case: all runs, oldest first, as one list for each column. Repeated texts are stored once."""
    points = series.points
    names = sorted({name for point in points for name in point.versions})
    return {
        "id": short_digest(series.gpu_key, series.case_key),
        "gpu": series.gpu_key,
        "gpu_id": short_digest(series.gpu_key),
        "key": series.case_key,
        "run": [point.run_id for point in points],
        "at_ms": [_at_ms(point) for point in points],
        "commit": _texts([point.commit for point in points]),
        "dirty": [index for index, point in enumerate(points) if point.dirty],
        "latency_s": [rounded(point.latency_s) for point in points],
        "medians_s": [[rounded(value) for value in point.process_medians_s] for point in points],
        "peak_bytes": [point.peak_bytes for point in points],
        "ssim": [rounded(point.ssim) for point in points],
        "first_image_s": [rounded(point.first_image_s) for point in points],
        "compile_s": [rounded(point.compile_s) for point in points],
        "cache": _texts([point.cache for point in points]),
        "fingerprint": _texts([point.fingerprint for point in points]),
        "outcome": _texts([point.outcome for point in points]),
        "versions": {name: _texts([point.versions.get(name) for point in points]) for name in names},
        "changes": [_change(change) for change in changes],
    }


def case_summary(series: Series, changes: Sequence[TrendChange]) -> dict[str, Any]:
    """Make the row of a case in the index: its latest figures, its changes, and the digests for links."""
    last = series.points[-1]
    measured = next((point for point in reversed(series.points) if point.latency_s is not None), last)
    change = max(changes, key=lambda change: change.run, default=None)
    return {
        "id": short_digest(series.gpu_key, series.case_key),
        "gpu": short_digest(series.gpu_key),
        "key": series.case_key,
        "runs": len(series.points),
        "at_ms": _at_ms(last),
        "latency_s": rounded(measured.latency_s),
        "peak_bytes": measured.peak_bytes,
        "ssim": rounded(measured.ssim),
        "outcome": last.outcome,
        "changes": len(changes),
        "change": None if change is None else {**_change(change), "at_ms": _at_ms(series.points[change.run])},
    }


def _change(change: TrendChange) -> dict[str, Any]:
    return {**dataclasses.asdict(change), "of_machine": change.of_machine}


def ladder_rung(series: Series) -> Rung | None:
    """Make the rung of a case. None if its key is not PIPELINE/STAGE/WORKLOAD, or nothing was measured."""
    measured = [point for point in series.points if point.latency_s is not None]
    if not CaseKey.is_key(series.case_key) or not measured:
        return None
    return Rung(
        gpu_key=series.gpu_key,
        key=CaseKey.parse(series.case_key),
        case_id=short_digest(series.gpu_key, series.case_key),
        at_ms=_at_ms(measured[-1]),
        latency_s=_latency_s(measured[-1]),
        line=tuple(_line(measured)),
    )


def ladder_document(rungs: Sequence[Rung], *, stages: Sequence[str]) -> dict[str, Any]:
    """Make the file of one pipeline and workload on one GPU key: first `stages`, in their order, then others, slowest first."""
    order = {stage: place for place, stage in enumerate(stages)}
    ordered = sorted(rungs, key=lambda rung: (order.get(rung.key.stage, len(order)), -rung.latency_s))
    first = ordered[0]
    return {
        "id": short_digest(first.gpu_key, first.key.pipeline, first.key.workload),
        "gpu": first.gpu_key,
        "pipeline": first.key.pipeline,
        "workload": first.key.workload,
        "stages": [
            {
                "stage": rung.key.stage,
                "in_ladder": rung.key.stage in order,
                "case": rung.case_id,
                "latency_s": rounded(rung.latency_s),
                "at_ms": rung.at_ms,
                "line": [[at_ms, rounded(latency_s)] for at_ms, latency_s in rung.line],
            }
            for rung in ordered
        ],
    }


def machine_rows(machine: MachineSeries) -> list[dict[str, Any]]:
    """List the drift of a machine in its latest sessions, newest first."""
    return [
        {
            "at_ms": epoch_ms(point.measured_at, where=f"machine {machine.gpu_key}"),
            "commit": point.commit,
            "drift": rounded(point.drift),
            "cases": point.cases,
            "baseline": point.baseline,
        }
        for point in machine.points[: -MAX_DRIFTS - 1 : -1]
    ]


def rounded(value: float | None) -> float | None:
    """Round to the digits that a page shows at most."""
    return None if value is None else float(f"{value:.{_DIGITS}g}")


def _latency_s(point: SeriesPoint) -> float:
    assert point.latency_s is not None, "only measured points are asked"
    return point.latency_s


def _at_ms(point: SeriesPoint) -> int:
    return epoch_ms(point.measured_at, where=point.run_id)


def _line(points: Sequence[SeriesPoint]) -> Iterator[tuple[int, float]]:
    """Yield at most `MAX_LINE_POINTS` points: the median of neighbouring runs, at the time of the last of them."""
    size = -(-len(points) // MAX_LINE_POINTS)
    for start in range(0, len(points), size):
        neighbours = points[start : start + size]
        yield _at_ms(neighbours[-1]), statistics.median(map(_latency_s, neighbours))


def _texts(values: Sequence[str | None]) -> dict[str, list[Any]]:
    """Store each text once, and for every run the index of its text, or -1."""
    places: dict[str, int] = {}
    at = [-1 if value is None else places.setdefault(str(value), len(places)) for value in values]
    return {"texts": list(places), "at": at}


@dataclasses.dataclass(kw_only=True)
class SiteSession:
    """The runs of one time and commit on a GPU key, one row for each case. `point` is the run of its first case."""

    point: SeriesPoint
    rows: list[tuple[Any, ...]]


class SessionCollector:
    """Collect the sessions from one series after the other; all cases of a session have the same `measured_at`."""

    def __init__(self) -> None:
        self._sessions_by_gpu_key: dict[str, dict[tuple[str, str | None], SiteSession]] = {}

    def add(self, series: Series) -> None:
        """Add each run of a case to its session."""
        identifier = short_digest(series.gpu_key, series.case_key)
        sessions = self._sessions_by_gpu_key.setdefault(series.gpu_key, {})
        for point in series.points:
            session = sessions.setdefault((point.measured_at, point.commit), SiteSession(point=point, rows=[]))
            figures = (rounded(point.latency_s), point.peak_bytes, rounded(point.ssim), point.outcome)
            session.rows.append((identifier, *figures))

    def documents(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Yield the name and contents of each file: for each GPU key a list of its sessions, and then each session."""
        for gpu_key, sessions in self._sessions_by_gpu_key.items():
            latest = sorted(sessions.items(), key=lambda item: (item[0][0], item[0][1] or ""))[-MAX_SESSIONS:]
            documents = [_session_document(gpu_key, session) for _, session in latest]
            listed = [
                {name: document[name] for name in ("id", "at_ms", "commit")} | {"cases": len(document["rows"])}
                for document in documents
            ]
            counts = {"left_out": len(sessions) - len(latest), "sessions": listed}
            yield f"sessions-{short_digest(gpu_key)}", {"gpu": gpu_key, **counts}
            yield from ((f"session-{document['id']}", document) for document in documents)


def _session_document(gpu_key: str, session: SiteSession) -> dict[str, Any]:
    point = session.point
    return {
        "id": short_digest(gpu_key, point.measured_at, point.commit or ""),
        "at_ms": _at_ms(point),
        "commit": point.commit,
        "dirty": point.dirty,
        "versions": dict(point.versions),
        "rows": session.rows,
    }
