"""Compile caches between machines: saved and loaded around the first image, exported, imported, refused."""

from __future__ import annotations

import contextlib
import dataclasses
import re

import pytest

from speedgate.cli import main
from speedgate.fleet import commands, compile_cache
from speedgate.fleet.cache_archive import Build, CacheContent, CacheOrigin, file_stem, read_cache_file, write_cache_file
from speedgate.fleet.compile_cache import CaseCache
from speedgate.measure.worker import Worker, WorkerFailure
from tests.measure.test_worker import PATHS
from tests.support.baseline_samples import KEY
from tests.support.suite import Suite, red

CASE, OTHER = "sdxl/int8/1024px-30steps-b1", "sdxl/compile/1024px-30steps-b1"
VERSIONS = {
    "python": "3.11.7",
    "torch": "2.13.0+cu130",
    "torch_git": "cf30153",
    "triton": "3.7.0",
    "diffusers": "0.42.1",
}


def origin(gpu_key=KEY, **versions):
    """The origin of a cache, of this machine and build but for the facts that are given."""
    return CacheOrigin(gpu_key=gpu_key, build=Build.from_versions(VERSIONS | versions))


HERE = origin()
BYTES = bytes(range(256)) * 8


class Holder:
    """A worker that holds `artifacts` and remembers what it was asked."""

    def __init__(self, artifacts=BYTES):
        self.artifacts, self.asked = artifacts, []

    def call(self, operation, **keywords):
        self.asked.append((operation, *keywords.values()))
        return 0.25 if operation == "load_cache" else self.artifacts


@pytest.fixture
def notes():
    """The lines that a start showed to the user."""
    return []


@pytest.fixture
def cached(tmp_path, notes):
    """The compile cache of one case, nothing saved and nothing imported."""
    return CaseCache(
        folder=tmp_path / "caches",
        origin=HERE,
        case_key=CASE,
        fingerprint="f00d",
        activity=lambda text: contextlib.nullcontext(),
        note=notes.append,
    )


def start(cached, worker, *, missed=False):
    """What a session does around the first image; the seconds that loading took."""
    load_s = cached.load_into(worker)
    cached.save_from(worker, loaded=load_s > 0, missed=missed)
    return load_s


def exported(cached, target):
    """A file of what the case has left."""
    compile_cache.export_to(target, folder=cached.folder, here=cached.origin)
    return target


def elsewhere(cached, folder, **changes):
    """The same case on a machine that has compiled nothing."""
    return dataclasses.replace(cached, folder=folder, **changes)


def test_what_was_compiled_is_kept_once(cached):
    """The first start leaves a file, a second one that compiled nothing asks its worker for nothing."""
    first, second = Holder(), Holder()
    start(cached, first, missed=True)
    start(cached, second)

    assert (first.asked, second.asked) == ([("save_cache",)], [])


@pytest.mark.parametrize(
    ("changes", "missed"), [({}, True), ({"fingerprint": "beef"}, False), ({"origin": origin(torch="2.14.0")}, False)]
)
def test_what_was_compiled_anew_replaces_what_is_kept(cached, changes, missed):
    """A start that missed its cache, and one of another recipe or build, leave theirs instead."""
    start(cached, Holder(), missed=True)
    later = dataclasses.replace(cached, **changes)
    start(later, Holder(b"newer"), missed=missed)

    (path,) = cached.folder.rglob("*.zip")
    file = read_cache_file(path)

    assert file.artifacts(file.entries[0]) == b"newer"
    assert (file.origin, file.entries[0].fingerprint) == (later.origin, later.fingerprint)


def test_a_broken_file_of_ours_is_replaced(cached):
    """What cannot be read is no reason to keep nothing."""
    start(cached, Holder())
    (path,) = cached.folder.rglob("*.zip")
    path.write_bytes(b"PK")
    start(cached, Holder())

    assert read_cache_file(path).entries[0].case_key == CASE


def test_nothing_is_kept_where_torch_keeps_nothing(cached, notes):
    """With its caches switched off torch has nothing to save, which is said."""
    start(cached, Holder(None))

    assert list(cached.folder.rglob("*.zip")) == []
    assert "its caches are off" in notes[-1]


def test_an_imported_cache_is_loaded_by_one_start(cached, tmp_path):
    """The bytes come back as they went; after that start torch's own cache has them, and the next start loads nothing."""
    start(cached, Holder(), missed=True)
    there = elsewhere(cached, tmp_path / "there")
    compile_cache.import_from(exported(cached, tmp_path / "c.zip"), folder=there.folder, here=HERE)
    first, second = Holder(), Holder()

    assert (start(there, first), start(there, second)) == (0.25, 0.0)
    assert (first.asked, second.asked) == ([("load_cache", BYTES)], [])


def test_an_imported_cache_is_exported_again(cached, tmp_path):
    """Cases that a job did not run are in what it leaves, and those that it loaded are too."""
    start(cached, Holder())
    there = elsewhere(cached, tmp_path / "there")
    compile_cache.import_from(exported(cached, tmp_path / "c.zip"), folder=there.folder, here=HERE)
    exported(there, tmp_path / "unloaded.zip")
    start(there, Holder())
    exported(there, tmp_path / "loaded.zip")

    for name in ("unloaded", "loaded"):
        assert [entry.case_key for entry in read_cache_file(tmp_path / f"{name}.zip").entries] == [CASE]


def test_an_interrupted_start_loads_again(cached, tmp_path):
    """Until the first image is there, nothing says that torch has what was loaded."""
    start(cached, Holder())
    there = elsewhere(cached, tmp_path / "there")
    compile_cache.import_from(exported(cached, tmp_path / "c.zip"), folder=there.folder, here=HERE)

    assert [there.load_into(Holder()) for _ in range(2)] == [0.25, 0.25]


def test_what_an_imported_cache_lacked_is_kept(cached, tmp_path):
    """A start that loaded and compiled all the same leaves what it compiled, and the imported file is not loaded again."""
    start(cached, Holder())
    there = elsewhere(cached, tmp_path / "there")
    compile_cache.import_from(exported(cached, tmp_path / "c.zip"), folder=there.folder, here=HERE)
    start(there, Holder(b"newer"), missed=True)

    (path,) = there.folder.rglob("*.zip")
    assert read_cache_file(path).entries[0].artifact_bytes == len(b"newer")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"fingerprint": "beef"}, "its recipe is f00d, this is beef"),
        ({"origin": origin(torch="2.14.0")}, "its torch is 2.13.0+cu130, here it is 2.14.0"),
    ],
)
def test_a_cache_of_another_recipe_or_build_is_not_used(cached, tmp_path, notes, changes, said):
    """What was imported for something else is left alone, and both values are said."""
    start(cached, Holder())
    there = elsewhere(cached, tmp_path / "there", **changes)
    compile_cache.import_from(exported(cached, tmp_path / "c.zip"), folder=there.folder, here=HERE)
    worker = Holder()

    assert there.load_into(worker) == 0.0
    assert worker.asked == []
    assert said in notes[0]


def test_a_session_keeps_and_loads_what_compiles(pytester):
    """Stages that compile leave a file, eager ones none; an imported one is loaded by the first process and no other."""
    suite = Suite(pytester)
    folder = pytester.path / compile_cache.FOLDER / suite.machine.key
    suite.run("--stage=sdpa,int8", "-k", "cold_start")
    (left,) = folder.glob("*.zip")
    (folder / "imported").mkdir()
    left.rename(folder / "imported" / left.name)

    result = suite.run("--stage=int8", "--processes=2", "-k", "cold_start")
    starts = [process["cold_start"] for process in suite.result("int8")["run"]["processes"]]

    assert red(result) == []
    assert [start["cache_load_s"] for start in starts] == [0.1, 0.0]
    result.stdout.re_match_lines([r"  sdxl-tiny-int8: load the imported compile cache \.\.\. .*"])
    assert left.exists()


def test_the_other_arm_keeps_nothing(pytester):
    """What the other arm compiles is of its own build: only this arm's worker is asked."""
    suite = Suite(pytester)
    result = suite.run("--stage=int8", "-k", "same_structure", suite.against(versions={"torch": "2.14.0"}))

    assert sorted(suite.arms("int8")) == ["other", "this"]
    assert result.stdout.str().count("keep the compile cache") == 1


def test_this_process_keeps_nothing(pytester):
    """Without isolation torch would save every case so far as the last one's."""
    Suite(pytester).run("--stage=int8", "-k", "cold_start", "--isolation=none")

    assert not (pytester.path / compile_cache.FOLDER).exists()


@pytest.fixture
def compiling(tmp_path, monkeypatch):
    """Start a worker that compiles a function, with torch's caches in a folder of its own."""
    workers = []

    def begin(name):
        monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / name / "inductor"))
        log = tmp_path / f"{name}.log"
        workers.append(Worker("tests.support.targets:Compiled", arguments={}, paths=PATHS, log=log, timeout_s=240.0))
        return workers[-1]

    yield begin
    for worker in workers:
        worker.close()


def test_what_torch_compiled_in_one_folder_is_found_in_another(cached, tmp_path, compiling):
    """A real function compiled in one worker is a hit and no miss in another one that has imported what the first left."""
    there = elsewhere(cached, tmp_path / "there")
    first, second = compiling("here"), compiling("elsewhere")

    cold = first.call("first_image")
    cached.save_from(first, loaded=False, missed=True)
    compile_cache.import_from(exported(cached, tmp_path / "c.zip"), folder=there.folder, here=HERE)
    load_s = there.load_into(second)
    imported = second.call("first_image")

    assert (cold["cache_hits"], cold["cache_misses"]) == (0, 1)
    assert (imported["cache_hits"], imported["cache_misses"]) == (1, 0)
    assert 0 < load_s < 10


def test_what_torch_cannot_read_is_an_error(compiling):
    """Bytes that are no artifacts end the start with a sentence, not with a cold cache that nobody notices."""
    with pytest.raises(WorkerFailure, match="torch cannot read the compile cache that was imported for this case"):
        compiling("here").call("load_cache", artifacts=b"no artifacts")


def leave(folder, case_key, *, origin=HERE, fingerprint="f00d"):
    """The file of one case, as a start leaves it."""
    content = CacheContent(case_key=case_key, fingerprint=fingerprint, artifacts=b"compiled" * 100)
    path = folder / f"{file_stem(case_key)}.zip"
    return write_cache_file(path, origin=origin, contents=[content]).path


@pytest.mark.parametrize(
    ("here", "said"),
    [
        (origin(gpu_key="nvidia-h200-141gb-700w"), f"its GPU key is {KEY}, here it is nvidia-h200-141gb-700w"),
        (origin(torch="2.14.0"), "its torch is 2.13.0+cu130, here it is 2.14.0"),
        (origin(torch_git="abc"), "its torch_git is cf30153, here it is abc"),
        (origin(python="3.12.1"), "its python is 3.11, here it is 3.12"),
        (origin(triton=None), "its triton is 3.7.0, here it is None"),
    ],
)
def test_an_import_of_another_build_or_machine_is_refused(tmp_path, here, said):
    """One sentence names both values, and nothing is written."""
    path = leave(tmp_path, CASE)

    with pytest.raises(ValueError) as refused:
        compile_cache.import_from(path, folder=tmp_path / "there", here=here)
    assert said in str(refused.value)
    assert not (tmp_path / "there").exists()


def test_a_bug_fix_release_of_python_is_the_same_build():
    """Runners move from 3.11.7 to 3.11.8 by themselves."""
    assert origin(python="3.11.8") == HERE


def test_an_export_is_of_one_build(tmp_path):
    """What another build compiled is left out and named; with nothing else there is nothing to export."""
    leave(tmp_path / KEY, CASE)
    leave(tmp_path / KEY, OTHER, origin=origin(torch="2.14.0"))

    ((file,), (left_out,)) = compile_cache.export_to(tmp_path / "c.zip", folder=tmp_path, here=HERE)

    assert [entry.case_key for entry in file.entries] == [CASE]
    assert "sdxl__compile__1024px-30steps-b1.zip: its torch is 2.14.0" in left_out
    with pytest.raises(
        ValueError, match=r"nothing compiled by this build .*its torch is 2\.13.*: run pytest bench/ first"
    ):
        compile_cache.export_to(tmp_path / "d.zip", folder=tmp_path, here=origin(torch="2.15.0"))


def test_a_folder_gets_a_file_for_each_case(tmp_path):
    """Each is whole by itself: a case that is too large for a transfer holds up no other."""
    for key in (CASE, OTHER):
        leave(tmp_path / KEY, key)
    (tmp_path / "out").mkdir()

    files, _ = compile_cache.export_to(tmp_path / "out", folder=tmp_path, here=HERE)

    assert [[entry.case_key for entry in read_cache_file(file.path).entries] for file in files] == [[OTHER], [CASE]]


@pytest.mark.parametrize(
    ("left", "imported", "fingerprint"), [(HERE, HERE, "f00d"), (origin(torch="2.12.0"), HERE, "beef")]
)
def test_what_was_compiled_here_counts_for_more(tmp_path, left, imported, fingerprint):
    """A case that was imported and also compiled here is exported as compiled, unless that was another build."""
    leave(tmp_path / KEY, CASE, origin=left)
    leave(tmp_path / KEY / "imported", CASE, origin=imported, fingerprint="beef")

    ((file,), _) = compile_cache.export_to(tmp_path / "c.zip", folder=tmp_path, here=HERE)

    assert [entry.fingerprint for entry in file.entries] == [fingerprint]


@pytest.fixture
def options(monkeypatch, tmp_path):
    """A folder of its own, and this machine and build as the samples have them."""
    monkeypatch.setattr(commands, "_current_origin", lambda device: HERE)
    return ["--folder", str(tmp_path / "caches")]


def test_the_verbs_say_what_they_carried(tmp_path, capsys, options):
    """Each case is named with its recipe and size, and what happens next is said."""
    leave(tmp_path / "caches" / KEY, CASE)
    path = str(tmp_path / "c.zip")

    assert main(["cache", "export", path, *options]) == 0
    assert main(["cache", "import", path, *options]) == 0
    out = capsys.readouterr().out
    assert out.count(f"{CASE}: recipe f00d, 0.0 MB unpacked") == 2
    assert "the next start of each case loads it" in out


@pytest.mark.parametrize("verb", ["export", "import"])
def test_the_help_says_whom_to_trust(verb, capsys):
    """Both verbs say that an imported file is code."""
    with pytest.raises(SystemExit):
        main(["cache", verb, "--help"])

    assert "torch unpickles it" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["export", "c.zip"], ["import", "absent.zip"]])
def test_nothing_to_carry_is_one_line(capsys, options, arguments):
    """An empty folder and a missing file end with status 2."""
    assert main(["cache", *arguments, *options]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_file_of_somebody_else_is_not_replaced(tmp_path, capsys, options):
    """A file that no export wrote stays as it is; an earlier export is replaced."""
    leave(tmp_path / "caches" / KEY, CASE)
    notes = tmp_path / "notes.txt"
    notes.write_text("mine")

    assert main(["cache", "export", str(notes), *options]) == 2
    assert "not replaced; name another file" in capsys.readouterr().err
    assert notes.read_text() == "mine"
    assert [main(["cache", "export", str(tmp_path / "d.zip"), *options]) for _ in range(2)] == [0, 0]


def test_an_export_makes_no_folders(tmp_path, capsys, options):
    """A mistyped folder is one line, and not made."""
    leave(tmp_path / "caches" / KEY, CASE)

    assert main(["cache", "export", str(tmp_path / "ouput" / "c.zip"), *options]) == 2
    assert "ouput is no folder; make it first" in capsys.readouterr().err
    assert not (tmp_path / "ouput").exists()


def test_a_system_error_names_its_file(tmp_path, capsys, options):
    """A folder in which nothing can be written is its name and the reason, without the system's number."""
    leave(tmp_path / "caches" / KEY, CASE)

    assert main(["cache", "export", "/proc/c.zip", *options]) == 2
    assert re.fullmatch(r"speedgate: /proc/\S+: No such file or directory\n", capsys.readouterr().err)


def test_a_folder_is_imported_by_its_exports(tmp_path, capsys, options):
    """An import takes the files that an export into the folder wrote and no others; a folder without any is one line."""
    for key in (CASE, OTHER):
        leave(tmp_path / "caches" / KEY, key)
    out = tmp_path / "out"
    out.mkdir()
    assert main(["cache", "export", str(out), *options]) == 0
    (out / "photos.zip").write_text("mine")
    capsys.readouterr()

    assert main(["cache", "import", str(out), *options]) == 0
    assert sorted(path.name for path in (tmp_path / "caches" / KEY / "imported").iterdir()) == [
        "sdxl__compile__1024px-30steps-b1.zip", "sdxl__int8__1024px-30steps-b1.zip",
    ]  # fmt: skip
    assert main(["cache", "import", str(tmp_path), *options]) == 2
    assert "holds no file that an export into a folder makes" in capsys.readouterr().err
