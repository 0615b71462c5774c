"""The report's text: the worst first, the same figures as the results, and a report of whatever a folder holds."""

import dataclasses
import html
import re

import msgspec
import pytest

from speedgate.cli import main
from speedgate.gate import explain
from speedgate.report.html import document as report
from speedgate.report.html import view
from speedgate.results.json_io import to_json
from speedgate.results.profile import Attribution, Kernel
from speedgate.results.run import Outcome, Verdict
from tests.support.artifacts import encoded, result
from tests.support.baseline_samples import BF16, INT8, KEY, make_run, store_file, store_published
from tests.support.web_samples import STAGES, case_key, make_entry, make_report


def text_of(document):
    """What stands on the page, without elements, on one line."""
    body = document[document.index("<main") :]
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())


def part(document, title):
    """One section's text."""
    return text_of("<main" + re.search(rf'<section id="{title}".*?</section>', document, re.DOTALL)[0])


def leave(folder, *documents):
    """Result files, as a run leaves them; the folder."""
    for number, document in enumerate(documents):
        (folder / f"{number}.json").write_bytes(encoded(document))
    return folder


def test_the_worst_verdict_stands_first():
    """Verdicts are sorted by outcome, those that need nobody's attention are folded, and the head counts the cases."""
    entries = [make_entry(stage, outcome=outcome) for stage, outcome in zip(STAGES, reversed(Outcome), strict=False)]
    entries.append(make_entry("x", outcome=Outcome.NOT_APPLIED))
    document = report.render_report(make_report(*entries))

    found = re.findall(r'<span class="outcome \w+">(\w+)</span>\n<a', document)
    assert found == ["NOT_APPLIED", "UNDECIDED", "FASTER", "SMALLER", "NO_BASELINE", "PASS"]
    assert document.index("FASTER</span>") < document.index("<details>") < document.index("NO_BASELINE</span>")
    assert "6 cases: 1 NOT_APPLIED, 1 UNDECIDED" in document


def test_a_sentence_stands_as_it_is():
    """The verdict's sentence is in the page word by word, and what changed below the worst of its case."""
    lines = ("denoiser: 1.0 s, was 0.9 s", "kernel gemm: new")
    worst, other = (
        Verdict(case_key=case_key("int8"), claim=claim, outcome=outcome, sentence=f"{claim}: 2 s & 1 s")
        for claim, outcome in (("latency", Outcome.SLOWER), ("memory", Outcome.BIGGER))
    )
    document = report.render_report(make_report(make_entry("int8", verdicts=(other, worst), explanation=lines)))

    assert re.search(
        r"latency: 2 s & 1 s denoiser: 1.0 s, was 0.9 s kernel gemm: new .*memory: 2 s & 1 s", text_of(document)
    )
    assert text_of(document).count(lines[0]) == 1


def test_figures_are_those_of_the_run():
    """Latency, processes, spread, SSIM, peak, cold start and the stored figure stand in the case's row."""
    row = part(report.render_report(make_report(make_entry("compile", 2.5))), "cases")

    assert "PASS 2.5 s - 3 2.0% 0.9987 7.000 GiB 10.0 s (warm cache) 2.512 s (0002_recorded)" in row


def test_starts_stand_apart_by_their_cache():
    """An eager start and a warm one are in charts of their own, each with its medians."""
    starts = part(report.render_report(make_report(make_entry("fp32"), make_entry("compile"))), "cold-start")

    eager, warm = starts.split("eager")[-1].split("warm cache")[0], starts.split("warm cache")[-1]
    assert "fp32 3 1.00 s 2.00 s 3.00 s 0.00 s 4.00 s 10.00 s" in eager
    assert "compile 3 1.00 s 2.00 s 3.00 s 0.00 s 4.00 s 10.00 s" in warm
    assert "compile 3" not in eager
    assert "fp32 3" not in warm


def test_ladder_and_memory_name_both_stored_figures():
    """Published and recorded figures are marks in the chart and columns of the table, with the change against each."""
    document = report.render_report(make_report(make_entry("int8", 2.0)))

    assert "int8 2 s 1.00x 1.9 s (+5.3% here) 2.01 s (-0.5% here)" in part(document, "ladder")
    assert "int8 7.000 GiB 9.000 GiB 8.000 GiB" in part(document, "memory")


def test_every_process_is_in_the_table():
    """Each process has its row, with its fastest and slowest round."""
    rows = part(report.render_report(make_report(make_entry("int8", 2.0))), "processes")

    assert "int8 1 1.98 s 1.97 s 1.99 s 3 0 int8 2 2 s 1.99 s 2.01 s 3 0 int8 3" in rows


def test_a_profile_shows_its_kernels():
    """Kernels stand most expensive first, with the attention that ran and the digest of the generated code."""
    kernels = tuple(Kernel(name=f"k{number}", count=number, seconds=number / 1e3) for number in range(1, 30))
    profile = Attribution(kernels=kernels, attention_kernels={"flash": 8}, code_digest="0123456789abcdef")
    run = msgspec.structs.replace(make_run(), attribution=profile)
    shown = part(report.render_report(make_report(make_entry("int8", run=run))), "attribution")

    assert "Attention ran in: flash (8). Generated code: 0123456789abcdef" in shown
    assert "the first 20 of 29" in shown
    assert "k29 29 29 ms k28 28 28 ms" in shown


def test_command_and_versions_are_exact():
    """The command stands as it was typed, beside the versions and the machine's facts."""
    document = report.render_report(make_report(made_by={"command": "pytest bench -k 'a and b'", "speedgate": "0.1.0"}))

    assert "pytest bench -k 'a and b'" in part(document, "command-and-versions")
    assert "torch 2.13.0" in part(document, "environment")
    assert "load_1min 0.1" in part(document, "environment")


def test_a_lost_case_is_shown(tmp_path):
    """A case without a run has its verdict and a row of dashes; no chart fails for want of figures."""
    verdict = {"case_key": INT8, "claim": "worker", "outcome": "INVALID", "sentence": "killed by signal 9"}
    leave(tmp_path, result(run=None, verdicts=[verdict]))

    document = report.render_report(view.load_report(tmp_path, root=tmp_path))

    assert "INVALID - - - - - - - none" in part(document, "cases")
    assert "killed by signal 9" in part(document, "verdicts")
    assert 'id="ladder"' not in document


def test_what_was_only_described_stands_apart():
    """A case that was never built is neither counted nor listed among those that were; a red one is."""
    found = {
        name: Verdict(case_key=f"sdxl/{name}/w", claim="recipe", outcome=outcome, sentence="s")
        for name, outcome in (("holds", Outcome.PASS), ("red", Outcome.NOT_APPLIED))
    }
    entries = [view.ReportCase(case_key=one.case_key, run=None, verdicts=(one,)) for one in found.values()]

    document = report.render_report(make_report(make_entry("int8"), *entries))

    assert "2 cases: 1 NOT_APPLIED, 1 PASS; structure only: 1 case holds, on the meta device" in document
    assert 'scope="row">sdxl/red/w' in document
    assert 'scope="row">sdxl/holds/w' not in document
    assert "on the meta device sdxl/holds/w" in part(document, "cases")


OPERATIONS = {
    "operations": {
        "unet": {"flops": {"mm": 3 * 10**12, "bmm": 10**12}, "bytes_read": 1},
        "vae": {"flops": {"mm": 10**12}},
    }
}
CEILINGS = {"floors_s": {"unet": 0.02, "vae": 0.0051}, "floor_s": 0.0251, "share": 0.42}


def test_operations_are_shown_once_a_workload():
    """Where no ceiling is known each component's operations stand once, whatever the stage, and no column of floors."""
    entries = [make_entry(stage, roofline=OPERATIONS) for stage in ("fp32", "bf16")]

    shown = part(report.render_report(make_report(*entries)), "roofline")

    assert shown.endswith(
        "component TFLOP sdxl 1024px-30steps-b1 unet 4 sdxl 1024px-30steps-b1 vae 1 sdxl 1024px-30steps-b1 image 5"
    )


def test_floors_and_shares_are_shown_of_each_case():
    """Where ceilings are known each case has its floors and the share that it reaches."""
    shown = part(report.render_report(make_report(make_entry("int8", roofline=OPERATIONS | CEILINGS))), "roofline")

    assert "unet 4 0.02 s - " in shown
    assert "image 5 0.0251 s 42%" in shown


@pytest.mark.parametrize(
    "odd", [{"operations": 1}, {"operations": {"unet": []}}, {"operations": {"u": {"flops": {"mm": 10**400}}}}]
)
def test_odd_operations_do_not_lose_the_report(odd):
    """What a stranger's result says of operations may be anything JSON can say."""
    assert "image" in part(
        report.render_report(make_report(make_entry("int8", roofline=odd | {"share": "x"}))), "roofline"
    )


def test_a_folder_becomes_a_report(tmp_path, capsys):
    """`speedgate report` writes what results and baselines say, cases in the order of their stages."""
    store_file(tmp_path / "baselines", "0002_recorded.json", make_run(INT8))
    runs = {
        key: to_json(msgspec.structs.replace(make_run(key), recipe={"stages": stages}))
        for key, stages in ((INT8, ["a", "b"]), (BF16, ["a"]))
    }
    leave(tmp_path, *(result(key, run=run) for key, run in runs.items()))
    output = tmp_path / "new" / "report.html"

    assert main(["--root", str(tmp_path / "baselines"), "report", str(tmp_path), "--output", str(output)]) == 0

    rows = part(output.read_text(), "ladder")
    assert "bf16 2.45 s 1.00x - - int8 2.45 s 1.00x - 2.45 s (+0.0% here)" in rows
    assert "do not say which command" in part(output.read_text(), "command-and-versions")


def test_the_newest_figure_of_each_source_is_shown(tmp_path):
    """Of two recordings the later one counts, and the one that the case is judged by is the newest of all."""
    store_published(tmp_path, 1.0)
    for number, median_s in ((2, 2.0), (3, 3.0)):
        store_file(tmp_path, f"000{number}_recorded.json", make_run(INT8, medians_s=[median_s] * 3))
    (tmp_path / "run").mkdir()

    (entry,) = view.load_report(leave(tmp_path / "run", result(INT8)), root=tmp_path).cases

    assert {source: one.name for source, one in entry.baselines.items()} == {
        "published": "0001_published",
        "recorded": "0003_recorded",
    }


@pytest.mark.parametrize(
    ("documents", "says"),
    [
        ([], "no result of a case"),
        ([{"gpu_key": KEY}], "missing field"),
        ([result(), result(BF16, gpu_key="other")], "results of 2 GPU keys"),
        ([result(gpu_key="../..")], "expected letters, digits"),
    ],
)
def test_a_folder_that_is_no_run_is_one_error(tmp_path, capsys, documents, says):
    """What cannot be shown ends with status 2, one line, and no file."""
    leave(tmp_path, *documents)

    assert main(["report", str(tmp_path), "--output", str(tmp_path / "report.html")]) == 2

    assert says in capsys.readouterr().err
    assert not (tmp_path / "report.html").exists()


def test_a_report_is_no_folder(tmp_path, capsys, monkeypatch):
    """Nor is it nothing: either is told before the work, and leaves nothing."""
    leave(tmp_path, result())
    before = sorted(tmp_path.iterdir())
    monkeypatch.chdir(tmp_path)

    for output in (".", ""):
        assert main(["report", str(tmp_path), "--output", output]) == 2
        assert capsys.readouterr().err.startswith("speedgate: --output .: a folder; expected the name of a file")
    assert sorted(tmp_path.iterdir()) == before


def test_results_of_two_runs_are_refused(tmp_path):
    """The folder of all runs is no run: the error names those that it holds."""
    for name in ("20261121T155618Z-1", "20261121T155618Z-2"):
        (tmp_path / name).mkdir()
        leave(tmp_path / name, result())

    with pytest.raises(ValueError, match="results of 2 runs; name the folder of one: 20261121T155618Z-1"):
        view.load_report(tmp_path, root=tmp_path)


@pytest.mark.parametrize("odd", [None, 1, [], "x", {"a": None, "b": float("nan"), "c": "1", "d": True}])
def test_odd_facts_do_not_lose_the_report(tmp_path, odd):
    """Facts that are only shown may be anything JSON can say."""
    run = msgspec.structs.replace(make_run(), environment=odd, recipe=odd, structure=odd, components_s=odd, counts=odd)
    document = report.render_report(make_report(make_entry("int8", run=run), machine=view.as_mapping(odd)))

    assert "1 s against 1 s" not in document
    assert "1.0 s against 1 s" in document


def test_the_head_says_when_it_was_measured(tmp_path):
    """The time and the commit of the results, which a report that is written later does not change; both as text."""
    said = {"measured_at": "2026-11-21T21:27:31+00:00", "commit": {"id": "<b>abc", "dirty": False}}
    folder = leave(tmp_path, result(INT8, **said), result(BF16, **said))

    document = report.render_report(view.load_report(folder, root=tmp_path))

    (head,) = re.findall(r'<p class="subtitle">(.*?)</p>', document)
    assert html.unescape(head).endswith("; measured 2026-11-21 21:27 UTC at commit <b>abc")
    assert "<b>" not in head


def test_one_process_a_case_is_not_drawn():
    """Of one process nothing but rounding lies beside its centre: its figures stand in the table alone."""
    entry = make_entry("fp32", baselines={})
    alone = dataclasses.replace(entry, run=msgspec.structs.replace(entry.run, processes=entry.run.processes[:1]))
    drawn, bare = (re.search(r'<section id="processes".*?</section>', report.render_report(make_report(one)), re.DOTALL)[0]
                   for one in (entry, alone))  # fmt: skip

    assert ("<svg" in drawn, "<svg" in bare) == (True, False)
    assert "void rounds" in bare


def test_a_belonging_explanation_stands_below_its_verdict():
    """What is known of an undecided figure is not said of another verdict of the case."""
    lines = (explain.UNDECIDED_HEAD, "versions: the same")
    red, open_ = (
        Verdict(case_key=case_key("int8"), claim=claim, outcome=outcome, sentence=f"{claim}: so")
        for claim, outcome in (("parity", Outcome.DIFFERENT), ("latency", Outcome.UNDECIDED))
    )
    shown = text_of(report.render_report(make_report(make_entry("int8", verdicts=(red, open_), explanation=lines))))

    assert shown.index("parity: so") < shown.index("latency: so") < shown.index(lines[0])
