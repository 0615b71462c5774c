"""Fixtures that several folders of tests share. Each real pipeline is built once for all tests."""

import contextlib
import copy
import dataclasses
import functools
import gc
import importlib
import os
import signal
import sys

import pytest

from fixtures import parity
from fixtures.outputs import output_of
from fixtures.pipelines.registry import pipelines
from fixtures.stages.ladder import STAGES, Phase, process_state, steps_of
from tests.support.postgres import running

LEFT_OUT = pytest.StashKey()  # the number of tests that this session leaves out, by mark
RECOMPILE_LIMIT = 8  # torch's default
FEW_PROBES = 1  # enough where rounding is not the subject


def pytest_addoption(parser):
    """Add `--exhaustive` and `--slow`, which run what is left out by default; each takes several minutes more."""
    parser.addoption("--exhaustive", action="store_true", help="break every pipeline, not SDXL alone")
    parser.addoption(
        "--slow", action="store_true", help="also run the tests marked slow: servers, browsers, environments"
    )


def pytest_configure(config):
    # With tiny matrices, two threads of OpenMP mostly wait for one another if a core has other work.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # Dozens of child processes import the same sources: with this variable each of them would compile all of them again.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in a shell's background job; child processes need Ctrl-C
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line("markers", "exhaustive: repeats a claim for further cases; --exhaustive runs it")
    config.addinivalue_line(
        "markers", "slow: needs a server, a browser, a network or a second environment; --slow runs it"
    )
    os.environ.pop("PYTEST_XDIST_WORKER", None)  # a nested session is no worker of pytest-xdist


def pytest_collection_modifyitems(config, items):
    """Leave out exhaustive and slow tests, unless their option or their mark (`-m slow`) is given."""
    for mark in ("exhaustive", "slow"):
        if config.getoption(mark) or mark in config.getoption("markexpr"):
            continue
        left_out = [item for item in items if item.get_closest_marker(mark)]
        if left_out:
            config.stash.setdefault(LEFT_OUT, {})[mark] = len(left_out)
            config.hook.pytest_deselected(items=left_out)
            items[:] = [item for item in items if not item.get_closest_marker(mark)]


def pytest_collection_finish():
    """Let the garbage collector pass over all that was imported, and run less often: it took a tenth of the tests' time."""
    gc.freeze()
    gc.set_threshold(20_000, 10, 50)


def pytest_report_collectionfinish(config):
    """Say in one line per mark how many tests are left out, and how to run them."""
    return [
        f"{count} {mark} tests are left out: run them with --{mark}"
        for mark, count in config.stash.get(LEFT_OUT, {}).items()
    ]


def pytest_report_header(config):
    """Say the same with pytest-xdist, whose workers count the tests and print nothing."""
    return "slow and exhaustive tests need --slow and --exhaustive" if config.getoption("dist", "no") != "no" else []


@pytest.fixture(autouse=True)
def restore_compiler_settings():
    """Undo the compiler settings of a stage that a test built, so that the next test does not see them as facts."""
    yield
    if "torch.fx.experimental._config" in sys.modules:
        sys.modules["torch.fx.experimental._config"].use_duck_shape = True
    if "torch._dynamo.config" in sys.modules:
        sys.modules["torch._dynamo.config"].recompile_limit = RECOMPILE_LIMIT


@pytest.fixture(scope="session")
def build():
    """Build a tiny stage in this process, without compiling: `build("int8")` is SDXL's eager int8 stage.

    Each pipeline's weights are made once and each stage is loaded once; every call returns a copy that a test may change. A stage
    with hooks of diffusers is loaded each time: a copy of its model would call the hooks of the original. Weights of another
    `synthetic.SEED` are kept until those of the next one are made.
    """
    import diffusers  # noqa: F401 - imported before the garbage collector is told to pass over it
    import torch._dynamo

    from fixtures.weights import synthetic
    from fixtures.worker.built_case import BuiltCase

    eager = {
        name: dataclasses.replace(stage, steps=tuple(step for step in stage.steps if step[0] is not Phase.COMPILE))
        for name, stage in STAGES.items()
    }
    gc.freeze()
    synthesise, convolve = synthetic.synthesise, torch.nn.functional.conv2d
    synthesised, cases, seed = {}, {}, synthetic.SEED

    def copy_weights(pipeline, size, *, device):
        key = (pipeline.name, size.workload.key, synthetic.SEED)
        if key not in synthesised:
            for other in [it for it in synthesised if it[-1] != seed]:
                del synthesised[other]
            synthesised[key] = synthesise(pipeline, size, device=device)
        return copy.deepcopy(synthesised[key])

    @functools.wraps(convolve)
    def convolve_in_float32(image, weight, bias=None, *arguments, **keywords):
        """Convolve as oneDNN does with AVX-512: without it torch takes ten times as long in half precision."""
        if image.dtype is torch.float32 or image.device.type != "cpu":
            return convolve(image, weight, bias, *arguments, **keywords)
        wide = convolve(image.float(), weight.float(), bias if bias is None else bias.float(), *arguments, **keywords)
        return wide.to(image.dtype)

    def load(stage, pipeline, weights):
        case = BuiltCase(pipeline=pipeline, size="tiny", stage=stage, weights=weights, device="cpu")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(synthetic, "synthesise", copy_weights)
            for name, eager_stage in eager.items():
                patch.setitem(STAGES, name, eager_stage)
            case.load()
        return case

    with contextlib.ExitStack() as stack:
        stack.enter_context(pytest.MonkeyPatch.context()).setattr(torch.nn.functional, "conv2d", convolve_in_float32)

        def make(stage, *, pipeline="sdxl", weights=None):
            weights = weights or {"source": "synthetic"}
            key = (stage, pipeline, repr(weights))
            if any(phase in (Phase.CACHE, Phase.MEMORY) for phase, _ in steps_of(stage)):
                return load(stage, pipeline, weights)
            if seed == synthetic.SEED and key not in cases:
                cases[key] = load(stage, pipeline, weights)
            case = copy.copy(cases[key]) if seed == synthetic.SEED else load(stage, pipeline, weights)
            case.pipeline = copy.deepcopy(case.pipeline)
            stack.enter_context(process_state(stage))
            return case

        yield make
    for case in cases.values():
        case.close()


@pytest.fixture(scope="session")
def make_output():
    """Return a function that collects the output of a built case, as parity compares it, by a few probes or all."""

    def collect(case, *, precise=False, probes=FEW_PROBES):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("fixtures.worker.built_case.PROBES", probes)
            output = output_of(case.inspect(precise=precise))
        return dataclasses.replace(output, precise=output) if precise else output

    return collect


@pytest.fixture(scope="session")
def references(build, make_output):
    """Return a function that makes the references of a pipeline once: fp32 with its precise step, and bf16."""

    @functools.cache
    def make_references(pipeline, probes=FEW_PROBES):
        step_reference = make_output(build("fp32", pipeline=pipeline), precise=True, probes=probes)
        return step_reference, make_output(build("bf16", pipeline=pipeline), probes=probes)

    return make_references


@pytest.fixture(scope="session")
def judge(build, make_output, references):
    """Return a function that builds a stage, applies a fault, and judges its parity as the suite does."""

    def judge_stage(stage, fault=None, *, pipeline="sdxl", probes=FEW_PROBES):
        step_reference, image_reference = references(pipeline, probes)
        case = build(stage, pipeline=pipeline)
        if fault is not None:
            fault(case)
        tiny = pipelines()[pipeline].sizes["tiny"]
        figures = parity.compare(
            make_output(case, probes=probes),
            image_reference=image_reference,
            step_reference=step_reference,
            max_reference_step_error=tiny.max_reference_error[0],
        )
        return parity.judge(
            stage,
            figures,
            ssim_range=tiny.ssim_ranges[stage],
            factor=tiny.step_error_factor[stage],
            max_reference_error=tiny.max_reference_error,
            gain_tolerance=tiny.gain_tolerances.get(stage, (parity.GAIN_TOLERANCE, parity.STEP_GAIN_TOLERANCE)),
        )

    return judge_stage


@pytest.fixture(scope="session")
def postgres():
    """A PostgreSQL server for this session. Skips if PostgreSQL is not installed; in CI it fails then."""
    with running() as server:
        yield server


@pytest.fixture(scope="session")
def bench_class():
    """The class of `bench`, with the libraries of parity: `pytester` forgets what a test imports, and numpy cannot come twice."""
    for name in ("numpy", "skimage.metrics", "skimage.measure", "safetensors.numpy", "scipy.special"):
        importlib.import_module(name)
    return importlib.import_module("tests.support.fake_bench").FakeBench


@pytest.fixture
def bench(bench_class, pytester, monkeypatch):
    """The claims of `bench/` on fake workers in this process."""
    return bench_class(pytester, monkeypatch)
