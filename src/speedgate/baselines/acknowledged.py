"""The red claims that people decided to live with: `baselines/<gpu-key>/acknowledged.json`, reviewed as a baseline is."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from speedgate.baselines import store
from speedgate.gate import acknowledgement, components
from speedgate.gate.acknowledgement import CLAIMS, RED, Acknowledgement, Claim
from speedgate.gate.policy import Policy
from speedgate.results.case_key import CaseKey
from speedgate.results.folder import ResultFile, parse_result, read_plain_file
from speedgate.results.json_io import decode, expect, parse_json, read_json, to_json, write_json
from speedgate.results.run import Baseline, ShortText

FILE = "acknowledged.json"
_SESSION = re.compile(r"\d{8}T\d{6}Z-\d+")  # the folder of a session; sorted by name, the newest comes last

ByCase = Mapping[str, Mapping[str, Acknowledgement]]  # by case key, then by claim


class _Document(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    schema: Literal[1]
    acknowledged: Annotated[
        dict[ShortText, Annotated[dict[Claim, Acknowledgement], Meta(min_length=1)]], Meta(max_length=1000)
    ]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Acknowledged:
    """The acknowledgements that hold, and a remark on each that has ended because the case has another baseline."""

    by_case: ByCase = dataclasses.field(default_factory=dict)
    remarks: tuple[str, ...] = ()


def read_file(root: Path, gpu_key: str) -> dict[str, dict[str, Acknowledgement]]:
    """Read the acknowledgements of a GPU key; empty without a file. A `ValueError` names the file and the field."""
    path = store.key_folder(root, gpu_key) / FILE
    return parse_document(read_json(path), path=path) if path.exists() else {}


def files(root: Path, gpu_key: str) -> list[Path]:
    """Return the file of a GPU key, if there is one."""
    path = store.key_folder(root, gpu_key) / FILE
    return [path] if path.exists() else []


def parse_document(document: Any, *, path: Path) -> dict[str, dict[str, Acknowledgement]]:
    """Parse the document of the file `path`."""
    cases = decode(document, _Document, where=str(path)).acknowledged
    for case_key in cases:
        if not CaseKey.is_key(case_key):
            raise ValueError(f"{path}: acknowledged: expected case keys, PIPELINE/STAGE/WORKLOAD, found {case_key!r}")
    parsed = {case_key: {str(claim): entry for claim, entry in claims.items()} for case_key, claims in cases.items()}
    for case_key, claim, entry in _entries(parsed):
        where = f"{path}: acknowledged.{case_key}.{claim}"
        expect(entry.why.strip() and entry.why.isprintable(), f"{where}.why", "a reason on one line", entry.why)
        is_named = (
            all(map(str.isprintable, entry.at_most)) if claim == components.CLAIM else {claim} == set(entry.at_most)
        )
        expect(is_named, f"{where}.at_most", f"a ratio of {claim}", sorted(entry.at_most))
    return parsed


def acknowledged_now(root: Path, gpu_key: str, baselines: Mapping[str, Baseline]) -> Acknowledged:
    """Read the acknowledgements of these baselines; those of older ones are ignored, with a remark on each."""
    by_case: dict[str, dict[str, Acknowledgement]] = {}
    remarks = []
    for case_key, claim, entry in _entries(read_file(root, gpu_key)):
        baseline = baselines.get(case_key)
        if baseline is not None and baseline.name == entry.baseline:
            by_case.setdefault(case_key, {})[claim] = entry
        else:
            present = "there is none now" if baseline is None else f"it is {baseline.name} now"
            remarks.append(
                f"{FILE}: {case_key} {claim} was acknowledged for {entry.baseline}, and {present}: ignored, delete the entry"
            )
    return Acknowledged(by_case=by_case, remarks=tuple(remarks))


def notes(root: Path, gpu_key: str) -> list[str]:
    """Describe each acknowledgement of a GPU key."""
    return [f"{case_key} {claim}: {entry.text}" for case_key, claim, entry in _entries(read_file(root, gpu_key))]


def end_outdated(root: Path, gpu_key: str) -> list[str]:
    """Remove the acknowledgements of cases that have a new baseline; return a line for each."""
    baselines = store.newest_baselines(root, gpu_key)
    remaining: dict[str, dict[str, Acknowledgement]] = {}
    ended = []
    for case_key, claim, entry in _entries(read_file(root, gpu_key)):
        if case_key in baselines and baselines[case_key].name == entry.baseline:
            remaining.setdefault(case_key, {})[claim] = entry
        else:
            ended.append(f"{case_key}: the acknowledgement of its {claim} has ended; commit {FILE} too")
    if ended:
        _write(root, gpu_key, remaining)
    return ended


def acknowledge(
    root: Path, case_key: str, *, why: str, results: Path, claim: str | None = None
) -> tuple[Path, list[str]]:
    """Acknowledge the red claims of a case, or the one that is named, as its newest session in `results` has measured them.

    Returns the file, and a line for each claim. A `ValueError` is one line that says why nothing is acknowledged.
    """
    acknowledgement.check_reason(why, option="--why")
    if claim not in (None, *CLAIMS):
        raise ValueError(f"--claim {claim}: cannot be acknowledged; expected one of {', '.join(CLAIMS)}")
    result = _newest_result(results, CaseKey.parse(case_key))
    baseline = store.newest_baselines(root, result.gpu_key).get(case_key)
    if baseline is None:
        raise ValueError(f"{case_key} has no baseline on {result.gpu_key}, so nothing can be acknowledged")
    run, red = result.run, _red_claims(result)
    wanted = [name for name in red if claim in (None, name)]
    if run is None or not run.processes or not wanted:
        verdicts = ", ".join(
            f"{verdict.claim} {verdict.outcome}" for verdict in result.verdicts if verdict.claim in CLAIMS
        )
        raise ValueError(
            f"{case_key}: nothing to acknowledge in {result.name}: {verdicts or 'no verdict on seconds or memory'}"
        )
    if baseline.fingerprint not in (None, run.fingerprint):
        raise ValueError(
            f"{case_key}: {baseline.name} was recorded for another recipe than {result.name}; record it anew"
        )
    confirmation = result.confirmation
    compared = Path(confirmation.baseline).stem if confirmation is not None and confirmation.decides else ""
    if compared not in ("", baseline.name):
        raise ValueError(
            f"{case_key}: {result.name} was compared with {compared}, and the baseline is {baseline.name} now; measure it"
            " again"
        )
    entries = {
        name: acknowledgement.acknowledge(name, run, baseline, confirmation, why=why, policy=Policy())
        for name in wanted
    }
    cases = read_file(root, result.gpu_key)
    cases[case_key] = cases.get(case_key, {}) | entries
    lines = [f"{case_key} {name}: {entry.text}" for name, entry in entries.items()]
    return _write(root, result.gpu_key, cases), lines


def _red_claims(result: ResultFile) -> list[str]:
    """Return the red claims, in the order of `CLAIMS`; the last verdict on a claim counts."""
    outcomes = {verdict.claim: verdict.outcome for verdict in result.verdicts}
    return [claim for claim in CLAIMS if outcomes.get(claim) in RED]


def _newest_result(results: Path, case: CaseKey) -> ResultFile:
    """Read the newest result of a case that was compared with a baseline: in the folder itself, or in those of its sessions."""
    folders = sorted((path for path in results.glob("*") if _SESSION.fullmatch(path.name)), reverse=True)
    paths = [path for path in (folder / case.file_name for folder in (results, *folders)) if path.is_file()]
    for path in paths:
        name = str(path)
        result = parse_result(name, parse_json(read_plain_file(path, name), path=path))
        if result.warning is None and "against" not in result.document and result.case_key == str(case):
            return result
    if paths:
        raise ValueError(f"{results}: {case} was measured without a baseline only: live, with a fault or by --quick")
    stored = sorted({path.stem for folder in (results, *folders) for path in folder.glob("*__*__*.json")})
    keys = ", ".join(stem.replace("__", "/") for stem in stored[:10]) or "none"
    raise ValueError(f"{results}: no result of {case}; it has results of: {keys}; name another folder with --results")


def _write(root: Path, gpu_key: str, cases: Mapping[str, Mapping[str, Acknowledgement]]) -> Path:
    """Write the file, or remove it if nothing is left."""
    path = store.key_folder(root, gpu_key) / FILE
    if not cases:
        path.unlink(missing_ok=True)
        return path
    entries = {key: {claim: to_json(entry) for claim, entry in claims.items()} for key, claims in cases.items()}
    write_json(path, {"schema": 1, "acknowledged": entries})
    return path


def _entries(cases: Mapping[str, Mapping[str, Acknowledgement]]) -> Iterator[tuple[str, str, Acknowledgement]]:
    for case_key, claims in cases.items():
        for claim, entry in claims.items():
            yield case_key, claim, entry
