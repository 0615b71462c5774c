"""`speedgate pin update`, `bump` and `bisect`: try other versions of packages."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from speedgate.results import console
from speedgate.results.exit_status import ExitStatus

GPU_CODE = "gpu-code"
# Commands that pass the arguments after `--` on to pytest.
PYTEST_COMMANDS = ("bump", "bisect")
METRICS = ("latency", "memory", "parity", "structure", GPU_CODE)
_DEFAULT_TARGET = "a100"
_EPILOG = "Arguments after `--` go to pytest, for example: speedgate {} -- --stage int8"


def add_commands(commands: Any) -> None:
    """Add `pin`, `bump` and `bisect` to the sub-commands of `speedgate`."""
    pin = console.add_command(commands, "pin", "change the pinned versions").add_subparsers(
        required=True, metavar="COMMAND"
    )
    update = console.add_command(pin, "update", "pin the newest nightly for which torch and torchao both have a wheel")
    update.add_argument("--channel", choices=["nightly"], required=True, help="the pins to change")
    update.add_argument("--date", metavar="YYYYMMDD", help="pin the nightly of this day; default: the newest")
    update.add_argument(
        "--index-url",
        metavar="URL",
        help="package index; default: PyTorch's nightlies for the installed build of torch",
    )
    _add_pins(update)
    update.set_defaults(run=_update)

    bump = console.add_command(
        commands,
        "bump",
        "compare other versions of packages with those of this environment, and judge the difference",
        usage="%(prog)s [options] [PACKAGE==VERSION ...] [-- pytest arguments]",
        epilog=_EPILOG.format("bump torchao==0.17.0"),
    )
    bump.add_argument(
        "requirements", nargs="*", metavar="PACKAGE==VERSION", help="the versions to judge; the other pins stay"
    )
    bump.add_argument("--channel", choices=["nightly"], help="judge the versions that nightly.txt pins")
    bump.add_argument(
        "--results", type=Path, metavar="DIR", help="folder of the results; default: .speedgate/bump/TIME"
    )
    bump.add_argument(
        "--gpu-code",
        metavar="TARGET[,TARGET]",
        help="compare the code that both arms generate for these GPUs, for example a100, and measure nothing",
    )
    _add_environments(bump)
    bump.set_defaults(run=_bump, pytest_arguments=[])

    bisect = console.add_command(
        commands,
        "bisect",
        "find the first bad version of a package",
        usage="%(prog)s PACKAGE --good VERSION --bad VERSION [options] [-- pytest arguments]",
        epilog=_EPILOG.format("bisect torchao --good 0.16.0 --bad 0.18.0"),
    )
    bisect.add_argument("package", metavar="PACKAGE", help="the package whose versions are tried")
    for end in ("good", "bad"):
        bisect.add_argument(
            f"--{end}",
            required=True,
            metavar="VERSION",
            help=f"the {end} end: a version, or the date of a nightly as YYYYMMDD",
        )
    bisect.add_argument(
        "--metric", choices=METRICS, default=METRICS[0], help="the metric that got worse; default: %(default)s"
    )
    bisect.add_argument(
        "--gpu-code",
        metavar="TARGET[,TARGET]",
        help=f"with --metric {GPU_CODE}: the GPUs that code is generated for; default: a100",
    )
    bisect.add_argument(
        "--with",
        action="append",
        default=[],
        dest="together",
        metavar="PACKAGE",
        help="take this package from the same nightly as the candidate; repeatable",
    )
    _add_environments(bisect)
    bisect.set_defaults(run=_bisect, pytest_arguments=[])


def _add_pins(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--pins",
        type=Path,
        default=Path(".github/pins"),
        metavar="DIR",
        help="folder of the pins; default: %(default)s",
    )


def _add_environments(parser: argparse.ArgumentParser) -> None:
    _add_pins(parser)
    parser.add_argument(
        "--index-url", metavar="URL", help="package index with the other versions; default: as pip is configured"
    )
    parser.add_argument(
        "--cache", type=Path, metavar="DIR", help="folder of environments; default: .speedgate/environments"
    )


def _update(options: argparse.Namespace) -> int:
    from speedgate.versions import environment, index, pins

    environment.check_writable(options.pins, purpose="the pins are kept there: name another folder with --pins")
    installed = environment.package_folders()
    variant = index.torch_variant(installed)
    path = options.pins / pins.NIGHTLY
    pin = pins.update_nightly(
        path,
        index_url=options.index_url or pins.NIGHTLY_INDEX.format(variant=variant),
        variant=variant,
        installed=index.read_origin("torch", installed),
        date=options.date.replace("-", "") if options.date else None,
    )
    versions = ", ".join(f"{package} {version}" for package, version in pin.versions.items())
    for line in (f"{path}: {versions}", *pin.remarks, f"torch commits: {pin.compare}"):
        console.print_line(line)
    return ExitStatus.OK


def _bump(options: argparse.Namespace) -> int:
    from speedgate.report import verdict_page
    from speedgate.versions import bump, environment, pins, suite_run

    if bool(options.requirements) == bool(options.channel):
        raise ValueError("bump: name either PACKAGE==VERSION or --channel nightly")
    stable = _stable_pins(options)
    changes = pins.parse_changes(options.requirements, stable=stable, where="bump")
    verdict, folder = bump.bump(
        changes or pins.read_pins(options.pins / pins.NIGHTLY),
        stable=stable,
        arguments=[*suite_run.gpu_code_arguments(options.gpu_code), *options.pytest_arguments],
        cache=options.cache or environment.CACHE,
        results=options.results,
        index_url=options.index_url,
    )
    console.print_line(f"{folder}: verdict.json and summary.md")
    console.print_line(
        f"candidate: {verdict_page.candidate(verdict)} (this arm); stable: the pins of {options.pins / pins.STABLE}"
        " (other arm)"
    )
    console.print_line(verdict_page.conclusion(verdict))
    if verdict_page.is_red(verdict):
        return ExitStatus.RED
    if not verdict["green"] or verdict["exit_status"] != ExitStatus.OK:
        raise ValueError(f"{folder}: {verdict_page.describe_result(verdict)}")
    return ExitStatus.OK


def _bisect(options: argparse.Namespace) -> int:
    from speedgate.versions import bisect, environment, suite_run

    if options.gpu_code is not None and options.metric != GPU_CODE:
        raise ValueError(
            f"--gpu-code {options.gpu_code}: only with --metric {GPU_CODE}; the metric is {options.metric}"
        )
    targets = (options.gpu_code or _DEFAULT_TARGET) if options.metric == GPU_CODE else None
    for end in ("good", "bad"):
        bisect.check_end(getattr(options, end), option=f"--{end}")
    request = bisect.BisectRequest(
        package=options.package,
        good=options.good,
        bad=options.bad,
        metric=options.metric,
        arguments=(*suite_run.gpu_code_arguments(targets), *options.pytest_arguments),
        index_url=options.index_url,
        together=tuple(options.together),
        stable=tuple(_stable_pins(options).values()),
        code=suite_run.digest_code(Path.cwd()),
    )
    try:
        bisect.bisect(request, cache=options.cache or environment.CACHE, print_line=console.print_line)
    except KeyboardInterrupt:
        console.print_error("interrupted; the same command continues where it stopped")
        return ExitStatus.FAILED
    return ExitStatus.OK


def _stable_pins(options: argparse.Namespace) -> dict[str, str]:
    """Read the stable pins, and check that this environment holds them."""
    from speedgate.versions import environment, pins

    path = options.pins / pins.STABLE
    stable = pins.read_pins(path)
    environment.check_stable_pins(stable, where=path)
    return stable
