"""The text of the HTML report: the worst verdict first, the figures of the results, and a report of any folder of results."""

import dataclasses
import html
import re

import msgspec
import pytest
from markupsafe import Markup

from speedgate.cli import main
from speedgate.gate import explain
from speedgate.report.html.document import render_report
from speedgate.report.html.view import ReportCase, as_mapping, load_report
from speedgate.results.gpu_code import GeneratedCode
from speedgate.results.json_io import to_json
from speedgate.results.profile import Attribution, Kernel
from speedgate.results.run import Outcome, Verdict
from tests.support.artifacts import MARKS, result, write_results
from tests.support.baseline_samples import BF16, COLD, INT8, make_run, store_file, store_published
from tests.support.gpu_codes import CASE, make_code
from tests.support.web_samples import STAGES, case_key, make_case, make_report


@pytest.fixture(autouse=True)
def placeholders(monkeypatch):
    """Draw no chart: vl-convert takes half a second for the charts of a report."""
    monkeypatch.setattr("speedgate.report.html.charts.render_figure", lambda draw, **texts: Markup("<svg></svg>"))


def text_of(document):
    """Take the text of the page's body, without elements, on one line."""
    body = document[document.index("<main") :]
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())


def section(document, title):
    """Take the text of one section."""
    return text_of("<main" + re.search(rf'<section id="{title}".*?</section>', document, re.DOTALL)[0])


def test_the_worst_verdict_stands_first():
    """Verdicts are sorted by outcome, PASS and NO_BASELINE are folded, and the head counts the cases."""
    cases = [make_case(stage, outcome=outcome) for stage, outcome in zip(STAGES, reversed(Outcome), strict=False)]
    cases.append(make_case("x", outcome=Outcome.NOT_APPLIED))
    document = render_report(make_report(*cases))

    found = re.findall(r'<span class="outcome \w+">(\w+)</span>\n<a', document)
    assert found == ["NOT_APPLIED", "UNDECIDED", "FASTER", "SMALLER", "NO_BASELINE", "PASS"]
    assert document.index("FASTER</span>") < document.index("<details>") < document.index("NO_BASELINE</span>")
    assert "6 cases: 1 NOT_APPLIED, 1 UNDECIDED" in document


def two_verdicts(explanation, **outcomes):
    """Render a report of int8 with a verdict of each outcome by claim, and an explanation; return its text."""
    verdicts = tuple(
        Verdict(case_key=case_key("int8"), claim=claim, outcome=outcome, sentence=f"{claim}: 2 s & 1 s")
        for claim, outcome in outcomes.items()
    )
    return text_of(render_report(make_report(make_case("int8", verdicts=verdicts, explanation=explanation))))


def test_a_sentence_is_shown_word_by_word():
    """The page has the sentence of each verdict unchanged, and below the worst one of a case what changed in it."""
    lines = ("denoiser: 1.0 s, was 0.9 s", "kernel gemm: new")
    text = two_verdicts(lines, memory=Outcome.BIGGER, latency=Outcome.SLOWER)

    assert re.search(r"latency: 2 s & 1 s denoiser: 1.0 s, was 0.9 s kernel gemm: new .*memory: 2 s & 1 s", text)
    assert text.count(lines[0]) == 1


def test_an_explanation_stands_below_the_verdict_that_it_belongs_to():
    """The explanation of an undecided latency is not shown below another verdict of the case."""
    lines = (explain.UNDECIDED_HEAD, "versions: the same")
    text = two_verdicts(lines, parity=Outcome.DIFFERENT, latency=Outcome.UNDECIDED)

    assert text.index("parity: 2") < text.index("latency: 2") < text.index(lines[0])


@pytest.mark.parametrize(("mark", "warning"), [*MARKS, ({}, None)])
def test_a_fire_drill_and_a_quick_run_are_marked_in_the_head(tmp_path, mark, warning):
    """Both have a warning below the title, which no other run has; a quick run has no cold start, because it timed nothing."""
    document = render_report(load_report(write_results(tmp_path, result(INT8, **mark)), root=tmp_path))

    assert (f'<p class="warning" role="note">{warning}' in document) == ('class="warning"' in document) == bool(mark)
    assert ("cold start" in document.lower()) == ("quick" not in mark)


def test_cold_starts_are_separated_by_the_cache():
    """Eager starts and starts with a warm cache have a chart each, with their medians."""
    starts = section(render_report(make_report(make_case("fp32"), make_case("compile"))), "cold-start")

    eager, warm = starts.split("eager")[-1].split("warm cache")[0], starts.split("warm cache")[-1]
    assert "fp32 3 1.00 s 2.00 s 3.00 s 0.00 s 4.00 s 10.00 s" in eager
    assert "compile 3 1.00 s 2.00 s 3.00 s 0.00 s 4.00 s 10.00 s" in warm
    assert "compile 3" not in eager
    assert "fp32 3" not in warm


def test_compile_seconds_are_separated_by_the_cache_and_by_regions():
    """Each state of the cache has a chart of the stages with how they are compiled, and the median of the baseline."""

    def starting(stage, seconds, structure):
        case = make_case(stage)
        starts = [
            msgspec.structs.replace(COLD, compile_s=each, cache_misses=each > 5, cache_hits=1) for each in seconds
        ]
        processes = [msgspec.structs.replace(case.run.processes[0], cold_start=start) for start in starts]
        run = msgspec.structs.replace(case.run, processes=tuple(processes), structure=structure)
        return dataclasses.replace(case, run=run)

    whole, regional = starting("compile", (60.0, 3.0, 4.0), {}), starting("sdpa", (9.0,), {"unet.compiled_regions": 2})
    recorded = msgspec.structs.replace(whole.baselines["recorded"], cold_starts=whole.run.cold_starts)
    whole = dataclasses.replace(whole, baselines={"recorded": recorded})
    text = section(render_report(make_report(make_case("fp32"), whole, regional)), "compile")

    cold, warm = text.split("cold cache")[-1].split("warm cache")[0], text.split("warm cache")[-1]
    assert "compile compiled as a whole 1 60.00 s 60.00 s sdpa compiled in regions 1 9.00 s -" in cold
    assert "compile compiled as a whole 2 3.50 s 3.50 s" in warm
    assert "fp32" not in text


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("cases", "PASS 2 s 3 2.0% 0.9987 7.000 GiB 10.0 s (eager) 2.01 s (0002_recorded)"),
        ("ladder", "int8 2 s 1.00x 1.9 s (+5.3% here) 2.01 s (-0.5% here)"),
        ("memory", "int8 7.000 GiB 9.000 GiB 8.000 GiB"),
        ("processes", "int8 1 1.98 s 1.97 s 1.99 s 3 0 int8 2 2 s 1.99 s 2.01 s 3 0 int8 3"),
        ("environment", "load_1min 0.1"),
        ("environment", "torch 2.13.0"),
        ("command-and-versions", "pytest bench -k 'a and b'"),
    ],
)
def test_each_section_has_the_figures_of_the_run(name, row):
    """A case has its figures beside the stored ones, each process a row, and the machine and the command stand as they were."""
    report = make_report(make_case("int8", 2.0), made_by={"command": "pytest bench -k 'a and b'", "speedgate": "0.1.0"})

    assert row in section(render_report(report), name)


def test_a_profile_shows_its_kernels():
    """Kernels are listed most expensive first, with the attention that ran and the digest of the generated code."""
    kernels = tuple(Kernel(name=f"k{number}", count=number, seconds=number / 1e3) for number in range(1, 30))
    profile = Attribution(kernels=kernels, attention_kernels={"flash": 8}, code_digest="0123456789abcdef")
    run = msgspec.structs.replace(make_run(), attribution=profile)
    text = section(render_report(make_report(make_case("int8", run=run))), "attribution")

    assert "Attention ran in: flash (8). Generated code: 0123456789abcdef" in text
    assert "the first 20 of 29" in text
    assert "k29 29 29 ms k28 28 28 ms" in text


def test_a_lost_case_is_shown(tmp_path):
    """A case without a run has its verdict and no column without figures, and no chart fails without its figures."""
    verdict = {"case_key": INT8, "claim": "worker", "outcome": "INVALID", "sentence": "killed by signal 9"}
    write_results(tmp_path, result(run=None, verdicts=[verdict]))

    document = render_report(load_report(tmp_path, root=tmp_path))

    assert section(document, "cases").endswith("case verdict sdxl/int8/1024px-30steps-b1 INVALID")
    assert "killed by signal 9" in section(document, "verdicts")
    assert 'id="ladder"' not in document


def test_a_case_that_was_only_described_is_listed_apart():
    """A case that was never built is not counted or listed with the built ones, unless it is red; alone it needs no table."""
    holds, red = (
        ReportCase(
            case_key=key, run=None, verdicts=(Verdict(case_key=key, claim="recipe", outcome=outcome, sentence="s"),)
        )
        for key, outcome in (("sdxl/holds/w", Outcome.PASS), ("sdxl/red/w", Outcome.NOT_APPLIED))
    )

    document = render_report(make_report(make_case("int8"), holds, red))
    alone = section(render_report(make_report(holds)), "cases")

    assert "2 cases: 1 NOT_APPLIED, 1 PASS; structure only: 1 case holds, on the meta device" in document
    assert 'scope="row">sdxl/red/w' in document and 'scope="row">sdxl/holds/w' not in document
    assert "on the meta device sdxl/holds/w" in section(document, "cases")
    assert alone.endswith("structure only: 1 case holds, on the meta device sdxl/holds/w")
    assert "raw samples" not in alone


OPERATIONS = {
    "operations": {
        "unet": {"flops": {"mm": 3 * 10**12, "bmm": 10**12}, "bytes_read": 1},
        "vae": {"flops": {"mm": 10**12}},
    }
}
CEILINGS = {"floors_s": {"unet": 0.02, "vae": 0.0051}, "floor_s": 0.0251, "share": 0.42}


def test_operations_are_shown_with_their_floors():
    """Without known ceilings a workload has its operations once for all stages, with them each case its floors and share."""
    counted = [make_case(stage, roofline=OPERATIONS) for stage in ("fp32", "bf16")]
    bare, full = (
        section(render_report(make_report(*cases)), "roofline")
        for cases in (counted, [make_case("int8", roofline=OPERATIONS | CEILINGS)])
    )

    workload = "sdxl 1024px-30steps-b1"
    assert bare.endswith(f"component TFLOP {workload} unet 4 {workload} vae 1 {workload} image 5")
    assert "unet 4 0.02 s - " in full
    assert "image 5 0.0251 s 42%" in full


@pytest.mark.parametrize("odd", [{"operations": {"unet": []}}, {"operations": {"u": {"flops": {"mm": 10**400}}}}])
def test_odd_operations_do_not_lose_the_report(odd):
    """The operations in a result may be any JSON value, and the report is still written."""
    assert "image" in section(render_report(make_report(make_case("int8", roofline=odd | {"share": "x"}))), "roofline")


def test_a_folder_becomes_a_report(tmp_path, monkeypatch):
    """`speedgate report` reads results and baselines, draws the charts, and lists the cases in the order of their stages."""
    monkeypatch.undo()  # the real charts
    store_file(tmp_path / "baselines", "0002_recorded.json", make_run(INT8))
    runs = {
        key: to_json(msgspec.structs.replace(make_run(key), recipe={"stages": stages}))
        for key, stages in ((INT8, ["a", "b"]), (BF16, ["a"]))
    }
    write_results(tmp_path, *(result(key, run=run) for key, run in runs.items()))
    output = tmp_path / "new" / "report.html"

    assert main(["--root", str(tmp_path / "baselines"), "report", str(tmp_path), "--output", str(output)]) == 0

    rows = section(output.read_text(), "ladder")
    assert output.read_text().count('<svg role="img" aria-label="Bar chart of seconds per image by stage') == 2
    assert "bf16 2.45 s 1.00x - - int8 2.45 s 1.00x - 2.45 s (+0.0% here)" in rows
    assert "do not say which command" in section(output.read_text(), "command-and-versions")


def test_the_newest_baseline_of_each_source_is_shown(tmp_path):
    """Of two recordings the later one is shown, and the newest of all, which judges the case, comes last."""
    store_published(tmp_path, 1.0)
    for number, median_s in ((2, 2.0), (3, 3.0)):
        store_file(tmp_path, f"000{number}_recorded.json", make_run(INT8, medians_s=[median_s] * 3))
    (tmp_path / "run").mkdir()

    (case,) = load_report(write_results(tmp_path / "run", result(INT8)), root=tmp_path).cases

    assert {source: baseline.name for source, baseline in case.baselines.items()} == {
        "published": "0001_published",
        "recorded": "0003_recorded",
    }


def test_results_of_two_runs_are_refused(tmp_path):
    """The folder of all runs is refused, and the error names the runs in it."""
    for name in ("20261121T155618Z-1", "20261121T155618Z-2"):
        (tmp_path / name).mkdir()
        write_results(tmp_path / name, result())

    with pytest.raises(ValueError, match="results of 2 runs; name the folder of one: 20261121T155618Z-1"):
        load_report(tmp_path, root=tmp_path)


@pytest.mark.parametrize("odd", [None, [], {"a": None, "b": float("nan"), "c": "1", "d": True}])
def test_odd_facts_do_not_lose_the_report(odd):
    """Facts that are only shown may be any JSON value."""
    run = msgspec.structs.replace(make_run(), environment=odd, recipe=odd, structure=odd, components_s=odd, counts=odd)
    document = render_report(make_report(make_case("int8", run=run), machine=as_mapping(odd)))

    assert "1 s against 1 s" not in document
    assert "1.0 s against 1 s" in document


def test_the_head_says_when_it_was_measured(tmp_path):
    """The head has the time and the commit of the results, not of the report, and both are escaped."""
    fields = {"measured_at": "2026-11-21T21:27:31+00:00", "commit": {"id": "<b>abc", "dirty": False}}
    folder = write_results(tmp_path, result(INT8, **fields), result(BF16, **fields))

    document = render_report(load_report(folder, root=tmp_path))

    (head,) = re.findall(r'<p class="subtitle">(.*?)</p>', document)
    assert html.unescape(head).endswith("; measured 2026-11-21 21:27 UTC at commit <b>abc")
    assert "<b>" not in head


def test_a_single_process_is_not_charted():
    """With one process per case a chart would show rounding errors, so there is only the table."""
    case = make_case("fp32", baselines={})
    alone = dataclasses.replace(case, run=msgspec.structs.replace(case.run, processes=case.run.processes[:1]))
    drawn, bare = (re.search(r'<section id="processes".*?</section>', render_report(make_report(one)), re.DOTALL)[0]
                   for one in (case, alone))  # fmt: skip

    assert ("<svg" in drawn, "<svg" in bare) == (True, False)
    assert "discarded rounds" in bare


def test_generated_code_has_a_section_of_its_own(tmp_path):
    """A case whose code was generated has a row for each target with its verdict, and none among the measured cases."""
    codes = {target: GeneratedCode(this=make_code(target=target)) for target in ("a100", "h100")}
    verdict = Verdict(case_key=CASE, claim="gpu spills on h100", outcome=Outcome.NOT_APPLIED, sentence="one")
    stored = {target: to_json(code) for target, code in codes.items()}
    write_results(tmp_path, result(CASE, run=None, verdicts=[to_json(verdict)], gpu_code=stored))

    document = render_report(load_report(tmp_path, root=tmp_path / "baselines"))

    assert f"{CASE} a100 1 2 / 4 16 MB bfloat16 100 0 B not judged" in section(document, "gpu-code")
    assert f"{CASE} h100 1 2 / 4 16 MB bfloat16 100 0 B NOT_APPLIED" in section(document, "gpu-code")
    assert '<section id="cases"' not in document
