"""Slow drift: what steps within a gate's tolerance add up to is not promoted without a word."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from speedgate.baselines import promote
from speedgate.baselines import store as baselines
from tests.support.baseline_samples import BF16, INT8, KEY, make_run, obtain, store

PUBLISHED = Path(__file__).parents[2] / "baselines" / KEY / "0001_published.json"
PUBLISHED_INT8_S = 2.429


def take(seconds: float, case_key: str = INT8):
    """A run of three equal processes."""
    return make_run(case_key, medians_s=(seconds,) * 3)


def refusal(root: Path, **arguments: str) -> str:
    """The message with which a promotion is refused; nothing was promoted."""
    before = sorted(path.name for path in (root / KEY).iterdir())
    with pytest.raises(ValueError) as caught:
        promote.promote(root, KEY, **arguments)
    assert sorted(path.name for path in (root / KEY).iterdir()) == before
    return str(caught.value)


def test_small_steps_are_refused_once_they_add_up(tmp_path: Path) -> None:
    """Two steps of 2 % are each within a tolerance of 3 %, and together they are not."""
    for seconds in (1.0, 1.02):
        obtain(tmp_path, take(seconds))
        promote.promote(tmp_path, KEY)
    obtained = obtain(tmp_path, take(1.04))

    said = refusal(tmp_path)

    assert said.startswith(f"{obtained}: slower than the oldest baseline")
    assert f"{INT8} takes 1.04 s against 1 s in 0001_recorded.json (+4.0%, floor 3%)" in said


def test_every_case_that_drifted_is_listed(tmp_path: Path) -> None:
    """One refusal names all of them and none of the others, and says how to accept."""
    fp32 = "sdxl/fp32/1024px-30steps-b1"
    store(tmp_path, "0001_a.json", take(1.0), take(2.0, BF16), take(3.0, fp32))
    obtain(tmp_path, take(1.1), take(2.2, BF16), take(3.0, fp32))

    said = refusal(tmp_path)

    assert f"{INT8} takes 1.1 s against 1 s in 0001_a.json (+10.0%, floor 3%)" in said
    assert f"{BF16} takes 2.2 s against 2 s in 0001_a.json (+10.0%, floor 3%)" in said
    assert fp32 not in said
    assert said.endswith('say it with --accept-slower "why"')


@pytest.mark.parametrize(("seconds", "is_promoted"), [(1.029, True), (1.031, False), (0.5, True)])
def test_the_floor_of_a_recorded_figure(tmp_path: Path, seconds: float, is_promoted: bool) -> None:
    """Up to 3 % above a recorded figure is promoted, and so is anything faster."""
    store(tmp_path, "0001_a.json", take(1.0))
    obtain(tmp_path, take(seconds))

    if is_promoted:
        assert promote.promote(tmp_path, KEY).exists()
    else:
        assert "floor 3%" in refusal(tmp_path)


@pytest.mark.parametrize(("factor", "is_promoted"), [(1.099, True), (1.101, False)])
def test_the_floor_of_a_published_figure(tmp_path: Path, factor: float, is_promoted: bool) -> None:
    """A published figure is of another machine: 10 % above it is promoted."""
    (tmp_path / KEY).mkdir()
    shutil.copy(PUBLISHED, tmp_path / KEY)
    obtain(tmp_path, take(PUBLISHED_INT8_S * factor))

    if is_promoted:
        assert promote.promote(tmp_path, KEY).exists()
    else:
        assert "2.429 s in 0001_published.json (+10.1%, floor 10%)" in refusal(tmp_path)


def test_a_slow_published_figure_does_not_hide_a_recorded_one(tmp_path: Path) -> None:
    """What is recorded may be far faster than what is published, and that is what later ones are held to."""
    (tmp_path / KEY).mkdir()
    shutil.copy(PUBLISHED, tmp_path / KEY)
    store(tmp_path, "0002_a.json", take(2.0))
    obtain(tmp_path, take(2.1))

    assert "against 2 s in 0002_a.json (+5.0%, floor 3%)" in refusal(tmp_path)


def test_a_case_is_listed_once(tmp_path: Path) -> None:
    """Slower than what is published and than what is recorded, it is listed beside the older of the two."""
    (tmp_path / KEY).mkdir()
    shutil.copy(PUBLISHED, tmp_path / KEY)
    store(tmp_path, "0002_a.json", take(2.0))
    obtain(tmp_path, take(3.0))

    said = refusal(tmp_path)

    assert "in 0001_published.json" in said
    assert said.count(INT8) == 1


def test_the_centre_of_a_figure_is_the_geometric_mean_of_its_processes(tmp_path: Path) -> None:
    """One of three processes became eight times slower, which their median would not show."""
    store(tmp_path, "0001_a.json", make_run(medians_s=(1.0, 2.0, 4.0)))
    obtain(tmp_path, make_run(medians_s=(1.0, 2.0, 32.0)))

    assert "takes 4 s against 2 s in 0001_a.json (+100.0%" in refusal(tmp_path)


def test_a_case_is_held_to_the_oldest_file_that_holds_it(tmp_path: Path) -> None:
    """Files without the case do not count, and a case that is new is held to nothing."""
    store(tmp_path, "0001_a.json", take(1.0, BF16))
    store(tmp_path, "0002_b.json", take(2.0))
    obtain(tmp_path, take(2.0), take(1.0, BF16), take(9.0, "sdxl/fp32/1024px-30steps-b1"))

    assert promote.promote(tmp_path, KEY).name == "0003_recorded.json"


def test_the_promoted_file_says_why_it_is_slower(tmp_path: Path) -> None:
    """The reason, and of each case that drifted the file and the ratio; the figures are as recorded."""
    store(tmp_path, "0001_a.json", take(1.0), take(2.0, BF16))
    recorded = json.loads(obtain(tmp_path, take(1.25), take(2.0, BF16)).read_text())

    promoted = json.loads(promote.promote(tmp_path, KEY, accept_slower="deterministic kernels").read_text())

    cases = {INT8: {"oldest": "0001_a.json", "ratio": pytest.approx(1.25)}}
    assert promoted.pop("speedgate") == {"accepted_slower": {"reason": "deterministic kernels", "cases": cases}}
    assert promoted == recorded
    assert baselines.newest_baselines(tmp_path, KEY)[INT8].latency_s == pytest.approx(1.25)


def test_accepting_where_nothing_is_slower_is_refused(tmp_path: Path) -> None:
    """A reason on record for what did not happen would be a lie."""
    store(tmp_path, "0001_a.json", take(1.0))
    obtain(tmp_path, take(1.0))

    assert "promote it without --accept-slower" in refusal(tmp_path, accept_slower="deterministic kernels")


@pytest.mark.parametrize("reason", ["", "  ", "a\nb", "\x1b[2J", "\u202e", "\ud800", "x" * 501])
def test_a_reason_is_one_printable_line(tmp_path: Path, reason: str) -> None:
    """A reason is read in reviews and terminals: blank, long or unprintable ones are refused."""
    store(tmp_path, "0001_a.json", take(1.0))
    obtain(tmp_path, take(1.25))

    said = refusal(tmp_path, accept_slower=reason)

    assert said.startswith("--accept-slower '")
    assert said.isprintable()


def test_the_longest_reason_is_taken(tmp_path: Path) -> None:
    """Five hundred characters, of any script."""
    store(tmp_path, "0001_a.json", take(1.0))
    obtain(tmp_path, take(1.25))

    assert promote.promote(tmp_path, KEY, accept_slower="\u00e9" * 500).exists()


FULL = {BF16: "out of memory on 80.0 GiB, fitted in 0001_a"}


def test_a_case_that_no_longer_fits_is_not_promoted_without_a_word(tmp_path: Path) -> None:
    """Out of memory is the slowest that a case can get; what has accepted it says so beside the record of it."""
    store(tmp_path, "0001_a.json", take(1.0), take(2.0, BF16))
    recorded = json.loads(obtain(tmp_path, take(1.0), out_of_memory=FULL).read_text())

    assert f"{BF16} is out of memory and took 2 s in 0001_a.json; find the cause" in refusal(tmp_path)
    promoted = json.loads(promote.promote(tmp_path, KEY, accept_slower="a bigger picture").read_text())

    cases = {BF16: {"oldest": "0001_a.json", "outcome": "oom"}}
    assert promoted["speedgate"].pop("accepted_slower") == {"reason": "a bigger picture", "cases": cases}
    assert promoted == recorded
    assert baselines.newest_cases(tmp_path, KEY).out_of_memory == {BF16: "0002_recorded"}


def test_what_was_promoted_is_told(tmp_path: Path) -> None:
    """Each case that was accepted as worse, with the reason, which is one for all, and each that is out of memory from now on."""
    store(tmp_path, "0001_a.json", take(1.0), take(2.0, BF16))
    obtain(tmp_path, take(1.25), out_of_memory=FULL)

    promoted = promote.promote(tmp_path, KEY, accept_slower="a bigger picture")

    why = "accepted in 0002_recorded.json (a bigger picture)"
    assert promote.review_notes(promoted) == [
        f"{BF16}: out of memory, which it was not in 0001_a.json, {why}",
        f"{INT8}: +25.0% to 0001_a.json, {why}",
        f"{BF16}: out of memory from now on",
    ]


def test_a_recording_in_which_nothing_fitted_is_refused(tmp_path: Path) -> None:
    """A file holds a figure at least, and the refusal says what to do."""
    obtain(tmp_path, out_of_memory=FULL)

    assert "no case of it fitted: record it anew with one that does" in refusal(tmp_path)


def test_a_case_that_never_fitted_is_promoted_as_it_is(tmp_path: Path) -> None:
    """There is no figure that it could be worse than, then or in the next recording."""
    for name in ("0001_recorded.json", "0002_recorded.json"):
        obtain(tmp_path, take(1.0), out_of_memory=FULL)
        assert promote.promote(tmp_path, KEY).name == name


def test_a_recording_cannot_bring_its_own_acceptance(tmp_path: Path) -> None:
    """What promotion writes is not taken over from obtained.json."""
    obtained = obtain(tmp_path, take(1.0))
    document = json.loads(obtained.read_text())
    document["speedgate"] = {"accepted_slower": {"reason": "mine", "cases": {}}}
    obtained.write_text(json.dumps(document))

    assert f"{obtained}: speedgate: nothing but promotion writes this" in refusal(tmp_path)


def test_a_broken_kept_file_stops_promotion(tmp_path: Path) -> None:
    """The oldest figure may be in it, so it is named rather than skipped."""
    kept = store(tmp_path, "0001_a.json", take(1.0))
    kept.write_text("{")
    obtain(tmp_path, take(1.0))

    assert refusal(tmp_path).startswith(f"{kept}: not JSON")
