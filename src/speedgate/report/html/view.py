"""What a report shows: the results of one run as its folder holds them, with what is stored of the same cases."""

from __future__ import annotations

import dataclasses
import datetime
import platform
import sys
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import speedgate
from speedgate.baselines import store
from speedgate.gate.judge import worst
from speedgate.report.html import kept
from speedgate.report.html.pictures import Pictures
from speedgate.results import folder as untrusted
from speedgate.results import provenance
from speedgate.results.run import Baseline, Outcome, Run, Verdict, run_from_json

_MOST = 5  # times and commits of one run: a merged one has one of each shard


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """One case: what was measured (None where nothing was), how it was judged, and what is stored of it on this machine.

    `figures` are the stored ones by their source, the newest of each and the newest of all last. `other` is the other arm of a
    live comparison; `explanation` says what changed where a verdict says that something did; `roofline` is what
    `speedgate.gate.roofline` counted of it, as the results say.
    """

    case_key: str
    run: Run | None
    verdicts: tuple[Verdict, ...] = ()
    figures: Mapping[str, Baseline] = dataclasses.field(default_factory=dict)
    other: Run | None = None
    pictures: Pictures | None = None
    explanation: tuple[str, ...] = ()
    roofline: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def outcome(self) -> Outcome | None:
        return worst(self.verdicts)

    @property
    def is_structure_only(self) -> bool:
        return untrusted.is_structure_only(self.run, self.verdicts)

    @property
    def stage(self) -> str:
        return self.case_key.split("/")[1] if self.case_key.count("/") == 2 else self.case_key

    @property
    def group(self) -> str:
        """What the case shares with those that it is compared with: pipeline and workload."""
        pipeline, _, rest = self.case_key.partition("/")
        return f"{pipeline} {rest.partition('/')[2]}".strip()

    @property
    def measured(self) -> Run | None:
        """The run if it has rounds."""
        return self.run if self.run is not None and self.run.processes else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """All that stands in the file. `made_by` says by what command, with which gate, where that is known; `measured` when, and
    of which commit.
    """

    gpu_key: str
    machine: Mapping[str, Any]
    health: Mapping[str, Any]
    entries: tuple[Entry, ...]
    made_by: Mapping[str, str]
    remarks: tuple[str, ...] = ()
    measured: str = ""

    @property
    def verdicts(self) -> list[Verdict]:
        """Worst first, as far as the order of outcomes tells; in the order of cases otherwise."""
        order = list(Outcome)
        return sorted(
            (verdict for entry in self.entries for verdict in entry.verdicts), key=lambda one: order.index(one.outcome)
        )

    @property
    def groups(self) -> dict[str, list[Entry]]:
        """The cases by what they share, in order."""
        found: dict[str, list[Entry]] = {}
        for entry in self.entries:
            found.setdefault(entry.group, []).append(entry)
        return found


def of_folder(folder: Path, *, root: Path) -> Report:
    """What the folder of one run holds, by whomever it was written; a `ValueError` where it holds no run, or several.

    Stored figures are read below `root`. Pictures, and by what command it was measured, are there if the run made a report.
    """
    files = untrusted.read_folder(folder)
    found = untrusted.cases(files)
    for what, names in (("runs", {c.session for c in found}), ("GPU keys", {c.gpu_key for c in found})):
        if len(names) > 1:
            known = ", ".join(sorted(names)[:5])
            raise ValueError(f"{folder}: results of {len(names)} {what}; name the folder of one: {known}")
    session = kept.load(folder / found[0].session, files)
    if session is not None:
        found = [case for case in found if PurePosixPath(case.name).name in session.results]
    against = any("against" in case.document for case in found)
    stored = {} if against else _figures(root, found[0].gpu_key)
    return Report(
        gpu_key=found[0].gpu_key,
        machine=mapping(found[0].document["machine"]),
        health=mapping(found[0].document["health"]),
        entries=tuple(_entry(case, stored, session) for case in sorted(found, key=_place)),
        made_by={**(session.made_by if session else {}), "results": str(folder), **own_versions()},
        remarks=session.remarks if session else (),
        measured="; ".join(
            list(dict.fromkeys(filter(None, (provenance.when(case.document) for case in found))))[:_MOST]
        ),
    )


def _entry(case: untrusted.Case, stored: Mapping[str, Mapping[str, Baseline]], session: kept.Kept | None) -> Entry:
    return Entry(
        case_key=case.case_key,
        run=case.run,
        verdicts=case.verdicts,
        figures=stored.get(case.case_key, {}),
        other=_other(case),
        pictures=session.pictures.get(case.case_key) if session else None,
        explanation=tuple(map(str, case.document.get("explanation") or ())),
        roofline=mapping(case.document.get("roofline")),
    )


def own_versions() -> dict[str, str]:
    """What wrote the report, and when."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {
        "written": now,
        "speedgate": speedgate.__version__,
        "python": platform.python_version(),
        "platform": sys.platform,
    }


def mapping(value: Any) -> dict[str, Any]:
    """A mapping as it is, anything else as none: what is only shown is not worth refusing a report for."""
    return dict(value) if isinstance(value, Mapping) else {}


def numbers(value: Any) -> dict[str, float]:
    """What a mapping says in numbers that a float holds, zero or above."""
    return {
        str(name): float(one)
        for name, one in mapping(value).items()
        if isinstance(one, int | float) and not isinstance(one, bool) and 0 <= one <= sys.float_info.max
    }


def _figures(root: Path, gpu_key: str) -> dict[str, dict[str, Baseline]]:
    found: dict[str, dict[str, Baseline]] = {}
    for path in store.baseline_files(root, gpu_key):
        stored = store.read_file(path, gpu_key=gpu_key)
        for baseline in stored.baselines.values():
            of_case = found.setdefault(baseline.case_key, {})
            of_case.pop(baseline.source, None)  # the last is the newest, by which the case is judged
            of_case[baseline.source] = baseline
        for case_key in stored.out_of_memory:
            found.pop(case_key, None)
    return found


def _other(case: untrusted.Case) -> Run | None:
    data = mapping(case.document.get("against")).get("other")
    return None if data is None else run_from_json(data, where=f"{case.case_key}: against.other")


def _place(case: untrusted.Case) -> tuple[bool, str, int, str]:
    """Cases of a pipeline and workload together, each after those it is built on; what was not built comes last."""
    entry = Entry(case_key=case.case_key, run=case.run)
    stages = case.run.recipe.get("stages") if case.run is not None and isinstance(case.run.recipe, Mapping) else None
    return case.run is None, entry.group, len(stages) if isinstance(stages, list) else 0, case.case_key
