"""From the series to the files of the site. The series are taken one at a time, so that a history need not fit in memory."""

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

from speedgate.history.site import model, pages
from speedgate.history.site.model import Rung, SessionCollector
from speedgate.history.trend import Series, TrendChange

# Where the commits of a version's git hash are published; a hash links there if it is one.
SOURCES = {"torch_git": "https://github.com/pytorch/pytorch/commit/{commit}"}
_COMMIT_URL = re.compile(r"https?://[^\s{}\"'<>\\]+\{commit\}[^\s{}\"'<>\\]*")
MARKER = ".speedgate-site"
_SCHEMA = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class SiteCounts:
    """What a generation has written."""

    gpus: int
    cases: int
    runs: int


def write_site(
    folder: Path,
    series: Iterable[Series],
    *,
    changes: Callable[[Series], Sequence[TrendChange]],
    generated_at: str,
    commit_url: str | None = None,
    stages: Sequence[str] = (),
) -> SiteCounts:
    """Write the whole site into an empty folder. `generated_at` is UTC in ISO 8601, `stages` the ladder's order.

    A `ValueError` where there is no run at all, a case comes twice or a figure is none.
    """
    pages.write_pages(folder, commit_url=check_commit_url(commit_url), sources=SOURCES, generated_at=generated_at)
    summaries: dict[str, dict[str, Any]] = {}
    gpu_keys: dict[str, str] = {}
    rungs: list[Rung] = []
    sessions = SessionCollector()
    for one in series:
        if not one.points:
            continue
        found = list(changes(model.check_figures(one)))
        row = model.case_summary(one, found)
        if row["id"] in summaries:
            raise ValueError(f"{one.case_key} on {one.gpu_key}: the history gave this case twice")
        summaries[row["id"]] = row
        gpu_keys[row["gpu"]] = one.gpu_key
        rungs += [rung for rung in [model.ladder_rung(one)] if rung is not None]
        sessions.add(one)
        _write_data(folder, f"case-{row['id']}", model.case_document(one, found))
    if not summaries:
        raise ValueError("the history holds no runs: there is nothing to show yet")
    _write_index(folder, list(summaries.values()), gpu_keys=gpu_keys)
    _write_ladders(folder, rungs, gpu_keys=gpu_keys, stages=stages)
    for name, document in sessions.documents():
        _write_data(folder, name, document)
    return SiteCounts(gpus=len(gpu_keys), cases=len(summaries), runs=sum(row["runs"] for row in summaries.values()))


def check_commit_url(template: str | None) -> str | None:
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


@contextlib.contextmanager
def replace_folder(target: Path) -> Iterator[Path]:
    """An empty folder that becomes `target` when the block ends well, and is gone when it does not.

    A `ValueError` where `target` is a file, or a folder with anything in it that an earlier generation has not written.
    """
    target = target.resolve()  # what a link leads to is replaced, not the link
    check_folder(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    # Beside its place, so that a rename is enough; a dot, so that no server that lists the parent shows it.
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", suffix=".part", dir=target.parent) as scratch:
        made = Path(scratch) / "new"
        made.mkdir()
        yield made
        _mark(made)
        check_folder(target)  # again: writing took a while
        _swap(made, target, aside=Path(scratch) / "old")


def check_folder(target: Path) -> None:
    """A `ValueError` unless `target` is free, empty or a site of ours with no file of anyone else's."""
    if not target.exists():
        return
    if not target.is_dir():
        raise ValueError(f"{target}: is a file; name a folder for the site")
    if not any(target.iterdir()):
        return
    marker = target / MARKER
    if not marker.is_file():
        raise ValueError(f"{target}: holds files that speedgate site did not write; name an empty or a new folder")
    foreign = sorted(set(_names(target)) - set(_written(marker)) - {MARKER})
    if foreign:
        raise ValueError(f"{target}: {foreign[0]} is not of the site that was written there; move it elsewhere first")


def _mark(folder: Path) -> None:
    """Leave a list of what was written, by which the next generation knows its own."""
    document = {"schema": _SCHEMA, "files": sorted(_names(folder))}
    (folder / MARKER).write_text(json.dumps(document), encoding="utf-8")


def _written(marker: Path) -> list[str]:
    try:
        document = json.loads(marker.read_text(encoding="utf-8"))
        return [str(name) for name in document["files"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{marker}: is not what speedgate site leaves ({error}); name another folder") from error


def _names(folder: Path) -> Iterator[str]:
    """Every file, and every folder that is empty or a link, by its path below `folder`."""
    for path in folder.rglob("*"):
        if not path.is_dir() or path.is_symlink() or not any(path.iterdir()):
            yield path.relative_to(folder).as_posix()


def _swap(made: Path, target: Path, *, aside: Path) -> None:
    """Two renames, for POSIX has none that replaces a folder with files in it; the earlier site returns if the second fails."""
    made.chmod(0o755)
    if not target.exists():
        made.rename(target)
        return
    target.rename(aside)
    try:
        made.rename(target)
    except OSError:
        aside.rename(target)
        raise
    shutil.rmtree(aside)
