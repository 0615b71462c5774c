"""Merge the results of all shards of a selection into one folder of results with one verdict.

Each folder is a stranger's data (`speedgate.results.folder`). It is refused unless its manifest fits its results and the
other folders: no overlap, no gap, no mixture of machines, commits, versions or policies.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from speedgate.baselines import store
from speedgate.fleet import shards
from speedgate.fleet.shards import Manifest, Shard
from speedgate.report import markdown, terminal, verdict_page
from speedgate.results import folder as results_folder
from speedgate.results.case_key import CaseKey
from speedgate.results.exit_status import ExitStatus
from speedgate.results.folder import ResultFile
from speedgate.results.json_io import parse_json, to_json, write_json
from speedgate.results.run import Outcome, Run
from speedgate.results.run_marks import refuse_marked

# No test makes these claims: a lost worker, unusable rounds and a baseline's missing cases make them. So a shard may hold
# them for a case that it measured only as a reference.
_NO_TEST_CLAIMS = frozenset({"worker", "measurement", "fit", "baseline"})
_EQUAL_FIELDS = ("selection", "gpu_key", "commit", "versions", "policy", "against")
_ENDED = (ExitStatus.OK, ExitStatus.RED)  # every test had its turn
_MAX_LISTED = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShardResults:
    """The folder of one shard: its manifest, and each result by case key."""

    folder: Path
    manifest: Manifest
    cases: Mapping[str, ResultFile]

    def __str__(self) -> str:
        return f"shard {self.manifest.shard} ({self.folder})"


@dataclasses.dataclass(frozen=True, kw_only=True)
class MergedResults:
    """The results of the whole selection, and the manifest that a session of all its cases would have written."""

    manifest: Manifest
    cases: Mapping[str, ResultFile]


def read_shard(folder: Path) -> ShardResults:
    """Read the folder of one shard; a `ValueError` names what a session would not have written."""
    files = {name: data for name, data in results_folder.read_folder(folder).items() if "/" not in name}
    path = folder / shards.MANIFEST_FILE
    if path.name not in files:
        raise ValueError(f"{folder}: no {path.name}; name folders that `pytest bench --results DIR` wrote")
    manifest = shards.decode_manifest(parse_json(files.pop(path.name), path=path), where=str(path))
    cases = {}
    for name in filter(results_folder.is_result_name, sorted(files)):
        try:
            (case,) = results_folder.parse_results({name: files[name]})
        except ValueError as error:
            raise ValueError(f"{folder}: {error}") from error
        if not CaseKey.is_key(case.case_key) or name != CaseKey.parse(case.case_key).file_name:
            raise ValueError(f"{folder / name}: holds the result of another case, {case.case_key}")
        refuse_marked(case.document, where=str(folder / name))
        cases[case.case_key] = case
    return ShardResults(folder=folder, manifest=manifest, cases=cases)


def merge(shard_results: Sequence[ShardResults]) -> MergedResults:
    """Merge the shards; a `ValueError` names the folders that do not fit together, and what to do."""
    in_order = sorted(shard_results, key=lambda results: results.manifest.shard.number)
    _check_equal_fields(in_order)
    _check_shards(in_order)
    for results in in_order:
        _check_complete(results)
        _check_results(results)
    cases = {key: results_folder.parse_result(key, document) for key, document in _join_documents(in_order).items()}
    first = in_order[0].manifest
    is_red = any(not first.policy.accepts(verdict) for case in cases.values() for verdict in case.verdicts)
    # A test can also fail without a verdict, so the exit statuses of the shards count too.
    is_red = is_red or any(results.manifest.exit_status != ExitStatus.OK for results in in_order)
    manifest = msgspec.structs.replace(
        first,
        shard=Shard(),
        case_keys=first.selection,
        skipped=tuple(key for results in in_order for key in results.manifest.skipped),
        exit_status=ExitStatus.RED if is_red else ExitStatus.OK,
    )
    return MergedResults(manifest=manifest, cases=cases)


def describe(merged: MergedResults, *, baselines_root: Path) -> list[str]:
    """Return what a session prints at its end: the table, and a sentence for each verdict that is not a plain PASS."""
    manifest = merged.manifest
    is_live = manifest.against is not None
    view = terminal.TerminalView(
        gpu_key=manifest.gpu_key,
        is_live=is_live,
        policy=manifest.policy,
        baselines={} if is_live else store.newest_baselines(baselines_root, manifest.gpu_key),
        runs={key: _for_table(case.run) for key, case in merged.cases.items() if case.run is not None},
        verdicts={key: case.verdicts for key, case in merged.cases.items()},
        confirmations={key: case.confirmation for key, case in merged.cases.items() if case.confirmation is not None},
        not_judged={key: case.not_judged for key, case in merged.cases.items()},
        references=[key for key, case in merged.cases.items() if case.is_reference],
        lost_cases=[key for key, case in merged.cases.items() if case.outcome is Outcome.INVALID],
    )
    count = len(manifest.selection)
    lines = [f"speedgate on {manifest.gpu_key}, --gate {manifest.policy.mode.value}, {count} cases"]
    lines += [*terminal.section(view), *terminal.confirmed_remarks(view)]
    if manifest.commit.get("id") == "unknown":
        lines.append("the shards could not read their commit from git: nobody checked that it was the same")
    if manifest.commit.get("dirty"):
        lines.append("the checkouts had uncommitted changes: nobody checked that they were the same")
    return lines


def write(merged: MergedResults, folder: Path) -> None:
    """Write a folder of results as one session leaves it, with `verdict.json` and `summary.md`; all of it or nothing."""
    documents = {key: case.document for key, case in merged.cases.items()}
    status = merged.manifest.exit_status
    assert status is not None, "a merged session has ended"
    try:
        verdict = verdict_page.verdict_document([], list(documents.values()), status=status)
    except (ArithmeticError, AttributeError, KeyError, TypeError) as error:  # nothing checks the other arm's figures
        raise ValueError(f"the results of the other arm are not what a session writes ({error!r})") from error
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    try:
        temporary.mkdir(parents=True)
        for key, document in documents.items():
            write_json(temporary / CaseKey.parse(key).file_name, document)
        merged.manifest.write(temporary)
        write_json(temporary / verdict_page.VERDICT_FILE, verdict)
        page = markdown.render(results_folder.read_folder(temporary))
        (temporary / verdict_page.SUMMARY_FILE).write_text(page, encoding="utf-8")
        temporary.replace(folder)  # an empty folder, or none
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _check_equal_fields(in_order: Sequence[ShardResults]) -> None:
    first = in_order[0]
    for results in in_order[1:]:
        if results.manifest.shard.of != first.manifest.shard.of:
            raise ValueError(f"{first} and {results} are of different divisions; merge the shards of one N")
        for name in _EQUAL_FIELDS:
            left, right = getattr(first.manifest, name), getattr(results.manifest, name)
            if left != right:
                difference = _difference(left, right)
                raise ValueError(f"{first} and {results} differ in their {name}{difference}; merge equal runs only")


def _difference(left: Any, right: Any) -> str:
    if dataclasses.is_dataclass(left):
        left, right = to_json(left), to_json(right)
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        names = [name for name in {**left, **right} if left.get(name) != right.get(name)]
        return ": " + ", ".join(f"{name} {left.get(name)} and {right.get(name)}" for name in names[:_MAX_LISTED])
    if isinstance(left, tuple):
        only_one = sorted(set(left) ^ set(right))
        return f": {_join_names(only_one)} in one of them alone" if only_one else ", which is in another order"
    return f": {left} and {right}"


def _check_shards(in_order: Sequence[ShardResults]) -> None:
    """Check that each shard of 1 to N is there once, and that each case of the selection belongs to one of them."""
    by_number: dict[int, ShardResults] = {}
    owners: dict[str, ShardResults] = {}
    for results in in_order:
        number = results.manifest.shard.number
        if number in by_number:
            raise ValueError(f"{by_number[number]} and {results} are the same shard; name it once")
        by_number[number] = results
        for key in results.manifest.case_keys:
            if key in owners:
                raise ValueError(f"overlap: {key} was to be measured by {owners[key]} and by {results}")
            owners[key] = results
    selection, count = in_order[0].manifest.selection, in_order[0].manifest.shard.of
    missing_shards = [f"{number}/{count}" for number in range(1, count + 1) if number not in by_number]
    missing_keys = [key for key in selection if key not in owners]
    if missing_shards:
        shards_named = _join_names(missing_shards)
        raise ValueError(f"gap: shard {shards_named} is missing, and with it {_join_names(missing_keys)}")
    if missing_keys:
        raise ValueError(f"gap: {_join_names(missing_keys)} of the selection was to be measured by no shard")
    if foreign := sorted(set(owners) - set(selection)):
        raise ValueError(f"{owners[foreign[0]]}: {_join_names(foreign)} is not of the selection")


def _check_complete(results: ShardResults) -> None:
    manifest = results.manifest
    missing = [key for key in manifest.case_keys if key not in results.cases and key not in manifest.skipped]
    without_result = f"; {_join_names(missing)} has no result" if missing else ""
    status = manifest.exit_status
    if status not in _ENDED:
        ended = "did not end" if status is None else f"ended with pytest's exit status {status}"
        raise ValueError(f"gap: {results} {ended}{without_result}; run it again into a new folder")
    if missing:
        raise ValueError(f"gap: {results} has ended{without_result}; run it again into a new folder")


def _check_results(results: ShardResults) -> None:
    """Check that each result is of the manifest's machine and versions, and judges no claim that another shard judges."""
    manifest = results.manifest
    for key, case in results.cases.items():
        if case.gpu_key != manifest.gpu_key:
            raise ValueError(f"{results}: {key} is of {case.gpu_key} and the manifest of {manifest.gpu_key}")
        environment = case.run.environment if case.run else {}
        versions = {name: environment[name] for name in manifest.versions if name in environment}
        if versions != {name: manifest.versions[name] for name in versions}:
            raise ValueError(f"{results}: {key} ran on other versions{_difference(versions, manifest.versions)}")
        claims = {verdict.claim for verdict in case.verdicts} - _NO_TEST_CLAIMS
        if key not in manifest.case_keys and claims:
            listed = _join_names(sorted(claims))
            raise ValueError(f"overlap: {results} judged the {listed} of {key}, which belongs to another shard")


def _join_documents(in_order: Sequence[ShardResults]) -> dict[str, Mapping[str, Any]]:
    """Take each case from the shard that it belongs to, and a case that belongs to none, a reference, from the first.

    Verdicts that another shard has about its copy of the case, such as a lost worker, are added.
    """
    owners = {key: results for results in in_order for key in results.manifest.case_keys if key in results.cases}
    selection = in_order[0].manifest.selection
    documents = {key: owners[key].cases[key].document for key in selection if key in owners}
    for results in in_order:
        for key, case in results.cases.items():
            present = documents.setdefault(key, case.document)
            more = [verdict for verdict in case.document["verdicts"] if verdict not in present["verdicts"]]
            if more:
                documents[key] = {**present, "verdicts": [*present["verdicts"], *more]}
    return documents


def _for_table(run: Run) -> Run:
    """Drop what the table does not read: a stranger's recipe and parity may hold anything."""
    parity: dict[str, Any] | None = None if run.parity is None else {"ssim": run.parity.get("ssim")}
    return msgspec.structs.replace(run, recipe={"stages": run.stages}, parity=parity)


def _join_names(names: Collection[str]) -> str:
    listed = list(names)[:_MAX_LISTED]
    more = f" and {len(names) - len(listed)} more" if len(names) > len(listed) else ""
    return f"{', '.join(listed)}{more}"
