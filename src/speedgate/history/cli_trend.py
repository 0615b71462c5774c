"""`speedgate trend`: what changed in each series of a history, worst and newest first."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from speedgate.history import urls
from speedgate.results import console
from speedgate.results.text import redact_password

if TYPE_CHECKING:
    from speedgate.history.series import Point, Series
    from speedgate.history.trend import Change, Trend

KINDS = ("step", "drift")
RECENT = 14
_COMMIT = 12  # characters
_VERSIONS = 6  # named in a line; the JSON has them all


def add_command(commands: Any) -> None:
    """Add `trend` to the subcommands of `speedgate`."""
    command = commands.add_parser("trend", help="find steps and slow drifts in a history")
    command.add_argument(
        "--history",
        default=urls.of_file(urls.FILE),
        metavar="URL",
        help="the history that `--history` of pytest wrote to (default: %(default)s)",
    )
    command.add_argument("--case", metavar="KEY", help="one case; default: all")
    command.add_argument("--gpu-key", metavar="KEY", help="one machine; default: all")
    command.add_argument("--last", type=_count, metavar="N", help="only the last N runs of each case; default: all")
    command.add_argument(
        "--fail-on",
        type=_kinds,
        default=KINDS,
        metavar="KINDS",
        help=f"what ends with exit status 1: of {','.join(KINDS)}, or none (default: {','.join(KINDS)})",
    )
    command.add_argument(
        "--recent",
        type=_count,
        default=RECENT,
        metavar="N",
        help="and only where it came in, or went on into, the last N runs (default: %(default)s)",
    )
    command.add_argument("--json", action="store_true", help="everything that was found, as JSON")
    command.set_defaults(run=_trend)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: a number of runs from 1")
    return int(text)


def _kinds(text: str) -> tuple[str, ...]:
    kinds = () if text == "none" else tuple(text.split(","))
    if wrong := [kind for kind in kinds if kind not in KINDS]:
        raise argparse.ArgumentTypeError(f"{', '.join(wrong)}: not of {', '.join(KINDS)}, and not none alone")
    return kinds


def _trend(options: argparse.Namespace) -> int:
    from speedgate.history import queries

    found = queries.series(options.history, gpu_key=options.gpu_key, case_key=options.case)
    return judge(found, options)


def judge(found: Sequence[Series], options: argparse.Namespace) -> int:
    """Print what changed; return 1 where a change that `--fail-on` names is recent, raise `ValueError` where no series is long enough."""
    from speedgate.history.trend import MIN_RUNS, analyse, measured

    history = redact_password(options.history)
    if not found:
        asked = [f"{name} {key}" for name, key in (("case", options.case), ("GPU key", options.gpu_key)) if key]
        raise ValueError(f"{history}: holds no runs{' of ' + ' on '.join(asked) if asked else ''}")
    series = [_last(one, options.last) for one in found]
    short = [one for one in series if measured(one.points) < MIN_RUNS]
    trends = [analyse(one) for one in series if measured(one.points) >= MIN_RUNS]
    if not trends:
        longest = max(measured(one.points) for one in series)
        raise ValueError(f"{history}: {longest} runs with a latency at most; a trend needs {MIN_RUNS} at least")
    red = [trend for trend in trends if any(_fails(trend, change, options) for change in trend.changes)]
    for line in _document(trends, short, options) if options.json else _lines(trends, short, options):
        console.print_line(line)
    return console.RED if red else console.OK


def _last(series: Series, count: int | None) -> Series:
    return series if count is None else dataclasses.replace(series, points=series.points[-count:])


def _fails(trend: Trend, change: Change, options: argparse.Namespace) -> bool:
    return change.worse and change.kind in options.fail_on and trend.is_recent(change, options.recent)


def _lines(trends: Sequence[Trend], short: Sequence[Series], options: argparse.Namespace) -> Iterator[str]:
    """A paragraph for each series that changed, those that fail first; a line for what did not, or is too short."""
    changed = [trend for trend in trends if trend.changes]
    for trend in sorted(changed, key=lambda one: not any(_fails(one, change, options) for change in one.changes)):
        alone = f", {len(trend.outliers)} of them outliers" if trend.outliers else ""
        yield (
            f"{trend.series.case_key} on {trend.series.gpu_key}: {trend.measured} runs{alone};"
            f" a run's spread {trend.run_spread:.2%}"
        )
        yield from (f"  {_sentence(trend, change, options)}" for change in reversed(trend.changes))
    yield f"{len(changed)} of {len(trends)} series changed"
    if short:
        yield f"{len(short)} series too short to tell: {', '.join(one.case_key for one in short[:3])}{', ...' * (len(short) > 3)}"


def _sentence(trend: Trend, change: Change, options: argparse.Namespace) -> str:
    """`STEP latency +3.1% (99% interval +2.8% to +3.4%, p 0.0005) between A and B: torch 1 -> 2`."""
    red = "FAIL " if _fails(trend, change, options) else ""
    points = trend.series.points
    rate = f", {change.per_month - 1:+.1%} a month" if change.per_month is not None else ""
    moved = [f"{name} {old or '-'} -> {new or '-'}" for name, (old, new) in trend.versions(change).items()]
    more = f" and {len(moved) - _VERSIONS} more" if len(moved) > _VERSIONS else ""
    return (
        f"{red}{change.kind.upper()} {change.metric} {change.ratio - 1:+.1%}{rate}"
        f" (99% interval {change.low - 1:+.1%} to {change.high - 1:+.1%}, p {change.p_value:.4f})"
        f" between {_named(points[change.before])} and {_named(points[change.after])},"
        f" {len(points) - change.run} runs ago: {', '.join(moved[:_VERSIONS]) or 'no version changed'}{more}"
    )


def _named(point: Point) -> str:
    return f"{point.commit[:_COMMIT] if point.commit else 'no commit'} ({point.measured_at[:16]})"


def _document(trends: Sequence[Trend], short: Sequence[Series], options: argparse.Namespace) -> Iterator[str]:
    document = {
        "trends": [_trend_json(trend, options) for trend in trends],
        "too_short": [{"gpu_key": one.gpu_key, "case_key": one.case_key} for one in short],
    }
    yield from json.dumps(document, indent=1).splitlines()


def _trend_json(trend: Trend, options: argparse.Namespace) -> dict[str, Any]:
    return {
        "gpu_key": trend.series.gpu_key,
        "case_key": trend.series.case_key,
        "runs": trend.measured,
        "run_spread": trend.run_spread,
        "outliers": [trend.series.points[place].run_id for place in trend.outliers],
        "changes": [_change_json(trend, change, options) for change in trend.changes],
    }


def _change_json(trend: Trend, change: Change, options: argparse.Namespace) -> dict[str, Any]:
    ends = {"before": change.before, "run": change.run, "after": change.after}
    places = {name: _point_json(trend.series.points[place]) for name, place in ends.items()}
    versions = {name: {"before": old, "after": new} for name, (old, new) in trend.versions(change).items()}
    figures = {name: value for name, value in dataclasses.asdict(change).items() if name not in ends}
    return {**figures, **places, "versions": versions, "fails": _fails(trend, change, options)}


def _point_json(point: Point) -> dict[str, str | None]:
    return {"run_id": point.run_id, "commit": point.commit, "measured_at": point.measured_at}
