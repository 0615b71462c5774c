"""The sessions of each GPU key: what was measured at one time of one commit, so that two of them can be compared case by case."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from speedgate.history.series import Point, Series
from speedgate.history.site import model

MOST = 1000  # of a GPU key, the latest: a file each


@dataclasses.dataclass(kw_only=True)
class Session:
    """One session, as far as it has been read: a row a case. All ran in one environment, its first case's."""

    point: Point
    rows: list[tuple[Any, ...]]


class Sessions:
    """Collects them while the series pass by; all cases of a session carry its time (`Point.measured_at`)."""

    def __init__(self) -> None:
        self._found: dict[str, dict[tuple[str, str | None], Session]] = {}

    def add(self, series: Series) -> None:
        """Take each run of a case to its session."""
        case_id = model.case_id(series.gpu_key, series.case_key)
        found = self._found.setdefault(series.gpu_key, {})
        for point in series.points:
            session = found.setdefault((point.measured_at, point.commit), Session(point=point, rows=[]))
            figures = (model.rounded(point.latency_s), point.peak_bytes, model.rounded(point.ssim), point.outcome)
            session.rows.append((case_id, *figures))

    def documents(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """The name and contents of each file: a list for each GPU key, and every session that is on it."""
        for gpu_key, found in self._found.items():
            latest = sorted(found.items(), key=lambda item: (item[0][0], item[0][1] or ""))[-MOST:]
            documents = [_document(gpu_key, session) for _, session in latest]
            listed = [
                {"id": one["id"], "at_ms": one["at_ms"], "commit": one["commit"], "cases": len(one["rows"])}
                for one in documents
            ]
            more = {"left_out": len(found) - len(latest), "sessions": listed}
            yield f"sessions-{model.digest(gpu_key)}", {"gpu": gpu_key, **more}
            yield from ((f"session-{one['id']}", one) for one in documents)


def _document(gpu_key: str, session: Session) -> dict[str, Any]:
    point = session.point
    return {
        "id": model.digest(gpu_key, point.measured_at, point.commit or ""),
        "at_ms": model.milliseconds(point.measured_at, where=point.run_id),
        "commit": point.commit,
        "dirty": point.dirty,
        "versions": dict(point.versions),
        "rows": session.rows,
    }
