"""What untrusted results look like on GitHub: shown letter by letter, worst first, within a comment's size."""

from __future__ import annotations

import html
import html.parser
import re
import string
from pathlib import Path

import pytest

from speedgate.cli import main
from speedgate.report.markdown import MAX_CHARACTERS, render
from speedgate.results.text import log_line, markdown_block, markdown_code
from tests.support.artifacts import HOSTILE, NAME, SESSION, encoded, result
from tests.support.baseline_samples import BF16, INT8

CONTAINER = re.compile(r"^<(code|pre)>(.*)</\1>$")
HARMLESS = set(string.ascii_letters + string.digits + " .,;/+%()=?-")


def bare(shown: str) -> str:
    """What stands in the element, with every character reference left out."""
    match = CONTAINER.fullmatch(shown)
    assert match is not None
    return re.sub(r"&#\d+;", "", match[2])


def verdict(sentence: str, *, claim: str = "latency", outcome: str = "SLOWER") -> dict[str, str]:
    """A verdict of the int8 case."""
    return {"case_key": INT8, "claim": claim, "outcome": outcome, "sentence": sentence}


@pytest.mark.parametrize(
    "text", [HOSTILE, string.printable, "".join(map(chr, range(0x300))), "\u202e\u2028\u200d\U0001f600"]
)
def test_only_harmless_characters_are_left_bare(text: str) -> None:
    """Whatever means something to HTML, Markdown, GitHub or a workflow is a character reference, on one line."""
    for shown in (markdown_code(text, limit=10_000), markdown_block(text, limit=100_000)):
        assert set(bare(shown)) - {"\u2060"} <= HARMLESS


def test_a_reader_sees_what_was_written() -> None:
    """Escaping loses nothing but control characters: resolved, the references are the text."""
    text = "a|b <c> *d* _e_ [f](g) `h` ~i~ !j \u00e9 \u4e2d"

    assert html.unescape(markdown_code(text)) == f"<code>{text}</code>"


@pytest.mark.parametrize(
    "text", ["@octocat", "#1", "GH-2", "https://evil.example", "www.evil.example", "a/b#3", "x@y.z"]
)
def test_nobody_is_mentioned_and_nothing_is_linked(text: str) -> None:
    """GitHub links in the rendered text, where a reference is a character again: the pattern itself is broken."""
    rendered = html.unescape(markdown_code(text))

    assert not re.search(r"@\w|#\d|gh-|://|www\.", rendered, re.IGNORECASE)


def test_control_and_direction_characters_are_gone() -> None:
    """Neither a terminal's escape nor a right-to-left override comes through."""
    rendered = html.unescape(markdown_code(HOSTILE))

    assert not {"\x1b", "\u202e", "\u200b", "\r", "\n"} & set(rendered)


@pytest.mark.parametrize("text", ["::set-output name=a::b", "x ##[add-mask]y", "a\n::error::b", "\r::stop-commands::x"])
def test_a_log_line_is_no_workflow_command(text: str) -> None:
    """The runner looks for `::` at the start of a line, and for `##[` anywhere."""
    shown = log_line(text)

    assert "::" not in shown
    assert "##[" not in shown
    assert len(shown.splitlines()) == 1


def test_preformatted_text_is_cut_by_what_it_becomes() -> None:
    """A text that escaping makes eight times as long stays below the limit all the same."""
    shown = markdown_block("\u4e2d<>\n" * 10_000, limit=1000)

    assert len(shown) <= 1000
    assert shown.endswith("(cut)</pre>")


def test_hostile_texts_stay_texts() -> None:
    """The whole document holds no element but ours and no line that a text began."""
    document = result(
        run=None, gpu_key=HOSTILE[:200], verdicts=[verdict(HOSTILE, claim=HOSTILE) | {"case_key": HOSTILE[:200]}]
    )

    text = render({NAME: encoded(document)})

    assert set(re.findall(r"</?[a-z!][^>]*>?", text)) == {"<code>", "</code>"}
    assert all(line == "" or line.startswith(("**", "|", "- **")) for line in text.splitlines())
    assert "::" not in text


def test_what_changed_stands_below_its_verdict() -> None:
    """Once a case, below the first verdict that something moved, and as untrusted as the rest."""
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
    assert set(re.findall(r"</?[a-z!][^>]*>?", "".join(lines))) == {"<code>", "</code>"}


def test_a_hostile_claim_breaks_no_table_row() -> None:
    """Every row has the columns of the header, whatever the case is called."""
    document = result(run=None, verdicts=[verdict("s") | {"case_key": "a|b\n|c|"}])

    rows = [line for line in render({NAME: encoded(document)}).splitlines() if line.startswith("|")]

    assert {row.count("|") for row in rows} == {8}


def test_the_worst_stands_first() -> None:
    """Cases and sentences are sorted by their outcome; what nobody judged comes before all."""
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
    """The result of a case that was described and never built."""
    one = {"case_key": case_key, "claim": "recipe", "outcome": outcome, "sentence": "graphs: 2, expected 1"}
    return encoded(result(run=None, verdicts=[one]))


def test_what_was_only_described_stands_apart() -> None:
    """A case that was never built is no PASS among the measured ones, and a red one is red in full."""
    files = {"a.json": described("sdxl/bf16/w"), "b.json": described("sdxl/int8/w", outcome="NOT_APPLIED")}

    text = render({**files, NAME: encoded(result())})

    assert text.startswith("**1 NOT_APPLIED, 1 PASS** on ")
    assert f"\nstructure only: 1 case holds, on the meta device: {markdown_code('sdxl/bf16/w')}\n" in text
    assert text.count("**PASS** | ") == 1
    assert f"- **NOT_APPLIED** {markdown_code('sdxl/int8/w')}" in text


def test_a_run_that_built_nothing_says_so() -> None:
    """Descriptions alone have no table and no PASS, however many there are."""
    text = render({f"{i}.json": described(f"sdxl/{i}/{'w' * 150}") for i in range(500)})

    assert text.startswith("**nothing was built** on ")
    assert "structure only: 500 cases hold, on the meta device: " in text
    assert re.search(r", \d+ more\n", text)
    assert "PASS" not in text
    assert "|" not in text
    assert len(text) < MAX_CHARACTERS / 5


def test_figures_are_shown() -> None:
    """Latency, processes, SSIM and peak of a measured case stand in its row."""
    run = result()["run"] | {"parity": {"ssim": 0.99651}}

    text = render({NAME: encoded(result(run=run))})

    row = f"| **PASS** | <code>{INT8}</code> | 2.45 s | 3 | 0.9965 | 0.000 GiB | <code>{SESSION}</code> |"
    assert row in text


@pytest.mark.parametrize("limit", [MAX_CHARACTERS, 30_000])
def test_a_summary_fits_into_a_comment(limit: int) -> None:
    """Hundreds of cases with long hostile sentences are cut, the worst are kept, and the number left out is said."""
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


def test_the_command_prints_or_appends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`speedgate summary` prints, and with --out adds to a file that others write to."""
    (tmp_path / "case.json").write_bytes(encoded(result()))
    out = tmp_path / "summary.md"
    out.write_text("before\n")

    assert main(["summary", str(tmp_path)]) == 0
    out.unlink()
    out.write_text("before\n")
    assert main(["summary", str(tmp_path), "--out", str(out)]) == 0

    assert out.read_text() == "before\n" + capsys.readouterr().out


def test_a_refused_folder_is_one_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What cannot be shown ends with status 2 and one line that says why."""
    (tmp_path / "case.json").write_text('{"::error::": 1}')

    assert main(["summary", str(tmp_path)]) == 2

    assert re.fullmatch(r"speedgate: case\.json: unknown field ::error::\n", capsys.readouterr().err)


def test_it_says_when_and_with_what_was_measured() -> None:
    """A line a commit, time and versions, as untrusted as the rest, and none where the results do not say."""
    said = {"measured_at": "2026-11-21T21:27:31+00:00", "commit": {"id": "abc123", "dirty": True}}
    one, other = (encoded(result(key, **said)) for key in (INT8, BF16))

    text = html.unescape(render({"a.json": one, "b.json": other}))

    line = "<code>measured 2026-11-21 21:27 UTC at commit abc123 with uncommitted changes, torch 2.13.0</code>"
    assert [each for each in text.splitlines() if "measured" in each] == [line]


@pytest.mark.parametrize(
    "said", [{}, {"measured_at": "x", "commit": {"id": "unversioned"}}, {"measured_at": 7, "commit": {"id": HOSTILE}}]
)
def test_what_is_no_time_and_no_commit_is_left_out_or_text(said) -> None:
    """Whatever stands there, the page keeps its elements, and hundreds of times keep within the limit."""
    files = {f"{n}.json": encoded(result(f"a/b/{n}", **said)) for n in range(3)}
    times = [{"measured_at": f"2026-11-21T21:{n:02}:00+00:00"} for n in range(60)]
    many = {f"{n}.json": encoded(result(f"a/b/{n}", **time)) for n, time in enumerate(times)}

    assert set(re.findall(r"</?[a-z!][^>]*>?", render(files))) == {"<code>", "</code>"}
    assert "unversioned" not in render(files)
    assert "others" in render(many, limit=9000)
