"""The profile of an image: bounded as it comes from a worker, kept, and read back strictly."""

import json
import math

import msgspec
import pytest

from speedgate.baselines import store
from speedgate.results.json_io import decode, to_json
from speedgate.results.profile import OTHERS, Attribution, Kernel, parse_profile
from speedgate.results.run import Run
from tests.support.baseline_samples import KEY, make_run, store_file

FILE = "0002_recorded.json"
PROFILE = Attribution(
    kernels=(Kernel(name="gemm", count=120, seconds=0.12), Kernel(name="copy", count=9, seconds=0.001)),
    attention_kernels={"flash": 40},
    code_digest="00000000deadbeef",
)


def kernel(**fields):
    """A profile's `kernels` with one of them, spoilt by these fields."""
    return {"kernels": [{"name": "gemm", "count": 1, "seconds": 0.1} | fields]}


def test_a_stored_baseline_gives_its_profile_back(tmp_path):
    """A later run is compared with the recorded run and its kernels; a file from before there were any has none."""
    run = msgspec.structs.replace(make_run(), attribution=PROFILE)
    store_file(tmp_path, FILE, run)
    old = json.loads(json.dumps(to_json(make_run())))
    del old["attribution"]

    (baseline,) = store.newest_baselines(tmp_path, KEY).values()

    assert baseline.run == run
    assert decode(old, Run, where=FILE) == make_run()


@pytest.mark.parametrize(
    ("spoilt", "message"),
    [
        ({"kernels": [to_json(PROFILE.kernels[0])] * 2}, ": kernels: expected each name once"),
        ({"kernels": [to_json(PROFILE.kernels[0])] * 102}, ".kernels: expected a list of length <= 101"),
        (kernel(seconds=math.inf), ".kernels[0].seconds: expected a number that is finite"),
        ({"attention_kernels": {"flash": 0}}, ".attention_kernels[...]: expected a whole number >= 1"),
    ],
)
def test_a_malformed_profile_names_the_file_and_the_field(spoilt, message):
    """The message begins with the place; nothing malformed becomes an explanation."""
    document = to_json(make_run()) | {"attribution": to_json(PROFILE) | spoilt}

    with pytest.raises(ValueError) as caught:
        decode(document, Run, where=FILE)

    assert str(caught.value).startswith(f"{FILE}: attribution{message}")


def test_a_long_table_is_cut_and_adds_up():
    """A hundred kernels, the most expensive ones, and one row for all others lose no seconds; cut names stay apart."""
    long = parse({"kernels": [[f"kernel {number}", 1, number / 1000] for number in range(300)]})
    apart = parse({"kernels": [["x" * 300 + end, 2, 0.1] for end in "aba"]})

    assert [len(long.kernels), long.kernels[0].name] == [101, "kernel 299"]
    assert msgspec.structs.astuple(long.kernels[-1]) == (OTHERS, 200, pytest.approx(sum(range(200)) / 1000))
    assert long.total_s == pytest.approx(sum(range(300)) / 1000)
    assert sorted(kernel.count for kernel in apart.kernels) == [2, 4]
    assert all(len(kernel.name) == 200 for kernel in apart.kernels)


def parse(kernels):
    """Parse a worker's reply with these kernels."""
    return parse_profile({"attention_kernels": {}, "code_digest": None} | kernels)


@pytest.mark.parametrize("reply", [None, {"kernels": [["gemm", 1]]}])
def test_a_reply_of_another_form_is_refused(reply):
    """A worker that replies in another form gets one sentence, and no traceback of ours."""
    with pytest.raises(ValueError, match=r"^the worker's attribution"):
        parse_profile(reply)
