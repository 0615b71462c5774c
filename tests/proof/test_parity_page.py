"""The page on parity: every figure comes from what the tests recorded."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.proof import __main__ as proof
from tests.proof import parity_page


def make_row(name, *, parity="PASS", **figures):
    ones = dict.fromkeys(
        (
            "step_error",
            "reference_step_error",
            "worst_step_error",
            "worst_reference_step_error",
            "worst_step_gain",
            "loop_error",
            "reference_loop_error",
            "decoder_error",
            "reference_decoder_error",
        ),
        1.0,
    )
    return {"name": name, "verdicts": {"parity": parity, "recipe": "PASS"}, "ssim": 0.998, **ones, **figures}


def test_the_page_has_the_figures_of_faults_and_the_worst_of_intact_stages(tmp_path):
    """Errors are multiples of the reference's, and a red judgement of an intact stage is counted as a false alarm."""
    rows = [
        make_row("guidance too strong, 2 % (sdpa)", parity="DIFFERENT", loop_error=0.03, reference_loop_error=0.006),
        make_row("sdxl int8 seed 0 threads 1", worst_step_gain=0.997),
        make_row("sd15 int8 seed 1 threads 1", parity="DIFFERENT", step_error=1.7, ssim=0.991),
        make_row("qwen-image taylor_seer seed 0 threads 1", ssim=0.9),
        make_row("qwen-image taylor_seer seed 1 threads 1", ssim=0.8),
        make_row("sdxl int8 seed 1 compiled", ssim=0.995),
    ]
    report = tmp_path / "junit.xml"
    properties = "".join(
        f"<property name='parity' value='{json.dumps(row).replace(chr(34), '&quot;')}'/>" for row in rows
    )
    report.write_text(f"<testsuite><testcase><properties>{properties}</properties></testcase></testsuite>")

    text = "\n".join(parity_page.lines(parity_page.read(report)))

    assert "| guidance too strong, 2 % (sdpa) | 0.99800 | 1 | 1 | 1.0000 | 5 | 1 | DIFFERENT | PASS |" in text
    assert "1 of 5 judgements of intact stages are red: 3 pipelines, 2 seeds" in text
    assert "latents; 4 with 1 thread, 1 compiled." in text
    assert "| int8 | 0.99100 | 1.7 | 1 | 0.9970 | 1 | 1 |" in text
    assert parity_page.lines_of(rows[1:])[-1] == "bf16's own errors: denoiser at most 1.0000, decoder at most 1.0000"
    assert "| taylor_seer | qwen-image | 0.80000 | 0.90000 | 1 | 1 | 1.0000 |" in text
    assert "| int8, compiled | 0.99500 | 1 | 1 | 1.0000 | 1 | 1 |" in text


def test_sections_that_were_written_by_hand_stay():
    """Generated sections are replaced, and a section that only the previous page has is kept whole, at the end."""
    previous = "# Page\n\n## Faults\n\nold figures\n\n## By hand\n\na table\n\n### Part of it\n\ntext\n"

    text = parity_page.keep_other_sections("# Page\n\n## Faults\n\nnew figures\n", previous)

    assert text == "# Page\n\n## Faults\n\nnew figures\n\n## By hand\n\na table\n\n### Part of it\n\ntext\n"


@pytest.mark.parametrize("status", [0, 2, -9])
def test_no_page_is_written_without_figures(tmp_path, monkeypatch, status):
    """If pytest could not run the tests, or none of them recorded a figure, the command fails and the page stays."""

    def run(command, **_):
        report = command[-1].removeprefix("--junitxml=")
        Path(report).write_text("<testsuite/>" if status == 0 else "")
        return subprocess.CompletedProcess(command, status, stdout="ERROR collecting tests\n")

    page = tmp_path / "docs" / "parity.md"
    page.parent.mkdir()
    page.write_text("the last figures")
    monkeypatch.setattr(proof, "ROOT", tmp_path)
    monkeypatch.setattr(parity_page.subprocess, "run", run)

    with pytest.raises(SystemExit, match=f"pytest ended with exit status {status} and no figures\nERROR collecting"):
        proof.main(["--only-parity"])

    assert page.read_text() == "the last figures"


def test_a_pipeline_that_does_not_exist_is_refused(capsys):
    """The name is refused before any test starts."""
    with pytest.raises(SystemExit):
        proof.main(["--parity-of", "nosuch"])

    assert "argument --parity-of: invalid choice: 'nosuch'" in capsys.readouterr().err
