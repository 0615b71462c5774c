"""A live comparison (`--against`) on fake workers in this process: the order of the arms, verdicts, failures and records."""

from __future__ import annotations

import pytest

from speedgate.gate.policy import Mode, Policy
from speedgate.plugin import hooks
from speedgate.results.run import Outcome, Turns
from tests.plugin.test_claims import CHANGES, SLOWER, below
from tests.support.fake_bench import FakeBench

THREE_PAIRS = ("--rounds=4", "--processes=3", "--max-processes=3")
ONE_PAIR = ("--rounds=4", "--processes=1", "--max-processes=1")
LATENCY = ("test_latency",)


def test_two_equal_arms_pass_though_the_first_worker_is_slower(bench: FakeBench) -> None:
    """What the order of starting costs is no difference between the arms: the verdict is PASS at exactly 0 %."""
    result = bench.run(
        *THREE_PAIRS, "--stage=fp32", claims=LATENCY, fp32={"order": 0.02}, other={"fp32": {"order": 0.02}}
    )

    verdict = result.verdict("fp32")
    assert verdict.outcome is Outcome.PASS
    assert "+0.0% (99% interval +0.0% to +0.0% from 3 pairs, taking turns round by round)" in verdict.sentence


def test_a_slower_arm_is_red_in_latency_and_component(bench: FakeBench) -> None:
    """This arm's slowdown fails its latency and its denoiser, and the other arm's makes this one FASTER, which is green."""
    versions = {"diffusers": "0.41.0"}

    result = bench.run(
        *THREE_PAIRS, "--stage=bf16,sdpa", bf16={"slower": 1.06}, other={"sdpa": {"slower": 1.06}, "versions": versions}
    )

    assert result.red == ["test_latency[sdxl-tiny-bf16]", "test_components[sdxl-tiny-bf16]"]
    assert "denoiser 0.33 s against 0.3 s in the other arm (diffusers 0.41.0): +10.0%" in result.texts[result.red[1]]
    assert "0.53 s against 0.5 s of the other arm (diffusers 0.41.0): +6.0%" in result.verdict("bf16").sentence
    assert result.verdict("sdpa").outcome is Outcome.FASTER


def test_a_result_and_the_terminal_have_both_arms(bench: FakeBench) -> None:
    """Rounds, versions and the order of the pairs are in the file of the case, and both arms are in the terminal's section."""
    versions = [{"versions": {"diffusers": version}} for version in ("0.42.1", "0.41.0")]

    result = bench.run(*THREE_PAIRS, "--stage=sdpa", claims=LATENCY, other=versions[1], **versions[0])

    document = result.document("sdpa")
    run, other = document["run"], document["against"]["other"]
    assert [len(process["seconds"]) for side in (run, other) for process in side["processes"]] == [4] * 6
    assert [side["environment"]["diffusers"] for side in (run, other)] == ["0.42.1", "0.41.0"]
    assert document["against"]["own_first"] == [True, False, True]
    assert result.arms("sdpa") == ["this", "other", "other", "this", "this", "other"]
    result.terminal.re_match_lines([r"sdxl-tiny/sdpa/.* s \(eager\) +PASS"])
    result.terminal.re_match_lines([r" +this arm +other arm", r"diffusers +0\.42\.1 +0\.41\.0"])


def test_no_stored_baseline_is_read(bench: FakeBench) -> None:
    """A broken file among the baselines does not end a live comparison, and no verdict names a baseline."""
    key = bench.configure().stash[hooks.SESSION].machine.key
    stored = bench.path / "baselines" / key / "0001_recorded.json"
    stored.parent.mkdir(parents=True)
    stored.write_text("no baseline is read")

    result = bench.run(*ONE_PAIR, "--stage=fp32", other={})

    assert (result.red, result.session.inputs.baselines) == ([], {})
    assert "0001_recorded" not in str(result.terminal) and "NO_BASELINE" not in str(result.terminal)


def test_each_difference_but_speed_is_one_red_claim(bench: FakeBench) -> None:
    """Another structure, another picture and more memory each fail the claim that owns them, and no latency."""
    other = {"compile": {"structure": {"unet.int8_linears": 1}}, "fused_qkv": {"noise": 20}}

    result = bench.run(*THREE_PAIRS, "--stage=compile,fused_qkv,int8", other=other, int8={"bigger": 1.25})

    assert sorted(result.red) == [
        "test_memory[sdxl-tiny-int8]",
        "test_same_picture[sdxl-tiny-fused_qkv]",
        "test_same_structure[sdxl-tiny-compile]",
    ]
    assert {result.verdict(stage).outcome for stage in ("compile", "fused_qkv", "int8")} == {Outcome.PASS}
    result.terminal.re_match_lines(
        [r"BIGGER sdxl-tiny/int8/\S+ memory: peak 8\.750 GiB against 7\.000 GiB of the other.*"]
    )


def test_pairs_are_added_while_nothing_is_decided(bench: FakeBench) -> None:
    """A noisy case gets every pair and is UNDECIDED, red under enforce only; a case that is decided gets no more pairs."""
    options = ("--rounds=4", "--processes=2", "--max-processes=4", "--stage=fp32,bf16")

    result = bench.run(*options, claims=LATENCY, other={}, fp32={"spread": 0.2})

    noisy, quiet = result.verdict("fp32"), result.verdict("bf16")
    assert (result.red, noisy.outcome, quiet.outcome) == ([], Outcome.UNDECIDED, Outcome.PASS)
    assert not Policy(mode=Mode.ENFORCE).accepts(noisy)
    assert [len(pair.log_ratios) for pair in result.session.outcome.comparisons.values()] == [4, 3]


def test_claims_of_the_arms_alone_measure_no_round(bench: FakeBench) -> None:
    """Structure and picture need one worker of the other arm and no rounds, although another case was asked for rounds."""
    result = bench.run("--stage=fp32", claims=("test_same_structure", "test_same_picture"), other={})

    assert (result.red, result.arms("fp32")) == ([], ["other", "this"])
    assert result.run("fp32").processes == ()


def test_another_checkout_that_probes_in_another_way_is_not_compared(bench: FakeBench) -> None:
    """The outputs of a suite without the present probes are no evidence: the claim is skipped with the reason."""
    other = {"fp32": {"older_probes": True}}

    result = bench.run("--stage=fp32", claims=("test_same_picture",), other=other)

    (text,) = result.texts.values()
    assert list(result.claims.values()) == ["skipped"]
    assert "the other checkout probes steps in another way" in text


def test_claims_of_two_arms_are_left_out_if_there_is_one(bench: FakeBench) -> None:
    """Without a live comparison no claim asks for the other arm."""
    result = bench.run("--stage=fp32")

    assert "test_latency[sdxl-tiny-fp32]" in result.claims
    assert not [name for name in result.claims if name.startswith("test_same")]


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ({"abort": "generate", "from": 2}, "died during 'generate' (SIGABRT)"),
        ({"fail": "inspect"}, "raised RuntimeError: no kernel image is available for execution on the device"),
        ({"hang": "first_image"}, "did not answer 'first_image' within 3 s"),
    ],
)
def test_a_broken_other_arm_is_one_red_claim_that_names_it(bench: FakeBench, fault: dict, sentence: str) -> None:
    """Its death, exception or silence fails the latency, claims that need the pairs are skipped, and both name the arm."""
    result = bench.run("--rounds=4", "--processes=2", "--stage=fp32", other={"fp32": fault})

    assert result.red == ["test_latency[sdxl-tiny-fp32]"]
    for claim in ("test_latency", "test_memory"):
        text = result.texts[f"{claim}[sdxl-tiny-fp32]"]
        assert "the worker of the other arm (the same versions)" in text and sentence in text
    assert result.claims["test_memory[sdxl-tiny-fp32]"] == "skipped"
    assert {"latency", "memory"}.isdisjoint(verdict["claim"] for verdict in result.document("fp32")["verdicts"])


@pytest.mark.parametrize(
    ("fault", "given_up"),
    [({"crowded": "load", "from": 2}, ["this", "other", "other", "this"]), ({"crowded": "inspect"}, ["this", "other"])],
)
def test_arms_that_do_not_fit_at_once_are_measured_one_after_the_other(
    bench: FakeBench, fault: dict, given_up: list[str]
) -> None:
    """Out of memory with both alive, in a later pair or in an inspection, starts again by process, and the verdict says so."""
    options = ("--rounds=4", "--processes=2", "--max-processes=2", "--stage=fp32")

    result = bench.run(
        *options, other={}, fp32=fault, claims=("test_latency", "test_same_structure", "test_same_picture")
    )

    (comparison,) = result.session.outcome.comparisons.values()
    assert result.red == []
    assert result.arms("fp32")[: len(given_up) + 4] == [*given_up, "this", "other", "other", "this"]
    assert (comparison.turns, len(comparison.log_ratios)) == (Turns.PROCESSES, 2)
    assert "turns process by process, because both do not fit at once" in result.verdict("fp32").sentence


def test_a_case_that_fits_takes_turns_again_after_one_that_did_not(bench: FakeBench) -> None:
    """Two processes on the GPU are one too many for the case that does not fit, and are both ours for the next one."""
    bench.pretend_a100()
    bench.answer(nvmlDeviceGetComputeRunningProcesses_v3=[[{}, {}]])

    result = bench.run(*ONE_PAIR, "--stage=fp32,bf16", claims=LATENCY, other={"fp32": {"crowded": "load"}})

    assert result.red == ["test_latency[sdxl-fp32]"]
    assert "1 other process on the GPU" in result.texts["test_latency[sdxl-fp32]"]
    assert [pair.turns for pair in result.session.outcome.comparisons.values()] == [Turns.ROUNDS]


def test_a_discarded_round_of_either_arm_is_measured_again(bench: FakeBench) -> None:
    """Both arms have as many rounds as planned, and the terminal counts the discarded ones of both."""
    bench.pretend_a100()
    bench.answer(nvmlDeviceGetCurrentClocksEventReasons=[0, 0, 0, 0x40, 0])

    result = bench.run(*ONE_PAIR, "--stage=fp32", claims=("test_memory",), other={})

    (comparison,) = result.session.outcome.comparisons.values()
    processes = [*result.run("fp32").processes, *comparison.other.processes]
    assert (result.red, [len(process.seconds) for process in processes]) == ([], [4, 4])
    assert sorted(len(process.discarded_reasons) for process in processes) == [0, 1]
    result.terminal.fnmatch_lines(["1 discarded rounds of sdxl/fp32/* were measured again, the last one because: *"])


def test_a_live_comparison_is_explained_by_the_other_arm(bench: FakeBench) -> None:
    """Components, kernels and versions are compared with those of the other arm's worker."""
    result = bench.run(
        *THREE_PAIRS,
        "--stage=sdpa",
        sdpa=SLOWER,
        versions={"diffusers": "0.42.1"},
        other={"versions": {"diffusers": "0.41.0"}},
    )

    assert [line.strip() for line in below(result.terminal, "SLOWER sdxl-tiny/sdpa/")] == CHANGES


def test_an_arm_without_a_profile_is_one_line(bench: FakeBench) -> None:
    """If an older checkout's worker times no components and has no profile, one line says that nothing can be compared."""
    other = {"bf16": {"offers": [], "components": {}}, "versions": {"diffusers": "0.41.0"}}

    result = bench.run(
        *THREE_PAIRS, "--stage=bf16", bf16={"slower": 1.1}, versions={"diffusers": "0.42.1"}, other=other
    )

    lines = [line.strip() for line in below(result.terminal, "SLOWER sdxl-tiny/bf16/")]
    nothing = "nothing to compare with: components and kernels are not in this run or not in the other arm"
    assert lines[0].startswith(nothing)
    assert lines[1:] == [CHANGES[-1]]


def test_long_names_of_facts_do_not_run_into_their_values(bench: FakeBench) -> None:
    """The table of both arms' versions is as wide as its longest name."""
    versions = {"versions": {"onednn_max_cpu_isa": "AVX2"}}

    result = bench.run(*ONE_PAIR, "--stage=fp32", claims=LATENCY, other=versions, **versions)

    result.terminal.re_match_lines([r"onednn_max_cpu_isa  AVX2 +AVX2"])
