"""Write the files of the site, one series at a time, so that a history need not fit into memory.

A site is written to a temporary folder beside its target and then renamed. It replaces only an empty folder or an earlier site.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from speedgate.history.machine import MachineSeries
from speedgate.history.site import model, pages
from speedgate.history.site.model import Rung, SessionCollector
from speedgate.history.trend import Series, TrendChange

MARKER = ".speedgate-site"
_MARKER_SCHEMA = 1
_COMMIT_URL = re.compile(r"https?://[^\s{}\"'<>\\/]+/[^\s{}\"'<>\\]*\{commit\}[^\s{}\"'<>\\]*")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SiteCounts:
    """The number of GPU keys, cases and runs in a site."""

    gpus: int
    cases: int
    runs: int


def write_site(
    folder: Path,
    all_series: Iterable[Series],
    *,
    changes: Callable[[Series], Sequence[TrendChange]],
    machines: Sequence[MachineSeries] = (),
    generated_at: str,
    commit_url: str | None = None,
    stages: Sequence[str] = (),
) -> SiteCounts:
    """Write the whole site into an empty folder. `generated_at` is UTC in ISO 8601, `stages` the order of a ladder.

    Raises `ValueError` if there is no run, a case occurs twice, or a figure cannot be shown.
    """
    pages.write_pages(folder, commit_url=check_commit_url(commit_url), generated_at=generated_at)
    summaries: dict[str, dict[str, Any]] = {}
    gpu_keys: dict[str, str] = {}
    rungs: list[Rung] = []
    sessions = SessionCollector()
    for series in all_series:
        if not series.points:
            continue
        series_changes = changes(model.check_figures(series))
        summary = model.case_summary(series, series_changes)
        if summary["id"] in summaries:
            raise ValueError(f"{series.case_key} on {series.gpu_key}: this case occurs twice in the history")
        summaries[summary["id"]] = summary
        gpu_keys[summary["gpu"]] = series.gpu_key
        if rung := model.ladder_rung(series):
            rungs.append(rung)
        sessions.add(series)
        _write_data(folder, f"case-{summary['id']}", model.case_document(series, series_changes))
    if not summaries:
        raise ValueError("the history holds no runs: there is nothing to show yet")
    _write_index(folder, list(summaries.values()), gpu_keys=gpu_keys)
    _write_ladders(folder, rungs, machines, gpu_keys=gpu_keys, stages=stages)
    for name, document in sessions.documents():
        _write_data(folder, name, document)
    runs = sum(summary["runs"] for summary in summaries.values())
    return SiteCounts(gpus=len(gpu_keys), cases=len(summaries), runs=runs)


def check_commit_url(template: str | None) -> str | None:
    """Return the template. A `ValueError` unless it is an http(s) address with `{commit}` once, after the host."""
    if template is not None and not _COMMIT_URL.fullmatch(template):
        raise ValueError(
            f"--commit-url {template!r}: expected an http or https address that contains {{commit}} once, such as"
            " https://github.com/owner/repository/commit/{commit}"
        )
    return template


@contextlib.contextmanager
def replace_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder that replaces `target` if the block succeeds, and is deleted if it fails.

    Raises `ValueError` if `check_folder` refuses `target`, before or after the block.
    """
    target = target.resolve()  # replace the folder that a link points to, not the link
    check_folder(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    # In the same parent, so that a rename is enough. A server that lists the parent hides names with a leading dot.
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", suffix=".part", dir=target.parent) as scratch:
        new_folder = Path(scratch) / "new"
        new_folder.mkdir()
        yield new_folder
        _write_marker(new_folder)
        check_folder(target)  # again, because writing took a while
        _swap(new_folder, target, backup=Path(scratch) / "old")


def check_folder(target: Path) -> None:
    """Raise `ValueError` unless `target` is missing, empty, or an earlier site without foreign files."""
    if not target.exists():
        return
    if not target.is_dir():
        raise ValueError(f"{target}: is a file; name a folder for the site")
    if not any(target.iterdir()):
        return
    marker = target / MARKER
    if not marker.is_file():
        raise ValueError(f"{target}: contains files that speedgate site did not write; name an empty or a new folder")
    foreign = sorted(set(_file_names(target)) - set(_marked_names(marker)) - {MARKER})
    if foreign:
        raise ValueError(f"{target}: {foreign[0]} is not part of the earlier site; move it to another folder first")


def _write_index(folder: Path, summaries: Sequence[Mapping[str, Any]], *, gpu_keys: Mapping[str, str]) -> None:
    gpus = []
    for gpu_id, gpu_key in sorted(gpu_keys.items(), key=lambda item: item[1]):
        rows = [summary for summary in summaries if summary["gpu"] == gpu_id]
        runs, at_ms = sum(row["runs"] for row in rows), max(row["at_ms"] for row in rows)
        gpus.append({"id": gpu_id, "key": gpu_key, "cases": len(rows), "runs": runs, "at_ms": at_ms})
    cases = sorted(summaries, key=lambda summary: (summary["gpu"], summary["key"]))
    _write_data(folder, "index", {"gpus": gpus, "cases": cases})


def _write_ladders(
    folder: Path,
    rungs: Sequence[Rung],
    machines: Sequence[MachineSeries],
    *,
    gpu_keys: Mapping[str, str],
    stages: Sequence[str],
) -> None:
    """Write a file for each ladder with its lines, which are long, and one for each GPU key with the latest figures."""
    drifts = {machine.gpu_key: model.machine_rows(machine) for machine in machines}
    for gpu_id, gpu_key in gpu_keys.items():
        ladders = []
        for group in _group_rungs([rung for rung in rungs if rung.gpu_key == gpu_key]):
            document = model.ladder_document(group, stages=stages)
            _write_data(folder, f"ladder-{document['id']}", document)
            latest = [{name: stage[name] for name in stage if name != "line"} for stage in document["stages"]]
            ladders.append({**document, "stages": latest})
        _write_data(
            folder,
            f"gpu-{gpu_id}",
            {"id": gpu_id, "key": gpu_key, "ladders": ladders, "machine": drifts.get(gpu_key, [])},
        )


def _group_rungs(rungs: Sequence[Rung]) -> list[list[Rung]]:
    """Group rungs by pipeline and workload, groups with most stages first."""
    groups: dict[tuple[str, str], list[Rung]] = {}
    for rung in rungs:
        groups.setdefault((rung.key.pipeline, rung.key.workload), []).append(rung)
    return sorted(groups.values(), key=lambda group: (-len(group), group[0].key.pipeline, group[0].key.workload))


def _write_data(folder: Path, name: str, document: Mapping[str, Any]) -> None:
    """Write a script that passes the document to the page: a page opened from a disk cannot read any other kind of file.

    The script is ASCII without "<", so that nothing in it can be taken for markup or for another encoding.
    """
    text = json.dumps(document, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    path = folder / pages.DATA / f"{name}.js"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"speedgate.receive({json.dumps(name)},{text});\n", encoding="ascii")


def _write_marker(folder: Path) -> None:
    """List the files of the site, so that `check_folder` can later tell them from foreign files."""
    document = {"schema": _MARKER_SCHEMA, "files": sorted(_file_names(folder))}
    (folder / MARKER).write_text(json.dumps(document), encoding="utf-8")


def _marked_names(marker: Path) -> list[str]:
    try:
        document = json.loads(marker.read_text(encoding="utf-8"))
        return [str(name) for name in document["files"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{marker}: was not written by speedgate site ({error}); name another folder") from error


def _file_names(folder: Path) -> Iterator[str]:
    """Yield the relative path of every file, and of every folder that is empty or a link."""
    for path in folder.rglob("*"):
        if not path.is_dir() or path.is_symlink() or not any(path.iterdir()):
            yield path.relative_to(folder).as_posix()


def _swap(new_folder: Path, target: Path, *, backup: Path) -> None:
    """Replace `target` with two renames, because POSIX cannot replace a folder that contains files in one.

    If the second rename fails, the earlier site is restored.
    """
    new_folder.chmod(0o755)
    if not target.exists():
        new_folder.rename(target)
        return
    target.rename(backup)
    try:
        new_folder.rename(target)
    except OSError:
        backup.rename(target)
        raise
    shutil.rmtree(backup)
