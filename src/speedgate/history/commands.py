"""The commands `speedgate history`, `speedgate trend` and `speedgate site`."""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import functools
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speedgate.history import database
from speedgate.results.case_key import CaseKey
from speedgate.results.console import add_command, print_line
from speedgate.results.exit_status import ExitStatus
from speedgate.results.text import redact_password

if TYPE_CHECKING:
    from speedgate.history.entries import HistoryEntry
    from speedgate.history.machine import MachineSeries
    from speedgate.history.trend import Series, SeriesPoint, Trend, TrendChange

EXPORT_SUFFIX = ".json"
KINDS = ("step", "drift")  # those of `trend.Kind`, without importing numpy
RECENT_RUNS = 14
_COMMIT_CHARACTERS = 12
_POINT_FACTS = ("run_id", "commit", "measured_at")
_VERSIONS_PER_LINE = 6  # the JSON has all of them


def add_commands(commands: Any) -> None:
    """Add `history`, `trend` and `site` to the subcommands of `speedgate`."""
    history = add_command(commands, "history", "import, export or upgrade a history: a database of runs over time")
    verbs = history.add_subparsers(required=True, metavar="COMMAND")
    command = add_command(verbs, "import", "add runs to a history; runs that it already holds are skipped")
    command.add_argument(
        "paths", nargs="+", type=Path, metavar="PATH",
        help="a results folder, an export, a baseline file, or a file of pytest bench --benchmark-json",
    )  # fmt: skip
    _finish(command, _import)

    command = add_command(verbs, "export", "write runs of a history to one JSON file; by default all runs")
    command.add_argument(
        "file", type=Path, metavar="FILE", help="a name that ends in .json; pytest-benchmark compare can read the file"
    )
    _finish(command, _export, filters=True)

    _finish(add_command(verbs, "upgrade", "convert an older history to the schema of this version"), _upgrade)

    command = add_command(commands, "trend", "find steps and slow drifts in a history")
    command.add_argument(
        "--last", type=_positive_count, metavar="N", help="use only the last N runs of each case (default: all runs)"
    )
    command.add_argument(
        "--fail-on", type=_kinds, default=KINDS, metavar="KINDS",
        help=f"exit with status 1 for these kinds of change: {','.join(KINDS)}, or none (default: {','.join(KINDS)})",
    )  # fmt: skip
    command.add_argument(
        "--recent", type=_positive_count, default=RECENT_RUNS, metavar="N",
        help="fail only if the change lies in the last N runs (default: %(default)s)",
    )  # fmt: skip
    command.add_argument("--json", action="store_true", help="print all results as JSON")
    _finish(command, _trend, filters=True)

    command = add_command(commands, "site", "write a history as a static website")
    command.add_argument(
        "folder", type=Path, metavar="DIR", help="a new or empty folder, or an earlier site, which is replaced"
    )
    command.add_argument(
        "--commit-url", metavar="URL", help="the address of a commit, with {commit} in place of its hash"
    )
    command.add_argument(
        "--stages", metavar="STAGE,...",
        help="the order of the stages of a ladder (default: their order in the baseline files in --root)",
    )  # fmt: skip
    _finish(command, _site)


def _finish(command: argparse.ArgumentParser, run: Callable[..., int], *, filters: bool = False) -> None:
    """Add the options that several commands have, and the function that runs the command."""
    command.add_argument(
        "--history", default=database.sqlite_url(database.DEFAULT_FILE), metavar="URL",
        help=f"the URL of the history, {database.URL_FORMS} (default: %(default)s)",
    )  # fmt: skip
    if filters:
        command.add_argument("--case", metavar="KEY", help="only runs of this case (default: all cases)")
        command.add_argument("--gpu-key", metavar="KEY", help="only runs on this GPU key (default: all GPU keys)")
    command.set_defaults(run=run)


def _positive_count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number of runs, at least 1")
    return int(text)


def _kinds(text: str) -> tuple[str, ...]:
    kinds = () if text == "none" else tuple(text.split(","))
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: expected {' or '.join(KINDS)}, both, or none")
    return kinds


def _import(options: argparse.Namespace) -> int:
    """Read every source before writing, so that nothing of a truncated file is imported."""
    from speedgate.history import queries

    database.parse_url(options.history)
    entries_by_path = {path: _entries(path) for path in options.paths}
    database.prepare_history(options.history)
    for path, entries in entries_by_path.items():
        counts = queries.add_entries(options.history, entries)
        print_line(f"{path}: {counts.added} added, {counts.present} already stored")
    return ExitStatus.OK


def _entries(path: Path) -> list[HistoryEntry]:
    from speedgate.history import entries, exchange
    from speedgate.results import folder

    if not path.is_dir():
        return exchange.read_file(path)
    files = folder.read_folder(path)
    try:
        return entries.entries_from_files(files)
    except ValueError as error:  # names only the file, and several folders may hold a file of that name
        raise ValueError(f"{path}: {error}") from error


def _export(options: argparse.Namespace) -> int:
    from speedgate.history import exchange, queries

    if options.file.suffix != EXPORT_SUFFIX:
        raise ValueError(f"{options.file}: expected a name that ends in {EXPORT_SUFFIX}")
    entries = queries.read_entries(options.history, gpu_key=options.gpu_key, case_key=options.case)
    count = exchange.write_file(options.file, entries)
    print_line(f"{options.file}: {count} runs")
    return ExitStatus.OK


def _upgrade(options: argparse.Namespace) -> int:
    before, after = database.upgrade_history(options.history)
    print_line(f"{database.url_without_password(options.history)}: schema {before or 'none'} before, {after} now")
    return ExitStatus.OK


def _trend(options: argparse.Namespace) -> int:
    from speedgate.history import queries

    all_series = queries.read_series(options.history, gpu_key=options.gpu_key, case_key=options.case)
    return report_trends(all_series, options, machines=queries.read_machines(options.history, gpu_key=options.gpu_key))


def report_trends(
    all_series: Sequence[Series], options: argparse.Namespace, *, machines: Sequence[MachineSeries] = ()
) -> int:
    """Print the changes of each series. Returns 1 if one of them is a regression that `--fail-on` and `--recent` select.

    Raises `ValueError` if no series is long enough to judge.
    """
    from speedgate.history.machine import attribute
    from speedgate.history.trend import MIN_RUNS, analyse, count_measured

    history = redact_password(options.history)
    if not all_series:
        filters = [f"{name} {key}" for name, key in (("case", options.case), ("GPU key", options.gpu_key)) if key]
        raise ValueError(f"{history}: holds no runs{' of ' + ' on '.join(filters) if filters else ''}")
    last = slice(-options.last if options.last else None, None)
    shortened = [dataclasses.replace(series, points=series.points[last]) for series in all_series]
    too_short = [series for series in shortened if count_measured(series.points) < MIN_RUNS]
    long_enough = [series for series in shortened if count_measured(series.points) >= MIN_RUNS]
    trends = [attribute(analyse(series), machines) for series in long_enough]
    if not trends:
        longest = max(count_measured(series.points) for series in shortened)
        raise ValueError(
            f"{history}: the longest series has {longest} runs with a latency; a trend needs at least {MIN_RUNS}"
        )
    lines = _trends_json if options.json else _trend_lines
    for line in lines(trends, too_short, machines, options):
        print_line(line)
    return ExitStatus.RED if any(_has_failed(trend, options) for trend in trends) else ExitStatus.OK


def _has_failed(trend: Trend, options: argparse.Namespace) -> bool:
    return any(_fails(trend, change, options) for change in trend.changes)


def _fails(trend: Trend, change: TrendChange, options: argparse.Namespace) -> bool:
    """Return True for a recent regression of the program; one that the machine explains is shown and is not red."""
    is_regression = change.worse and not change.of_machine
    return is_regression and change.kind in options.fail_on and trend.is_recent(change, options.recent)


def _trend_lines(
    trends: Sequence[Trend], too_short: Sequence[Series], machines: Sequence[MachineSeries], options: argparse.Namespace
) -> Iterator[str]:
    """Yield a paragraph for each series that changed, failing ones first, then counts, and a line for each machine."""
    shown = [trend for trend in trends if trend.changes or trend.noisy_since is not None]
    for trend in sorted(shown, key=lambda trend: not _has_failed(trend, options)):
        outliers = f", {len(trend.outliers)} of them outliers" if trend.outliers else ""
        yield (
            f"{trend.series.case_key} on {trend.series.gpu_key}: {trend.measured_count} runs{outliers};"
            f" a run's spread {trend.run_spread:.2%}"
        )
        if trend.noisy_since is not None:
            yield f"  {_noise_line(trend)}"
        yield from (f"  {_change_line(trend, change, options)}" for change in reversed(trend.changes))
    noisy = sum(trend.noisy_since is not None for trend in trends)
    note = f", {noisy} too noisy to judge" if noisy else ""
    yield f"{sum(bool(trend.changes) for trend in trends)} of {len(trends)} series changed{note}"
    if too_short:
        examples = ", ".join(series.case_key for series in too_short[:3])
        yield f"{len(too_short)} series too short to judge: {examples}{', ...' * (len(too_short) > 3)}"
    for machine in machines:
        yield from _machine_lines(machine)


def _machine_lines(machine: MachineSeries) -> Iterator[str]:
    """Yield a line with the latest drift of a machine, and a remark if its baseline will soon be stale."""
    from speedgate.gate.policy import Policy
    from speedgate.results.machine_drift import MachineDrift, stale_remark

    last = machine.points[-1]
    yield (
        f"machine {machine.gpu_key}: {last.drift - 1:+.1%} seconds since {last.baseline or 'its baseline'} was recorded"
        f" ({last.cases} {'case' if last.cases == 1 else 'cases'}, {last.measured_at[:16]});"
        f" confirmed cases in {len({point.measured_at for point in machine.points})} sessions"
    )
    drift = MachineDrift(ratio=last.drift, cases=last.cases)
    if last.baseline and (remark := stale_remark(last.baseline, drift, tolerance=Policy.latency_tolerance)):
        yield f"  {remark}"


def _noise_line(trend: Trend) -> str:
    """Write `TOO NOISY to judge since A, 30 runs ago: ...`: no news of such a series is not good news."""
    assert trend.noisy_since is not None
    points = trend.series.points
    return (
        f"TOO NOISY to judge since {_point_text(points[trend.noisy_since])}, {len(points) - trend.noisy_since} runs ago:"
        " neighbouring runs differ by more than 8 % again and again, and a change of some percent would not be seen; look at"
        " the machine first"
    )


def _change_line(trend: Trend, change: TrendChange, options: argparse.Namespace) -> str:
    """Write `STEP latency +3.1% (99% interval +2.8% to +3.4%, p 0.0005) between A and B, 8 runs ago: torch 1 -> 2`."""
    fail = "FAIL " if _fails(trend, change, options) else ""
    points = trend.series.points
    rate = f", {change.per_month - 1:+.1%} a month" if change.per_month is not None else ""
    versions = [f"{name} {old or '-'} -> {new or '-'}" for name, (old, new) in trend.versions(change).items()]
    more = f" and {len(versions) - _VERSIONS_PER_LINE} more" if len(versions) > _VERSIONS_PER_LINE else ""
    return (
        f"{fail}{'MACHINE ' if change.of_machine else ''}{change.kind.upper()} {change.metric} {change.ratio - 1:+.1%}{rate}"
        f" (99% interval {change.low - 1:+.1%} to {change.high - 1:+.1%}, p {change.p_value:.4f})"
        f" between {_point_text(points[change.before])} and {_point_text(points[change.after])},"
        f" {len(points) - change.run} runs ago: {', '.join(versions[:_VERSIONS_PER_LINE]) or 'no version changed'}{more}"
        f"{_machine_part(change)}"
    )


def _machine_part(change: TrendChange) -> str:
    """Write the machine's part of a change; empty if nothing is known of it."""
    if change.machine_ratio is None:
        return ""
    part = f"; the machine changed by {change.machine_ratio - 1:+.1%}"
    if change.of_machine:
        return f"{part}, which explains it: the program is as fast as before"
    return f"{part}, the program by {change.ratio / change.machine_ratio - 1:+.1%}"


def _point_text(point: SeriesPoint) -> str:
    commit = point.commit[:_COMMIT_CHARACTERS] if point.commit else "no commit"
    return f"{commit} ({point.measured_at[:16]})"


def _trends_json(
    trends: Sequence[Trend], too_short: Sequence[Series], machines: Sequence[MachineSeries], options: argparse.Namespace
) -> list[str]:
    document = {
        "trends": [
            {
                "gpu_key": trend.series.gpu_key,
                "case_key": trend.series.case_key,
                "runs": trend.measured_count,
                "run_spread": trend.run_spread,
                "noisy_since": None if trend.noisy_since is None else trend.series.points[trend.noisy_since].run_id,
                "outliers": [trend.series.points[place].run_id for place in trend.outliers],
                "changes": [_change_json(trend, change, options) for change in trend.changes],
            }
            for trend in trends
        ],
        "too_short": [{"gpu_key": series.gpu_key, "case_key": series.case_key} for series in too_short],
        "machines": [dataclasses.asdict(machine) for machine in machines],
    }
    return json.dumps(document, indent=1).splitlines()


def _change_json(trend: Trend, change: TrendChange, options: argparse.Namespace) -> dict[str, Any]:
    places = {"before": change.before, "run": change.run, "after": change.after}
    points = {name: trend.series.points[place] for name, place in places.items()}
    versions = {name: {"before": old, "after": new} for name, (old, new) in trend.versions(change).items()}
    return {
        **dataclasses.asdict(change),
        **{name: {fact: getattr(point, fact) for fact in _POINT_FACTS} for name, point in points.items()},
        "versions": versions,
        "of_machine": change.of_machine,
        "fails": _fails(trend, change, options),
    }


def _site(options: argparse.Namespace) -> int:
    from speedgate.history import queries
    from speedgate.history.site import write

    write.check_commit_url(options.commit_url)
    write.check_folder(options.folder.resolve())  # before a minute's work
    machines = queries.read_machines(options.history)
    with write.replace_folder(options.folder) as new_folder:
        counts = write.write_site(
            new_folder,
            queries.read_series(options.history),
            changes=functools.partial(_changes, machines),
            machines=machines,
            generated_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            commit_url=options.commit_url,
            stages=options.stages.split(",") if options.stages else stages_of_baselines(options.root),
        )
    index = options.folder / "index.html"
    print_line(f"{index}: {counts.runs} runs of {counts.cases} cases on {counts.gpus} GPU keys")
    return ExitStatus.OK


def _changes(machines: Sequence[MachineSeries], series: Series) -> Sequence[TrendChange]:
    """Find the changes of a series, with the machine's part of each; none if it is too short for a trend."""
    from speedgate.history import machine, trend

    if trend.count_measured(series.points) < trend.MIN_RUNS:
        return ()
    return machine.attribute(trend.analyse(series), machines).changes


def stages_of_baselines(root: Path) -> Sequence[str]:
    """List the stages of the longest ladder in the baseline files in `root`; empty if there are none.

    A recorded run names the stages that it was built on, so a file with some stages of a ladder has all of its order. The stages
    of a published file are in the order of the file.
    """
    from speedgate.baselines import store

    if not root.is_dir():
        return ()
    ladders: list[tuple[str, ...]] = []
    for gpu_key in store.gpu_keys(root):
        for path in store.baseline_files(root, gpu_key):
            listed: dict[tuple[str, str], list[str]] = {}
            for baseline in store.read_baselines(path, gpu_key=gpu_key):
                key = CaseKey.parse(baseline.case_key)
                if baseline.run is not None:
                    ladders.append(tuple(baseline.run.stages))
                else:
                    listed.setdefault((key.pipeline, key.workload), []).append(key.stage)
            ladders[:0] = [
                tuple(stages) for stages in listed.values()
            ]  # of ladders as long as others, the published one
    return max(ladders, key=len, default=())
