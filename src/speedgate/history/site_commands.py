"""`speedgate site`: the options, the history that is read, and the changes that were found in it."""

from __future__ import annotations

import argparse
import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from speedgate.history import urls
from speedgate.history.series import Series
from speedgate.history.site.model import Change
from speedgate.results import console


def add_command(commands: Any) -> None:
    """Add `site` to the subcommands of `speedgate`."""
    command = commands.add_parser("site", help="write a history as a static site")
    command.add_argument("folder", type=Path, metavar="DIR", help="new, empty, or an earlier site, which is replaced")
    command.add_argument(
        "--history", default=urls.of_file(urls.FILE), metavar="URL", help=f"{urls.VALID} (default: %(default)s)"
    )
    command.add_argument(
        "--commit-url", metavar="URL", help="where commits are shown, with {commit} in place of the hash"
    )
    command.add_argument(
        "--stages",
        metavar="STAGE,...",
        help="the ladder's order; default: that of the baselines below --root, where there are any",
    )
    command.set_defaults(run=_command)


def _command(options: argparse.Namespace) -> int:
    from speedgate.history import queries
    from speedgate.history.site import folder, write

    write.checked_commit_url(options.commit_url)
    folder.check(options.folder.resolve())  # before a minute's work
    with folder.replacing(options.folder) as made:
        written = write.write(
            made,
            queries.series(options.history),
            changes=changes_of,
            generated_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            commit_url=options.commit_url,
            stages=options.stages.split(",") if options.stages else stages_of(options.root),
        )
    said = f"{written.runs} runs of {written.cases} cases on {written.gpus} GPU keys"
    console.print_line(f"{options.folder / 'index.html'}: {said}")
    return console.OK


def changes_of(series: Series) -> list[Change]:
    """What the trend finds; nothing in a series that is too short for it."""
    from speedgate.history import trend

    if trend.measured(series.points) < trend.MIN_RUNS:
        return []
    return [
        Change(
            metric=one.metric,
            kind=str(one.kind),
            ratio=one.ratio,
            low=one.low,
            high=one.high,
            before=one.before,
            run=one.run,
            after=one.after,
            per_month=one.per_month,
        )
        for one in trend.analyse(series).changes
    ]


def stages_of(root: Path) -> Sequence[str]:
    """The ladder's order, as the baselines below `root` list it; empty where there are none."""
    from speedgate.baselines import store

    if not root.is_dir():
        return ()
    found: dict[str, None] = {}
    for gpu_key in store.gpu_keys(root):
        for path in store.baseline_files(root, gpu_key):
            found |= {one.case_key.split("/")[1]: None for one in store.read_baselines(path, gpu_key=gpu_key)}
    return tuple(found)
