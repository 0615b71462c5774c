"""`--report` of a session: one HTML file, which never changes the exit status of the session."""

from __future__ import annotations

import json
import re
import sys

import pytest

from speedgate.plugin import after
from speedgate.report.html import view
from speedgate.results import folder
from speedgate.results.case_key import CaseKey
from tests.report.html.test_pictures import pixels
from tests.support.suite import Folder, Suite

STAGES = "--stage=fp32,bf16,sdpa"
SECRET = ("-o", "junit_suite_name=postgresql://boss:S3cret!pw@h/db")  # a password in the command, as in a history's URL
BROKEN = """
import speedgate.plugin.after

speedgate.plugin.after.{name} = {value}
"""


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A session of three stages, of which sdpa makes a different image: the suite and the result."""
    suite = Suite(Folder(tmp_path_factory.mktemp("suite")))
    suite.misbehave(sdpa={"noise": 9})
    return suite, suite.run(STAGES, "--report=out/report.html", *SECRET)


@pytest.fixture
def suite(pytester):
    """A suite in which no session was run yet."""
    return Suite(pytester)


def break_report(suite, **names):
    """Replace functions that write the report, from the next run on."""
    with (suite.path / "conftest.py").open("a") as conftest:
        conftest.writelines(BROKEN.format(name=name, value=value) for name, value in names.items())


def test_a_session_leaves_its_report(measured):
    """The file has the red verdict, the image and maps of each stage, and the command; the exit status is that of the tests."""
    suite, result = measured
    document = (suite.path / "out" / "report.html").read_text()

    assert result.ret == 1
    assert "report: out/report.html" in result.outlines
    assert re.search(r'outcome bad">DIFFERENT</span>\s*<a href="#case-\d">sdxl-tiny/sdpa/', document)
    assert document.count("data:image/png;base64,") == 1 + 2 * 3
    assert "--report=out/report.html" in document


def test_a_password_in_the_command_is_not_written(measured):
    """Neither the report nor a file among the results contains it."""
    suite, _ = measured
    files = [
        path.read_bytes() for name in ("out", "results") for path in (suite.path / name).rglob("*") if path.is_file()
    ]

    assert any(b"junit_suite_name=postgresql://boss@h/db" in data for data in files)
    assert not any(b"S3cret" in data for data in files)


def test_the_report_is_made_again_from_the_results(measured):
    """`speedgate report` makes the same page from the files of the session, except for its time and place."""
    from speedgate.cli import main

    suite, _ = measured
    again = suite.path / "again.html"
    root = suite.path / "baselines"
    assert main(["--root", str(root), "report", str(suite.path / "results"), "--output", str(again)]) == 0

    first, second = ((suite.path / name).read_text() for name in ("out/report.html", "again.html"))
    pattern = r'<th scope="row">(?:written|results)</th>\s*<td>[^<]*</td>'
    assert re.sub(pattern, "", first) == re.sub(pattern, "", second)


def test_images_are_saved_beside_the_results(measured):
    """The folder `report/` has an image and a difference map of each stage, and is not read as a result."""
    suite, _ = measured
    index = json.loads((suite.path / "results" / "report" / "index.json").read_text())

    assert set(index["results"]) == set(folder.result_names(folder.read_folder(suite.path / "results")))
    assert len(index["pictures"]) == 3
    images = view.load_assets(suite.path / "results", folder.read_folder(suite.path / "results")).pictures
    brightness = {CaseKey.parse(key).stage: pixels(image.difference).mean() for key, image in images.items()}
    assert pixels(images["sdxl-tiny/bf16/64px-4steps-b1"].image).std() > 50
    assert brightness["bf16"] == 0 < brightness["fp32"] < brightness["sdpa"]


@pytest.mark.parametrize(("faults", "status"), [({}, 0), ({"noise": 9}, 1)])
def test_a_report_that_fails_changes_no_exit_status(suite, faults, status):
    """Green stays green and red stays red, the results stay, and one line has the command that tries again."""
    suite.misbehave(sdpa=faults)
    break_report(suite, _save_report_assets="lambda *_: 1 / 0")
    (suite.path / "report.html").write_text("an older one")

    result = suite.run(STAGES, "--report=report.html")

    assert result.ret == status
    (line,) = [line for line in result.outlines if line.startswith("no report: ZeroDivisionError")]
    assert "report.html is an older report, not one of this run" in line
    assert (suite.path / "report.html").read_text() == "an older one"
    assert line.endswith("report results --output report.html")
    assert suite.results() == ["bf16", "fp32", "sdpa"]


def test_a_crash_while_drawing_ends_its_own_process(tmp_path, monkeypatch):
    """A crash in a native library ends only the process of the report, and becomes a RuntimeError with its last line."""
    crash = tmp_path / "python"
    crash.write_text("#!/bin/sh\necho the last words >&2\nkill -ABRT $$\n")
    crash.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(crash))

    with pytest.raises(RuntimeError, match="exit status -6: the last words"):
        after._run_speedgate(["report"])
