"""`acknowledged.json`: what may be acknowledged, from which results, and how a wrong file is refused."""

from __future__ import annotations

import pytest

from speedgate.baselines import acknowledged
from speedgate.cli import main
from speedgate.results.case_key import CaseKey
from speedgate.results.json_io import read_json, to_json, write_json
from tests.support import artifacts
from tests.support.baseline_samples import BF16, INT8, KEY, make_confirmation, make_run, store_file
from tests.support.command import fails

OLD, NEW = "20261121T155618Z-7", "20261122T155618Z-7"
SLOW = {"run": to_json(make_run(medians_s=(2.4, 2.4, 2.4))), "outcome": "SLOWER"}


@pytest.fixture
def folder(tmp_path):
    """A folder with a baseline of 2 s, below `baselines/`, and the result of a session that took 2.4 s, below `results/`."""
    store_file(tmp_path / "baselines", "0001_recorded.json", make_run(medians_s=(2.0, 2.0, 2.0)))
    write_result(tmp_path, NEW, **SLOW)
    return tmp_path


def write_result(folder, session, *, case_key=INT8, **changes):
    path = folder / "results" / session / CaseKey.parse(case_key).file_name
    write_json(path, artifacts.result(case_key, **changes))


def arguments(folder, *, case=INT8, why="why", results="results", claim=None):
    options = ["--root", folder / "baselines", "acknowledge", case, "--why", why, "--results", folder / results]
    return [str(option) for option in (*options, *(["--claim", claim] if claim else []))]


@pytest.mark.parametrize("results", ["results", f"results/{NEW}"])
def test_the_newest_comparison_with_the_baseline_counts(folder, results):
    """Older sessions and live ones do not; the folder of all sessions can be named, or that of one."""
    write_result(folder, OLD, run=to_json(make_run(medians_s=(9.0, 9.0, 9.0))), outcome="SLOWER")
    write_result(folder, "20261123T155618Z-7", against={}, **SLOW)
    write_result(folder, "20261124T155618Z-7", quick=True, **SLOW)

    assert main(arguments(folder, results=results)) == 0

    entry = read_json(folder / "baselines" / KEY / "acknowledged.json")["acknowledged"][INT8]["latency"]
    assert entry == {"why": "why", "baseline": "0001_recorded", "at_most": {"latency": 1.236}}


@pytest.mark.parametrize(("claim", "claims"), [(None, {"latency", "memory"}), ("memory", {"memory"})])
def test_one_red_claim_can_be_acknowledged_alone(folder, claim, claims):
    """Without `--claim` it is every red one."""
    run = make_run(medians_s=(2.4, 2.4, 2.4), peak_bytes=[12])
    verdicts = [
        {"case_key": INT8, "claim": name, "outcome": outcome, "sentence": "s"}
        for name, outcome in (("latency", "SLOWER"), ("memory", "BIGGER"), ("parity", "DIFFERENT"))
    ]
    write_result(folder, NEW, run=to_json(run), verdicts=verdicts)

    assert main(arguments(folder, claim=claim)) == 0

    assert set(acknowledged.read_file(folder / "baselines", KEY)[INT8]) == claims


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"why": " "},
            "*--why ' ': expected a sentence that says why, in at most 500 printable characters on one line",
        ),
        ({"why": "a\nb"}, "*--why 'a*nb': expected a sentence that says why, *"),
        ({"why": "a" * 501}, "*expected a sentence that says why, *"),
        ({"case": BF16}, f"*results: no result of {BF16}; it has results of: {INT8}; name another folder *"),
        ({"case": "int8"}, "*expected a case key, PIPELINE/STAGE/WORKLOAD, found 'int8'"),
        ({"results": "nowhere"}, "*nowhere: no result of *; it has results of: none; name another folder *"),
        ({"claim": "parity"}, "*--claim parity: cannot be acknowledged; expected one of latency, components, memory"),
        ({"claim": "memory"}, f"*{INT8}: nothing to acknowledge in *: latency SLOWER"),
    ],
)
def test_what_cannot_be_acknowledged_is_one_line(folder, capsys, changes, message):
    """An unknown case, an unfit reason and a claim that is not red are refused, and nothing is written."""
    error = fails(capsys, *arguments(folder, **changes))

    pytest.LineMatcher(error.splitlines()).fnmatch_lines([message])
    assert not (folder / "baselines" / KEY / "acknowledged.json").exists()


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ({"against": {}, **SLOW}, "was measured without a baseline only: live, with a fault or by --quick"),
        ({"gpu_key": "nvidia-h100-80gb-700w", **SLOW}, f"{INT8} has no baseline on nvidia-h100-80gb-700w"),
        (
            {"run": to_json(make_run(medians_s=(2.4,), fingerprint="beef")), "outcome": "SLOWER"},
            "for another recipe than",
        ),
        (
            {"run": to_json(make_run(medians_s=(2.0,))), "outcome": "SLOWER"},
            "latency is not worse than in 0001_recorded",
        ),
        ({"run": None, "outcome": "SLOWER"}, "nothing to acknowledge in "),
        (
            {"confirmation": to_json(make_confirmation(live_ratio=1.3)), **SLOW},
            "was compared with 0002_recorded, and the baseline is 0001_recorded now; measure it again",
        ),
    ],
)
def test_a_result_that_does_not_fit_the_baseline_is_refused(folder, capsys, result, message):
    """Nothing was measured against the newest baseline of the case, or it is not slower than that."""
    write_result(folder, NEW, **result)

    assert message in fails(capsys, *arguments(folder))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda document: document["acknowledged"][INT8].update(parity={}), "*acknowledged.json: acknowledged*"),
        (lambda document: document["acknowledged"][INT8]["latency"]["at_most"].update(latency=0.9), "*at_most*"),
        (
            lambda document: document["acknowledged"][INT8]["latency"].update(why="a\x1b[31m"),
            "*latency.why: expected a *",
        ),
        (
            lambda document: document["acknowledged"][INT8]["latency"].update(at_most={"vae": 2}),
            "*a ratio of latency, *",
        ),
        (lambda document: document.update(schema=2), "*acknowledged.json: schema*"),
        (lambda document: document["acknowledged"].update(int8=document["acknowledged"][INT8]), "*expected case keys*"),
    ],
)
def test_a_wrong_file_is_one_line_and_never_half_read(folder, capsys, change, message):
    """A session is refused before it measures, a promotion before it writes, and `speedgate check` names the field."""
    main(arguments(folder))
    path = folder / "baselines" / KEY / "acknowledged.json"
    document = read_json(path)
    change(document)
    write_json(path, document)

    with pytest.raises(ValueError) as raised:
        acknowledged.acknowledged_now(folder / "baselines", KEY, {})

    pytest.LineMatcher([str(raised.value)]).fnmatch_lines([message])
    for command in (["check"], ["promote", KEY]):
        assert str(path) in fails(capsys, "--root", folder / "baselines", *command)
