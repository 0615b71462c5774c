"""`--report`: what a session saves for its report, and how a report fails. `test_end_to_end.py` writes a whole one."""

from __future__ import annotations

import json
import sys

import pytest

from speedgate.plugin import after
from speedgate.report.html import view
from speedgate.results import folder
from speedgate.results.case_key import CaseKey
from tests.report.html.test_pictures import pixels

OPTIONS = ("--stage=fp32,bf16,sdpa", "--report=report.html")
SECRET = ("-o", "junit_suite_name=postgresql://boss:S3cret!pw@h/db")  # a password in the command, as in a history's URL


def test_images_and_the_command_are_saved_beside_the_results(bench, monkeypatch):
    """The folder `report/` has an image and a map of each stage, is not read as a result, and holds no password."""
    monkeypatch.setattr(after, "_run_speedgate", lambda _: None)
    result = bench.run(*OPTIONS, *SECRET, sdpa={"noise": 9})

    line = after.write_report(result.config, result.session)

    results = result.session.options.results
    index = json.loads((results / "report" / "index.json").read_text())
    assert (line, set(index["results"])) == ("report: report.html", set(folder.result_names(result.folder)))
    images = view.load_assets(results, result.folder).pictures
    brightness = {CaseKey.parse(key).stage: pixels(image.difference).mean() for key, image in images.items()}
    assert pixels(images["sdxl-tiny/bf16/32px-4steps-b1"].image).std() > 50
    assert brightness["bf16"] == 0 < brightness["fp32"] < brightness["sdpa"]
    files = [path.read_bytes() for path in results.rglob("*") if path.is_file()]
    assert any(b"junit_suite_name=postgresql://boss@h/db" in data for data in files)
    assert not any(b"S3cret" in data for data in files)


def test_a_report_that_fails_is_one_line(bench, monkeypatch):
    """The line has the reason and the command that tries again, an older report stays, and no result changes."""
    monkeypatch.setattr(after, "_save_report_assets", lambda *_: 1 / 0)
    (bench.path / "report.html").write_text("an older one")
    result = bench.run(*OPTIONS)
    before = result.folder

    line = after.write_report(result.config, result.session)

    assert line.startswith("no report: ZeroDivisionError: division by zero; report.html is an older report, not one of")
    assert line.endswith("report results-1 --output report.html")
    assert ((bench.path / "report.html").read_text(), result.folder) == ("an older one", before)


def test_a_crash_while_drawing_ends_its_own_process(tmp_path, monkeypatch):
    """A crash in a native library ends only the process of the report, and becomes a RuntimeError with its last line."""
    crash = tmp_path / "python"
    crash.write_text("#!/bin/sh\necho the last words >&2\nkill -ABRT $$\n")
    crash.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(crash))

    with pytest.raises(RuntimeError, match="exit status -6: the last words"):
        after._run_speedgate(["report"])
