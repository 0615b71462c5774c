"""Records of a run: what is read back, what is refused, and the figures that follow."""

import json
from pathlib import Path

import msgspec
import pytest

from speedgate.baselines import store
from speedgate.results.json_io import decode, to_json
from speedgate.results.run import ColdStart, Outcome, Process, Run, Verdict, worst_outcome
from tests.support.baseline_samples import COLD, make_run

FILE = "0002_recorded.json"
BASELINES = Path(__file__).parents[2] / "baselines"


def stored(run=None):
    """A run as it comes back from a JSON file."""
    return json.loads(json.dumps(to_json(run or make_run())))


def test_a_run_is_stored_under_its_old_names():
    """A run is read back equal, also without rounds, and a file that was recorded under an earlier name is read."""
    process = Process(seconds=(1.0,), peak_bytes=(1,), cold_start=COLD, discarded_reasons=("hot",))

    assert to_json(process)["void"] == ("hot",)
    for processes in ((process,), ()):
        run = msgspec.structs.replace(make_run(), processes=processes)
        assert decode(stored(run), Run, where=FILE) == run


@pytest.mark.parametrize("gpu_key", store.gpu_keys(BASELINES))
def test_every_recorded_baseline_is_read(gpu_key):
    """A baseline that is in the repository, in whatever version it was recorded, is a baseline still."""
    for path in store.baseline_files(BASELINES, gpu_key):
        assert store.read_baselines(path, gpu_key=gpu_key), path


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda data: data["cold_start"].pop("load_s"), ": cold_start: missing field load_s"),
        (lambda data: data["processes"][1].update(peak_bytes=[-1]), ": processes[1].peak_bytes[0]: expected a whole"),
    ],
)
def test_a_malformed_run_names_the_file_and_the_field(spoil, message):
    """The message begins with the place."""
    data = stored()
    spoil(data)

    with pytest.raises(ValueError) as caught:
        decode(data, Run, where=FILE)
    assert str(caught.value).startswith(f"{FILE}{message}")


def test_the_process_is_the_unit():
    """A latency is the geometric mean of process medians, which one slow round does not move; a start is the sum of its parts."""
    run = make_run(medians_s=(1.0, 4.0, 2.0), peak_bytes=(3, 8, 4))
    imported = msgspec.structs.replace(COLD, cache_load_s=0.5)

    assert (run.process_medians_s, run.peak_bytes) == ((1.0, 4.0, 2.0), 8)
    assert run.latency_s == pytest.approx(2.0)
    assert Process(seconds=(1.0, 9.0, 1.1), peak_bytes=(1, 1, 1), cold_start=COLD).median_s == 1.1
    assert [(start.total_s, start.stage_s) for start in (COLD, imported)] == [(10.0, 7.0), (10.5, 7.5)]


@pytest.mark.parametrize(
    ("figures", "cache"),
    [
        ({"cache_misses": 0}, "eager"),
        ({"cache_misses": 0, "compile_s": 0.0}, "eager"),
        ({"cache_misses": 0, "compile_s": 9.0}, "no cache"),
        ({"cache_misses": 0, "cache_hits": 2, "compile_s": 1.0}, "warm cache"),
        ({"cache_misses": 1, "cache_hits": 2, "compile_s": 9.0}, "cold cache"),
    ],
)
def test_a_start_has_the_state_of_the_compile_cache(figures, cache):
    """A compilation ahead of time asks no cache, and a start of an older file, without seconds of the compiler, is read."""
    start = msgspec.structs.replace(COLD, **figures)
    data = to_json(start)
    if start.compile_s is None:
        del data["compile_s"]

    assert decode(data, ColdStart, where=FILE).cache == cache


@pytest.mark.parametrize(
    ("stages", "parent", "first"),
    [
        (["fp32", "bf16", "int8"], "sdxl/bf16/a", "sdxl/fp32/a"),
        (["int8"], None, "sdxl/int8/a"),
        (None, None, "sdxl/int8/a"),  # a stored recipe without a list of stages
        ([3], None, "sdxl/int8/a"),
    ],
)
def test_a_run_knows_the_stages_that_it_was_built_from(stages, parent, first):
    """The cases that it is set against are of the same pipeline and workload; a recipe that names no stage has none."""
    run = msgspec.structs.replace(make_run("sdxl/int8/a"), recipe={"stages": stages})

    assert (run.parent_key, run.first_key) == (parent, first)


def test_the_worst_outcome_is_shown_for_a_case():
    """A stage that was not applied hides how fast it was, any verdict hides a PASS, and silence is not PASS."""
    best_first = [
        Verdict(case_key="a/b/c", claim="latency", outcome=outcome, sentence="") for outcome in reversed(Outcome)
    ]

    assert worst_outcome(best_first) is Outcome.NOT_APPLIED
    assert worst_outcome(best_first[:2]) is Outcome.NO_BASELINE
    assert worst_outcome(best_first[:1]) is Outcome.PASS
    assert worst_outcome([]) is None
