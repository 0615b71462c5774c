"""Loops and components within rounds: what a worker may report of them, how they are kept, and what follows from them."""

import json
import math

import msgspec
import pytest

from speedgate.results import timings
from speedgate.results.json_io import decode, to_json
from speedgate.results.run import Process, Run
from speedgate.results.timings import Component, Loop
from tests.support.baseline_samples import make_run

FILE = "0002_recorded.json"


def loop_reply(seconds=1.0, iterations=4, name=""):
    """A worker's reply to a round with one loop."""
    return {name: {"iterations": iterations, "seconds": seconds}}


def with_loops(*seconds, iterations=30, name=""):
    """A run of one process for each tuple of loop seconds, one figure a round."""
    run = make_run(medians_s=[2.5] * len(seconds))
    processes = [
        msgspec.structs.replace(process, loops={name: Loop(iterations=iterations, seconds=tuple(rounds))})
        for process, rounds in zip(run.processes, seconds, strict=True)
    ]
    return msgspec.structs.replace(run, processes=tuple(processes))


def with_components(run, **seconds):
    """The run with these components, each called once, of so many seconds in every round."""
    processes = [
        msgspec.structs.replace(
            process,
            components={
                name: Component(seconds=(each,) * len(process.seconds), call_medians_s=(each,))
                for name, each in seconds.items()
            },
        )
        for process in run.processes
    ]
    return msgspec.structs.replace(run, processes=tuple(processes))


def test_the_rounds_of_a_process_are_kept_by_loop():
    """Raw seconds in order, each loop under its name."""
    rounds = [loop_reply(0.5) | loop_reply(0.1, 9, name="up"), loop_reply(0.6) | loop_reply(0.2, 9, name="up")]

    assert timings.collect_loops(rounds, seconds=(1.0, 1.0)) == {
        "": Loop(iterations=4, seconds=(0.5, 0.6)),
        "up": Loop(iterations=9, seconds=(0.1, 0.2)),
    }


def test_the_rounds_of_a_process_are_kept_by_component():
    """Each round's seconds, and of each call the median over rounds: of a step, wherever it stands in the loop."""
    replies = [{"denoiser": [0.1, 0.2]}, {"denoiser": [0.1, 0.6]}, {"denoiser": [0.4, 0.2]}]

    (component,) = timings.collect_components(replies, seconds=(1.0, 1.0, 1.0)).values()

    assert component.seconds == pytest.approx((0.3, 0.7, 0.6))
    assert (component.call_medians_s, component.calls) == ((0.1, 0.2), 2)


LOOPS = (timings.collect_loops, loop_reply())
COMPONENTS = (timings.collect_components, {"denoiser": [1.0]})


@pytest.mark.parametrize(
    ("collector", "wrong"),
    [
        *((LOOPS, loop_reply(seconds)) for seconds in (0.0, math.nan, "1", 2.01)),
        *((LOOPS, loop_reply(iterations=count)) for count in (0, 4.0)),
        (LOOPS, loop_reply(1.5) | loop_reply(1.5, name="up")),
        (LOOPS, None),
        *((COMPONENTS, {"denoiser": [seconds]}) for seconds in (-1.0, math.nan, 2.01)),
        (COMPONENTS, {"denoiser": [1.5], "vae_decode": [0.6]}),
        (COMPONENTS, {"denoiser": []}),
        *((COMPONENTS, {name: [1.0]}) for name in ("", "remainder", "x" * 101)),
        (COMPONENTS, {f"part{number}": [0.0] for number in range(101)}),
        (COMPONENTS, None),
    ],
)
def test_an_impossible_reply_is_refused(collector, wrong):
    """No duration, iteration, call or name, or more time than the round had: the sentence names the round and the reply."""
    collect, right = collector

    with pytest.raises(ValueError, match=r"^round 2.* (loops|components).*; the worker reports ") as caught:
        collect([right, wrong], seconds=(2.0, 2.0))

    assert str(caught.value).endswith(repr(wrong))


@pytest.mark.parametrize(
    ("collector", "other", "message"),
    [
        *(
            (LOOPS, other, "iterations of loops .* the first one {'': 4}")
            for other in ({}, loop_reply(iterations=3), loop_reply() | loop_reply(name="up"))
        ),
        *(
            (COMPONENTS, other, "calls of components .* the first one {'denoiser': 1}")
            for other in ({}, {"denoiser": [0.1, 0.1]}, {"unet": [0.1]})
        ),
    ],
)
def test_rounds_that_are_no_repetition_are_refused(collector, other, message):
    """A round with another loop or component, or with another number of iterations or calls, is no repetition."""
    collect, first = collector

    with pytest.raises(ValueError, match=f"round 2 had {message}"):
        collect([first, other], seconds=(2.0, 2.0))


def test_the_rate_has_the_same_centre_as_the_latency():
    """The median over rounds, the geometric mean over processes; a run, or some of its processes, without a loop has no rate."""
    run = make_run(medians_s=[1.0, 4.0])
    whole = with_loops(*(process.seconds for process in run.processes), iterations=30)
    partly = [{"base": Loop(iterations=4, seconds=(1.0,))}, {}]

    assert whole.iterations_per_s == {"": pytest.approx(15.0)}
    assert whole.iterations_per_s[""] == pytest.approx(30 / run.latency_s)
    assert with_loops((1.5, 2.4, 1.5)).iterations_per_s == {"": pytest.approx(20.0)}
    assert run.iterations_per_s == timings.iterations_per_s(partly) == timings.iterations_per_s(partly[::-1]) == {}


def test_components_and_the_remainder_are_the_round():
    """The components and the rest of a round together are the round; of only some processes they would not be those of all."""
    run = with_components(make_run(medians_s=[2.4]), denoiser=2.0, vae_decode=0.3)
    means_s = timings.component_means_s(run.processes)
    partly = (run.processes[0], make_run().processes[0])

    assert means_s == pytest.approx({"denoiser": 2.0, "vae_decode": 0.3, "remainder": 0.1})
    assert sum(means_s.values()) == pytest.approx(run.latency_s)
    assert [timings.component_means_s(processes) for processes in (partly, partly[::-1], ())] == [{}, {}, {}]


def test_timings_survive_json():
    """They are read back equal, and a file from before there were any is read as having none."""
    run = with_components(with_loops((1.5, 1.6, 1.4), name="base"), denoiser=2.0)
    old = json.loads(json.dumps(to_json(make_run())))
    for process in old["processes"]:
        del process["loops"], process["components"]

    assert decode(json.loads(json.dumps(to_json(run))), Run, where=FILE) == run
    assert decode(old, Run, where=FILE) == make_run()


@pytest.mark.parametrize(
    ("field", "spoilt", "message"),
    [
        ("loops", {"": {"iterations": 0, "seconds": [1.0] * 3}}, "loops[...].iterations: expected a whole"),
        ("loops", {"": {"iterations": 4, "seconds": [1.0, 1.0]}}, "'': expected figures of 3 rounds, found 2"),
        ("components", {"": {"seconds": [1.0] * 3, "call_medians_s": [1.0]}}, "components: key: expected"),
        (
            "components",
            {"vae": {"seconds": [1.0], "call_medians_s": [1.0]}},
            "'vae': expected figures of 3 rounds, found 1",
        ),
        ("peak_bytes", [1], "peak_bytes: expected figures of 3 rounds, found 1"),
    ],
)
def test_malformed_timings_name_the_file_and_the_place(field, spoilt, message):
    """The message begins with the place; a broken figure becomes no rate and no share."""
    process = to_json(make_run().processes[0]) | {field: spoilt}

    with pytest.raises(ValueError) as caught:
        decode(process, Process, where=FILE)

    assert str(caught.value).startswith(f"{FILE}: {message}")


def test_the_ratio_of_a_pair_cancels_the_cost_of_a_turn():
    """If a round after the other arm's is 7 % slower, two equal arms have the ratio 1, and 3 % more work shows as 3 %."""
    after_same_arm, after_other_arm = 1.0, 1.07
    this_arm_s = [after_same_arm, after_other_arm] * 10
    other_arm_s = [after_other_arm, after_same_arm] * 10

    assert timings.log_ratio(this_arm_s, other_arm_s, rounds_in_turn=True) == pytest.approx(0.0)
    slower_s = [1.03 * seconds for seconds in this_arm_s]
    assert math.exp(timings.log_ratio(slower_s, other_arm_s, rounds_in_turn=True)) == pytest.approx(1.03)


def test_the_ratio_of_a_pair_cancels_a_drift_of_the_machine():
    """A machine that becomes slower affects both arms alike; arms that do not fit at once are compared by their medians."""
    assert math.exp(timings.log_ratio([3.0, 2.0, 9.0], [2.0, 4.0], rounds_in_turn=False)) == pytest.approx(1.0)
    drift_s = [1 + 0.5 * turn / 80 for turn in range(80)]
    this_arm_s = [seconds for turn, seconds in enumerate(drift_s) if turn % 4 in (0, 3)]
    other_arm_s = [seconds for turn, seconds in enumerate(drift_s) if turn % 4 in (1, 2)]

    assert timings.log_ratio(this_arm_s, other_arm_s, rounds_in_turn=True) == pytest.approx(0.0, abs=1e-4)
