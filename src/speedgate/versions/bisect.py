"""A bisect between two versions: its question, the candidates, what was tried of them so far, and what was found."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from packaging.version import InvalidVersion, Version

from speedgate.results.json_io import write_json
from speedgate.results.text import redact_password
from speedgate.versions.bisect_search import BisectBoundary, BisectOutcome, EndsError, search, steps
from speedgate.versions.index import Wheel, WheelOrigin

SCHEMA = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class BisectRequest:
    """What is asked. The same question goes on where it was interrupted; `stable` are the pins that stay as they are."""

    package: str
    good: str
    bad: str
    metric: str
    arguments: tuple[str, ...] = ()
    index_url: str | None = None
    together: tuple[str, ...] = ()
    stable: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """Names the folder of its answer."""
        return hashlib.sha256(json.dumps(dataclasses.asdict(self), sort_keys=True).encode()).hexdigest()[:12]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trial:
    """What trying one candidate said, and the source that it was built from where it could be installed."""

    step: BisectOutcome
    reason: str
    ratio: float | None = None
    origin: WheelOrigin | None = None


class BisectState:
    """The candidates of a question from good to bad and what is known of them: written with each step, read again later."""

    def __init__(self, path: Path, question: BisectRequest, *, versions: Callable[[], Sequence[str]]) -> None:
        self.path, self.question = path, question
        self.tried: dict[str, Trial] = {}
        if path.exists():
            self.candidates = self._read()
        else:
            self.candidates = between(versions(), good=question.good, bad=question.bad, package=question.package)
            self._write()

    def bisect(self, judge: Callable[[str], Trial], *, say: Callable[[str], None]) -> BisectBoundary:
        """Try candidates until the first bad one is known; a `ValueError` in one sentence where an end is not as claimed."""
        say(
            f"{self.question.package}: {len(self.candidates)} candidates from {self.candidates[0]} (good) to"
            f" {self.candidates[-1]} (bad), by {self.question.metric}: both ends, then at most"
            f" {steps(len(self.candidates) - 2)} steps and one more for each skip"
        )

        def step(index: int) -> BisectOutcome:
            version = self.candidates[index]
            again = " (known from an earlier run)" if version in self.tried else ""
            if not again:
                self.tried[version] = judge(version)
                self._write()
            tried = self.tried[version]
            say(f"{version}: {tried.step}{again}: {tried.reason}")
            return tried.step

        try:
            return search(len(self.candidates), step)
        except EndsError as error:
            version = self.candidates[error.index]
            again = (
                "the same command tries it again"
                if error.found is BisectOutcome.SKIP
                else f"delete {self.path} to try again"
            )
            raise ValueError(
                f"the ends are not as claimed: {self.question.package} {version}, named --{error.claimed}, is {error.found}:"
                f" {self.tried[version].reason}; {again}"
            ) from error

    def conclusion(self, found: BisectBoundary) -> Iterator[str]:
        """What was found, line by line."""
        package, good, bad = self.question.package, self.candidates[found.last_good], self.candidates[found.first_bad]
        suspects = [self.candidates[index] for index in found.suspects]
        if len(suspects) == 1:
            yield f"the first bad {package} is {bad}; the last good one is {good}"
        else:
            yield f"the first bad {package} is one of {', '.join(suspects)}; the last good one is {good}"
            yield from (f"  {version} was skipped: {self.tried[version].reason}" for version in suspects[:-1])
        last, first = self.tried[good], self.tried[bad]
        yield f"  {bad}: {first.reason}"
        if first.ratio is not None:
            before = f"; of {good} it was {last.ratio:.4f}" if last.ratio is not None else ""
            yield f"  {self.question.metric} ratio of {bad} to {self.question.good}: {first.ratio:.4f}{before}"
        if last.origin is None or first.origin is None:
            return
        for version, origin in ((good, last.origin), (bad, first.origin)):
            if origin.git_version:
                yield f"  git_version of {version}: {origin.git_version}"
        yield f"  commits: {last.origin.compare(first.origin)}"

    def _write(self) -> None:
        tried = {version: dataclasses.asdict(one) for version, one in self.tried.items()}
        question = dataclasses.asdict(self.question)
        question["arguments"] = [redact_password(one) for one in self.question.arguments]
        write_json(self.path, {"schema": SCHEMA, "question": question, "candidates": self.candidates, "tried": tried})

    def _read(self) -> list[str]:
        try:
            document = json.loads(self.path.read_text(encoding="utf-8"))
            candidates = [str(version) for version in document["candidates"]]
            self.tried = {version: _tried(one) for version, one in document["tried"].items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{self.path}: is not what a bisect leaves ({error}); delete it to start anew") from error
        for end in (candidates[0], candidates[-1]):  # without both there is no bisect
            if end in self.tried and self.tried[end].step is BisectOutcome.SKIP:
                del self.tried[end]
        return candidates


def between(versions: Sequence[str], *, good: str, bad: str, package: str) -> list[str]:
    """The versions from good to bad, in the order of release, or against it where the good one is the newer.

    Nightlies are ordered by their date, which names them as well; of two on one date (around a branch cut) the higher counts.
    A `ValueError` names an end that there is not, or two that are the same.
    """
    known = sorted(_versions(versions), key=_order)
    latest = list({_order(version)[0] or str(version): version for version in known}.values())
    ends = [_find(latest, asked, package=package) for asked in (good, bad)]
    if ends[0] == ends[1]:
        raise ValueError(f"{package}: the good and the bad version are both {latest[ends[0]]}")
    chosen = latest[min(ends) : max(ends) + 1]
    return [str(version) for version in (chosen if ends[0] < ends[1] else reversed(chosen))]


def check_end(asked: str, *, option: str) -> None:
    """A `ValueError` that names `option` unless this may be a version, or a nightly's date."""
    if not any(_versions([asked])):
        raise ValueError(f"{option} {asked}: expected a version, as in 2.12.0, or the day of a nightly as YYYYMMDD")


def date_of(version: str) -> str | None:
    """YYYYMMDD of a nightly's version, None of any other."""
    return Wheel(version=Version(version), url="").date


def _order(version: Version) -> tuple[str, Version]:
    return date_of(str(version)) or "", version


def _versions(texts: Sequence[str]) -> Iterator[Version]:
    for text in texts:
        try:
            yield Version(text)
        except InvalidVersion:  # of the days before PEP 440: pip installs none either
            continue


def _find(versions: Sequence[Version], asked: str, *, package: str) -> int:
    wanted = next(_versions([asked]), None)
    for index, version in enumerate(versions):
        if wanted in (version, Version(version.public)) or asked == date_of(str(version)):
            return index
    shown = ", ".join(str(version) for version in versions[:-13:-1])
    raise ValueError(f"{package} {asked}: no such version for this Python; the newest are {shown or 'none'}")


def _tried(data: Any) -> Trial:
    origin = data.pop("origin")
    return Trial(**data | {"step": BisectOutcome(data["step"]), "origin": WheelOrigin(**origin) if origin else None})
