"""`speedgate merge` makes one verdict of all shards, and refuses shards that do not fit together."""

import json
import re

import msgspec
import pytest

from fixtures import pipelines_page
from speedgate.cli import main
from speedgate.fleet.shards import Manifest, Shard
from speedgate.gate.policy import Policy
from speedgate.report import markdown
from speedgate.results.case_key import RESULT_FILES, CaseKey
from speedgate.results.folder import read_folder
from speedgate.results.json_io import to_json, write_json
from tests.support.artifacts import result
from tests.support.baseline_samples import KEY, make_confirmation, make_run

KEYS = tuple(f"sdxl/{stage}/1024px-30steps-b1" for stage in ("fp32", "bf16", "sdpa", "int8"))
MANIFEST = Manifest(
    shard=Shard(number=1, of=2),
    selection=KEYS,
    case_keys=KEYS[:2],
    gpu_key=KEY,
    commit={"id": "c0ffee", "dirty": False},
    versions={"torch": "2.13.0", "driver": "570"},
    policy=Policy(),
    exit_status=0,
)
OTHER = {"shard": Shard(number=2, of=2), "case_keys": KEYS[2:]}


def shard(folder, *, results=None, **changes):
    """Write the folder of a shard: its manifest, and a result for each of its cases unless `results` is given."""
    manifest = msgspec.structs.replace(MANIFEST, **changes)
    manifest.write(folder)
    for key, document in (results if results is not None else {key: result(key) for key in manifest.case_keys}).items():
        write_json(folder / CaseKey.parse(key).file_name, document)
    return folder


@pytest.fixture
def merge(tmp_path, capsys):
    """Return a function that merges folders into tmp_path/merged; it returns the exit status and the output."""

    def run(*folders):
        status = main(["--root", str(tmp_path), "merge", *map(str, folders), "--output", str(tmp_path / "merged")])
        output = capsys.readouterr()
        return status, output.out + output.err

    return run


@pytest.fixture
def halves(tmp_path):
    return shard(tmp_path / "1"), shard(tmp_path / "2", **OTHER)


def test_the_whole_is_a_folder_of_results(tmp_path, merge, halves):
    """The merged folder has each case once, as its shard measured it, and every reader accepts it."""
    status, output = merge(*halves)

    merged = tmp_path / "merged"
    assert status == 0
    assert all(key in output for key in KEYS)
    assert sorted(path.name for path in merged.glob(RESULT_FILES)) == sorted(CaseKey.parse(k).file_name for k in KEYS)
    assert json.loads((merged / "verdict.json").read_text())["green"] is True
    assert (merged / "summary.md").read_text() == markdown.render(read_folder(merged))
    pipelines_page.read(merged)


def test_what_was_merged_can_be_merged(tmp_path, merge, halves):
    """Cases are in the order of the selection, not of the folders, and the merged folder is shard 1 of 1 again."""
    merge(*reversed(halves))
    (tmp_path / "merged").rename(tmp_path / "whole")

    assert json.loads((tmp_path / "whole" / "manifest.json").read_text())["part"] == list(KEYS)
    assert merge(tmp_path / "whole")[0] == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"exit_status": 1},  # a test failed without a verdict
        {"results": {KEYS[2]: result(KEYS[2], outcome="SLOWER"), KEYS[3]: result(KEYS[3])}},  # its status is 0
    ],
)
def test_one_red_shard_is_red(tmp_path, merge, changes):
    """One red shard makes the merge red, as it would make one session red."""
    status, _ = merge(shard(tmp_path / "1"), shard(tmp_path / "2", **OTHER, **changes))

    assert status == 1
    assert json.loads((tmp_path / "merged" / "verdict.json").read_text())["green"] is False


def refused(merge, message, *folders):
    """Check that the merge fails with one line that has this text."""
    status, output = merge(*folders)

    assert status == 2
    assert re.fullmatch(f"speedgate: .*{message}.*\n", output), output


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"case_keys": KEYS[1:]}, f"overlap: {KEYS[1]} was to be measured by shard 1/2 .* and by shard 2/2"),
        ({"case_keys": KEYS[3:]}, f"gap: {KEYS[2]} of the selection was to be measured by no shard"),
        ({"case_keys": ("a/b/c", *KEYS[2:])}, "a/b/c is not of the selection"),
        ({"shard": Shard(number=1, of=2)}, "are the same shard; name it once"),
        ({"shard": Shard(number=2, of=3)}, "are of different divisions"),
        ({"gpu_key": "nvidia-h100"}, f"differ in their gpu_key: {KEY} and nvidia-h100"),
        ({"commit": {"id": "beef", "dirty": False}}, "differ in their commit: id c0ffee and beef"),
        ({"versions": {"torch": "2.14.0", "driver": "570"}}, "differ in their versions: torch 2.13.0 and 2.14.0"),
        ({"selection": (*KEYS, "a/b/c")}, "differ in their selection: a/b/c in one of them alone"),
        ({"against": "the other arm"}, "differ in their against"),
        ({"policy": Policy(latency_tolerance=0.5)}, "differ in their policy: latency_tolerance 0.03 and 0.5"),
        ({"exit_status": None}, "gap: shard 2/2 .* did not end; run it again"),
        ({"exit_status": 2}, "gap: shard 2/2 .* ended with pytest's exit status 2"),
        ({"results": {KEYS[2]: result(KEYS[2])}}, f"gap: shard 2/2 .* {KEYS[3]} has no result"),
        ({"results": {k: result(k) for k in KEYS[1:]}}, f"overlap: shard 2/2 .* judged the latency of {KEYS[1]}"),
        ({"results": {k: result(k, gpu_key="x") for k in KEYS[2:]}}, "is of x and the manifest of"),
    ],
)
def test_what_does_not_fit_together_is_refused(tmp_path, merge, changes, message):
    """An overlap, a gap, a mixture, a repeated shard and an interrupted one are each refused with one line."""
    other = shard(tmp_path / "2", **{**OTHER, **changes})

    refused(merge, message, shard(tmp_path / "1"), other)
    assert not (tmp_path / "merged").exists()


def test_other_versions_than_the_manifest_says_are_refused(tmp_path, merge):
    """A result of other versions than the manifest's is refused: a worker may import another torch than the session."""
    run = to_json(msgspec.structs.replace(make_run(KEYS[2]), environment={"torch": "2.12.0"}))
    results = {KEYS[2]: result(KEYS[2], run=run), KEYS[3]: result(KEYS[3])}

    refused(merge, "ran on other versions", shard(tmp_path / "1"), shard(tmp_path / "2", results=results, **OTHER))


@pytest.mark.parametrize(
    "changes",
    [
        {"results": {key: result(key, outcome="NO_BASELINE") for key in KEYS[2:]}},  # red with `--gate enforce` only
        {"results": {KEYS[2]: result(KEYS[2])}, "skipped": KEYS[3:]},
    ],
)
def test_what_the_gate_accepts_or_every_test_skipped_is_green(tmp_path, merge, changes):
    """A case without a baseline is only red with `--gate enforce`, and one that every test skipped is no gap."""
    assert merge(shard(tmp_path / "1"), shard(tmp_path / "2", **changes, **OTHER))[0] == 0


def test_a_reference_is_taken_from_the_shard_that_judged_it(tmp_path, merge):
    """A case that one shard measured only as a reference does not replace the result of the shard that judged it."""
    reference = {KEYS[0]: result(KEYS[0], verdicts=[], run=to_json(make_run(KEYS[0], medians_s=(99.0,))))}
    results = {key: result(key) for key in KEYS[2:]}

    merge(shard(tmp_path / "1"), shard(tmp_path / "2", results=results | reference, **OTHER))

    document = json.loads(next((tmp_path / "merged").glob("*fp32*")).read_text())
    assert document == json.loads(json.dumps(result(KEYS[0])))


def test_a_reference_that_was_lost_is_reported(tmp_path, merge):
    """If a worker dies in a shard that needs the case only as a reference, the merge is red and says so."""
    lost = {"case_key": KEYS[0], "claim": "worker", "outcome": "INVALID", "sentence": "died"}
    results = {key: result(key) for key in KEYS[2:]} | {KEYS[0]: result(KEYS[0], run=None, verdicts=[lost])}

    status, output = merge(shard(tmp_path / "1"), shard(tmp_path / "2", results=results, **OTHER))

    assert status == 1
    assert f"INVALID {KEYS[0]} worker: died" in output


def test_confirmed_cases_of_all_shards_are_counted(tmp_path, merge):
    """The line on live pairs has the cases of every shard, and the merged files keep their pairs."""
    folders = [
        shard(
            tmp_path / str(number),
            results={key: result(key) | {"confirmation": to_json(make_confirmation(key))} for key in keys},
            shard=Shard(number=number, of=2),
            case_keys=keys,
        )
        for number, keys in ((1, KEYS[:2]), (2, KEYS[2:]))
    ]

    status, output = merge(*folders)

    assert status == 0
    assert "4 cases may be slower than their stored figures: pairs decided 4" in output
    assert json.loads(next((tmp_path / "merged").glob("*int8*")).read_text())["confirmation"]["processes"]


def test_uncommitted_changes_are_reported(tmp_path, merge):
    """Uncommitted changes are reported: two checkouts of one commit may then have different code."""
    dirty = {"commit": {"id": "c0ffee", "dirty": True}}

    status, output = merge(shard(tmp_path / "1", **dirty), shard(tmp_path / "2", **OTHER, **dirty))

    assert status == 0
    assert "the checkouts had uncommitted changes" in output


def test_a_missing_shard_and_a_full_folder_are_refused(tmp_path, merge, halves):
    """A missing shard is named with its cases, and a folder with files is refused as the output."""
    refused(merge, f"gap: shard 2/2 is missing, and with it {KEYS[2]}, {KEYS[3]}", halves[0])
    (tmp_path / "merged").mkdir()
    (tmp_path / "merged" / "mine.txt").touch()
    refused(merge, "--output .*merged: is not empty; name a new folder", *halves)


@pytest.mark.parametrize(
    "changes",
    [
        {"schema": 99},
        {"policy": {"looks": {"first": 5, "last": 1}}},
        {"shard": {"number": 3, "of": 2}},
        {"part": [KEYS[0], KEYS[0]]},
        {"gpu_key": "../up"},
        {"more": 1},
        b"[]",
        b"[" * 10**5,
    ],
)
def test_a_strangers_manifest_is_one_error(tmp_path, merge, changes):
    """A manifest that no session writes, that is no JSON object or too large, is named and not printed."""
    path = shard(tmp_path / "1") / "manifest.json"
    data = changes if isinstance(changes, bytes) else json.dumps(json.loads(path.read_text()) | changes).encode()
    path.write_bytes(data)

    refused(merge, "manifest.json", tmp_path / "1")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"against": {"log_ratios": ["x"]}}, "the results of the other arm are not what a session writes"),
        ({"against": [1]}, "the results of the other arm are not what a session writes"),
        ({"verdicts": 1}, "verdicts: expected a list"),
        (
            {"injected": {"fault": "x", "gate": "latency", "outcome": "SLOWER", "case_keys": [KEYS[2]]}},
            "the run has the injected fault 'x'",
        ),
        ({"quick": True}, "the run was made with --quick, which times nothing, so it is never promoted, merged or"),
    ],
)
def test_a_hostile_result_is_one_error(tmp_path, merge, changes, message):
    """Unexpected content of a stranger's result is an error of one line, not a traceback."""
    results = {KEYS[2]: result(KEYS[2]) | changes, KEYS[3]: result(KEYS[3])}

    refused(merge, message, shard(tmp_path / "1"), shard(tmp_path / "2", results=results, **OTHER))


def test_a_link_is_not_followed(tmp_path, merge, halves):
    """A link to a manifest or a result is refused."""
    (halves[1] / "manifest.json").rename(tmp_path / "elsewhere.json")
    (halves[1] / "manifest.json").symlink_to(tmp_path / "elsewhere.json")

    refused(merge, "manifest.json: a link", *halves)


def test_a_result_under_another_name_or_without_a_manifest_is_refused(tmp_path, merge):
    """Under another case's name a case would be counted twice, and without a manifest nobody can tell what a folder lacks."""
    folder = shard(tmp_path / "1")
    write_json(folder / "a__b__c.json", result(KEYS[0]))
    refused(merge, "holds the result of another case", folder)
    (folder / "manifest.json").unlink()
    refused(merge, "no manifest.json", folder)
