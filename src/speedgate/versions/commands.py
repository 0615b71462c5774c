"""The commands that try other versions of packages: `pin update`, `bump` and `bisect`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from speedgate.results import console
from speedgate.results.exit_status import ExitStatus

# With `--`, what follows goes to pytest.
PYTEST_COMMANDS = ("bump", "bisect")
METRICS = ("latency", "memory", "parity", "structure")
_CACHE = "where environments are kept (default: .speedgate/environments)"


def add_commands(commands: Any) -> None:
    """Add `pin`, `bump` and `bisect` to the sub-commands of `speedgate`."""
    pin = commands.add_parser("pin", help="move the pins").add_subparsers(required=True, metavar="COMMAND")
    update = pin.add_parser("update", help="pin the newest nightly that has both torch and torchao")
    update.add_argument("--channel", choices=["nightly"], required=True, help="which pins")
    update.add_argument("--date", metavar="YYYYMMDD", help="that day's instead of the newest")
    update.add_argument(
        "--index-url", metavar="URL", help="default: PyTorch's nightlies for the build of torch installed"
    )
    _add_pins(update)
    update.set_defaults(run=_update)

    bump = commands.add_parser("bump", help="judge other versions live against this environment: -- [pytest arguments]")
    bump.add_argument("requirements", nargs="*", metavar="PACKAGE==VERSION", help="what changes; the other pins hold")
    bump.add_argument("--channel", choices=["nightly"], help="what nightly.txt pins changes")
    bump.add_argument("--results", type=Path, metavar="DIR", help="default: .speedgate/bump/TIME")
    _add_environments(bump)
    bump.set_defaults(run=_bump, pytest_arguments=[])

    bisect = commands.add_parser("bisect", help="find the first bad version of a package: -- [pytest arguments]")
    bisect.add_argument("package", metavar="PACKAGE")
    for end in ("good", "bad"):
        bisect.add_argument(f"--{end}", required=True, metavar="VERSION", help="a version, or a nightly's YYYYMMDD")
    bisect.add_argument("--metric", choices=METRICS, default=METRICS[0], help="what is bad (default: %(default)s)")
    bisect.add_argument(
        "--with",
        action="append",
        default=[],
        dest="together",
        metavar="PACKAGE",
        help="of the same nightly as the candidate; repeatable",
    )
    _add_environments(bisect)
    bisect.set_defaults(run=_bisect, pytest_arguments=[])


def _add_pins(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--pins", type=Path, default=Path(".github/pins"), metavar="DIR", help="the pins (default: %(default)s)"
    )


def _add_environments(parser: argparse.ArgumentParser) -> None:
    _add_pins(parser)
    parser.add_argument(
        "--index-url", metavar="URL", help="where the other versions are; default: as pip is configured"
    )
    parser.add_argument("--cache", type=Path, metavar="DIR", help=_CACHE)


def _update(options: argparse.Namespace) -> int:
    from speedgate.versions import environment, index, pins

    environment.check_writable(options.pins, what="the pins are kept there: name another folder with --pins")
    places = environment.places()
    variant = index.variant(places)
    moved = pins.update_nightly(
        options.pins / pins.NIGHTLY,
        index_url=options.index_url or pins.NIGHTLY_INDEX.format(variant=variant),
        variant=variant,
        installed=index.origin("torch", places),
        date=options.date.replace("-", "") if options.date else None,
    )
    named = ", ".join(f"{package} {version}" for package, version in moved.versions.items())
    for line in (f"{options.pins / pins.NIGHTLY}: {named}", *moved.remarks, f"torch commits: {moved.compare}"):
        console.print_line(line)
    return ExitStatus.OK


def _bump(options: argparse.Namespace) -> int:
    from speedgate.report import verdict_page
    from speedgate.versions import bump as bumps
    from speedgate.versions import environment, pins

    if bool(options.requirements) == bool(options.channel):
        raise ValueError("bump: name either PACKAGE==VERSION or --channel nightly")
    stable = _stable(options)
    asked = pins.moved(options.requirements, stable=stable, where="bump")
    verdict, folder = bumps.bump(
        asked or pins.read(options.pins / pins.NIGHTLY),
        stable=stable,
        arguments=options.pytest_arguments,
        cache=options.cache or environment.CACHE,
        results=options.results,
        index_url=options.index_url,
    )
    console.print_line(f"{folder}: verdict.json and summary.md")
    if verdict_page.is_red(verdict):
        return ExitStatus.RED
    if not verdict["green"] or verdict["exit_status"] != 0:
        raise ValueError(f"{folder}: {verdict_page.describe_result(verdict)}")
    return ExitStatus.OK


def _bisect(options: argparse.Namespace) -> int:
    from speedgate.versions import bump as bumps
    from speedgate.versions import environment
    from speedgate.versions.bisect import BisectRequest, check_end

    for end in ("good", "bad"):
        check_end(getattr(options, end), option=f"--{end}")
    question = BisectRequest(
        package=options.package,
        good=options.good,
        bad=options.bad,
        metric=options.metric,
        arguments=tuple(options.pytest_arguments),
        index_url=options.index_url,
        together=tuple(options.together),
        stable=tuple(_stable(options).values()),
    )
    try:
        bumps.bisect(question, cache=options.cache or environment.CACHE, say=console.print_line)
    except KeyboardInterrupt:
        console.print_error("interrupted; the same command goes on where it stopped")
        return ExitStatus.FAILED
    return ExitStatus.OK


def _stable(options: argparse.Namespace) -> dict[str, str]:
    """The stable pins, once this environment is known to hold them."""
    from speedgate.versions import environment, pins

    path = options.pins / pins.STABLE
    stable = pins.read(path)
    environment.check_base(stable, where=path)
    return stable
