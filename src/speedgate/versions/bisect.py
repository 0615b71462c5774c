"""Find the first bad version of a package: the candidates, the search, its state on disk, and the trial of one candidate."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, field
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from speedgate.results import exit_status
from speedgate.results.json_io import decode, read_json, to_json, write_json
from speedgate.results.text import redact_password
from speedgate.versions import environment, index, pins, suite_run
from speedgate.versions.environment import InstallFailure, OverlayEnvironment
from speedgate.versions.index import nightly_date
from speedgate.versions.suite_run import BisectOutcome, Trial

FOLDER = Path(".speedgate/bisect")
_STATE_PURPOSE = "a bisect keeps its state there: run it in a folder that can be written"


@dataclasses.dataclass(frozen=True, kw_only=True)
class BisectRequest:
    """The arguments of a bisect. An equal request continues an interrupted bisect.

    `together` are packages that are taken from the same nightly as the candidate, `stable` the pins that do not change, and
    `code` the digest of the code that runs and judges a trial: trials of two suites cannot be compared.
    """

    package: str
    good: str
    bad: str
    metric: str
    arguments: tuple[str, ...] = ()
    index_url: str | None = None
    together: tuple[str, ...] = ()
    stable: tuple[str, ...] = ()
    code: str = ""

    @property
    def digest(self) -> str:
        """Identify the request in the name of its folder."""
        return hashlib.sha256(json.dumps(dataclasses.asdict(self), sort_keys=True).encode()).hexdigest()[:12]


@dataclasses.dataclass(frozen=True, kw_only=True)
class BisectBoundary:
    """The last good candidate and the first bad one after it; those between them were skipped."""

    last_good: int
    first_bad: int

    @property
    def suspects(self) -> range:
        """The candidates that can be the first bad one; just one if no neighbour was skipped."""
        return range(self.last_good + 1, self.first_bad + 1)


class _StoredState(msgspec.Struct, frozen=True, kw_only=True):
    request: dict[str, Any] = field(name="question")
    candidates: Annotated[list[str], Meta(min_length=2)]
    trials: dict[str, Trial] = field(name="tried")
    schema: Literal[1] = 1


class BisectState:
    """The candidates from good to bad and the trials so far. Written after each trial, so that a bisect can be interrupted."""

    def __init__(self, path: Path, request: BisectRequest, *, list_versions: Callable[[], Sequence[str]]) -> None:
        self.path, self.request = path, request
        self.trials: dict[str, Trial] = {}
        if path.exists():
            self.candidates = self._read()
        else:
            self.candidates = candidates_between(
                list_versions(), good=request.good, bad=request.bad, package=request.package
            )
            self._write()

    def search(self, run_trial: Callable[[str], Trial], *, print_line: Callable[[str], None]) -> BisectBoundary:
        """Try both ends, then candidates until the first bad one is known; a `ValueError` if an end is not as claimed."""
        first, last = self.candidates[0], self.candidates[-1]
        print_line(
            f"{self.request.package}: {len(self.candidates)} candidates from {first} (good) to {last} (bad), by"
            f" {self.request.metric}: both ends, then at most {max_trials(len(self.candidates) - 2)} trials and one more for"
            " each skip"
        )

        def judge(version: str) -> BisectOutcome:
            is_new = version not in self.trials
            if is_new:
                self.trials[version] = run_trial(version)
                self._write()
            trial = self.trials[version]
            print_line(f"{version}: {trial.outcome}{'' if is_new else ' (known from an earlier run)'}: {trial.reason}")
            return trial.outcome

        for version, claimed in ((first, BisectOutcome.GOOD), (last, BisectOutcome.BAD)):
            outcome = judge(version)
            if outcome is not claimed:
                is_skip = outcome is BisectOutcome.SKIP
                again = "the same command tries it again" if is_skip else f"delete {self.path} to try again"
                raise ValueError(
                    f"the ends are not as claimed: {self.request.package} {version}, named --{claimed}, is"
                    f" {outcome}: {self.trials[version].reason}; {again}"
                )
        return find_boundary(len(self.candidates), lambda index: judge(self.candidates[index]))

    def describe(self, boundary: BisectBoundary) -> Iterator[str]:
        """Yield the lines of the conclusion: the first bad version or its suspects, the ratio, and the commits between."""
        package, good, bad = (
            self.request.package,
            self.candidates[boundary.last_good],
            self.candidates[boundary.first_bad],
        )
        suspects = [self.candidates[index] for index in boundary.suspects]
        if len(suspects) == 1:
            yield f"the first bad {package} is {bad}; the last good one is {good}"
        else:
            yield f"the first bad {package} is one of {', '.join(suspects)}; the last good one is {good}"
            yield from (f"  {version} was skipped: {self.trials[version].reason}" for version in suspects[:-1])
        good_trial, bad_trial = self.trials[good], self.trials[bad]
        yield f"  {bad}: {bad_trial.reason}"
        if bad_trial.ratio is not None:
            before = f"; of {good} it was {good_trial.ratio:.4f}" if good_trial.ratio is not None else ""
            yield f"  {self.request.metric} ratio of {bad} to {self.request.good}: {bad_trial.ratio:.4f}{before}"
        if good_trial.origin is None or bad_trial.origin is None:
            return
        for version, origin in ((good, good_trial.origin), (bad, bad_trial.origin)):
            if origin.git_version:
                yield f"  git_version of {version}: {origin.git_version}"
        yield f"  commits: {good_trial.origin.compare(bad_trial.origin)}"

    def _write(self) -> None:
        request = to_json(self.request)
        request["arguments"] = [redact_password(argument) for argument in self.request.arguments]
        state = _StoredState(request=request, candidates=self.candidates, trials=self.trials)
        write_json(self.path, to_json(state))

    def _read(self) -> list[str]:
        """Load the state, without an end that was skipped: a bisect needs both ends, so they are tried again."""
        try:
            state = decode(read_json(self.path), _StoredState, where=str(self.path))
        except ValueError as error:
            raise ValueError(f"{error}: not the state of a bisect; delete the file to start again") from error
        ends = (state.candidates[0], state.candidates[-1])
        self.trials = {
            version: trial
            for version, trial in state.trials.items()
            if version not in ends or trial.outcome is not BisectOutcome.SKIP
        }
        return state.candidates


def find_boundary(count: int, judge: Callable[[int], BisectOutcome]) -> BisectBoundary:
    """Find the boundary between candidate 0, which is good, and `count - 1`, which is bad.

    Judges always the middle of what is left, each candidate at most once: at most `max_trials(count - 2)`, which no method can
    improve, and one more for each skip.
    """
    good, bad, left = 0, count - 1, list(range(1, count - 1))
    while left:
        middle = left[len(left) // 2]
        outcome = judge(middle)
        if outcome is BisectOutcome.GOOD:
            good = middle
        elif outcome is BisectOutcome.BAD:
            bad = middle
        left = [candidate for candidate in left if good < candidate < bad and candidate != middle]
    return BisectBoundary(last_good=good, first_bad=bad)


def max_trials(between: int) -> int:
    """Return the most trials for `between` candidates between two ends if none is skipped: ceil(log2(between + 1))."""
    return between.bit_length()


def candidates_between(versions: Sequence[str], *, good: str, bad: str, package: str) -> list[str]:
    """List the versions from good to bad in the order of release, or in reverse if the good one is newer.

    Nightlies are ordered by their date, and a date can name them; of two on one date (around a branch cut) the higher is taken.
    Raises `ValueError` for an end that does not exist, and for equal ends.
    """
    ordered = sorted(_parse_versions(versions), key=lambda version: (nightly_date(version) or "", version))
    latest = list({nightly_date(version) or str(version): version for version in ordered}.values())
    ends = [_position(latest, end, package=package) for end in (good, bad)]
    if ends[0] == ends[1]:
        raise ValueError(f"{package}: the good and the bad version are both {latest[ends[0]]}")
    chosen = latest[min(ends) : max(ends) + 1]
    return [str(version) for version in (chosen if ends[0] < ends[1] else reversed(chosen))]


def check_end(end: str, *, option: str) -> None:
    """Raise a `ValueError` that names `option` unless `end` can be a version or the date of a nightly."""
    if not any(_parse_versions([end])):
        raise ValueError(f"{option} {end}: expected a version, as in 2.12.0, or the day of a nightly as YYYYMMDD")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CandidateRunner:
    """Run the suite in a candidate's environment against the good end's, and judge the metric.

    Raises `ValueError` for a failure that is not the candidate's fault: such a trial is not stored.
    """

    request: BisectRequest
    cache: Path
    folder: Path
    good: str

    def __call__(self, version: str) -> Trial:
        try:
            python = self._build(version)
        except InstallFailure as failure:
            return Trial(outcome=BisectOutcome.SKIP, reason=f"cannot be installed: {failure}")
        if self.request.metric == suite_run.GPU_CODE and self._is_built_for_cpus(python):
            return Trial(outcome=BisectOutcome.SKIP, reason="a build for CPUs, for which no GPU code can be generated")
        good = self._build(self.good)
        results, log = self.folder / version, self.folder / f"{version}.log"
        shutil.rmtree(results, ignore_errors=True)  # of an interrupted trial
        arguments = suite_run.arguments_for_metric(self.request.metric, self.request.arguments)
        status = suite_run.run_suite(python, against=str(good), results=results, arguments=arguments, log=log)
        origin = index.read_origin(self.request.package, environment.package_folders(python))
        if suite_run.is_setup_failure(log, status=status):
            reason = suite_run.describe_failure(log, status=status)
            raise ValueError(f"{version}: {reason}; this trial is not stored; the whole output is in {log}")
        if status not in exit_status.JUDGED:
            reason = suite_run.describe_failure(log, status=status)
            return Trial(outcome=BisectOutcome.SKIP, reason=reason, origin=origin)
        trial = suite_run.judge_metric(self.request.metric, suite_run.read_documents(results))
        return msgspec.structs.replace(trial, origin=origin)

    def _is_built_for_cpus(self, python: Path) -> bool:
        """Return True for a candidate of torch without CUDA: an index may have no other build of a version."""
        return self.request.package == "torch" and index.torch_variant(environment.package_folders(python)) == "cpu"

    def _build(self, version: str) -> Path:
        request = self.request
        changed = {request.package: version}
        changed |= {package: self._same_nightly(package, version) for package in request.together}
        overlay = OverlayEnvironment(
            requirements=tuple(f"{package}=={changed[package]}" for package in changed),
            constraints=pins.without(request.stable, changed),
            index_url=request.index_url,
        )
        return environment.build(overlay, cache=self.cache)

    def _same_nightly(self, package: str, version: str) -> str:
        """Return the version of `package` with the candidate's date; `InstallFailure` if that day has none."""
        date = nightly_date(Version(version))
        versions = _list_versions(self.request, package)
        same_date = [other for other in versions if date is not None and nightly_date(Version(other)) == date]
        if not same_date:
            raise InstallFailure(f"no {package} of the date of {version}")
        return same_date[0]  # pip lists the highest first


def bisect(request: BisectRequest, *, cache: Path, print_line: Callable[[str], None]) -> None:
    """Find the first bad version and print it; a `ValueError` if an end is not as claimed."""
    suite_run.check_arguments(request.arguments)
    environment.check_writable(cache, purpose=environment.CACHE_PURPOSE)
    folder = FOLDER.absolute() / f"{canonicalize_name(request.package)}-{request.digest}"
    environment.check_writable(folder, purpose=_STATE_PURPOSE)
    state = BisectState(folder / "state.json", request, list_versions=lambda: _list_versions(request, request.package))
    print_line(f"{state.path}: the same command continues an interrupted bisect")
    run_trial = CandidateRunner(request=request, cache=cache, folder=folder, good=state.candidates[0])
    boundary = state.search(run_trial, print_line=print_line)
    for line in state.describe(boundary):
        print_line(line)
    print_line(f"delete {state.path} to try all of it again")


def _list_versions(request: BisectRequest, package: str) -> list[str]:
    ends = (request.good, request.bad)
    prereleases = any(re.fullmatch("[0-9]{8}", end) or Version(end).is_prerelease for end in ends)
    return environment.list_versions(package, index_url=request.index_url, prereleases=prereleases)


def _parse_versions(texts: Sequence[str]) -> Iterator[Version]:
    for text in texts:
        try:
            yield Version(text)
        except InvalidVersion:  # from before PEP 440; pip does not install it either
            continue


def _position(versions: Sequence[Version], end: str, *, package: str) -> int:
    parsed = next(_parse_versions([end]), None)
    for position, version in enumerate(versions):
        if parsed in (version, Version(version.public)) or end == nightly_date(version):
            return position
    newest = ", ".join(str(version) for version in versions[:-13:-1])
    raise ValueError(f"{package} {end}: no such version for this Python; the newest are {newest or 'none'}")
