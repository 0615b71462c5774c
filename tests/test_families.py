"""Figures of GPU families: which GPU they are shown for, what is refused, and that they judge nothing."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from speedgate import baselines, families, throughput
from speedgate.cli import main
from speedgate.families import FamilyFigure
from speedgate.records import write_json
from tests.baseline_samples import IMPRINT, KEY, ORIGIN, make_run, obtain, store
from tests.suite import Suite, red

ROOT = Path(__file__).parent.parent / "baselines"
FP32 = "sdxl/fp32/1024px-30steps-b1"

Spoil = Callable[[dict[str, Any]], object]


def figure(build: str = "2.0", *, rate: float | None = 21.66, outcome: str = "ok") -> FamilyFigure:
    """What was published of one case with one build of torch."""
    return FamilyFigure(family="a100", case_key=FP32, build=build, mode="eager", outcome=outcome, iterations_per_s=rate)


def make(*figures: FamilyFigure) -> dict[str, Any]:
    """A valid document of the family a100; the caller may spoil it."""
    found = figures or (figure(), figure("nightly", rate=None, outcome="oom"))
    document = families.document(found, family="a100", source_file="a.csv", origin=ORIGIN, imprint=IMPRINT)
    return copy.deepcopy(document)


def write(root: Path, document: Any, *, name: str = "0001_published.json") -> Path:
    """Keep a document as a file of the family a100."""
    path = root / "family-a100" / name
    write_json(path, document)
    return path


@pytest.mark.parametrize(
    ("machine_name", "family"),
    [
        ("NVIDIA A100-SXM4-80GB", "a100"),
        ("NVIDIA A100-PCIE-40GB", "a100"),
        ("NVIDIA A100 80GB PCIe", "a100"),
        ("A100-SXM4-40GB", "a100"),
        ("Tesla V100-SXM2-16GB", "v100"),
        ("Tesla T4", "t4"),
        ("NVIDIA GeForce RTX 3090", "3090"),
        ("NVIDIA GeForce RTX 4090", "4090"),
    ],
)
def test_a_gpu_belongs_to_its_family(machine_name: str, family: str) -> None:
    """Maker, brand, bus and memory make no difference, and the committed figures are found by the driver's name."""
    found = baselines.family(ROOT, machine_name)

    assert families.of(machine_name) == family
    assert {figure.family for figures in found.values() for figure in figures} == {family}


@pytest.mark.parametrize(
    "machine_name",
    [
        "NVIDIA RTX A4090",
        "NVIDIA RTX A4000",
        "NVIDIA GeForce RTX 3090 Ti",
        "NVIDIA GeForce RTX 4090 D",
        "NVIDIA GeForce RTX 4090 Laptop GPU",
        "NVIDIA GeForce RTX 4080",
        "NVIDIA A100X",
        "NVIDIA A100-SXM4-80GB MIG 1g.10gb",
        "GRID A100-10C",
        "NVIDIA A10G",
        "Tesla V100S-PCIE-32GB",
        "Tesla V100-FHHL-16GB",
        "NVIDIA T400",
        "NVIDIA T4G",
        "NVIDIA H100 80GB HBM3",
        "AMD Instinct MI300X",
        "NVIDIA",
        "",
    ],
)
def test_a_gpu_with_a_similar_name_does_not(machine_name: str) -> None:
    """A suffix, a slice or another number is another GPU, for which nothing is shown."""
    assert baselines.family(ROOT, machine_name) == {}


def test_nothing_is_shown_where_nothing_was_published(tmp_path: Path) -> None:
    """A family without a folder, and a missing root, hold nothing rather than fail."""
    assert baselines.family(tmp_path, "Tesla T4") == {}
    assert baselines.family(tmp_path / "absent", "Tesla T4") == {}
    assert baselines.known_families(tmp_path / "absent") == []


def test_the_builds_of_a_case_stand_side_by_side(tmp_path: Path) -> None:
    """One case, several builds of torch: each keeps its figure, or the reason why it has none."""
    write(tmp_path, make())

    found = baselines.family(tmp_path, "NVIDIA A100-SXM4-80GB")

    assert found == {FP32: (figure(), figure("nightly", rate=None, outcome="oom"))}


def test_a_later_file_replaces_what_it_holds(tmp_path: Path) -> None:
    """As with baselines, the higher number wins, build by build; the other builds stay."""
    write(tmp_path, make())
    write(tmp_path, make(figure(rate=30.0)), name="0002_again.json")

    (found,) = baselines.family(tmp_path, "NVIDIA A100-SXM4-80GB").values()

    assert [(shown.build, shown.iterations_per_s) for shown in found] == [("2.0", 30.0), ("nightly", None)]


def in_block(**fields: Any) -> Spoil:
    """A change of the cell that has a figure."""
    return lambda document: document["benchmarks"][0]["extra_info"]["speedgate"].update(fields)


def in_empty(**fields: Any) -> Spoil:
    """A change of the cell that has none."""
    return lambda document: document["speedgate"]["without_figure"][0].update(fields)


BLOCK, EMPTY = "benchmarks[0].extra_info.speedgate", "speedgate.without_figure[0]"


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (in_block(gates=True), f"{BLOCK}.gates: expected False, found True"),
        (in_block(gates=0), f"{BLOCK}.gates: expected False, found 0"),
        (in_block(family="t4"), f"{BLOCK}.family: expected 'a100', found 't4'"),
        (in_block(schema=2), f"{BLOCK}.schema: expected 1, found 2"),
        (in_block(source="recorded"), f"{BLOCK}.source: expected 'published', found 'recorded'"),
        (in_block(case_key=""), f"{BLOCK}.case_key: expected a text, found ''"),
        (in_block(build=None), f"{BLOCK}.build: expected a text, found None"),
        (in_block(mode=["eager"]), f"{BLOCK}.mode: expected a text"),
        (in_block(outcome=["ok"]), f"{BLOCK}.outcome: expected a text"),
        (in_block(note=3), f"{BLOCK}.note: expected a text, found 3"),
        (in_block(outcome="oom"), f"{BLOCK}.outcome: expected ok, found 'oom'"),
        (in_block(iterations_per_s=None), f"{BLOCK}.iterations_per_s: expected a finite number above zero"),
        (in_block(iterations_per_s=0), f"{BLOCK}.iterations_per_s: expected a finite number above zero"),
        (in_block(iterations_per_s="21"), f"{BLOCK}.iterations_per_s: expected a finite number above zero"),
        (in_empty(outcome="ok"), f"{EMPTY}.outcome: expected oom or oom_after_warmup"),
        (in_empty(outcome="melted"), f"{EMPTY}.outcome: expected oom or"),
        (in_empty(iterations_per_s=3.0), f"{EMPTY}.iterations_per_s: expected none"),
        (in_empty(gates=True), f"{EMPTY}.gates: expected False, found True"),
        (in_empty(build="2.0"), f"'{FP32}' with torch '2.0' stands in this file twice"),
        (lambda document: document["speedgate"].update(without_figure=3), "speedgate.without_figure: expected a list"),
        (lambda document: document["speedgate"].update(without_figure=[3]), f"{EMPTY}: expected an object, found 3"),
        (lambda document: document["machine_info"].pop("speedgate"), "machine_info.speedgate.family: expected 'a100'"),
        (lambda document: document.update(benchmarks=[]), "benchmarks: expected a list with at least one"),
        (lambda document: document["benchmarks"][0]["stats"].pop("q1"), "benchmarks[0].stats: missing field q1"),
    ],
)
def test_a_spoilt_field_is_named(tmp_path: Path, spoil: Spoil, said: str) -> None:
    """Whatever is shown was checked, and the one-line message names the file and the field."""
    document = make()
    spoil(document)
    path = write(tmp_path, document)

    with pytest.raises(ValueError) as caught:
        baselines.family(tmp_path, "NVIDIA A100-SXM4-80GB")

    assert str(caught.value).startswith(f"{path}: ")
    assert said in str(caught.value)


def test_a_family_is_no_gpu_key(tmp_path: Path) -> None:
    """Its folder is not listed among the keys, in whatever case it is written, and cannot be loaded as one."""
    write(tmp_path, make())
    store(tmp_path, "0001_recorded.json")
    (tmp_path / "family-a100" / "obtained.json").touch()

    assert baselines.known_keys(tmp_path) == [KEY]
    assert baselines.known_families(tmp_path) == ["a100"]
    for name in ("family-a100", "Family-A100"):
        with pytest.raises(ValueError, match="a family's published figures are shown and never gate"):
            baselines.load(tmp_path, name)


def test_nothing_is_promoted_into_a_family(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A recording is of a machine, so it has a GPU key."""
    (tmp_path / "family-a100").mkdir()
    obtain(tmp_path, make_run()).rename(tmp_path / "family-a100" / "obtained.json")

    assert main(["--root", str(tmp_path), "promote", "family-a100"]) == 2

    assert "GPU key 'family-a100': a family's published figures" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "family-a100").iterdir()] == ["obtained.json"]


def test_check_reads_families_as_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One call validates the baselines of every key and the figures of every family."""
    store(tmp_path, "0001_recorded.json")
    write(tmp_path, make())
    broken = write(tmp_path, make(figure(), figure()), name="0002_b.json")

    assert main(["--root", str(tmp_path), "check"]) == 2

    out, err = capsys.readouterr()
    assert "0001_recorded.json: 1 case" in out
    assert "0001_published.json: 2 figures, not gated" in out
    assert err.startswith(f"speedgate: {broken}: ")


def test_the_committed_folders_are_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    """Every committed baseline and figure passes the check that a contributor runs."""
    assert main(["--root", str(ROOT), "check"]) == 0
    assert f"family-4090/{throughput.NAME}: 78 figures, not gated" in capsys.readouterr().out


@pytest.fixture
def a100(pytester: pytest.Pytester) -> Suite:
    """A machine that pretends to be the published A100, with figures of its family."""
    suite = Suite(pytester)
    suite.pretend_a100()
    write(suite.path / "baselines", make(figure(rate=1e9), figure("nightly", rate=None, outcome="oom")))
    return suite


def test_a_family_figure_is_shown_and_judges_nothing(a100: Suite) -> None:
    """A figure that no machine reaches stands beside the run, and every test of the case is green under enforce."""
    result = a100.run("--weights=synthetic", "--stage=fp32", "--gate=enforce")

    assert red(result) == []
    figures, stored = "1e+09 it/s (torch 2.0), out of memory (torch nightly)", a100.result("fp32")
    shown = f"published for this family (a100), not gated: {FP32}: {figures}; measured here: 5.094 it/s"
    result.stdout.fnmatch_lines([shown])
    assert "1e+09" not in json.dumps(stored)
    assert stored["iterations_per_s"] == {"": pytest.approx(30 / (0.8 * 7.362))}


def test_a_family_cannot_be_asked_for_as_a_gpu_key(a100: Suite) -> None:
    """`--gpu-key family-a100` is a mistake, answered with the keys that there are."""
    result = a100.run("--gpu-key=family-a100")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: --gpu-key family-a100: unknown; choose from {KEY}"])


def test_a_broken_family_file_is_a_usage_error(a100: Suite) -> None:
    """It is named before anything is built, as a broken baseline is."""
    path = write(a100.path / "baselines", {"benchmarks": []})

    result = a100.run("--weights=synthetic", "--stage=fp32")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {path}: benchmarks: expected a list with at least one benchmark"])
