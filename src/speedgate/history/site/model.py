"""What the site says of a case: its runs column by column, its summary for the index, and its part of a ladder.

Everything here is plain JSON. It becomes text in a browser by `textContent` alone, so nothing is escaped here.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from speedgate.history.trend import Series, SeriesPoint, TrendChange
from speedgate.results.case_key import CaseKey
from speedgate.results.json_io import positive

MOST_BINS = 250  # of a line in a ladder over time: more than the pixels between two points that an eye tells apart
_DIGITS = 6  # significant: a process median repeats within a few thousandths at best
MOST_SESSIONS = 1000  # of a GPU key, the latest: a file each


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rung:
    """One case's part of a ladder: its latest figure, and its line over time as milliseconds since 1970 and seconds."""

    gpu_key: str
    pipeline: str
    stage: str
    workload: str
    case_id: str
    latest: SeriesPoint
    line: tuple[tuple[int, float], ...]


def case_id(gpu_key: str, case_key: str) -> str:
    """Names a case in addresses and file names: 16 hexadecimal digits, the same in every generation."""
    return short_digest(gpu_key, case_key)


def short_digest(*texts: str) -> str:
    """16 hexadecimal digits of texts that may hold anything."""
    return hashlib.sha256("\0".join(texts).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def check_figures(series: Series) -> Series:
    """The series itself; a `ValueError` names the run whose figures cannot be shown."""
    for point in series.points:
        where = f"{series.case_key} on {series.gpu_key}, run {point.run_id}"
        for median_s in point.process_medians_s:
            positive(median_s, where=f"{where}: process median")
        for name in ("peak_bytes", "ssim", "first_image_s"):
            value = getattr(point, name)
            if value is not None and (isinstance(value, bool) or not math.isfinite(value)):
                raise ValueError(f"{where}: {name}: expected a finite number, found {value!r}")
        epoch_ms(point.measured_at, where=where)
    return series


def epoch_ms(measured_at: str, *, where: str) -> int:
    """Since 1970, for JavaScript's dates; a time without a zone is UTC."""
    try:
        moment = datetime.datetime.fromisoformat(measured_at)
    except ValueError as error:
        raise ValueError(f"{where}: measured at {measured_at!r}: expected ISO 8601") from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return round(moment.timestamp() * 1000)


def case_document(series: Series, changes: Sequence[TrendChange]) -> dict[str, Any]:
    """All runs of a case, oldest first, one list a column; texts that repeat are stored once and named by their place."""
    points = series.points
    names = sorted({name for point in points for name in point.versions})
    return {
        "id": case_id(series.gpu_key, series.case_key),
        "gpu": series.gpu_key,
        "gpu_id": short_digest(series.gpu_key),
        "key": series.case_key,
        "run": [point.run_id for point in points],
        "at_ms": [epoch_ms(point.measured_at, where=point.run_id) for point in points],
        "commit": _texts([point.commit for point in points]),
        "dirty": [index for index, point in enumerate(points) if point.dirty],
        "latency_s": [rounded(point.latency_s) for point in points],
        "medians_s": [[rounded(value) for value in point.process_medians_s] for point in points],
        "peak_bytes": [point.peak_bytes for point in points],
        "ssim": [rounded(point.ssim) for point in points],
        "first_image_s": [rounded(point.first_image_s) for point in points],
        "cache": _texts([point.cache for point in points]),
        "fingerprint": _texts([point.fingerprint for point in points]),
        "outcome": _texts([point.outcome for point in points]),
        "versions": {name: _texts([point.versions.get(name) for point in points]) for name in names},
        "changes": [dataclasses.asdict(change) for change in changes],
    }


def case_summary(series: Series, changes: Sequence[TrendChange]) -> dict[str, Any]:
    """A row of the index: the latest figures, which changes there were, and the digests that lead on."""
    last = series.points[-1]
    measured = next((point for point in reversed(series.points) if point.latency_s is not None), last)
    change = max(changes, key=lambda one: one.run, default=None)
    return {
        "id": case_id(series.gpu_key, series.case_key),
        "gpu": short_digest(series.gpu_key),
        "key": series.case_key,
        "runs": len(series.points),
        "at_ms": epoch_ms(last.measured_at, where=last.run_id),
        "latency_s": rounded(measured.latency_s),
        "peak_bytes": measured.peak_bytes,
        "ssim": rounded(measured.ssim),
        "outcome": last.outcome,
        "changes": len(changes),
        "change": None if change is None else {**dataclasses.asdict(change), "at_ms": _at(series, change)},
    }


def ladder_rung(series: Series) -> Rung | None:
    """The case's part of a ladder; None where its key is not pipeline/stage/workload, or nothing was measured."""
    measured = [point for point in series.points if point.latency_s is not None]
    if not CaseKey.is_key(series.case_key) or not measured:
        return None
    key = CaseKey.parse(series.case_key)
    return Rung(
        gpu_key=series.gpu_key,
        pipeline=key.pipeline,
        stage=key.stage,
        workload=key.workload,
        case_id=case_id(series.gpu_key, series.case_key),
        latest=measured[-1],
        line=tuple(_line(measured)),
    )


def ladder_document(rungs: Sequence[Rung], *, stages: Sequence[str]) -> dict[str, Any]:
    """The stages of one pipeline and workload on one GPU key: those of `stages` in that order, then others, slowest first."""
    known = {stage: place for place, stage in enumerate(stages)}
    ordered = sorted(rungs, key=lambda one: (known.get(one.stage, len(known)), -_latency_s(one)))
    first = ordered[0]
    return {
        "id": short_digest(first.gpu_key, first.pipeline, first.workload),
        "gpu": first.gpu_key,
        "pipeline": first.pipeline,
        "workload": first.workload,
        "stages": [
            {
                "stage": one.stage,
                "known": one.stage in known,
                "case": one.case_id,
                "latency_s": rounded(_latency_s(one)),
                "at_ms": epoch_ms(one.latest.measured_at, where=one.latest.run_id),
                "line": [[at_ms, rounded(latency_s)] for at_ms, latency_s in one.line],
            }
            for one in ordered
        ],
    }


def rounded(value: float | None) -> float | None:
    """To what is shown at most; the history keeps the figure itself."""
    return None if value is None else float(f"{value:.{_DIGITS}g}")


def _latency_s(one: Rung) -> float:
    assert one.latest.latency_s is not None, "a rung is made of what was measured"
    return one.latest.latency_s


def _at(series: Series, change: TrendChange) -> int:
    point = series.points[change.run]
    return epoch_ms(point.measured_at, where=point.run_id)


def _line(points: Sequence[SeriesPoint]) -> Iterator[tuple[int, float]]:
    """Medians of as many neighbours as it takes to stay below `MOST_BINS`, each at the time of the last of them."""
    size = -(-len(points) // MOST_BINS)
    for start in range(0, len(points), size):
        bunch = points[start : start + size]
        latencies_s = [latency_s for point in bunch if (latency_s := point.latency_s) is not None]
        yield epoch_ms(bunch[-1].measured_at, where=bunch[-1].run_id), statistics.median(latencies_s)


def _texts(values: Sequence[str | None]) -> dict[str, list[Any]]:
    """Each text once, and for every run the place of its own, -1 for none."""
    places: dict[str, int] = {}
    at = [-1 if value is None else places.setdefault(str(value), len(places)) for value in values]
    return {"texts": list(places), "at": at}


@dataclasses.dataclass(kw_only=True)
class SiteSession:
    """One session, as far as it has been read: a row a case. All ran in one environment, its first case's."""

    point: SeriesPoint
    rows: list[tuple[Any, ...]]


class SessionCollector:
    """Collects them while the series pass by; all cases of a session carry its time (`SeriesPoint.measured_at`)."""

    def __init__(self) -> None:
        self._found: dict[str, dict[tuple[str, str | None], SiteSession]] = {}

    def add(self, series: Series) -> None:
        """Take each run of a case to its session."""
        identifier = case_id(series.gpu_key, series.case_key)
        found = self._found.setdefault(series.gpu_key, {})
        for point in series.points:
            session = found.setdefault((point.measured_at, point.commit), SiteSession(point=point, rows=[]))
            figures = (rounded(point.latency_s), point.peak_bytes, rounded(point.ssim), point.outcome)
            session.rows.append((identifier, *figures))

    def documents(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """The name and contents of each file: a list for each GPU key, and every session that is on it."""
        for gpu_key, found in self._found.items():
            latest = sorted(found.items(), key=lambda item: (item[0][0], item[0][1] or ""))[-MOST_SESSIONS:]
            documents = [_session_document(gpu_key, session) for _, session in latest]
            listed = [
                {"id": one["id"], "at_ms": one["at_ms"], "commit": one["commit"], "cases": len(one["rows"])}
                for one in documents
            ]
            more = {"left_out": len(found) - len(latest), "sessions": listed}
            yield f"sessions-{short_digest(gpu_key)}", {"gpu": gpu_key, **more}
            yield from ((f"session-{one['id']}", one) for one in documents)


def _session_document(gpu_key: str, session: SiteSession) -> dict[str, Any]:
    point = session.point
    return {
        "id": short_digest(gpu_key, point.measured_at, point.commit or ""),
        "at_ms": epoch_ms(point.measured_at, where=point.run_id),
        "commit": point.commit,
        "dirty": point.dirty,
        "versions": dict(point.versions),
        "rows": session.rows,
    }
