"""The verdict on a bump, as a JSON document and as a Markdown page."""

from __future__ import annotations

from typing import Any

import pytest

from speedgate.report import verdict_page

CHANGES = [
    {
        "package": "torch",
        "old": {"version": "2.13.0"},
        "new": {"version": "2.14.0.dev20260804+cu130"},
        "commits": "https://github.com/pytorch/pytorch/compare/a...b",
    }
]


def case(*verdicts: tuple[str, str, str], built: bool = True, key: str = "p/s/w") -> dict[str, Any]:
    """Make the result file of a case; its verdicts are given as claim, outcome and sentence."""
    side = {"case_key": key, "environment": {}, "processes": [{"seconds": [2.0, 2.0], "peak_bytes": [300, 300]}]}
    other = side | {"processes": [{"seconds": [1.0], "peak_bytes": [100]}]}
    return {
        "run": side if built else None,
        "against": {"log_ratios": [0.6931471805599453], "other": other} if built else None,
        "verdicts": [
            {"case_key": key, "claim": claim, "outcome": outcome, "sentence": sentence}
            for claim, outcome, sentence in verdicts
        ],
    }


def item(outcome: str, claim: str, sentence: str, *, key: str = "p/s/w") -> str:
    """Format a verdict as the page does."""
    return f"- **{outcome}** <code>{key}</code> <code>{claim}</code>: <code>{sentence}</code>"


def test_the_page_shows_figures_then_what_is_no_plain_pass() -> None:
    """The page has versions and commits, a row per case, the verdicts worst first, each latency, and the count of the others."""
    found = [case(("latency", "PASS", "as fast"), ("memory", "BIGGER", "too big"), ("recipe", "PASS", "all facts"))]

    verdict = verdict_page.verdict_document(CHANGES, found, status=1)

    assert (verdict["green"], verdict["outcome"]) == (False, "BIGGER")
    assert verdict_page.render(verdict).splitlines() == [
        "## <code>torch 2.14.0.dev20260804+cu130</code> against the stable pins: red (BIGGER)",
        "",
        "| package | stable | bump | commits |",
        "| --- | --- | --- | --- |",
        "| <code>torch</code> | <code>2.13.0</code> | <code>2.14.0.dev20260804+cu130</code> |"
        " https://github.com/pytorch/pytorch/compare/a...b |",
        "",
        "| case | latency | stable | ratio | peak memory ratio |",
        "| --- | --- | --- | --- | --- |",
        "| <code>p/s/w</code> | 2 s | 1 s | 2.000 | 3.000 |",
        "",
        item("BIGGER", "memory", "too big"),
        item("PASS", "latency", "as fast"),
        "- 1 other verdicts are PASS",
    ]


def test_a_suite_that_broke_is_no_green_bump() -> None:
    """Before any verdict the run is neither green nor red; a case without a run has no row, and its verdict is in the list."""
    broken = verdict_page.verdict_document(CHANGES, [], status=4)
    lost = verdict_page.verdict_document(CHANGES, [case(("worker", "INVALID", "died"), built=False)], status=1)

    assert (broken["green"], broken["outcome"]) == (False, None)
    assert "not judged, pytest ended with exit status 4\n" in verdict_page.render(broken)
    assert item("INVALID", "worker", "died") in verdict_page.render(lost)
    assert "| <code>p/s/w</code> |" not in verdict_page.render(lost)


@pytest.mark.parametrize(
    ("status", "outcomes", "colour"),
    [
        (0, [], "not judged, pytest ended with exit status 0 and no verdict"),
        (0, ["UNDECIDED"], "not judged, pytest ended with exit status 0 and no verdict (UNDECIDED)"),
        (0, ["UNDECIDED", "PASS"], "green (UNDECIDED)"),
        (1, [], "not judged, pytest ended with exit status 1 and no verdict"),
        (1, ["INVALID"], "red (INVALID)"),
        (2, ["PASS"], "not judged, pytest ended with exit status 2 (PASS)"),
        (10, ["PASS"], "green, and pytest ended with exit status 10: the history did not take it (PASS)"),
        (11, ["SLOWER"], "red, and pytest ended with exit status 11: the history did not take it (SLOWER)"),
    ],
)
def test_a_run_that_judged_nothing_is_no_pass(status: int, outcomes: list[str], colour: str) -> None:
    """A green run needs a verdict that compares the arms, a red one any verdict; otherwise it is called not judged."""
    found = [case(*[("latency", outcome, "why") for outcome in outcomes])]

    verdict = verdict_page.verdict_document(CHANGES, found, status=status)

    assert verdict_page.render(verdict).splitlines()[0].endswith(f" against the stable pins: {colour}")
    assert (verdict["green"], verdict_page.is_red(verdict)) == (colour.startswith("green"), colour.startswith("red"))


def test_what_changed_stands_below_the_verdict() -> None:
    """The explanation of a case is there once, escaped, below its first verdict that says that something moved."""
    found = [case(("recipe", "NOT_APPLIED", "other"), ("latency", "SLOWER", "slow"), ("memory", "BIGGER", "too big"))]
    found[0]["explanation"] = ["components: vae_decode 1 s -> 2 s", "kernels appeared: <b>"]

    lines = verdict_page.render(verdict_page.verdict_document(CHANGES, found, status=1)).splitlines()

    assert lines[-6:] == [
        item("NOT_APPLIED", "recipe", "other"),
        item("SLOWER", "latency", "slow"),
        "  - <code>components&#58; vae&#95;decode 1 s -&#62; 2 s</code>",
        "  - <code>kernels appeared&#58; &#60;b&#62;</code>",
        item("BIGGER", "memory", "too big"),
        "- 0 other verdicts are PASS",
    ]


@pytest.mark.parametrize(
    "text", ["a | b", "<img src=x>", "[link](https://example.org)", "@somebody", "`code`", "a\n\n# b", "\x1b[31mred"]
)
def test_texts_of_a_run_are_escaped(text: str) -> None:
    """A sentence or a key makes no table cell, tag, link, mention, code, heading or control character."""
    found = [case(("latency", "SLOWER", text), key=text)]

    page = verdict_page.render(verdict_page.verdict_document([], found, status=1))

    assert text not in page
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    assert {row.count("|") for row in rows} == {5, 6}
    assert "\x1b" not in page


def test_the_page_fits_into_a_comment_and_keeps_the_worst() -> None:
    """Of hundreds of long sentences the worst are shown first, and the others are counted."""
    found = [case(("latency", "UNDECIDED", "<" * 400), key=f"p/s/{number}") for number in range(900)]
    found += [case(("memory", "BIGGER", "b"), key=f"p/s/b{n}") | {"explanation": ["<" * 1000] * 12} for n in range(4)]
    found.append(case(("latency", "SLOWER", "the worst"), key="p/s/worst"))

    page = verdict_page.render(verdict_page.verdict_document(CHANGES, found, status=1))

    rows = [line for line in page.splitlines() if line.startswith("| <code>p/s/")]
    assert 30_000 < len(page) <= 60_000
    assert rows[0].startswith("| <code>p/s/worst</code> |")
    assert page.index(item("SLOWER", "latency", "the worst", key="p/s/worst")) < page.index("- **UNDECIDED**")
    assert page.count("  - 11 more lines are in the JSON file") == page.count("- **BIGGER**") == 4
    assert f"{905 - len(rows)} more cases, none worse" in page
    assert "more verdicts, none worse" in page
    assert page.endswith("- 0 other verdicts are PASS\n")
