"""The Markdown summary of a run: worst case first, safe to post for anybody's results, and short enough for a comment."""

from __future__ import annotations

import html
import re

import pytest

from speedgate.report.markdown import MAX_CHARACTERS, MAX_SUMMARY_BYTES, append, render
from speedgate.results.json_io import to_json
from speedgate.results.text import markdown_code
from tests.support.artifacts import HOSTILE, NAME, SESSION, encoded, result
from tests.support.baseline_samples import BF16, INT8, make_confirmation

ELEMENT = re.compile(r"</?[a-z!][^>]*>?")


def verdict(sentence: str, *, claim: str = "latency", outcome: str = "SLOWER") -> dict[str, str]:
    """Make a verdict of the int8 case."""
    return {"case_key": INT8, "claim": claim, "outcome": outcome, "sentence": sentence}


def test_hostile_texts_stay_texts() -> None:
    """The document holds only our elements, and no line begins with a text of the results."""
    document = result(
        run=None,
        gpu_key=HOSTILE[:200],
        not_judged={HOSTILE[:200]: HOSTILE[:200]},
        verdicts=[verdict(HOSTILE, claim=HOSTILE) | {"case_key": HOSTILE[:200]}],
    )

    text = render({NAME: encoded(document)})

    assert set(ELEMENT.findall(text)) == {"<code>", "</code>"}
    assert all(line == "" or line.startswith(("**", "|", "- **")) for line in text.splitlines())
    assert "::" not in text


def test_what_changed_stands_below_its_verdict() -> None:
    """The explanation of a case is there once, below its first verdict that says that something moved, and is escaped."""
    verdicts = [
        verdict("s", claim="memory", outcome="BIGGER"),
        verdict("s"),
        verdict("s", claim="x", outcome="DIFFERENT"),
    ]
    document = result(verdicts=verdicts, explanation=[f"kernels appeared: {HOSTILE}", "versions: the same"])

    lines = render({NAME: encoded(document)}).splitlines()[-5:]

    assert [re.split(r"[*< ]+", line)[:2] for line in lines] == [
        ["-", "DIFFERENT"], ["-", "SLOWER"], ["", "-"], ["", "-"], ["-", "BIGGER"],
    ]  # fmt: skip
    assert set(ELEMENT.findall("".join(lines))) == {"<code>", "</code>"}


def test_the_drift_of_the_machine_has_a_line_below_the_counts() -> None:
    """The summary has the drift and the baseline that will be stale, and a hostile name of a baseline stays a text."""
    confirmation = make_confirmation(baseline=HOSTILE)

    text = render({NAME: encoded(result(confirmation=to_json(confirmation)))}).partition("\n|")[0]

    drift, stale = [line for line in text.splitlines() if "the machine" in line]
    assert "the machine takes 6.0% longer than" in drift
    assert "will soon be stale" in stale and "pytest bench --gate record" in stale
    assert set(ELEMENT.findall(stale)) == {"<code>", "</code>"}


def test_a_hostile_claim_breaks_no_table_row() -> None:
    """Every row has the columns of the header, whatever the name of the case is."""
    document = result(run=None, verdicts=[verdict("s") | {"case_key": "a|b\n|c|"}])

    rows = [line for line in render({NAME: encoded(document)}).splitlines() if line.startswith("|")]

    assert len(rows) == 3 and len({row.count("|") for row in rows}) == 1


def test_the_worst_stands_first() -> None:
    """Cases and sentences are sorted by outcome; a case that nobody judged comes before all."""
    files = {
        "a.json": encoded(result(BF16)),
        "b.json": encoded(result(outcome="SLOWER")),
        "c.json": encoded(result("sdxl/fp32/w", verdicts=[])),
        "d.json": encoded(result("sdxl/sdpa/w", outcome="NOT_APPLIED")),
    }

    text = render(files)

    assert text.startswith("**1 not judged, 1 NOT_APPLIED, 1 SLOWER, 1 PASS** on ")
    assert re.findall(r"^\| (?:\*\*)?(not judged|[A-Z_]+)", text, re.MULTILINE) == [
        "not judged", "NOT_APPLIED", "SLOWER", "PASS",
    ]  # fmt: skip
    assert re.findall(r"^- \*\*([A-Z_]+)", text, re.MULTILINE) == ["NOT_APPLIED", "SLOWER"]


def described(case_key: str, *, outcome: str = "PASS") -> bytes:
    """Make the result of a case that was checked on the meta device and never built."""
    recipe = {"case_key": case_key, "claim": "recipe", "outcome": outcome, "sentence": "graphs: 2, expected 1"}
    return encoded(result(run=None, verdicts=[recipe]))


def test_cases_that_were_never_built_are_listed_apart() -> None:
    """A case that was never built does not count as a PASS, and a red one has its row and its sentence."""
    files = {"a.json": described("sdxl/bf16/w"), "b.json": described("sdxl/int8/w", outcome="NOT_APPLIED")}

    text = render({**files, NAME: encoded(result())})

    assert text.startswith("**1 NOT_APPLIED, 1 PASS** on ")
    assert f"\nstructure only: 1 case holds, on the meta device: {markdown_code('sdxl/bf16/w')}\n" in text
    assert text.count("**PASS** | ") == 1
    assert f"- **NOT_APPLIED** {markdown_code('sdxl/int8/w')}" in text


def test_a_run_that_built_nothing_says_so() -> None:
    """A run that only described its cases has no table and no PASS, and its list is cut."""
    text = render({f"{i}.json": described(f"sdxl/{i}/{'w' * 150}") for i in range(500)})

    assert text.startswith("**nothing was built** on ")
    assert "structure only: 500 cases hold, on the meta device: " in text
    assert re.search(r", \d+ more\n", text)
    assert "PASS" not in text
    assert "|" not in text
    assert len(text) < MAX_CHARACTERS / 5


@pytest.mark.parametrize("limit", [MAX_CHARACTERS, 30_000])
def test_a_summary_fits_into_a_comment(limit: int) -> None:
    """Of hundreds of cases with long hostile sentences the worst are shown, and the others are counted."""
    hostile = [verdict("<" * 600, claim=str(index), outcome="UNDECIDED") for index in range(100)]
    files = {
        f"{i}.json": encoded(result(f"a/b/{i}", run=None, verdicts=[verdict("s") | {"case_key": f"a/b/{i}"}]))
        for i in range(600)
    }
    files |= {f"h{i}.json": encoded(result(run=None, verdicts=hostile)) for i in range(10)}
    files["worst.json"] = encoded(result(outcome="NOT_APPLIED"))

    text = render(files, limit=limit)

    assert limit / 2 < len(text) <= limit
    assert "| **NOT_APPLIED** |" in text
    assert "- **NOT_APPLIED** " in text
    assert re.search(r"^\d+ more cases, none worse", text, re.MULTILINE)
    assert re.search(r"^\d+ more verdicts, none worse", text, re.MULTILINE)


def test_the_figures_the_time_the_commit_and_the_versions_are_shown() -> None:
    """A measured case has a row of figures; cases with the same time, commit and versions share one line, which is escaped."""
    fields = {"measured_at": "2026-11-21T21:27:31+00:00", "commit": {"id": "abc123", "dirty": True}}
    run = result()["run"] | {"parity": {"ssim": 0.99651}}
    files = {NAME: encoded(result(run=run, **fields)), "b.json": encoded(result(BF16, **fields))}

    line = "<code>measured 2026-11-21 21:27 UTC at commit abc123 with uncommitted changes, torch 2.13.0</code>"
    assert [each for each in html.unescape(render(files)).splitlines() if "measured" in each] == [line]
    row = f"| **PASS** | <code>{INT8}</code> | 2.45 s | 3 | 0.9965 | 0.000 GiB | <code>{SESSION}</code> |"
    assert row in render(files)


@pytest.mark.parametrize(
    "fields", [{}, {"measured_at": "x", "commit": {"id": "unversioned"}}, {"measured_at": 7, "commit": {"id": HOSTILE}}]
)
def test_an_odd_time_or_commit_does_no_harm(fields) -> None:
    """Odd values are left out or escaped, and many different times stay within the limit."""
    files = {f"{n}.json": encoded(result(f"a/b/{n}", **fields)) for n in range(3)}
    times = [{"measured_at": f"2026-11-21T21:{n:02}:00+00:00"} for n in range(60)]
    many = {f"{n}.json": encoded(result(f"a/b/{n}", **time)) for n, time in enumerate(times)}

    assert set(ELEMENT.findall(render(files))) == {"<code>", "</code>"}
    assert "unversioned" not in render(files)
    assert "others" in render(many, limit=9000)


@pytest.mark.parametrize("written_before", [0, MAX_SUMMARY_BYTES - 5000, MAX_SUMMARY_BYTES - 10])
def test_a_job_summary_is_cut_before_github_drops_it(tmp_path, monkeypatch, written_before: int) -> None:
    """A job's summary stays at 1 MiB or below: its first lines are there, and the last says so; no other file is cut."""
    summary, other = tmp_path / "summary.md", tmp_path / "other.md"
    summary.write_text("." * written_before)
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    lines = [f"{number}: \N{SNOWMAN}" * 10 for number in range(20_000)]

    append(summary, "\n".join(lines))
    append(other, "." * (MAX_SUMMARY_BYTES + 1))

    assert summary.stat().st_size <= MAX_SUMMARY_BYTES < other.stat().st_size
    added = summary.read_text()[written_before:]
    if written_before < MAX_SUMMARY_BYTES - 10:
        kept = added.splitlines()[:-2]
        assert kept == lines[: len(kept)] and len(kept) > 50
        assert added.splitlines()[-1].startswith(f"{len(lines) - len(kept)} more lines do not fit")
    summary.unlink()
    append(summary, "." * MAX_SUMMARY_BYTES)
    assert summary.stat().st_size == MAX_SUMMARY_BYTES
