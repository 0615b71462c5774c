"""Progress: a status that replaces itself on a terminal, a line for each activity in a log, and the estimate before it."""

import json
from types import SimpleNamespace

import pytest

from speedgate.measure.budget import DONE, TimingEntry, TimingLog
from speedgate.plugin.estimate import earlier_timings, expected_session_s
from speedgate.plugin.progress import Progress, PytestScreen, format_seconds, status_sequence
from tests.support.fake_worker import FakeClock


class FakeScreen:
    """Keeps the text of a log, and each status that was shown."""

    def __init__(self, *, is_terminal=False):
        self.is_terminal = is_terminal
        self.text = ""
        self.statuses = []

    def write(self, text, *, own_line=False):
        self.text += f"\n{text}" if own_line and not self.text.endswith("\n") else text

    def show_status(self, text):
        self.statuses.append(text)


def make_progress(*, is_terminal=False):
    """A progress with its screen and its clock."""
    screen, clock = FakeScreen(is_terminal=is_terminal), FakeClock()
    return Progress(screen, clock=clock), screen, clock


def spend(progress, clock, text, seconds):
    """Let an activity take so many seconds."""
    with progress.activity(text):
        clock.now_s += seconds


def entry(case, activity, seconds, *, command="first"):
    """One entry of a log."""
    return TimingEntry(command=command, case=case, activity=activity, started_at="", seconds=seconds, outcome=DONE)


def test_a_log_has_a_line_for_each_activity():
    """Each line has the seconds of the session so far, the activity and its own seconds, or that it failed; a heading has one."""
    progress, screen, clock = make_progress()
    screen.text = "bench/test_latency.py "

    spend(progress, clock, "sdxl: load and apply", 62.0)
    progress.heading("sdxl: pair 7 of at most 12, this arm first")
    with pytest.raises(RuntimeError), progress.activity("sdxl: first image"):
        raise RuntimeError

    assert screen.text.splitlines() == [
        "bench/test_latency.py ",
        "  [0:00] sdxl: load and apply ... 62.0 s",
        "  sdxl: pair 7 of at most 12, this arm first",
        "  [1:02] sdxl: first image ... failed",
    ]


def test_the_line_of_an_activity_with_others_inside_is_repeated():
    """Its seconds do not stand behind the line of another activity."""
    progress, screen, clock = make_progress()

    with progress.activity("sdxl: outer"):
        spend(progress, clock, "sdxl: inner", 1.0)

    assert screen.text.splitlines()[1:] == [
        "  [0:00] sdxl: outer ... ",
        "  [0:00] sdxl: inner ... 1.0 s",
        "  [0:01] sdxl: outer ... 1.0 s",
    ]


def test_expected_seconds_are_shown(tmp_path):
    """The session's estimate and that of a long activity stand in its line; a short activity and a new case have none."""
    progress, screen, clock = make_progress()
    progress.expected_s = 150.0
    earlier = [entry("sdxl", "first image, compiling", 90.0), entry("sdxl", "kernels", 1.0)]
    progress.log = TimingLog(path=tmp_path / "times.jsonl", command="now", earlier=earlier, clock=clock)

    spend(progress, clock, "sdxl: first image, compiling", 3.0)
    spend(progress, clock, "sdxl: kernels", 3.0)
    spend(progress, clock, "flux: first image, compiling", 145.0)
    spend(progress, clock, "sdxl: kernels", 3.0)

    assert screen.text.splitlines()[1:] == [
        "  [0:00 of about 2:30] sdxl: first image, compiling (about 1:30) ... 3.0 s",
        "  [0:03 of about 2:30] sdxl: kernels ... 3.0 s",
        "  [0:06 of about 2:30] flux: first image, compiling ... 145.0 s",
        "  [2:31] sdxl: kernels ... 3.0 s",
    ]
    logged_s = [json.loads(line)["seconds"] for line in (tmp_path / "times.jsonl").read_text().splitlines()]
    assert logged_s == [3.0, 3.0, 145.0, 3.0]


def test_a_terminal_has_one_status_that_goes_when_its_activity_ends():
    """Only a note stays on the screen, so that pytest's letters stand where they would without us."""
    progress, screen, clock = make_progress(is_terminal=True)

    spend(progress, clock, "sdxl: load and apply", 1.0)
    progress.note("both arms do not fit")

    assert screen.statuses == ["[0:00] sdxl: load and apply", ""]
    assert screen.text == "\n  both arms do not fit\n"


def test_a_status_names_the_pair_that_it_belongs_to():
    """Activities of both arms of that case have the pair in their status, and those of another case have not."""
    progress, screen, clock = make_progress(is_terminal=True)

    progress.heading("sdxl: pair 7 of at most 12, this arm first")
    for case in ("sdxl", "sdxl of the other arm", "sd15"):
        spend(progress, clock, f"{case}: first image", 0.0)

    pair = "pair 7 of at most 12, this arm first"
    assert screen.statuses[::2] == [
        f"[0:00] sdxl: {pair}: first image",
        f"[0:00] sdxl of the other arm: {pair}: first image",
        "[0:00] sd15: first image",
    ]


def draw(sequence, *, column, line):
    """Return the two lines of a terminal, and the column of its cursor on the first, after the sequence was sent to it."""
    below, row, text = "old", 0, sequence
    while text:
        if text.startswith("\n"):
            row, text = row + 1, text[1:]
        elif text.startswith("\r"):
            column, text = 0, text[1:]
        elif text.startswith("\x1b["):
            end = next(number for number, character in enumerate(text) if character in "KAC")
            count = int(text[2:end] or 1) or 1  # a terminal takes 0 for 1
            if text[end] == "K":
                below = below[:column]
            row -= count * (text[end] == "A")
            column += count * (text[end] == "C")
            text = text[end + 1 :]
        else:
            assert row == 1, "only the line below is written to"
            below, column, text = below + text[0], column + 1, text[1:]
    assert row == 0, "the cursor is back in the line of pytest"
    return line, below, column


@pytest.mark.parametrize("column", [0, 1, 22])
def test_a_status_stands_below_the_line_of_pytest(column):
    """It replaces the one before, is cut to the width, and leaves the cursor where pytest writes its next letter."""
    line = "x" * column

    assert draw(status_sequence("[0:01] sdxl", column=column, width=80), column=column, line=line) == (
        line, "[0:01] sdxl", column
    )  # fmt: skip
    assert draw(status_sequence("a" * 90, column=column, width=80), column=column, line=line)[1] == "a" * 79
    assert draw(status_sequence("", column=column, width=80), column=column, line=line)[1] == ""


def make_screen(*, is_tty=True, verbosity=0):
    """The screen of a pytest session that has written three characters into its line."""
    plugins = {"terminalreporter": SimpleNamespace(isatty=is_tty)}
    writer = SimpleNamespace(width_of_current_line=3, fullwidth=80)
    return PytestScreen(
        SimpleNamespace(
            get_verbosity=lambda: verbosity,
            pluginmanager=SimpleNamespace(get_plugin=plugins.get),
            get_terminal_writer=lambda: writer,
        )
    )


@pytest.mark.parametrize(
    ("environment", "options", "expected"),
    [
        ({"TERM": "xterm"}, {}, True),
        ({"TERM": "dumb"}, {}, False),
        ({"TERM": "xterm", "CI": "true"}, {}, False),
        ({"TERM": "xterm"}, {"is_tty": False}, False),
        ({"TERM": "xterm"}, {"verbosity": -1}, False),
    ],
)
def test_a_status_needs_a_terminal_that_can_move_its_cursor(monkeypatch, environment, options, expected):
    """A log, a dumb terminal, a CI job and `-q` have none."""
    monkeypatch.delenv("CI", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    assert make_screen(**options).is_terminal is expected


def test_a_status_is_removed_once(capsys):
    """An empty status after none, as at the end of each activity inside another, sends nothing."""
    screen = make_screen()

    for text in ("first image", "", ""):
        screen.show_status(text)

    assert capsys.readouterr().out == "".join(status_sequence(text, column=3, width=80) for text in ("first image", ""))


def test_seconds_are_minutes_and_seconds():
    """Hours are there only if there are any."""
    texts = {0: "0:00", 59.6: "1:00", 754: "12:34", 3725: "1:02:05"}
    assert {seconds: format_seconds(seconds) for seconds in texts} == texts


def session(command, *, processes=1, live=False):
    """The entries of a session that measured one case: 10 s for each worker, 3 s for its rounds and 5 s of outputs."""
    arms = ["sdxl", "sdxl of the other arm"] if live else ["sdxl"]
    entries = [entry(arm, "collect outputs", 5.0, command=command) for arm in arms]
    for _ in range(processes):
        entries += [entry(arm, "load and apply", 10.0, command=command) for arm in arms]
        entries.append(entry("sdxl", "rounds in turn" if live else "process", 3.0 * len(arms), command=command))
    return entries


@pytest.mark.parametrize(
    ("entries", "processes", "is_live", "expected_s"),
    [
        (session("first"), 1, False, 18.0),
        (session("first"), 3, False, 5 + 3 * 13),
        (session("first", processes=5), 3, False, 5 + 3 * 13),
        (session("first"), 6, True, 2 * (5 + 6 * 13)),
        (session("first", processes=6, live=True), 6, True, 2 * (5 + 6 * 13)),
        (session("first", processes=6, live=True), 3, False, 5 + 3 * 13),
        (
            [*session("first", processes=5), *session("second"), entry("sdxl", "kernels", 2.0, command="second")],
            1,
            False,
            20.0,
        ),
        ([*session("first"), entry("sdxl", "load and apply", 99.0, command="no rounds")], 1, False, 18.0),
        ([*session("first", processes=3), *session("first", processes=6, live=True)[2:]], 3, False, 5 + 3 * 13),
        ([entry("sdxl", "load and apply", 99.0)], 1, False, None),
        ([], 1, False, None),
    ],
)
def test_an_estimate_is_scaled_to_the_processes_of_this_session(entries, processes, is_live, expected_s):
    """What each process repeats counts once for each; the last session with rounds counts, and without one nothing is known."""
    assert expected_session_s(entries, {"sdxl": processes}, is_live=is_live) == expected_s


def test_an_estimate_needs_every_case():
    """The seconds of several cases are added up; one that was never measured leaves nothing to say."""
    entries = [entry(case, "process", 2.0) for case in ("sdxl", "sd15")]

    assert expected_session_s(entries, {"sdxl": 1, "sd15": 1}, is_live=False) == 4.0
    assert expected_session_s(entries, {"sdxl": 1, "if": 1}, is_live=False) is None
    assert expected_session_s(entries, {}, is_live=False) is None


def test_the_logs_of_earlier_sessions_are_read(tmp_path):
    """They lie in the folders beside the results of this session."""
    for name in ("a", "b"):
        log = TimingLog(path=tmp_path / name / "times.jsonl", command=name)
        log.add("sdxl", "process 1 of at most 8", seconds=1.0, started_at="")

    entries = earlier_timings(tmp_path / "now")

    assert sorted((entry.command, entry.activity) for entry in entries) == [("a", "process"), ("b", "process")]
