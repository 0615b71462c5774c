"""From the series to the files of the site. The series are taken one at a time, so that a history need not fit in memory."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from speedgate.history.series import Series
from speedgate.history.site import model, pages
from speedgate.history.site.model import Change, Rung
from speedgate.history.site.sessions import Sessions

# Where the commits of a version's git hash are published; a hash links there if it is one.
SOURCES = {"torch_git": "https://github.com/pytorch/pytorch/commit/{commit}"}
_COMMIT_URL = re.compile(r"https?://[^\s{}\"'<>\\]+\{commit\}[^\s{}\"'<>\\]*")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Written:
    """What a generation has written."""

    gpus: int
    cases: int
    runs: int


def write(
    folder: Path,
    series: Iterable[Series],
    *,
    changes: Callable[[Series], Sequence[Change]],
    generated_at: str,
    commit_url: str | None = None,
    stages: Sequence[str] = (),
) -> Written:
    """Write the whole site into an empty folder. `generated_at` is UTC in ISO 8601, `stages` the ladder's order.

    A `ValueError` where there is no run at all, a case comes twice or a figure is none.
    """
    pages.write(folder, commit_url=checked_commit_url(commit_url), sources=SOURCES, generated_at=generated_at)
    summaries: dict[str, dict[str, Any]] = {}
    gpu_keys: dict[str, str] = {}
    rungs: list[Rung] = []
    sessions = Sessions()
    for one in series:
        if not one.points:
            continue
        found = list(changes(model.checked(one)))
        row = model.summary(one, found)
        if row["id"] in summaries:
            raise ValueError(f"{one.case_key} on {one.gpu_key}: the history gave this case twice")
        summaries[row["id"]] = row
        gpu_keys[row["gpu"]] = one.gpu_key
        rungs += [rung for rung in [model.rung(one)] if rung is not None]
        sessions.add(one)
        _write_data(folder, f"case-{row['id']}", model.case_document(one, found))
    if not summaries:
        raise ValueError("the history holds no runs: there is nothing to show yet")
    _write_index(folder, list(summaries.values()), gpu_keys=gpu_keys)
    _write_ladders(folder, rungs, gpu_keys=gpu_keys, stages=stages)
    for name, document in sessions.documents():
        _write_data(folder, name, document)
    return Written(gpus=len(gpu_keys), cases=len(summaries), runs=sum(row["runs"] for row in summaries.values()))


def checked_commit_url(template: str | None) -> str | None:
    """The template of a commit's address; a `ValueError` unless it is http(s) and holds `{commit}` once, after the host."""
    if template is None:
        return None
    if not _COMMIT_URL.fullmatch(template) or not re.match(r"https?://[^/{}]+/", template):
        raise ValueError(
            f"--commit-url {template!r}: expected an http or https address that holds {{commit}} once, such as"
            " https://github.com/owner/repository/commit/{commit}"
        )
    return template


def _write_index(folder: Path, rows: Sequence[Mapping[str, Any]], *, gpu_keys: Mapping[str, str]) -> None:
    gpus = [
        {
            "id": gpu_id,
            "key": gpu_key,
            "cases": sum(row["gpu"] == gpu_id for row in rows),
            "runs": sum(row["runs"] for row in rows if row["gpu"] == gpu_id),
            "at_ms": max(row["at_ms"] for row in rows if row["gpu"] == gpu_id),
        }
        for gpu_id, gpu_key in sorted(gpu_keys.items(), key=lambda item: item[1])
    ]
    _write_data(folder, "index", {"gpus": gpus, "cases": sorted(rows, key=lambda row: (row["gpu"], row["key"]))})


def _write_ladders(folder: Path, rungs: Sequence[Rung], *, gpu_keys: Mapping[str, str], stages: Sequence[str]) -> None:
    """A file for each ladder with its lines, which are many, and one for each GPU key with what stands on them now."""
    for gpu_id, gpu_key in gpu_keys.items():
        ladders = []
        for group in _groups([rung for rung in rungs if rung.gpu_key == gpu_key]):
            document = model.ladder_document(group, stages=stages)
            _write_data(folder, f"ladder-{document['id']}", document)
            now = [{name: stage[name] for name in stage if name != "line"} for stage in document["stages"]]
            ladders.append({**document, "stages": now})
        _write_data(folder, f"gpu-{gpu_id}", {"id": gpu_id, "key": gpu_key, "ladders": ladders})


def _groups(rungs: Sequence[Rung]) -> Iterator[list[Rung]]:
    """Those of one pipeline and workload together, those with most stages first."""
    groups: dict[tuple[str, str], list[Rung]] = {}
    for rung in rungs:
        groups.setdefault((rung.pipeline, rung.workload), []).append(rung)
    yield from sorted(groups.values(), key=lambda group: (-len(group), group[0].pipeline, group[0].workload))


def _write_data(folder: Path, name: str, document: Mapping[str, Any]) -> None:
    """As a script that hands the document over: a browser reads no other kind of file beside a page that it opened itself.

    ASCII, and without "<", so that nothing in it can be taken for markup or for another encoding.
    """
    text = json.dumps(document, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    path = folder / pages.DATA / f"{name}.js"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"speedgate.receive({json.dumps(name)},{text});\n", encoding="ascii")
