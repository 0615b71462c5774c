"""Annotations of a job of GitHub Actions, and text in its log that the runner must not take for a command."""

import pytest

from speedgate.plugin.github import error_annotations, safe_line, safe_lines
from speedgate.results.run import Outcome, Verdict


def slower(sentence="2 s against 1 s: +100.0%", *, case_key="sdxl/int8/one"):
    """A red verdict."""
    return Verdict(case_key=case_key, claim="latency", outcome=Outcome.SLOWER, sentence=sentence)


def test_a_red_verdict_is_an_annotation():
    """Its title is outcome, case and claim; the sentence and the lines that explain it are its lines."""
    (command,) = error_annotations([(slower(), ["unet 1 s -> 2 s"])])

    assert command == (
        "::error title=SLOWER sdxl/int8/one latency::2 s against 1 s: +100.0%25%0Aunet 1 s -> 2 s"
    )  # fmt: skip


@pytest.mark.parametrize(
    "hostile",
    ["\n::error::x", "\r\n::add-mask::x", "%0A::error::x", "##[error]x", "::stop-commands::x", "\u2028::error::x"],
)
def test_text_of_a_verdict_cannot_add_a_command(hostile):
    """The runner finds one command, whose properties end where ours do; a reader sees no line that we did not write."""
    (command,) = error_annotations([(slower(f"a{hostile}", case_key=f"k,a=b{hostile}"), [f"b{hostile}"])])

    head, properties, message = command.partition("::")[2].partition("::")[0], command.split("::")[1], command
    assert head.startswith("error title=SLOWER k%2Ca=b")
    assert properties.count("=") == 2 and properties.endswith(" latency")
    assert len(command.splitlines()) == 1 and command.isascii() and command.isprintable()
    assert message.count("%0A") == 1 and "##[" not in command
    assert command.replace("%25", "").count("%") == command.count("%0A") + command.count("%3A") + command.count("%2C")


def test_no_more_annotations_than_github_shows():
    """The last of ten counts those that are left out."""
    commands = error_annotations([(slower(), ())] * 12)

    assert len(commands) == 10
    assert commands[-1] == "::error title=3 more red verdicts::they are in the log"


def test_a_line_of_ours_is_no_command_on_github(monkeypatch):
    """Both forms of a command are broken there; elsewhere only control characters are replaced."""
    text = "kernels ##[error] at::native\x1b"
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    on_github = safe_lines(f"a\n  ::error::{text}")
    monkeypatch.delenv("GITHUB_ACTIONS")

    assert not on_github.splitlines()[1].lstrip().startswith("::") and "##[" not in on_github
    assert safe_line(text) == "kernels ##[error] at::native?"
