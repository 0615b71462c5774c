"""Write `docs/parity.md`: what parity sees of faults of several sizes, and how far intact stages stay from its bounds."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from fixtures.pipelines.expected import CACHES

TESTS = "tests/faults/test_parity_table.py"
INTACT_TEST = f"{TESTS}::test_no_seed_and_no_number_of_threads_makes_an_intact_stage_different"
INTACT = re.compile(r"(?P<pipeline>\S+) (?P<stage>\S+) seed (?P<seed>\d+) (?P<kind>compiled|threads (?P<threads>\d+))")
# Stages that each pipeline has a band of its own for.
LOSSY = (*CACHES, "layerwise_casting")
Row = Mapping[str, Any]
_LINES_OF_OUTPUT = 20

TEXT = """\
# What parity sees

After this page you know which faults of the numbers are seen, by which figure, and how far intact stages stay from the
bounds. `tox -e proof -- --only-parity` writes it from
`{tests}`. Rules: [design.md](design.md).

## Faults

Tiny SDXL on a CPU, not compiled. Errors are multiples of bf16's: of all steps together, of the worst single step (each
fed with latents that are the same for every stage), of the loop without its denoiser, and of the decoder. A gain is the
factor in a step's output, the one that is furthest from 1. "recipe" is the gate that compares weights and settings.
"""
EXCUSED = """\
Parity alone excuses what is no larger than bf16's own rounding, such as a norm's epsilon of 1e-2 in one layer. One
linear layer that is 5 % too large, and one int8 layer with the scales of its neighbours, are near the bound here and
passed on an earlier tiny pipeline with more layers, which each have a smaller share of the output. A smaller bound
would also be red for stages without a fault. These are faults of weights and settings, and the recipe compares those
exactly. An error of that size in the activations of one layer, which no weight or setting shows, is not seen.

In DeepFloyd IF, PixArt-alpha, the inpainting of SD 1.5 and FLUX.2 [klein], int8 with one scale a tensor instead of one a
token is no further from intact int8 than int8 on other weights is, so no bound tells them apart on five seeds: parity
passes it with the seed of the suite. There too the recipe sees it, because it reads how each layer scales its activations.
"""
ALARMS = """\
## Intact stages

{different} of {count} judgements of intact stages are red: {pipelines} pipelines, {seeds} seeds of weights, image,
prompts and latents; {kinds}. Stages that compile ran uncompiled, except in the rows that say so. A row has the largest
figure of a stage among all of them, as multiples of bf16's error, the gain furthest from 1, and the lowest SSIM. The
suite itself uses one seed of weights.{alarms}
"""
BANDS = """\

## Caches and layers in float8

The same judgements of the stages that each pipeline has a band of its own for. A step that is probed by itself reuses
nothing, so a cache has bf16's errors; the number of linears that it saves is exact (`saved_linear_calls` in
`fixtures/pipelines/expected.py`).
"""


def collect(root: Path, *, intact: str | None = None) -> list[Row]:
    """Run the tests, or that of one pipeline's intact stages, and return the figures that they recorded in a JUnit file.

    A red test is a figure like others; a `ValueError` says that pytest did not run the tests, so that no page is written of it.
    """
    with tempfile.TemporaryDirectory(prefix="speedgate-parity-") as scratch:
        report = Path(scratch) / "junit.xml"
        # pytest records properties of tests in this form of the file only.
        options = ["-o", "junit_family=xunit1", f"--junitxml={report}"]
        tests = f"{INTACT_TEST}[{intact}-1]" if intact else TESTS
        command = [sys.executable, "-m", "pytest", tests, "--exhaustive", "-q", "-p", "no:cacheprovider"]
        # Threads that wait for one another would take the core that another one needs.
        environment = {**os.environ, "OMP_WAIT_POLICY": "passive"}
        run = subprocess.run(
            [*command, *options], cwd=root, env=environment, check=False, stdout=subprocess.PIPE, text=True
        )
        rows = read(report) if run.returncode in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED) else []
    if not rows:
        output = "\n".join(run.stdout.splitlines()[-_LINES_OF_OUTPUT:])
        raise ValueError(f"{tests}: pytest ended with exit status {run.returncode} and no figures\n{output}")
    return rows


def read(report: Path) -> list[Row]:
    """Return the figures that tests have recorded in a JUnit file."""
    properties = ElementTree.parse(report).getroot().iter("property")  # noqa: S314 - pytest has just written it
    return [json.loads(it.get("value") or "{}") for it in properties if it.get("name") == "parity"]


def lines(rows: Sequence[Row]) -> list[str]:
    """Return the lines of the page."""
    intact = [row for row in rows if INTACT.fullmatch(row["name"])]
    faults = [row for row in rows if row not in intact]
    head = ["fault (stage)", "SSIM", "all steps", "worst step", "gain", "loop", "decoder", "parity", "recipe"]
    return [
        TEXT.format(tests=TESTS),
        *_table(head, [_fault_cells(row) for row in faults]),
        "",
        EXCUSED.rstrip("\n"),
        *(_intact_section(intact) if intact else ()),
    ]


def lines_of(rows: Sequence[Row]) -> list[str]:
    """Return the tables of one pipeline's intact stages, with bf16's own errors, from which its bounds are decided."""
    names = ("reference_step_error", "reference_decoder_error")
    denoiser, decoder = (max((row[name] for row in rows), default=0.0) for name in names)
    return [
        *_intact_section(rows),
        "",
        f"bf16's own errors: denoiser at most {denoiser:.4f}, decoder at most {decoder:.4f}",
    ]


def keep_other_sections(page: str, previous: str) -> str:
    """Append the sections of the previous page that are written by hand: those whose heading the new page lacks."""
    headings = [line for line in page.splitlines() if line.startswith("## ")]
    sections = [f"## {section.strip()}" for section in previous.split("\n## ")[1:]]
    by_hand = [section for section in sections if section.partition("\n")[0] not in headings]
    return "\n\n".join([page.strip(), *by_hand]) + "\n"


def _intact_section(rows: Sequence[Row]) -> list[str]:
    """Return a row for each stage, and one for each pipeline of the stages in `LOSSY`."""
    figures: dict[tuple[str, ...], list[dict[str, float]]] = {}
    for row in rows:
        match = INTACT.fullmatch(row["name"])
        assert match is not None
        stage = match["stage"] + ", compiled" * (match["kind"] == "compiled")
        figures.setdefault((stage, match["pipeline"]) if stage in LOSSY else (stage,), []).append(_figures(row))
    head = ["stage", "SSIM", "all steps", "worst step", "gain", "loop", "decoder"]
    table = _table(head, ([*key, *_cells(_worst(figures[key]))] for key in figures if len(key) == 1))
    head = ["stage", "pipeline", "lowest SSIM", "highest SSIM", *head[2:5]]
    lossy = _table(head, (_band_cells(key, figures[key]) for key in sorted(figures) if len(key) > 1))
    return ["", ALARMS.format(**_counts(rows)), *table, BANDS, *lossy]


def _band_cells(key: Sequence[str], figures: Sequence[Mapping[str, float]]) -> list[str]:
    lowest, *others = _cells(_worst(figures))
    return [*key, lowest, f"{max(it['ssim'] for it in figures):.5f}", *others[:3]]


def _fault_cells(row: Row) -> list[str]:
    return [row["name"], *_cells(_figures(row)), row["verdicts"].get("parity", "-"), row["verdicts"].get("recipe", "-")]


def _figures(row: Row) -> dict[str, float]:
    """Return SSIM, errors as multiples of the reference's, and the gain furthest from 1."""

    def multiple(error: str, reference: str) -> float:
        return row[error] / row[reference] if row[reference] else 0.0

    return {
        "ssim": row["ssim"],
        "all": multiple("step_error", "reference_step_error"),
        "worst": multiple("worst_step_error", "worst_reference_step_error"),
        "gain": row["worst_step_gain"],
        "loop": multiple("loop_error", "reference_loop_error"),
        "decoder": multiple("decoder_error", "reference_decoder_error"),
    }


def _cells(figures: Mapping[str, float]) -> list[str]:
    return [
        f"{figures['ssim']:.5f}",
        *(f"{figures[name]:.3g}" for name in ("all", "worst")),
        f"{figures['gain']:.4f}",
    ] + [f"{figures[name]:.3g}" for name in ("loop", "decoder")]


def _counts(rows: Sequence[Row]) -> dict[str, Any]:
    red = [row["name"] for row in rows if row["verdicts"]["parity"] != "PASS"]
    matches = [match for row in rows if (match := INTACT.fullmatch(row["name"]))]
    kinds = sorted(Counter(match["kind"] for match in matches).items(), key=lambda it: (it[0] == "compiled", it[0]))
    return {
        "count": len(rows),
        "different": len(red),
        "pipelines": len({match["pipeline"] for match in matches}),
        "seeds": len({match["seed"] for match in matches}),
        "kinds": ", ".join(f"{number} {_kind(kind)}" for kind, number in kinds),
        "alarms": f" Red: {', '.join(red)}." if red else "",
    }


def _worst(figures: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the largest errors, the lowest SSIM, and the gain furthest from 1."""
    worst = {name: max(it[name] for it in figures) for name in ("all", "worst", "loop", "decoder")}
    gain = max((it["gain"] for it in figures), key=lambda gain: abs(gain - 1))
    return {**worst, "ssim": min(it["ssim"] for it in figures), "gain": gain}


def _kind(kind: str) -> str:
    """Return the words for how a case ran: compiled, or with a number of threads."""
    threads = kind.removeprefix("threads ")
    return kind if kind == threads else f"with {threads} thread{'s' * (threads != '1')}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]
