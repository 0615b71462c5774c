"""Compile caches between machines: saved and loaded around the first image, exported, imported, refused."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from types import SimpleNamespace

import pytest

from fixtures.stages import torch_state
from speedgate.cli import main
from speedgate.fleet import commands, compile_cache
from speedgate.fleet.cache_archive import Build, CacheContent, CacheOrigin, file_stem, read_cache_file, write_cache_file
from speedgate.fleet.compile_cache import CaseCache
from speedgate.plugin.builder import Builder
from tests.support.baseline_samples import KEY
from tests.support.command import fails
from tests.support.fake_target import FakeSpec, FakeTarget
from tests.support.sessions import make_session

CASE, OTHER = "sdxl/int8/1024px-30steps-b1", "sdxl/compile/1024px-30steps-b1"
VERSIONS = {
    "python": "3.11.7",
    "torch": "2.13.0+cu130",
    "torch_git": "cf30153",
    "triton": "3.7.0",
    "diffusers": "0.42.1",
}


def origin(gpu_key=KEY, **versions):
    """Return the origin of the sample machine and build, with these facts changed."""
    return CacheOrigin(gpu_key=gpu_key, build=Build.from_versions(VERSIONS | versions))


HERE = origin()
BYTES = bytes(range(256)) * 8


class Holder:
    """A worker that returns `artifacts` and records its calls."""

    def __init__(self, artifacts=BYTES):
        self.artifacts, self.calls = artifacts, []

    def call(self, operation, **keywords):
        self.calls.append((operation, *keywords.values()))
        return 0.25 if operation == "load_cache" else self.artifacts


@pytest.fixture
def notes():
    """The notes that a start showed to the user."""
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
    """Load and save as a session does around the first image; return the seconds of loading."""
    load_s = cached.load_into(worker)
    cached.save_from(worker, loaded=load_s > 0, missed=missed)
    return load_s


def exported(cached, target):
    """Export the cache of the case to a file."""
    compile_cache.export_to(target, folder=cached.folder, here=cached.origin)
    return target


@pytest.fixture
def carry(cached, tmp_path):
    """Compile the case here; return the same case, with these fields changed, on a machine that imported its cache."""

    def make(**changes):
        start(cached, Holder(), missed=True)
        there = dataclasses.replace(cached, folder=tmp_path / "there", **changes)
        compile_cache.import_from(exported(cached, tmp_path / "c.zip"), folder=there.folder, here=HERE)
        return there

    return make


def test_what_was_compiled_is_kept_once(cached):
    """The first start saves a file; a second start that compiled nothing saves nothing."""
    first, second = Holder(), Holder()
    start(cached, first, missed=True)
    start(cached, second)

    assert (first.calls, second.calls) == ([("save_cache",)], [])


@pytest.mark.parametrize(
    ("changes", "missed"), [({}, True), ({"fingerprint": "beef"}, False), ({"origin": origin(torch="2.14.0")}, False)]
)
def test_what_was_compiled_anew_replaces_what_is_kept(cached, changes, missed):
    """A start that missed its cache, or has another recipe or build, replaces the file."""
    start(cached, Holder(), missed=True)
    later = dataclasses.replace(cached, **changes)
    start(later, Holder(b"newer"), missed=missed)

    (path,) = cached.folder.rglob("*.zip")
    file = read_cache_file(path)

    assert file.artifacts(file.entries[0]) == b"newer"
    assert (file.origin, file.entries[0].fingerprint) == (later.origin, later.fingerprint)


def test_a_broken_file_of_ours_is_replaced(cached):
    """A saved file that cannot be read is replaced."""
    start(cached, Holder())
    (path,) = cached.folder.rglob("*.zip")
    path.write_bytes(b"PK")
    start(cached, Holder())

    assert read_cache_file(path).entries[0].case_key == CASE


def test_nothing_is_kept_where_torch_keeps_nothing(cached, notes):
    """If torch's caches are off there is nothing to save, and a note says so."""
    start(cached, Holder(None))

    assert list(cached.folder.rglob("*.zip")) == []
    assert "its caches are off" in notes[-1]


def test_an_imported_cache_is_loaded_by_one_start(carry):
    """The worker gets the exported bytes until a first image was made; then torch's own cache has them, and nothing is loaded."""
    there, first, second = carry(), Holder(), Holder()

    assert there.load_into(Holder()) == 0.25  # interrupted: there was no first image
    assert (start(there, first), start(there, second)) == (0.25, 0.0)
    assert (first.calls, second.calls) == ([("load_cache", BYTES)], [])


def test_an_imported_cache_is_exported_again(carry, tmp_path):
    """An export also holds imported cases, whether the job ran them or not."""
    there = carry()
    exported(there, tmp_path / "unloaded.zip")
    start(there, Holder())
    exported(there, tmp_path / "loaded.zip")

    for name in ("unloaded", "loaded"):
        assert [entry.case_key for entry in read_cache_file(tmp_path / f"{name}.zip").entries] == [CASE]


def test_what_an_imported_cache_lacked_is_kept(carry):
    """A start that loaded an import and still compiled saves the result, and the import is not loaded again."""
    there = carry()
    start(there, Holder(b"newer"), missed=True)

    (path,) = there.folder.rglob("*.zip")
    assert read_cache_file(path).entries[0].artifact_bytes == len(b"newer")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fingerprint": "beef"}, "its recipe is f00d, this is beef"),
        ({"origin": origin(torch="2.14.0")}, "its torch is 2.13.0+cu130, here it is 2.14.0"),
    ],
)
def test_a_cache_of_another_recipe_or_build_is_not_used(carry, notes, changes, message):
    """The import stays where it is, and a note names both values."""
    there, worker = carry(**changes), Holder()

    assert there.load_into(worker) == 0.0
    assert worker.calls == []
    assert message in notes[0]


class Compiling(FakeTarget):
    """A worker whose case compiles, unless `structure` says otherwise, and finds in its cache what it loaded."""

    def __init__(self, structure=None):
        super().__init__(structure=structure or {"unet.compiled": True}, environment=VERSIONS)
        self.artifacts = None

    def first_image(self):
        hits = int(self.artifacts is not None)
        return super().first_image() | {"cache_hits": hits, "cache_misses": 1 - hits}

    def load_cache(self, *, artifacts):
        self.artifacts = artifacts
        return 0.1

    def save_cache(self):
        return b"compiled"


@pytest.fixture
def build(tmp_path, notes):
    """Build a case in a fake worker, and return the calls of the worker and the seconds of loading."""

    def activity(text):
        notes.append(text)
        return contextlib.nullcontext()

    def make(target, *, isolation="process", other=False):
        session = make_session(tmp_path, isolation=isolation)
        builder = Builder(
            session=session,
            progress=SimpleNamespace(activity=activity, note=notes.append),
            factory="",
            arguments=lambda case: {},
            paths=(),
            logs=tmp_path,
            open_target=lambda case, other: target,
        )
        built = builder.build(FakeSpec(compiles=True), other=other)
        return target.calls, built.cold_start.cache_load_s

    return make


def test_a_session_keeps_and_loads_what_compiles(build, tmp_path, notes):
    """A case that compiles saves a file; of two starts after an import, the first loads it, says so, and saves nothing."""
    assert build(Compiling()) == (["load", "first_image", "save_cache"], 0.0)
    (left,) = tmp_path.rglob("*.zip")
    (left.parent / "imported").mkdir()
    left.rename(left.parent / "imported" / left.name)

    assert build(Compiling()) == (["load", "load_cache", "first_image"], 0.1)
    assert "toy-fast: load the imported compile cache" in notes
    assert left.exists()
    assert build(Compiling())[1] == 0.0


@pytest.mark.parametrize(
    ("structure", "options"),
    [
        ({"unet.compiled": False, "vae.compiled_regions": 0}, {}),
        (None, {"other": True}),
        (None, {"isolation": "none"}),
    ],
    ids=["eager", "other arm", "no worker process"],
)
def test_what_cannot_be_loaded_again_is_not_saved(build, tmp_path, structure, options):
    """Nothing is saved of an eager case, of the other arm's build, or in this process, where torch would save all cases."""
    assert build(Compiling(structure), **options) == (["load", "first_image"], 0.0)
    assert list(tmp_path.iterdir()) == []


class Compiled:
    """Compiles one small function with inductor, in place of a case, and calls torch's caches as a case does."""

    def call(self, operation, **keywords):
        return getattr(torch_state, operation.replace("_cache", "_compile_cache"))(**keywords)

    def first_image(self):
        """Compile the function and call it; return the new hits and misses of inductor's graph cache."""
        import torch

        torch.compiler.reset()
        before = torch_state.compiler_counts()
        # A matrix product is a library call, so inductor has no C++ to build: that takes half a minute with an empty cache.
        torch.compile(lambda x: x @ x)(torch.ones(4, 4))
        after = torch_state.compiler_counts()
        return [after[name] - before[name] for name in ("cache_hits", "cache_misses")]


def test_what_torch_compiled_in_one_folder_is_found_in_another(cached, tmp_path, monkeypatch):
    """A compiled function is a hit in another folder that imported its cache; unreadable artifacts are an error."""
    there = dataclasses.replace(cached, folder=tmp_path / "there")
    worker = Compiled()
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    assert worker.first_image() == [0, 1]
    cached.save_from(worker, loaded=False, missed=True)
    compile_cache.import_from(exported(cached, tmp_path / "c.zip"), folder=there.folder, here=HERE)

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "elsewhere"))
    assert there.load_into(worker) > 0
    assert worker.first_image() == [1, 0]
    with pytest.raises(ValueError, match="torch cannot read the compile cache that was imported for this case"):
        worker.call("load_cache", artifacts=b"no artifacts")


def leave(folder, case_key, *, origin=HERE, fingerprint="f00d"):
    """Save the cache of one case, as a start does."""
    content = CacheContent(case_key=case_key, fingerprint=fingerprint, artifacts=b"compiled" * 100)
    path = folder / f"{file_stem(case_key)}.zip"
    return write_cache_file(path, origin=origin, contents=[content]).path


@pytest.mark.parametrize(
    ("here", "message"),
    [
        (origin(gpu_key="nvidia-h200-141gb-700w"), f"its GPU key is {KEY}, here it is nvidia-h200-141gb-700w"),
        (origin(torch="2.14.0"), "its torch is 2.13.0+cu130, here it is 2.14.0"),
        (origin(torch_git="abc"), "its torch_git is cf30153, here it is abc"),
        (origin(python="3.12.1"), "its python is 3.11, here it is 3.12"),
        (origin(triton=None), "its triton is 3.7.0, here it is None"),
    ],
)
def test_an_import_of_another_build_or_machine_is_refused(tmp_path, here, message):
    """The message names both values and nothing is written; a bug-fix release of Python is the same build."""
    path = leave(tmp_path, CASE)

    with pytest.raises(ValueError, match=re.escape(message)):
        compile_cache.import_from(path, folder=tmp_path / "there", here=here)
    assert not (tmp_path / "there").exists()
    assert origin(python="3.11.8") == HERE


def test_an_export_is_of_one_build(tmp_path):
    """Caches of another build are left out and named; without any other cache there is nothing to export."""
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
    """Each case is a complete file, so one that is too large for a transfer does not stop the others."""
    for key in (CASE, OTHER):
        leave(tmp_path / KEY, key)
    (tmp_path / "out").mkdir()

    files, _ = compile_cache.export_to(tmp_path / "out", folder=tmp_path, here=HERE)

    assert [[entry.case_key for entry in read_cache_file(file.path).entries] for file in files] == [[OTHER], [CASE]]


@pytest.mark.parametrize(
    ("left", "imported", "fingerprint"), [(HERE, HERE, "f00d"), (origin(torch="2.12.0"), HERE, "beef")]
)
def test_what_was_compiled_here_counts_for_more(tmp_path, left, imported, fingerprint):
    """A case that was both imported and compiled here is exported as compiled, unless another build compiled it."""
    leave(tmp_path / KEY, CASE, origin=left)
    leave(tmp_path / KEY / "imported", CASE, origin=imported, fingerprint="beef")

    ((file,), _) = compile_cache.export_to(tmp_path / "c.zip", folder=tmp_path, here=HERE)

    assert [entry.fingerprint for entry in file.entries] == [fingerprint]


@pytest.fixture
def options(monkeypatch, tmp_path):
    """Options with an empty folder, on the machine and build of the samples."""
    monkeypatch.setattr(commands, "_current_origin", lambda device: HERE)
    return ["--folder", str(tmp_path / "caches")]


def test_the_verbs_say_what_they_carried(tmp_path, capsys, options):
    """Export and import print the recipe and size of each case, and import says what happens next; an export may be repeated."""
    leave(tmp_path / "caches" / KEY, CASE)
    path = str(tmp_path / "c.zip")

    assert [main(["cache", verb, path, *options]) for verb in ("export", "export", "import")] == [0] * 3
    out = capsys.readouterr().out
    assert out.count(f"{CASE}: recipe f00d, 0.0 MB unpacked") == 3
    assert "the next start of each case loads it" in out


@pytest.mark.parametrize("verb", ["export", "import"])
def test_the_help_says_whom_to_trust(verb, capsys):
    """The help of both commands says that an imported file is code."""
    with pytest.raises(SystemExit):
        main(["cache", verb, "--help"])

    assert "torch unpickles it" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["export", "{folder}/notes.txt"], "not replaced; name another file"),
        (["export", "{folder}/ouput/c.zip"], "ouput is no folder; make it first"),
        (["export", "/proc/c.zip"], "/proc/.*: No such file or directory\n"),
        (["export", "{folder}/c.zip", "--folder=nothing"], "holds nothing compiled by this build"),
        (["import", "{folder}/absent.zip"], "cannot be read"),
    ],
)
def test_what_cannot_be_carried_is_one_line(tmp_path, capsys, options, arguments, message):
    """An error names its file, without the number of a system error; nothing is replaced and no folder is made."""
    leave(tmp_path / "caches" / KEY, CASE)
    (tmp_path / "notes.txt").write_text("mine")

    error = fails(capsys, "cache", arguments[0], *options, *(text.format(folder=tmp_path) for text in arguments[1:]))

    assert re.search(message, error)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["caches", "notes.txt"]
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_folder_is_imported_by_its_exports(tmp_path, capsys, options):
    """An import of a folder reads only the files of an export; a folder without one is an error."""
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
