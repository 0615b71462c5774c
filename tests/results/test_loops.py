"""Loops within a round: what is timed of a pipeline's own, what is kept of them, and the rate that follows."""

import itertools
import json
import math

import pytest

from fixtures.worker.hooks import timing_loops
from speedgate.results import loops
from speedgate.results.json_io import to_json
from speedgate.results.loops import Loop
from speedgate.results.run import process_from_json, run_from_json
from tests.support.baseline_samples import make_run

FILE = "0002_recorded.json"


class Pipe:
    """A pipeline of so many iterations that makes its progress bar as diffusers' pipelines do."""

    def __init__(self, iterations):
        self.iterations = iterations

    def progress_bar(self, iterable=None, total=None):
        """The one that a reader would see."""
        raise AssertionError("the loop's own bar was asked for")

    def __call__(self):
        with self.progress_bar(total=self.iterations) as bar:
            for _ in range(self.iterations):
                bar.update()


def with_loops(*seconds, iterations=30, name=""):
    """A run of one process for each tuple of loop seconds, one figure a round."""
    run = make_run(medians_s=[2.5] * len(seconds))
    told = [
        dict(to_json(process), loops={name: {"iterations": iterations, "seconds": list(rounds)}})
        for process, rounds in zip(run.processes, seconds, strict=True)
    ]
    return run_from_json(dict(to_json(run), processes=told), where=FILE)


def told(seconds=1.0, iterations=4, name=""):
    """What a worker tells of a round with one loop."""
    return {name: {"iterations": iterations, "seconds": seconds}}


def test_a_loop_lasts_from_where_its_bar_begins_to_where_it_ends(monkeypatch):
    """Of each pipe by its name: the updates that it counted and the seconds in between, and nothing of what is around."""
    now_s = itertools.chain([1.0, 3.5, 10.0, 10.25], itertools.repeat(99.0))
    monkeypatch.setattr("fixtures.worker.hooks.time.perf_counter", lambda: next(now_s))
    first, second = Pipe(4), Pipe(2)

    with timing_loops({"base": first, "upscaler": second}, device="cpu") as found:
        first()
        second()

    assert found == {"base": {"iterations": 4, "seconds": 2.5}, "upscaler": {"iterations": 2, "seconds": 0.25}}


def test_the_bars_are_the_pipelines_own_again_afterwards():
    """Whether the image was made or not, nothing of the stand-in is left."""
    pipe = Pipe(1)
    with pytest.raises(MemoryError), timing_loops({"": pipe}, device="cpu"):
        raise MemoryError

    assert "progress_bar" not in vars(pipe)


def test_a_pipe_has_one_loop():
    """Two loops under one name would be added up or one would be lost."""
    pipe = Pipe(1)
    with timing_loops({"base": pipe}, device="cpu"):
        pipe()
        with pytest.raises(AssertionError, match="pipe 'base' has opened a second loop, of 1 iterations"):
            pipe()


def test_the_loop_of_a_real_pipeline_is_a_part_of_its_image(build):
    """The tiny fp32 pipeline: as many iterations as steps, in less time than the whole image."""
    case = build("fp32")
    case.generate()
    round_ = case.generate()

    (loop,) = round_["loops"].values()
    assert loop["iterations"] == case.workload.steps
    assert 0 < loop["seconds"] < round_["seconds"]
    assert {type(loop["seconds"]), type(loop["iterations"])} == {float, int}


def test_the_rate_has_the_same_centre_as_the_latency():
    """The median over rounds, the geometric mean over processes: a loop that is the whole round has iterations / latency."""
    run = make_run(medians_s=[1.0, 4.0])
    whole = with_loops(*(process.seconds for process in run.processes), iterations=30)

    assert whole.iterations_per_s == {"": pytest.approx(15.0)}
    assert whole.iterations_per_s[""] == pytest.approx(30 / run.latency_s)


def test_a_slow_round_does_not_move_the_rate():
    """One outlier among three rounds leaves the process's rate alone."""
    assert with_loops((1.5, 2.4, 1.5)).iterations_per_s == {"": pytest.approx(20.0)}


def test_a_run_that_timed_no_loop_has_no_rate():
    """An older file, or a worker that tells none, has no figure made up for it; neither has a loop of some processes only."""
    partly = [{"base": Loop(iterations=4, seconds=(1.0,))}, {}]

    assert make_run().iterations_per_s == {}
    assert loops.iterations_per_s(partly) == loops.iterations_per_s(partly[::-1]) == {}


def test_the_rounds_of_a_process_are_kept_by_loop():
    """Raw seconds in order, each loop under its name."""
    rounds = [told(0.5) | told(0.1, 9, name="up"), told(0.6) | told(0.2, 9, name="up")]

    assert loops.over_rounds(rounds, seconds=(1.0, 1.0)) == {
        "": Loop(iterations=4, seconds=(0.5, 0.6)),
        "up": Loop(iterations=9, seconds=(0.1, 0.2)),
    }


@pytest.mark.parametrize(
    "wrong",
    [
        *(told(seconds) for seconds in (0.0, -1.0, math.nan, math.inf, 2, "1", None)),
        *(told(iterations=count) for count in (0, -4, 4.0, True, None)),
        told(2.01),
        told(1.5) | told(1.5, name="up"),
        {"": {"iterations": 4}},
        {"": 3},
        [],
        None,
    ],
)
def test_a_loop_that_cannot_be_is_refused(wrong):
    """No duration, no iteration, or more time than its round had: the sentence names the round and what was told."""
    with pytest.raises(ValueError, match=r"^round 2 took 2 s and its loops, as the worker tells, "):
        loops.over_rounds([told(), wrong], seconds=(2.0, 2.0))


@pytest.mark.parametrize("other", [{}, told(iterations=3), told(name="up"), told() | told(name="up")])
def test_rounds_with_different_loops_are_refused(other):
    """Another loop, or as long a one with another number of iterations, is no repetition."""
    with pytest.raises(ValueError, match=r"round 2 had the loops and iterations .* the first one {'': 4}"):
        loops.over_rounds([told(), other], seconds=(2.0, 2.0))


def test_loops_survive_json():
    """What was measured is read back equal, and a file from before loops were timed is read as having none."""
    run = with_loops((1.5, 1.6, 1.4), name="base")
    old = json.loads(json.dumps(to_json(make_run())))
    for process in old["processes"]:
        del process["loops"]

    assert run_from_json(json.loads(json.dumps(to_json(run))), where=FILE) == run
    assert run_from_json(old, where=FILE) == make_run()


@pytest.mark.parametrize(
    ("spoilt", "said"),
    [
        ([], "loops: expected an object, found list"),
        ({"": None}, "loops['']: expected iterations and the seconds of 3 rounds, found None"),
        ({"": {"iterations": 0, "seconds": [1.0, 1.0, 1.0]}}, "loops['']: expected iterations"),
        ({"": {"iterations": 4, "seconds": [1.0, 1.0]}}, "loops['']: expected iterations"),
        ({"": {"iterations": 4, "seconds": [1.0, 0.0, 1.0]}}, "loops['']: expected iterations"),
        ({"": {"iterations": 4, "seconds": 1.0}}, "loops['']: expected iterations"),
    ],
)
def test_malformed_loops_name_the_file_and_the_loop(spoilt, said):
    """The message begins with the place; a broken figure becomes no rate."""
    process = to_json(make_run().processes[0]) | {"loops": spoilt}

    with pytest.raises(ValueError) as caught:
        process_from_json(process, where=FILE)

    assert str(caught.value).startswith(f"{FILE}: {said}")
