"""Figures published for a GPU family, without SKU or power limit: shown beside a run, never part of a verdict.

A file is pytest-benchmark's JSON like a baseline. Its seconds are those of one iteration; a cell without a figure has no
statistics, so it stands beside the benchmarks, in an object that pytest-benchmark ignores.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from speedgate import benchmark_json, strict_json
from speedgate.checks import as_object, equal, expect, positive
from speedgate.environment import slug
from speedgate.records import SCHEMA

PREFIX = "family-"  # of a folder's name: no GPU key begins with it
OK = "ok"
OUTCOMES = {
    OK: "",
    "oom": "out of memory",
    "oom_after_warmup": "out of memory after the warm-up",
    "oom_after_2nd_iteration": "out of memory after the second iteration",
    "unsupported": "unsupported",
    "not_published": "not published",
}
# Maker, brand, bus and memory tell members of one family apart. Whatever else stands in a name (Ti, D, Laptop, MIG, a
# vGPU's profile) makes it another GPU.
_NEUTRAL = re.compile(r"nvidia|tesla|geforce|rtx|sxm[0-9]?|pcie|[0-9]+gb")
_BLOCK, _EMPTY = benchmark_json.BLOCK, benchmark_json.EMPTY


@dataclasses.dataclass(frozen=True, kw_only=True)
class FamilyFigure:
    """One published cell: what a build of torch did with a case on some GPU of the family.

    `iterations_per_s` is of the denoising loop alone, None unless the outcome is "ok".
    """

    family: str
    case_key: str
    build: str
    mode: str
    outcome: str
    iterations_per_s: float | None
    note: str = ""

    @property
    def says(self) -> str:
        """The figure, or why there is none."""
        if self.iterations_per_s is None:
            return f"{OUTCOMES[self.outcome]} (torch {self.build})"
        return f"{self.iterations_per_s:.4g} it/s (torch {self.build})"


def of(machine_name: str) -> str | None:
    """The family that a GPU's name puts it into ("NVIDIA A100-SXM4-80GB": a100); None where the name says more."""
    words = [word for word in slug(machine_name).split("-") if not _NEUTRAL.fullmatch(word)]
    return words[0] if len(words) == 1 else None


def family_of(folder: str) -> str | None:
    """The family that a folder of this name is for; None for any other folder."""
    return folder.removeprefix(PREFIX) if folder.startswith(PREFIX) else None


def document(
    figures: Sequence[FamilyFigure],
    *,
    family: str,
    source_file: str,
    origin: Mapping[str, Any],
    imprint: Mapping[str, Any],
) -> dict[str, Any]:
    """The whole file of a family's figures; `origin` says how and by whom they were measured."""
    return {
        "machine_info": {"citation": origin["citation"], "software": origin["software"], _BLOCK: {"family": family}},
        "benchmarks": [_benchmark(figure, origin=origin) for figure in figures if figure.outcome == OK],
        _BLOCK: {
            "source_file": source_file,
            _EMPTY: [_block(figure) for figure in figures if figure.outcome != OK],
        },
        **imprint,
    }


def read(path: Path, *, family: str) -> list[FamilyFigure]:
    """The figures of one file; a `ValueError` names the file and the field that is wrong."""
    return figures(strict_json.read(path), path=path, family=family)


def figures(document: Any, *, path: Path, family: str) -> list[FamilyFigure]:
    """The figures of a document that is, or is to become, the file `path`."""
    found: dict[tuple[str, str], FamilyFigure] = {}
    for where, block, has_figure in _placed(document, path=path):
        figure = _figure(block, family=family, where=where, has_figure=has_figure)
        if (figure.case_key, figure.build) in found:
            raise ValueError(f"{where}: {figure.case_key!r} with torch {figure.build!r} stands in this file twice")
        found[figure.case_key, figure.build] = figure
    stated = as_object(as_object(document.get("machine_info")).get(_BLOCK)).get("family")
    expect(stated == family, f"{path}: machine_info.{_BLOCK}.family", repr(family), stated)
    return list(found.values())


def _benchmark(figure: FamilyFigure, *, origin: Mapping[str, Any]) -> dict[str, Any]:
    assert figure.iterations_per_s is not None, "a cell without a figure is no benchmark"
    param = f"[{figure.case_key.replace('/', '-')}-torch-{figure.build}]"
    _, _, test = origin["test"].rpartition("::")
    return benchmark_json.benchmark(
        _block(figure),
        name=f"{test}{param}",
        fullname=f"{origin['test']}{param}",
        group=figure.case_key.partition("/")[0],
        seconds=[1 / figure.iterations_per_s],
        options={"timer": origin["timer"]},
    )


def _block(figure: FamilyFigure) -> dict[str, Any]:
    """What is stored of a cell: the figure, what it may not do, and nothing that is empty."""
    fields = {name: value for name, value in dataclasses.asdict(figure).items() if value not in (None, "")}
    return {"schema": SCHEMA, "source": benchmark_json.PUBLISHED, "gates": False, **fields}


def _placed(document: Any, *, path: Path) -> Iterator[tuple[str, dict[str, Any], bool]]:
    """Each cell's block with its place, and whether it has to hold a figure."""
    for where, block in benchmark_json.blocks(document, where=str(path)):
        yield where, block, True
    for where, block in benchmark_json.without_figure(document, where=str(path)):
        yield where, block, False


def _figure(block: Mapping[str, Any], *, family: str, where: str, has_figure: bool) -> FamilyFigure:
    stated = {"schema": SCHEMA, "source": benchmark_json.PUBLISHED, "gates": False, "family": family}
    for name, value in stated.items():
        equal(block.get(name), value, f"{where}.{name}")
    texts = {name: block.get(name) for name in ("case_key", "build", "mode", "outcome")}
    for name, text in texts.items():
        expect(isinstance(text, str) and text, f"{where}.{name}", "a text", text)
    note, rate = block.get("note", ""), block.get("iterations_per_s")
    expect(isinstance(note, str), f"{where}.note", "a text", note)
    fitting = [outcome for outcome in OUTCOMES if (outcome == OK) is has_figure]
    expect(texts["outcome"] in fitting, f"{where}.outcome", " or ".join(fitting), texts["outcome"])
    expect(has_figure or rate is None, f"{where}.iterations_per_s", "none, as there is no figure", rate)
    figure = positive(rate, where=f"{where}.iterations_per_s") if has_figure else None
    return FamilyFigure(family=family, note=note, iterations_per_s=figure, **{n: str(t) for n, t in texts.items()})
