"""Compile caches between machines: what is kept and loaded for a cached, what a file must be, and the two verbs."""

from __future__ import annotations

import contextlib
import dataclasses

import pytest

from speedgate.fleet import cache_archive, compile_cache
from speedgate.fleet.compile_cache import CaseCache
from speedgate.measure.worker import Worker, WorkerFailure
from tests.measure.test_worker import PATHS
from tests.support.baseline_samples import KEY
from tests.support.suite import Suite, red

CASE = "sdxl/int8/1024px-30steps-b1"
ENVIRONMENT = {
    "python": "3.11.7",
    "torch": "2.13.0+cu130",
    "torch_git": "cf30153",
    "triton": "3.7.0",
    "diffusers": "0.42.1",
}
HERE = cache_archive.origin(KEY, ENVIRONMENT)
BYTES = bytes(range(256)) * 8


class Told:
    """Speaks as `speedgate.plugin.progress.Progress` does."""

    def __init__(self):
        self.lines = []

    @contextlib.contextmanager
    def activity(self, text):
        self.note(text)
        yield

    def note(self, text):
        self.lines.append(text)


class Holder:
    """A worker that holds `artifacts` and remembers what it was asked."""

    def __init__(self, artifacts=BYTES):
        self.artifacts, self.asked = artifacts, []

    def call(self, operation, **keywords):
        self.asked.append((operation, *keywords.values()))
        return 0.25 if operation == "load_cache" else self.artifacts


@pytest.fixture
def cached(tmp_path):
    """The compile cache of one cached, nothing kept and nothing imported."""
    return CaseCache(
        folder=tmp_path / "caches", origin=HERE, case_key=CASE, fingerprint="f00d", name="sdxl-int8", progress=Told()
    )


def start(cached, worker, *, missed=False):
    """What a session does around the first image; the seconds that loading took."""
    load_s = cached.load_into(worker)
    cached.keep_from(worker, loaded=load_s > 0, missed=missed)
    return load_s


def exported(cached, target):
    """A file of what the case has left."""
    compile_cache.export_to(target, folder=cached.folder, here=cached.origin)
    return target


def elsewhere(cached, folder, **changes):
    """The same case on a machine that has compiled nothing."""
    return dataclasses.replace(cached, folder=folder, progress=Told(), **changes)


def of(**facts):
    """An origin that differs in these facts."""
    return cache_archive.origin(facts.pop("gpu_key", KEY), ENVIRONMENT | facts)


def test_what_was_compiled_is_kept_once(cached):
    """The first start leaves a file, a second one that compiled nothing asks its worker for nothing."""
    first, second = Holder(), Holder()
    start(cached, first, missed=True)
    start(cached, second)

    assert (first.asked, second.asked) == ([("save_cache",)], [])


@pytest.mark.parametrize(
    ("changes", "missed"), [({}, True), ({"fingerprint": "beef"}, False), ({"origin": of(torch="2.14.0")}, False)]
)
def test_what_was_compiled_anew_replaces_what_is_kept(cached, changes, missed):
    """A start that missed its cache, and one of another recipe or build, leave theirs instead."""
    start(cached, Holder(), missed=True)
    later = dataclasses.replace(cached, **changes)
    start(later, Holder(b"newer"), missed=missed)

    (path,) = cached.folder.rglob("*.zip")
    file = cache_archive.read(path)

    assert file.artifacts(file.entries[0]) == b"newer"
    assert (file.origin, file.entries[0].fingerprint) == (later.origin, later.fingerprint)


def test_a_broken_file_of_ours_is_replaced(cached):
    """What cannot be read is no reason to keep nothing."""
    start(cached, Holder())
    (path,) = cached.folder.rglob("*.zip")
    path.write_bytes(b"PK")
    start(cached, Holder())

    assert cache_archive.read(path).entries[0].case_key == CASE


def test_nothing_is_kept_where_torch_keeps_nothing(cached):
    """With its caches switched off torch has nothing to save, which is said."""
    start(cached, Holder(None))

    assert list(cached.folder.rglob("*.zip")) == []
    assert "its caches are off" in cached.progress.lines[-1]


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
        assert [entry.case_key for entry in cache_archive.read(tmp_path / f"{name}.zip").entries] == [CASE]


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
    assert cache_archive.read(path).entries[0].artifact_bytes == len(b"newer")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"fingerprint": "beef"}, "its recipe is f00d, this is beef"),
        ({"origin": of(torch="2.14.0")}, "its torch is 2.13.0+cu130, here it is 2.14.0"),
    ],
)
def test_a_cache_of_another_recipe_or_build_is_not_used(cached, tmp_path, changes, said):
    """What was imported for something else is left alone, and both values are said."""
    start(cached, Holder())
    there = elsewhere(cached, tmp_path / "there", **changes)
    compile_cache.import_from(exported(cached, tmp_path / "c.zip"), folder=there.folder, here=HERE)
    worker = Holder()

    assert there.load_into(worker) == 0.0
    assert worker.asked == []
    assert said in there.progress.lines[0]


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
    cached.keep_from(first, loaded=False, missed=True)
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
