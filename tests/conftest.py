"""What the tests that build real pipelines share: each is built once."""

import copy
import dataclasses
import functools
import os
import signal

import pytest

from fixtures import parity
from fixtures.outputs import output_of
from fixtures.pipelines.registry import pipelines
from fixtures.stages.ladder import STAGES, Phase
from tests.support.postgres import running
from tests.support.suite import Suite


def pytest_addoption(parser):
    """The tests that repeat for each pipeline what is shown of SDXL take several minutes more."""
    parser.addoption("--exhaustive", action="store_true", help="break every pipeline, not SDXL alone")


def pytest_configure(config):
    # Tiny matrices: two threads of OpenMP spend their time waiting for one another wherever a core has other work.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if (
        signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    ):  # a shell's background job; what tests start has to hear Ctrl-C
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line(
        "markers", "exhaustive: repeats for another case what is tested of one; --exhaustive runs it"
    )


def pytest_collection_modifyitems(config, items):
    """Leave out what is exhaustive, unless it is asked for."""
    if config.getoption("exhaustive"):
        return
    left_out = [item for item in items if item.get_closest_marker("exhaustive")]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


@pytest.fixture(scope="session")
def build():
    """Build a tiny stage in this process, without compiling: `build("int8")` is SDXL's eager int8 stage."""
    from fixtures.worker.built_case import BuiltCase

    eager = {
        name: dataclasses.replace(stage, steps=tuple(step for step in stage.steps if step[0] is not Phase.COMPILE))
        for name, stage in STAGES.items()
    }
    built = []

    def make(stage, *, pipeline="sdxl", weights=None):
        case = BuiltCase(
            pipeline=pipeline, size="tiny", stage=stage, weights=weights or {"source": "synthetic"}, device="cpu"
        )
        with pytest.MonkeyPatch.context() as patch:
            for name, stage in eager.items():
                patch.setitem(STAGES, name, stage)
            case.load()
        built.append(case)
        return case

    yield make
    for case in built:
        case.close()


@pytest.fixture(scope="session")
def make_output():
    """What a built case makes, as parity sees it."""

    def inspect(case, *, precise=False):
        seen = case.inspect(precise=precise)
        output = output_of(seen)
        return dataclasses.replace(output, precise=output) if precise else output

    return inspect


@pytest.fixture(scope="session")
def references(build, make_output):
    """A pipeline's fp32 with its precise step, and its bf16, made once."""

    @functools.cache
    def made(pipeline):
        return make_output(build("fp32", pipeline=pipeline), precise=True), make_output(
            build("bf16", pipeline=pipeline)
        )

    return made


@pytest.fixture(scope="session")
def judge(build, make_output, references):
    """Build a stage, break it, and judge it by the stage's own band and factor."""

    intact = functools.cache(lambda stage, pipeline: build(stage, pipeline=pipeline))

    def verdict(stage, fault=None, *, pipeline="sdxl"):
        step_reference, image_reference = references(pipeline)
        case = copy.copy(intact(stage, pipeline))  # what is built once is copied
        case.pipeline = copy.deepcopy(case.pipeline)
        if fault is not None:
            fault(case)
        tiny = pipelines()[pipeline].sizes["tiny"]
        figures = parity.compare(
            make_output(case),
            image_reference=image_reference,
            step_reference=step_reference,
            max_reference_step_error=tiny.max_reference_error[0],
        )
        return parity.judge(
            stage,
            figures,
            band=tiny.ssim_ranges[stage],
            factor=tiny.step_error_factor[stage],
            max_reference_error=tiny.max_reference_error,
        )

    return verdict


@pytest.fixture(scope="session")
def postgres():
    """A PostgreSQL server of this session's own; a skip with the reason where none is installed, in CI a failure."""
    with running() as server:
        yield server


@pytest.fixture
def a100(pytester):
    """The pretended A100 with its published ladder, and nobody else on it."""
    suite = Suite(pytester)
    suite.pretend_a100()
    suite.answer(nvmlDeviceGetComputeRunningProcesses_v3=[[]])
    return suite
