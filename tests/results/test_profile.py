"""What an image is made of: the components of a round and the kernels of an image, kept, bounded and read back strictly."""

import dataclasses
import json
import math

import pytest

from speedgate.baselines import store
from speedgate.results import profile, timings
from speedgate.results.json_io import to_json
from speedgate.results.profile import OTHERS, Attribution, Kernel
from speedgate.results.run import process_from_json, run_from_json
from speedgate.results.timings import Component
from tests.support.baseline_samples import KEY, make_run, store_file

FILE = "0002_recorded.json"
FOUND = Attribution(
    kernels=(Kernel(name="gemm", count=120, seconds=0.12), Kernel(name="copy", count=9, seconds=0.001)),
    attention_kernels={"flash": 40},
    code_digest="00000000deadbeef",
)


def with_components(run, **seconds):
    """The run with these components, each called once, of so many seconds in every round."""
    processes = [
        dataclasses.replace(
            process,
            components={
                name: Component(seconds=(each,) * len(process.seconds), call_medians_s=(each,))
                for name, each in seconds.items()
            },
        )
        for process in run.processes
    ]
    return dataclasses.replace(run, processes=tuple(processes))


def test_the_rounds_of_a_process_are_kept_by_component():
    """Each round's seconds, and of each call the median over rounds: of a step, wherever it stands in the loop."""
    told = [{"denoiser": [0.1, 0.2]}, {"denoiser": [0.1, 0.6]}, {"denoiser": [0.4, 0.2]}]

    (found,) = timings.over_rounds(told, seconds=(1.0, 1.0, 1.0)).values()

    assert found.seconds == pytest.approx((0.3, 0.7, 0.6))
    assert (found.call_medians_s, found.calls) == ((0.1, 0.2), 2)


@pytest.mark.parametrize(
    "wrong",
    [
        *({"denoiser": [seconds]} for seconds in (-1.0, math.nan, math.inf, 2, "1", None, 2.01)),
        {"denoiser": [1.5], "vae_decode": [0.6]},
        *({"denoiser": calls} for calls in ([], 1.0, None)),
        *({name: [1.0]} for name in ("", "remainder", 3, "x" * 101)),
        {f"part{number}": [0.0] for number in range(101)},
        [],
        None,
    ],
)
def test_components_that_cannot_be_are_refused(wrong):
    """No duration, no call, no name, or more time than the round had: the sentence names the round."""
    with pytest.raises(ValueError, match=r"^round 2 took 2 s and its components, as the worker tells, "):
        timings.over_rounds([{"denoiser": [1.0]}, wrong], seconds=(2.0, 2.0))


@pytest.mark.parametrize("other", [{}, {"denoiser": [0.1, 0.1]}, {"unet": [0.1]}])
def test_rounds_with_other_calls_are_refused(other):
    """A round that called another component, or one more often, is no repetition."""
    with pytest.raises(ValueError, match=r"round 2 called its components .* the first one {'denoiser': 1}"):
        timings.over_rounds([{"denoiser": [1.0]}, other], seconds=(2.0, 2.0))


def test_components_and_the_remainder_are_the_round():
    """What is left of a round beside its components is a figure of its own, so that all of them are the round."""
    run = with_components(make_run(medians_s=[2.4]), denoiser=2.0, vae_decode=0.3)

    centre_s = timings.centre_s(run.processes)

    assert centre_s == pytest.approx({"denoiser": 2.0, "vae_decode": 0.3, "remainder": 0.1})
    assert sum(centre_s.values()) == pytest.approx(run.latency_s)


def test_components_of_some_processes_only_are_none():
    """A figure of half of the processes would be set against the latency of all."""
    run = with_components(make_run(medians_s=[2.4, 2.4]), denoiser=2.0)
    partly = (run.processes[0], make_run().processes[0])

    assert timings.centre_s(partly) == timings.centre_s(partly[::-1]) == timings.centre_s(()) == {}


def test_a_run_and_what_it_is_made_of_survive_json():
    """What was kept is read back equal, and a file from before there was any is read as having none."""
    run = dataclasses.replace(with_components(make_run(), denoiser=2.0), attribution=FOUND)
    old = json.loads(json.dumps(to_json(make_run())))
    del old["attribution"]
    for process in old["processes"]:
        del process["components"]

    assert run_from_json(json.loads(json.dumps(to_json(run))), where=FILE) == run
    assert run_from_json(old, where=FILE) == make_run()


def test_a_stored_baseline_gives_it_back(tmp_path):
    """What a later run is compared with is the recorded run, with its components and kernels."""
    run = dataclasses.replace(with_components(make_run(), denoiser=2.0), attribution=FOUND)
    store_file(tmp_path, FILE, run)

    (found,) = store.newest_baselines(tmp_path, KEY).values()

    assert found.run == run


@pytest.mark.parametrize(
    ("spoilt", "said"),
    [
        ([], "expected an object of attention_kernels, code_digest, kernels"),
        ({"kernels": []}, "expected an object of"),
        ({"kernels": {}}, "kernels: expected a list of at most 101"),
        ({"kernels": [{"name": "gemm", "count": 1}]}, "kernels[0]: expected an object of count, name, seconds"),
        ({"kernels": [to_json(FOUND.kernels[0])] * 2}, "kernels: expected each name once"),
        *(
            ({"kernels": [{"name": name, "count": 1, "seconds": 0.1}]}, "kernels[0]: expected a name of at most 200")
            for name in ("", "x" * 201, 3, None)
        ),
        *(
            ({"kernels": [{"name": "gemm", "count": count, "seconds": 0.1}]}, "kernels[0]: expected a name")
            for count in (0, -1, 1.0, True)
        ),
        *(
            ({"kernels": [{"name": "gemm", "count": 1, "seconds": seconds}]}, "kernels[0]: seconds: expected a finite")
            for seconds in (-0.1, math.inf, math.nan, "0.1", True)
        ),
        ({"attention_kernels": {"flash": 0}}, "attention_kernels: expected how often each ran"),
        ({"attention_kernels": ["flash"]}, "attention_kernels: expected how often each ran"),
        *(({"code_digest": digest}, "code_digest: expected 16") for digest in ("", "DEADBEEF", 3, "0" * 17)),
    ],
)
def test_a_malformed_attribution_names_the_file_and_the_field(spoilt, said):
    """The message begins with the place; nothing malformed becomes an explanation."""
    whole = to_json(FOUND)
    document = to_json(make_run()) | {
        "attribution": whole | spoilt if len(spoilt) and spoilt != {"kernels": []} else spoilt
    }

    with pytest.raises(ValueError) as caught:
        run_from_json(document, where=FILE)

    assert str(caught.value).startswith(f"{FILE}: attribution: {said}")


@pytest.mark.parametrize(
    "spoilt",
    [
        [],
        {"": {"seconds": [1.0, 1.0, 1.0], "call_medians_s": [1.0]}},
        {"denoiser": {"seconds": [1.0, 1.0], "call_medians_s": [1.0]}},
        {"denoiser": {"seconds": [1.0, 1.0, -1.0], "call_medians_s": [1.0]}},
        {"denoiser": {"seconds": [1.0, 1.0, 1.0], "call_medians_s": []}},
        {"denoiser": {"seconds": [1.0, 1.0, 1.0]}},
        {"denoiser": None},
    ],
)
def test_malformed_components_name_the_file(spoilt):
    """The message begins with the place."""
    process = to_json(make_run().processes[0]) | {"components": spoilt}

    with pytest.raises(ValueError, match=rf"^{FILE}: components"):
        process_from_json(process, where=FILE)


def test_a_long_table_is_cut_and_adds_up():
    """A hundred kernels by name, the most expensive ones, and one row for all others: nothing of the seconds is lost."""
    rows = [[f"kernel {number}", 1, number / 1000] for number in range(300)]

    found = profile.told({"kernels": rows, "attention_kernels": {}, "code_digest": None})

    assert [len(found.kernels), found.kernels[0].name] == [101, "kernel 299"]
    assert dataclasses.astuple(found.kernels[-1]) == (OTHERS, 200, pytest.approx(sum(range(200)) / 1000))
    assert found.total_s == pytest.approx(sum(range(300)) / 1000)


def test_long_names_stay_apart():
    """Two templates that differ beyond what is kept of a name are two kernels, and the same one is one."""
    names = ["x" * 300 + end for end in "aba"]

    found = profile.told({"kernels": [[name, 2, 0.1] for name in names], "attention_kernels": {}, "code_digest": None})

    assert sorted(kernel.count for kernel in found.kernels) == [2, 4]
    assert all(len(kernel.name) == 200 for kernel in found.kernels)


@pytest.mark.parametrize("reply", [None, [], {}, {"kernels": None}, {"kernels": [["gemm", 1]]}, {"kernels": ["gem"]}])
def test_what_a_worker_cannot_mean_is_refused(reply):
    """One sentence, and no traceback of ours."""
    with pytest.raises(ValueError, match=r"^the worker's attribution"):
        profile.told(reply)
