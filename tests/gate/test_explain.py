"""The explanation of a change: it names the components, kernels, attention, code and versions that differ, and no others."""

import msgspec
import pytest

from speedgate.gate import explain
from speedgate.results.profile import OTHERS, Attribution, Kernel
from speedgate.results.run import Outcome, Verdict
from speedgate.results.timings import Component
from tests.support.baseline_samples import make_baseline, make_run

NAME = "0002_recorded"
COMPONENTS = {"text_encoders": 0.1, "denoiser": 2.0, "vae_decode": 0.25}
KERNELS = {"gemm": (120, 1.2), "conv": (40, 0.6), "softmax": (40, 0.2), "copy": (9, 0.001)}


def run_of(*, components=(), kernels=(), attention=None, digest="a" * 16, versions=()):
    """A run of one process whose rounds take 2.4 s, as recorded but for what is named."""
    spent = {name: seconds for name, seconds in {**COMPONENTS, **dict(components)}.items() if seconds}
    table = {name: row for name, row in {**KERNELS, **dict(kernels)}.items() if row}
    run = make_run(medians_s=[2.4 + sum(spent.values()) - sum(COMPONENTS.values())])
    (process,) = run.processes
    process = msgspec.structs.replace(
        process, components={name: timed([seconds], rounds=3) for name, seconds in spent.items()}
    )
    profile = Attribution(
        kernels=tuple(Kernel(name=name, count=count, seconds=seconds) for name, (count, seconds) in table.items()),
        attention_kernels={"flash": 40} if attention is None else attention,
        code_digest=digest,
    )
    environment = {"torch": "2.13.0", **dict(versions)}
    return msgspec.structs.replace(run, processes=(process,), attribution=profile, environment=environment)


def timed(calls, *, rounds):
    """A component of equal rounds with these calls."""
    return Component(seconds=(sum(calls),) * rounds, call_medians_s=tuple(calls))


def with_steps(run, *steps):
    """The run with these seconds for the calls of its denoiser."""
    (process,) = run.processes
    components = {**process.components, "denoiser": timed(steps, rounds=3)}
    return msgspec.structs.replace(run, processes=(msgspec.structs.replace(process, components=components),))


def lines_by_kind(run, other=None):
    """The lines of a comparison, by the words before their colon."""
    lines = explain.compare_runs(run, other or run_of(), name=NAME)
    by_kind = dict(line.split(": ", 1) for line in lines)
    assert len(by_kind) == len(lines)
    return by_kind


SAME = {
    "components": "none takes 0.5% of an image more or less",
    "kernels": "the same with the same calls, none slower or faster by more than 10%",
    "generated code": "the same",
    "versions": "the same",
}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {}),
        ({"components": {"vae_decode": 0.35}}, {"components": "vae_decode 0.25 s -> 0.35 s (+40.0%)"}),
        ({"components": {"denoiser": 1.5}}, {"components": "denoiser 2 s -> 1.5 s (-25.0%)"}),
        (
            {"components": {"denoiser": 2.3, "vae_decode": 0.35}},
            {"components": "denoiser 2 s -> 2.3 s (+15.0%); vae_decode 0.25 s -> 0.35 s (+40.0%)"},
        ),
        (
            {"components": {"denoiser": 1.9, "vae_decode": 0.35}},
            {"components": "denoiser 2 s -> 1.9 s (-5.0%); vae_decode 0.25 s -> 0.35 s (+40.0%)"},
        ),
        ({"components": {"safety": 0.1}}, {"components": "safety nothing -> 0.1 s"}),
        ({"components": {"vae_decode": None}}, {"components": "vae_decode 0.25 s -> nothing"}),
        ({"kernels": {"cat": (7, 0.02)}}, {"kernels appeared": "cat (7 calls, 0.02 s)"}),
        (
            {"kernels": {f"fused_{number}": (1, 0.1 * number) for number in range(1, 8)}},
            {
                "kernels appeared": "fused_7 (1 calls, 0.7 s), fused_6 (1 calls, 0.6 s), fused_5 (1 calls, 0.5 s) and 4 more"
            },
        ),
        ({"kernels": {"softmax": None}}, {"kernels vanished": "softmax (40 calls, 0.2 s)"}),
        ({"kernels": {"copy": (18, 0.002)}}, {"kernels more calls": "copy (9 -> 18)"}),
        ({"kernels": {"conv": (39, 0.585)}}, {"kernels fewer calls": "conv (40 -> 39)"}),
        ({"kernels": {"gemm": (120, 1.5)}}, {"kernels slower": "gemm (1.2 s -> 1.5 s)"}),
        ({"kernels": {"gemm": (120, 1.0)}}, {"kernels faster": "gemm (1.2 s -> 1 s)"}),
        ({"kernels": {"gemm": (120, 1.3)}}, {}),  # by less than 10 %
        ({"kernels": {"copy": (9, 0.002)}}, {}),  # of less than a hundredth of all kernels
        ({"attention": {"math": 40}}, {"attention": "flash x40 -> math x40"}),
        ({"attention": {}}, {"attention": "flash x40 -> none seen"}),
        ({"digest": "b" * 16}, {"generated code": f"{'a' * 16} -> {'b' * 16}"}),
        ({"digest": None}, {"generated code": f"{'a' * 16} -> none"}),
        ({"versions": {"torch": "2.14.0", "triton": "4"}}, {"versions": "torch 2.13.0 -> 2.14.0, triton None -> 4"}),
    ],
)
def test_each_change_is_named_and_nothing_else(changes, expected):
    """Each kind of change has its line with the largest ones in numbers, and the other lines stay as without a change."""
    kinds = {line.split()[0] for line in expected}
    rest = {name: line for name, line in SAME.items() if name.split()[0] not in kinds}

    assert lines_by_kind(run_of(**changes)) == expected | rest


@pytest.mark.parametrize(
    ("steps_s", "expected"),
    [
        ((0.5, 0.5, 0.5, 0.5, 0.5), ["calls of denoiser: 4 -> 5"]),
        ((0.5, 0.5, 0.9, 0.5), ["call 3 of 4 of denoiser holds 100% of its change"]),
        ((0.6, 0.6, 0.6, 0.6), []),
    ],
)
def test_a_changed_call_of_a_component_is_named(steps_s, expected):
    """A new number of steps and the one slow step have a line; where all steps are slower there is none."""
    lines = explain.compare_runs(with_steps(run_of(), *steps_s), with_steps(run_of(), 0.5, 0.5, 0.5, 0.5), name=NAME)

    assert [line for line in lines if line.startswith("call")] == expected


def test_what_a_cut_table_may_have_held_did_not_appear():
    """A table that ends in all other kernels says nothing of those below its last one."""
    cut = run_of(kernels={OTHERS: (500, 0.1), "copy": None})

    assert "kernels appeared" not in lines_by_kind(run_of(), cut)
    assert lines_by_kind(run_of(kernels={"cat": (7, 0.3)}), cut)["kernels appeared"] == "cat (7 calls, 0.3 s)"


def test_of_several_processes_each_counts():
    """Components are the mean over processes, as a latency is; of two eager sides there is no code to be the same."""
    run, slower = run_of(digest=None), run_of(components={"vae_decode": 0.45})
    lines = lines_by_kind(
        msgspec.structs.replace(run, processes=(*run.processes, *slower.processes)), run_of(digest=None)
    )

    assert lines["components"] == "vae_decode 0.25 s -> 0.35 s (+40.0%)"
    assert "generated code" not in lines


def test_nothing_is_made_up_for_a_run_that_lacks_it():
    """Where both components and kernels are missing, on either side or with a published figure, one line says so."""
    missing = f"nothing to compare with: components and kernels are not in this run or not in {NAME}"
    for sides in ((make_run(), run_of()), (run_of(), make_run())):
        assert explain.compare_runs(*sides, name=NAME) == [missing, "versions: the same"]

    lines = explain.explain_change(make_run(), make_baseline(2.4, source="published"))
    assert lines == ["nothing to compare with: 0001_published holds a figure and no run"]


def test_a_part_that_is_missing_on_one_side_has_a_line():
    """Components without kernels are told, with a line for what there is not, and the other way round."""
    without_kernels = msgspec.structs.replace(run_of(), attribution=None)
    without_components = msgspec.structs.replace(run_of(), processes=make_run().processes)

    assert lines_by_kind(without_kernels)["kernels"] == f"nothing to compare with in {NAME}, or in this run"
    assert lines_by_kind(without_components)["components"] == f"nothing to compare with in {NAME}, or in this run"
    assert lines_by_kind(without_components)["kernels"] == SAME["kernels"]


@pytest.mark.parametrize(
    "head", [explain.UNDECIDED_HEAD, "nothing is decided; what is different, should it have moved:"]
)
def test_an_undecided_verdict_has_its_explanation_in_old_files_too(head):
    """The first line tells such an explanation from one of a change, in the words of any version."""
    lines = [head, "versions: the same"]

    assert explain.explains_verdict(lines, claim="latency", outcome=Outcome.UNDECIDED)
    assert not explain.explains_verdict(lines, claim="latency", outcome=Outcome.SLOWER)


def test_a_line_is_bounded():
    """Whatever a run calls its versions and kernels, what is kept of them can be read back."""
    run = run_of(attention={f"{number}" * 50: 1 for number in range(100)}, versions={"torch": "2" * 5000})

    assert max(map(len, explain.compare_runs(run, run_of(), name=NAME))) == 1000


@pytest.mark.parametrize(
    ("claim", "outcomes"),
    [("latency", "SLOWER FASTER BIGGER SMALLER"), ("memory", "SLOWER FASTER BIGGER SMALLER"), ("cold start", "")],
)
def test_a_verdict_that_something_moved_is_explained(claim, outcomes):
    """Slower, faster, bigger and smaller are explained; a start is no image, and what was not decided has not moved."""
    verdicts = [Verdict(case_key="a/b/c", claim=claim, outcome=outcome, sentence="") for outcome in Outcome]

    assert {each.outcome.value for each in verdicts if explain.needs_explanation(each)} == set(outcomes.split())


def scaled(*, by, **other):
    """The recorded run with every component and kernel slower by this factor, but for those that are named."""
    factors = dict.fromkeys(COMPONENTS, by) | other
    return run_of(
        components={name: seconds * factors[name] for name, seconds in COMPONENTS.items()},
        kernels={name: (count, seconds * by) for name, (count, seconds) in KERNELS.items()},
    )


def test_a_machine_that_became_slower_is_not_blamed_on_kernels():
    """If every component takes as much longer, the first line says so and no kernel is named as slower."""
    lines = explain.compare_runs(scaled(by=1.3, vae_decode=1.34), run_of(), name=NAME)

    assert lines[0] == (
        "everything became slower alike, each component by +30.0% to +34.0%: the machine, more likely than the code"
    )
    assert "kernels: the same with the same calls" in lines and not any("slower:" in line for line in lines)


@pytest.mark.parametrize(
    "run",
    [
        scaled(by=1.3, vae_decode=1.0),
        scaled(by=1.01),
        run_of(),
        run_of(components={"text_encoders": None}),
        run_of(kernels={"gemm": (120, 1.6)}),
    ],
)
def test_a_change_of_one_component_is_not_one_of_the_machine(run):
    """One component that stayed, a change within the noise, and a kernel alone are not called common."""
    assert not any("alike" in line for line in explain.compare_runs(run, run_of(), name=NAME))


def test_new_versions_may_slow_everything():
    """With other versions the machine is not blamed, and kernels that appeared are still named."""
    run = msgspec.structs.replace(
        scaled(by=0.7), environment={"torch": "2.14.0"}, attribution=run_of(kernels={"new": (5, 0.5)}).attribution
    )

    lines = explain.compare_runs(run, run_of(), name=NAME)

    assert lines[0] == "everything became faster alike, each component by -30.0% to -30.0%"
    assert "kernels appeared: new (5 calls, 0.5 s)" in lines
