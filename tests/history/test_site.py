"""The static site of a history: its files, their data, the folder that it replaces, and the command `speedgate site`."""

import dataclasses
import datetime
import re
import shlex

import msgspec
import pytest

from speedgate import cli
from speedgate.history import commands
from speedgate.history.site import model
from speedgate.history.site.model import MAX_SESSIONS
from speedgate.history.site.write import MARKER
from speedgate.history.trend import Series
from speedgate.results.case_key import CaseKey
from tests.support import site_history as histories
from tests.support.baseline_samples import make_run, store_file
from tests.support.site_history import data, write

STEP_AT, RUNS = 12, 24
COMMIT_URL = "https://host.example/owner/repository/commit/{commit}"


@pytest.fixture(scope="module", autouse=True)
def light():
    """Leave out the bundle of the charts, which takes seconds to make; tests/browser draws with it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("speedgate.history.site.pages._vega", lambda: "")
        yield


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Write a site of two GPU keys with a ladder each."""
    target = tmp_path_factory.mktemp("site") / "site"
    write(target, [*histories.ladder(), *histories.ladder(gpu_key=histories.GPUS[1])], commit_url=COMMIT_URL)
    return target


def test_the_index_holds_every_case(site):
    """The index has a row for each case and each GPU key, with the latest figures and the latest change."""
    index = data(site, "index")
    [int8] = [
        row for row in index["cases"] if "/int8/" in row["key"] and row["gpu"] == model.short_digest(histories.GPUS[0])
    ]
    last = histories.series("sdxl/int8/1024px-30steps-b1", base_s=2.429).points[-1]

    assert [gpu["key"] for gpu in index["gpus"]] == sorted(histories.GPUS)
    assert len(index["cases"]) == 12
    assert int8["latency_s"] == pytest.approx(last.latency_s, rel=1e-5)
    assert (int8["runs"], int8["change"]["kind"], int8["change"]["ratio"]) == (40, "step", histories.STEP)


def test_a_case_holds_every_run(site):
    """The file of a case contains every run: figures with six digits, texts unchanged."""
    series = histories.series("sdxl/int8/1024px-30steps-b1", base_s=2.429)
    case = data(site, f"case-{model.short_digest(series.gpu_key, series.case_key)}")
    point = series.points[7]

    def text(column):
        return column["texts"][column["at"][7]]

    assert case["run"] == [point.run_id for point in series.points]
    assert case["medians_s"][7] == pytest.approx(list(point.process_medians_s), rel=1e-5)
    assert case["at_ms"][7] == datetime.datetime.fromisoformat(point.measured_at).timestamp() * 1000
    assert (case["peak_bytes"][7], text(case["commit"])) == (point.peak_bytes, point.commit)
    assert {name: text(column) for name, column in case["versions"].items()} == point.versions


def test_a_ladder_is_in_its_order(site):
    """The stages of a ladder are in the given order, not sorted by name, with their latest figures."""
    [ladder] = data(site, f"gpu-{model.short_digest(histories.GPUS[0])}")["ladders"]

    assert [stage["stage"] for stage in ladder["stages"]] == list(histories.STAGES)
    assert ladder["stages"][0]["latency_s"] == pytest.approx(7.362, rel=0.02)
    assert len(data(site, f"ladder-{ladder['id']}")["stages"][0]["line"]) == 40


def test_a_machine_has_its_drift_on_the_page_of_its_key(site, tmp_path):
    """The latest sessions are listed, newest first, and a machine without live pairs has none."""
    drifts = [1 + day / 1000 for day in range(model.MAX_DRIFTS + 5)]
    write(tmp_path / "site", histories.ladder(), machines=histories.machine(*drifts))
    name = f"gpu-{model.short_digest(histories.GPUS[0])}"
    machine = data(tmp_path / "site", name)["machine"]

    assert [row["drift"] for row in machine] == pytest.approx(drifts[: -model.MAX_DRIFTS - 1 : -1])
    assert (machine[0]["cases"], machine[0]["baseline"]) == (3, "baselines/0002.json")
    assert machine[0]["at_ms"] - machine[1]["at_ms"] == 24 * 3600 * 1000
    assert data(site, name)["machine"] == []


def test_stages_that_no_order_names_follow(tmp_path):
    """Stages that the given order does not name follow after it, slowest first."""
    for stages in ((), ("int8",)):
        write(tmp_path / "site", histories.ladder(), stages=stages)
        [ladder] = data(tmp_path / "site", f"gpu-{model.short_digest(histories.GPUS[0])}")["ladders"]
        names = [stage["stage"] for stage in ladder["stages"]]
        slowest_first = ["fp32", "bf16", "sdpa", "int8", "compile", "fused_qkv"]  # int8 after its step

        assert names == [*stages, *(stage for stage in slowest_first if stage not in stages)]


def test_a_long_history_is_thinned(tmp_path):
    """A stage's line has at most 250 points and keeps a step; the earliest sessions above the limit are counted and left out."""
    series = histories.series("sdxl/int8/w", runs=MAX_SESSIONS + 5)
    write(tmp_path / "site", [series])
    gpu = model.short_digest(histories.GPUS[0])
    [ladder] = data(tmp_path / "site", f"gpu-{gpu}")["ladders"]
    line = [latency_s for _, latency_s in data(tmp_path / "site", f"ladder-{ladder['id']}")["stages"][0]["line"]]
    listed = data(tmp_path / "site", f"sessions-{gpu}")

    step = int(len(line) * histories.STEP_AT)
    assert len(line) <= model.MAX_LINE_POINTS
    assert min(line[step + 1 :]) > max(line[:step])
    assert (len(listed["sessions"]), listed["left_out"]) == (MAX_SESSIONS, 5)
    assert listed["sessions"][-1]["commit"] == series.points[-1].commit


def test_a_session_holds_all_cases_of_its_time(site):
    """The file of a session contains the figures of every case that was measured at its time."""
    listed = data(site, f"sessions-{model.short_digest(histories.GPUS[0])}")
    session = data(site, f"session-{listed['sessions'][3]['id']}")
    point = histories.series("sdxl/int8/1024px-30steps-b1", base_s=2.429).points[3]
    [row] = [row for row in session["rows"] if row[1] == pytest.approx(point.latency_s, rel=1e-5)]

    assert (len(listed["sessions"]), listed["left_out"], len(session["rows"])) == (40, 0, 6)
    assert (session["commit"], session["versions"]) == (point.commit, point.versions)
    assert row[0] == model.short_digest(histories.GPUS[0], "sdxl/int8/1024px-30steps-b1")


def test_no_page_is_made_of_the_history(tmp_path):
    """Hostile texts are only in `data/`, and there without a character that could end a script or a string."""
    hostile = dataclasses.replace(
        histories.series("a/b/c", runs=12, commit=histories.HOSTILE), gpu_key=histories.HOSTILE
    )
    write(tmp_path / "site", [hostile])
    written = {path: path.read_text() for path in (tmp_path / "site").rglob("*") if path.is_file()}

    assert [path.name for path, text in written.items() if "pwned" in text and path.parent.name != "data"] == []
    assert any("pwned" in text for text in written.values())
    assert not any("<" in text for path, text in written.items() if path.parent.name == "data")
    assert not any("pwned" in path.name for path in written)


def test_pages_allow_nothing_but_their_own_files(site):
    """Every page has a policy that forbids eval, inline scripts and other hosts, and contains no script or handler itself."""
    pages = sorted(site.glob("*.html"))
    for page in pages:
        text = page.read_text()
        policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)[1].replace("&#39;", "'")

        assert "default-src 'none'" in policy
        assert "script-src 'self';" in policy
        assert "unsafe" not in policy
        assert re.findall(r"<script(?! src=\"(?:assets|data)/)|\son\w+=|http:|https:", text) == []
    assert [page.stem for page in pages] == ["case", "compare", "gpu", "index", "sessions"]


@pytest.mark.parametrize(
    "address",
    [
        *("javascript:alert('{commit}')", "https://{commit}.example/", "https://host.example/commit/"),
        *("https://host.example/{commit}/{commit}", 'https://host.example/"{commit}'),
    ],
)
def test_a_commit_address_is_http(tmp_path, address):
    """Only an http or https address with {commit} once, after its host, is accepted."""
    with pytest.raises(ValueError, match="--commit-url"):
        write(tmp_path / "site", histories.ladder(), commit_url=address)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"process_medians_s": (1.0, 0.0)}, "process median"),
        ({"ssim": float("inf")}, "ssim"),
        ({"measured_at": "yesterday"}, "ISO 8601"),
    ],
)
def test_a_figure_that_is_none_is_named(tmp_path, wrong, named):
    """A figure that cannot be drawn is an error with the case, GPU key, run and field, and leaves no folder."""
    series = histories.series("sdxl/int8/w", runs=12, **wrong)
    with pytest.raises(ValueError, match=f"sdxl/int8/w on {series.gpu_key}, run .*{named}"):
        write(tmp_path / "site", [series])

    assert list(tmp_path.iterdir()) == []


def test_a_case_may_lack_figures(tmp_path):
    """Runs without rounds, image or commit, and keys that are not PIPELINE/STAGE/WORKLOAD, are names without ladders."""
    bare = {"process_medians_s": (), "peak_bytes": None, "ssim": None, "first_image_s": None, "commit": None}
    write(tmp_path / "site", [histories.series("alone", runs=3, **bare, versions={})])
    [row] = data(tmp_path / "site", "index")["cases"]

    assert (row["latency_s"], row["peak_bytes"], row["ssim"], row["change"]) == (None, None, None, None)
    assert data(tmp_path / "site", f"gpu-{row['gpu']}")["ladders"] == []


@pytest.mark.parametrize(
    ("series", "message"),
    [
        ([], "holds no runs"),
        ([Series(gpu_key="g", case_key="a/b/c", points=())], "holds no runs"),
        ([histories.series("sdxl/int8/w")] * 2, r"sdxl/int8/w on .* twice"),
    ],
)
def test_a_history_that_is_empty_or_ambiguous_is_no_site(tmp_path, monkeypatch, series, message):
    """No runs are an error, two series of one case, of which one would overwrite the other, and a missing package."""
    with pytest.raises(ValueError, match=message):
        write(tmp_path / "site", series)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        ValueError, match=r"report extra \(jinja2, vl_convert missing\): pip install 'speedgate\[report"
    ):
        write(tmp_path / "site", [histories.series("sdxl/new/w")])


def test_a_site_replaces_the_one_before(tmp_path):
    """A new site replaces an empty folder or the earlier site completely, behind a link too, and leaves nothing beside it."""
    target = tmp_path / "site"
    (tmp_path / "real").mkdir()
    target.symlink_to(tmp_path / "real")
    write(target, [histories.series("sdxl/gone/w")])
    write(target, [histories.series("sdxl/new/w")])

    assert [row["key"] for row in data(target, "index")["cases"]] == ["sdxl/new/w"]
    assert len(list(target.glob("data/case-*"))) == 1
    assert target.is_symlink() and (tmp_path / "real" / "index.html").is_file()
    assert set(tmp_path.iterdir()) == {target, tmp_path / "real"}


def test_a_failure_leaves_the_earlier_site(tmp_path):
    """An error while a site is written leaves the earlier site unchanged."""
    write(tmp_path / "site", [histories.series("sdxl/old/w")])
    before = {path: path.read_bytes() for path in (tmp_path / "site").rglob("*") if path.is_file()}

    def full_disk(_):
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write(tmp_path / "site", [histories.series("sdxl/new/w")], changes=full_disk)

    assert {path: path.read_bytes() for path in (tmp_path / "site").rglob("*") if path.is_file()} == before
    assert list(tmp_path.iterdir()) == [tmp_path / "site"]


@pytest.mark.parametrize(
    ("is_site", "name"), [(False, "thesis.txt"), (True, "CNAME"), (True, ".git/HEAD"), (False, MARKER), (False, "")]
)
def test_a_folder_with_foreign_files_is_not_overwritten(tmp_path, is_site, name):
    """A file, and a folder with files that speedgate did not write or with a broken marker, are refused and stay as they are."""
    target = tmp_path / "site"
    if is_site:
        write(target, [histories.series("sdxl/old/w")])
    (target / name).parent.mkdir(parents=True, exist_ok=True)
    (target / name).write_text("[]")
    before = sorted(tmp_path.rglob("*"))

    with pytest.raises(ValueError, match=re.escape(str(target))):
        write(target, [histories.series("sdxl/new/w")])

    assert sorted(tmp_path.rglob("*")) == before


def test_a_file_that_comes_meanwhile_is_not_overwritten(tmp_path):
    """A foreign file that appears while the site is written is kept, and the new site is discarded."""

    def intrude(_):
        (tmp_path / "site").mkdir()
        (tmp_path / "site" / "thesis.txt").write_text("mine")
        return []

    with pytest.raises(ValueError, match="did not write"):
        write(tmp_path / "site", [histories.series("sdxl/new/w")], changes=intrude)

    assert [path.name for path in tmp_path.rglob("*")] == ["site", "thesis.txt"]


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """Create a history of two stages: one with a step of 10 %, the other with only three runs."""
    pytest.importorskip("sqlalchemy", reason="needs the history extra: pip install 'speedgate[history]'")
    from speedgate.history import database, queries
    from tests.support.history_samples import document, entry

    def slower(number, case_key):
        result = document(case_key, number=number)
        factor = 1.1 if number >= STEP_AT else 1 + number % 3 / 1000
        for process in result["run"]["processes"]:
            process["seconds"] = [value * factor for value in process["seconds"]]
        return entry(case_key, number=number, run=result["run"])

    url = f"sqlite:///{tmp_path_factory.mktemp('history') / 'history.sqlite'}"
    database.prepare_history(url)
    runs_by_stage = {"int8": RUNS, "fp32": 3}
    queries.add_entries(
        url,
        [slower(n, f"sdxl/{stage}/1024px-30steps-b1") for stage, runs in runs_by_stage.items() for n in range(runs)],
    )
    return url


def test_a_history_becomes_a_site(tmp_path, url, capsys):
    """Every case of the history is in the index, with the change that the trend finds, and one line reports it."""
    assert cli.main(shlex.split(f"site {tmp_path / 'site'} --history {url}")) == 0
    rows = {CaseKey.parse(row["key"]).stage: row for row in data(tmp_path / "site", "index")["cases"]}

    assert "27 runs of 2 cases on 1 GPU keys" in capsys.readouterr().out
    assert {stage: row["runs"] for stage, row in rows.items()} == {"int8": RUNS, "fp32": 3}
    assert rows["fp32"]["change"] is None
    assert (rows["int8"]["change"]["kind"], rows["int8"]["change"]["run"]) == ("step", STEP_AT)
    assert rows["int8"]["change"]["ratio"] == pytest.approx(1.1, rel=0.02)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("new --history sqlite:///{path}/none.sqlite", "none.sqlite"),
        ("new", "history sqlite:///.speedgate/history.sqlite: there is no such file"),
        ("new --history {url} --commit-url javascript:{{commit}}", "--commit-url"),
        ("foreign --history sqlite:///none", "did not write"),  # before the history is opened
    ],
)
def test_bad_input_is_one_line(tmp_path, url, capsys, monkeypatch, arguments, message):
    """A missing history, a wrong commit URL and a foreign folder are one line on stderr, exit status 2, and no site."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "thesis.txt").touch()

    assert cli.main(["site", *shlex.split(arguments.format(path=tmp_path, url=url))]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert message in line
    assert [path.name for path in tmp_path.rglob("*")] == ["foreign", "thesis.txt"]


def test_the_order_of_the_ladder_is_that_of_the_baselines(pytestconfig, tmp_path):
    """Runs name their stages, so a baseline that begins with int8, or of a variant, leaves bf16 after fp32; none has no order."""
    ladder = ["fp32", "bf16", "sdpa", "compile", "fused_qkv", "int8"]
    int8, bf16, flash = (
        msgspec.structs.replace(make_run(f"sdxl/{stages[-1]}/1024px-30steps-b1"), recipe={"stages": stages})
        for stages in (ladder, ladder[:2], [*ladder[:3], "sdpa_flash"])
    )
    store_file(tmp_path, "0001_a.json", flash, int8)
    store_file(tmp_path, "0002_b.json", bf16)

    for root in (pytestconfig.rootpath / "baselines", tmp_path):
        assert commands.stages_of_baselines(root) == tuple(ladder)
    assert commands.stages_of_baselines(tmp_path / "none") == ()
