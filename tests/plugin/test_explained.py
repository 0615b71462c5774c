"""A verdict that something moved says what, wherever it is read: in the failed test, the report, the JSON and the Markdown."""

import pytest

from speedgate.baselines.promote import promote
from speedgate.report import markdown
from speedgate.results.folder import read_folder
from tests.support.suite import Folder, Suite, red

SLOWER = {
    "slower": 1.10,
    "at": "vae_decode",
    "kernels": {"gemm": [120, 0.2], "softmax": [], "copy": [18, 0.002], "cat": [7, 0.02]},
    "attention_kernels": {"math": 40},
    "code_digest": "0123456789abcdef",
}
LINES = [
    "components: vae_decode 0.08 s -> 0.12 s (100% of +0.04 s)",
    "kernels appeared: cat (7 calls, 0.02 s)",
    "kernels vanished: softmax (40 calls, 0.03 s)",
    "kernels more calls: copy (9 -> 18)",
    "kernels slower: gemm (0.12 s -> 0.2 s)",
    "attention: flash x40 -> math x40",
    "generated code: 00000000deadbeef -> 0123456789abcdef",
    "versions: diffusers 0.41.0 -> 0.42.1",
]
STAGES = "--stage=fp32,bf16,sdpa"


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """Recorded, then one stage as it was, one faster and one slower in its decoder; how pytest ended and what it wrote."""
    suite = Suite(Folder(tmp_path_factory.mktemp("judged")))
    suite.misbehave(versions={"diffusers": "0.41.0"})
    assert red(suite.record(STAGES)) == []
    promote(suite.path / "baselines", suite.machine.key)
    suite.misbehave(sdpa=SLOWER, bf16={"slower": 0.9}, versions={"diffusers": "0.42.1"})
    return suite, suite.run("--processes=2", "--rounds=4", STAGES)


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """The same slower stage in this arm of a live comparison, and one that an older worker measured in the other."""
    suite = Suite(Folder(tmp_path_factory.mktemp("compared")))
    suite.misbehave(sdpa=SLOWER, bf16={"slower": 1.1}, versions={"diffusers": "0.42.1"})
    other = suite.against(bf16={"offers": [], "components": {}}, versions={"diffusers": "0.41.0"})
    return suite, suite.run(other, "--rounds=4", "--processes=3", "--max-processes=3", "--stage=bf16,sdpa")


def after(lines, start, count):
    """The lines below the first that begins like this."""
    number = next(number for number, line in enumerate(lines) if line.startswith(start))
    return [line.strip() for line in lines[number + 1 : number + 1 + count]]


def test_the_report_says_what_changed(judged):
    """Each kind of change has a line below the verdict's sentence, in numbers."""
    lines = judged[1].outlines
    table = next(number for number, line in enumerate(lines) if line.startswith("case "))
    assert after(lines[table:], "SLOWER sdxl-tiny/sdpa/", len(LINES)) == LINES


def test_the_failed_test_says_what_changed(judged):
    """Whoever looks at the red test alone finds the same."""
    assert red(judged[1]) == ["test_latency[sdxl-tiny-sdpa]"]
    lines = judged[1].outlines
    header = next(number for number, line in enumerate(lines) if "_ test_latency[sdxl-tiny-sdpa] _" in line)
    assert after(lines[header:], "SLOWER sdxl-tiny/sdpa/", len(LINES)) == LINES


def test_what_became_faster_is_explained_too(judged):
    """FASTER is green, and what made it so is told: nothing but the denoiser and the versions."""
    found = after(judged[1].outlines, "FASTER sdxl-tiny/bf16/", 4)

    assert found[0] == "components: denoiser 0.3 s -> 0.25 s (100% of -0.05 s)"
    assert found[1].startswith("kernels: the same")


def test_the_json_keeps_what_changed(judged):
    """In the case's file, and empty where nothing moved."""
    assert judged[0].result("sdpa")["explanation"] == LINES
    assert judged[0].result("fp32")["explanation"] == []


def test_the_markdown_says_what_changed(judged):
    """Below the verdict, every name of it escaped."""
    text = markdown.render(read_folder(judged[0].path / "results"))
    lines = text.splitlines()

    (number,) = [number for number, line in enumerate(lines) if line.startswith("- **SLOWER**")]
    assert [line[:10] for line in lines[number + 1 : number + 1 + len(LINES)]] == ["  - <code>"] * len(LINES)
    assert "vae&#95;decode 0.08 s -&#62; 0.12 s" in lines[number + 1]


def test_a_live_comparison_is_explained_by_the_other_arm(compared):
    """Components and kernels are set against those that the other arm has just measured."""
    assert after(compared[1].outlines, "SLOWER sdxl-tiny/sdpa/", len(LINES)) == LINES


def test_an_arm_that_tells_nothing_is_one_line(compared):
    """An older checkout's worker times no components and offers no pass: that is said, and the versions."""
    found = after(compared[1].outlines, "SLOWER sdxl-tiny/bf16/", 2)

    assert found[0].startswith(
        "nothing to compare with: components and kernels are not in this run or not in the other arm"
    )
    assert found[1] == LINES[-1]


def test_the_pass_is_run_once_a_case(judged):
    """A run of several processes holds one attribution, and one of each component a process."""
    run = judged[0].result("sdpa")["run"]

    assert [kernel["name"] for kernel in run["attribution"]["kernels"]] == ["gemm", "cat", "copy"]
    assert [len(process["components"]) for process in run["processes"]] == [3] * len(run["processes"])
    assert sum("sdxl-tiny-sdpa: kernels ..." in line for line in judged[1].outlines) == 1
