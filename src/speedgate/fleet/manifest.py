"""`manifest.json` in a folder of results: which cases were to be measured, of which selection, by what, and how it ended.

Written before the first case, so that what an interrupted session lacks can be told, and once more when it is over.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from speedgate.fleet.shards import MOST, Shard
from speedgate.gate.policy import Mode, Policy
from speedgate.results.json_io import to_json, write_json

NAME = "manifest.json"
SCHEMA = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a session says of itself. Case keys stand in the order in which they are measured.

    `selection` is what the whole command judges and `part` this shard's share of it; `skipped` are the cases of which every
    test gave a reason and judged nothing. `exit_status` is pytest's, None until the session has ended.
    """

    shard: Shard
    selection: tuple[str, ...]
    part: tuple[str, ...]
    gpu_key: str
    commit: Mapping[str, Any]
    versions: Mapping[str, Any]
    policy: Mapping[str, Any]
    against: str | None = None
    skipped: tuple[str, ...] = ()
    exit_status: int | None = None

    @property
    def judging(self) -> Policy:
        """What decides whether a verdict is red."""
        return Policy(mode=Mode(self.policy["mode"]), strict_improvement=self.policy["strict_improvement"])

    def write(self, folder: Path) -> None:
        """Beside the results in `folder`."""
        write_json(folder / NAME, {"schema": SCHEMA, **to_json(self)})


def from_json(data: Any, *, where: str) -> Manifest:
    """A `Manifest` from what a stranger's session may have written; a `ValueError` names `where` and the field."""
    names = {field.name for field in dataclasses.fields(Manifest)} | {"schema"}
    if not isinstance(data, dict) or set(data) != names:
        raise ValueError(f"{where}: expected an object of {', '.join(sorted(names))}")
    if data["schema"] != SCHEMA:
        raise ValueError(
            f"{where}: schema: expected {SCHEMA}, found {data['schema']!r}; merge with the version that wrote it"
        )
    lists = {name: _keys(data[name], where=f"{where}: {name}") for name in ("selection", "part", "skipped")}
    for name in ("commit", "versions", "policy"):
        if not isinstance(data[name], dict):
            raise ValueError(f"{where}: {name}: expected an object")
    if data["policy"].get("mode") not in list(Mode) or not isinstance(data["policy"].get("strict_improvement"), bool):
        raise ValueError(f"{where}: policy: expected a mode of {', '.join(Mode)} and whether strict_improvement")
    status, against = data["exit_status"], data["against"]
    if not (status is None or type(status) is int) or not isinstance(against, str | None):
        raise ValueError(f"{where}: exit_status, against: expected a whole number and a text, or null")
    if not isinstance(data["gpu_key"], str):
        raise ValueError(f"{where}: gpu_key: expected a text")
    fields = {name: value for name, value in data.items() if name != "schema"}
    return Manifest(**{**fields, **lists, "shard": _shard(data["shard"], where=f"{where}: shard")})


def _keys(values: Any, *, where: str) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ValueError(f"{where}: expected a list of case keys")
    if len(set(values)) != len(values):
        raise ValueError(f"{where}: a case key stands in it twice")
    return tuple(values)


def _shard(data: Any, *, where: str) -> Shard:
    fields = data if isinstance(data, dict) and set(data) == {"number", "of"} else {}
    number, of = fields.get("number"), fields.get("of")
    if type(number) is not int or type(of) is not int or not 1 <= number <= of <= MOST:
        raise ValueError(f"{where}: expected a number from 1 to of, found {data!r}")
    return Shard(number=number, of=of)


@dataclasses.dataclass(kw_only=True)
class ManifestWriter:
    """Writes the manifest of a session that goes on, and what becomes of each case."""

    folder: Path
    manifest: Manifest
    outcomes: dict[str, set[str]] = dataclasses.field(default_factory=dict)

    def begin(self) -> None:
        """Before the first case."""
        self.manifest.write(self.folder)

    def saw(self, keys: Sequence[str], outcome: str) -> None:
        """A test about these cases has ended: "passed", "failed" or "skipped"."""
        for key in keys:
            self.outcomes.setdefault(key, set()).add(outcome)

    def end(self, exit_status: int, *, kept: Sequence[str]) -> None:
        """After the last case; `kept` are those of which there is a result."""
        skipped = [key for key in self.manifest.part if self.outcomes.get(key) == {"skipped"} and key not in kept]
        ended = dataclasses.replace(self.manifest, skipped=tuple(skipped), exit_status=exit_status)
        ended.write(self.folder)
