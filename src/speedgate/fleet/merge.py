"""`speedgate merge`: the results of all shards of a selection as one folder of results, with one verdict.

Each folder is somebody else's data (`speedgate.results.folder`). It is refused unless what it says of itself fits together with
its results and with the other folders: no overlap, no gap, no mixture.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from speedgate.fleet import manifest
from speedgate.fleet.manifest import Manifest
from speedgate.fleet.shards import Shard
from speedgate.results import folder as untrusted
from speedgate.results import json_io
from speedgate.results.case_key import CaseKey
from speedgate.results.exit_status import ExitStatus
from speedgate.results.folder import ResultFile

# What a worker's end or unusable rounds say of a case by themselves: no test makes the claim, so that it may also be said of
# a case that is only a reference in a shard. What the suite has lost ("baseline") is said by every shard.
_UNCLAIMED = frozenset({"worker", "measurement", "fit", "baseline"})
_SAME = ("selection", "gpu_key", "commit", "versions", "policy", "against")
_JUDGED = (ExitStatus.OK, ExitStatus.RED)  # every test had its turn
_SHOWN = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShardResults:
    """One shard's folder: what the session said of itself, and each result by its case key, as it stands and checked."""

    folder: Path
    manifest: Manifest
    documents: Mapping[str, dict[str, Any]]
    cases: Mapping[str, ResultFile]

    def __str__(self) -> str:
        return f"shard {self.manifest.shard} ({self.folder})"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Merged:
    """All of a selection: its results by case key, checked, and the manifest that one session would have left."""

    manifest: Manifest
    documents: Mapping[str, dict[str, Any]]
    cases: Mapping[str, ResultFile]


def read(folder: Path) -> ShardResults:
    """A shard's folder; a `ValueError` says what in it is not what a session writes."""
    files = {name: data for name, data in untrusted.read_folder(folder).items() if "/" not in name}
    path = folder / manifest.NAME
    if manifest.NAME not in files:
        raise ValueError(f"{folder}: no {manifest.NAME}; name folders that `pytest bench --results DIR` wrote")
    own = manifest.from_json(json_io.parse_json(files.pop(manifest.NAME), path=path), where=str(path))
    documents, cases = {}, {}
    for name in filter(untrusted.is_result_name, sorted(files)):
        try:
            (case,) = untrusted.parse_results({name: files[name]})
        except ValueError as error:
            raise ValueError(f"{folder}: {error}") from error
        if not CaseKey.is_key(case.case_key) or name != CaseKey.parse(case.case_key).file_name:
            raise ValueError(f"{folder / name}: holds the result of another case, {case.case_key}")
        documents[case.case_key] = json_io.parse_json(files[name], path=folder / name)
        cases[case.case_key] = case
    return ShardResults(folder=folder, manifest=own, documents=documents, cases=cases)


def merge(parts: Sequence[ShardResults]) -> Merged:
    """The parts as one; a `ValueError` names the folders that do not fit together, and what to do."""
    parts = sorted(parts, key=lambda part: part.manifest.shard.number)
    _check_same(parts)
    _check_shards(parts)
    for part in parts:
        _check_complete(part)
        _check_results(part)
    documents = _joined(parts)
    cases = {key: untrusted.parse_result(key, document) for key, document in documents.items()}
    whole = dataclasses.replace(
        parts[0].manifest,
        shard=Shard(),
        part=parts[0].manifest.selection,
        skipped=tuple(key for part in parts for key in part.manifest.skipped),
    )
    red = any(not whole.judging.accepts(verdict) for case in cases.values() for verdict in case.verdicts)
    # A test may also fail without a verdict; what a shard's status says beyond the verdicts counts too.
    status = int(red or any(part.manifest.exit_status != 0 for part in parts))
    return Merged(manifest=dataclasses.replace(whole, exit_status=status), documents=documents, cases=cases)


def _check_same(parts: Sequence[ShardResults]) -> None:
    first = parts[0]
    for other in parts[1:]:
        if other.manifest.shard.of != first.manifest.shard.of:
            raise ValueError(f"{first} and {other} are of different divisions; merge the shards of one N")
        for name in _SAME:
            ours, theirs = getattr(first.manifest, name), getattr(other.manifest, name)
            if ours != theirs:
                said = _difference(ours, theirs)
                raise ValueError(f"{first} and {other} differ in their {name}{said}; one verdict needs one of it")


def _difference(ours: Any, theirs: Any) -> str:
    """What of the two is not the same."""
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        found = [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]
        return ": " + ", ".join(f"{name} {ours.get(name)} and {theirs.get(name)}" for name in found[:_SHOWN])
    if isinstance(ours, tuple):
        alone = sorted(set(ours) ^ set(theirs))
        return f": {_listed(alone)} in one of them alone" if alone else ", which is in another order"
    return f": {ours} and {theirs}"


def _check_shards(parts: Sequence[ShardResults]) -> None:
    """Each of 1 to N once, and each case of the selection in one of them."""
    by_number: dict[int, ShardResults] = {}
    owners: dict[str, ShardResults] = {}
    for part in parts:
        number = part.manifest.shard.number
        if number in by_number:
            raise ValueError(f"{by_number[number]} and {part} are the same shard; name it once")
        by_number[number] = part
        for key in part.manifest.part:
            if key in owners:
                raise ValueError(f"overlap: {key} was to be measured by {owners[key]} and by {part}")
            owners[key] = part
    selection, of = parts[0].manifest.selection, parts[0].manifest.shard.of
    missing = [f"{number}/{of}" for number in range(1, of + 1) if number not in by_number]
    left = [key for key in selection if key not in owners]
    if missing:
        raise ValueError(f"gap: shard {_listed(missing)} is missing, and with it {_listed(left)}")
    if left:
        raise ValueError(f"gap: {_listed(left)} of the selection was to be measured by no shard")
    if foreign := sorted(set(owners) - set(selection)):
        raise ValueError(f"{owners[foreign[0]]}: {_listed(foreign)} is not of the selection")


def _check_complete(part: ShardResults) -> None:
    own = part.manifest
    left = [key for key in own.part if key not in part.cases and key not in own.skipped]
    said = f"; {_listed(left)} has no result" if left else ""
    if own.exit_status is None or own.exit_status not in _JUDGED:
        ended = "did not end" if own.exit_status is None else f"ended with pytest's exit status {own.exit_status}"
        raise ValueError(f"gap: {part} {ended}{said}; run it again into a new folder")
    if left:
        raise ValueError(f"gap: {part} has ended{said}; run it again into a new folder")


def _check_results(part: ShardResults) -> None:
    """Each result is of the machine and versions that the manifest names, and judges nothing that another shard judges."""
    own = part.manifest
    for key, case in part.cases.items():
        if case.gpu_key != own.gpu_key:
            raise ValueError(f"{part}: {key} is of {case.gpu_key} and the manifest of {own.gpu_key}")
        environment = case.run.environment if case.run else {}
        ran = {name: environment[name] for name in own.versions if name in environment}
        if ran != {name: own.versions[name] for name in ran}:
            raise ValueError(f"{part}: {key} ran on other versions{_difference(ran, own.versions)}")
        claims = {verdict.claim for verdict in case.verdicts} - _UNCLAIMED
        if key not in own.part and claims:
            raise ValueError(
                f"overlap: {part} judged the {_listed(sorted(claims))} of {key}, which is not its to judge"
            )


def _joined(parts: Sequence[ShardResults]) -> dict[str, dict[str, Any]]:
    """Each case's result from its own shard; of what is in no part, as references outside the selection, the first."""
    owned = {key: part.documents[key] for part in parts for key in part.manifest.part if key in part.documents}
    found = {key: owned[key] for key in parts[0].manifest.selection if key in owned}
    for part in parts:
        for key, document in part.documents.items():
            if key in part.manifest.part:
                continue
            known = found.setdefault(key, document)
            more = [verdict for verdict in document["verdicts"] if verdict not in known["verdicts"]]
            if more:
                found[key] = {**known, "verdicts": [*known["verdicts"], *more]}
    return found


def _listed(names: Collection[str]) -> str:
    shown = list(names)[:_SHOWN]
    more = f" and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
    return f"{', '.join(shown)}{more}"
