"""`speedgate cache export` and `import`: what is packed, what is refused, and what the command says."""

from __future__ import annotations

import re

import pytest

from speedgate.cli import main
from speedgate.fleet import cache_archive, commands, compile_cache
from speedgate.fleet.cache_archive import CacheContent
from tests.support.baseline_samples import KEY

CASE, OTHER = "sdxl/int8/1024px-30steps-b1", "sdxl/compile/1024px-30steps-b1"
ENVIRONMENT = {"python": "3.11.7", "torch": "2.13.0+cu130", "torch_git": "cf30153", "triton": "3.7.0"}
HERE = cache_archive.origin(KEY, ENVIRONMENT)


def of(**facts):
    """An origin that differs in these facts."""
    return cache_archive.origin(facts.pop("gpu_key", KEY), ENVIRONMENT | facts)


def leave(folder, case_key, *, origin=HERE, fingerprint="f00d"):
    """The file of one case, as a start leaves it."""
    content = CacheContent(case_key=case_key, fingerprint=fingerprint, artifacts=b"compiled" * 100)
    path = folder / f"{cache_archive.file_name(case_key)}.zip"
    return cache_archive.write(path, origin=origin, contents=[content]).path


@pytest.mark.parametrize(
    ("here", "said"),
    [
        (of(gpu_key="nvidia-h200-141gb-700w"), f"its GPU key is {KEY}, here it is nvidia-h200-141gb-700w"),
        (of(torch="2.14.0"), "its torch is 2.13.0+cu130, here it is 2.14.0"),
        (of(torch_git="abc"), "its torch_git is cf30153, here it is abc"),
        (of(python="3.12.1"), "its python is 3.11, here it is 3.12"),
        (of(triton=None), "its triton is 3.7.0, here it is None"),
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
    assert of(python="3.11.8") == HERE


def test_an_export_is_of_one_build(tmp_path):
    """What another build compiled is left out and named; with nothing else there is nothing to export."""
    leave(tmp_path / KEY, CASE)
    leave(tmp_path / KEY, OTHER, origin=of(torch="2.14.0"))

    ((file,), (left_out,)) = compile_cache.export_to(tmp_path / "c.zip", folder=tmp_path, here=HERE)

    assert [entry.case_key for entry in file.entries] == [CASE]
    assert "sdxl__compile__1024px-30steps-b1.zip: its torch is 2.14.0" in left_out
    with pytest.raises(
        ValueError, match=r"nothing compiled by this build .*its torch is 2\.13.*: run pytest bench/ first"
    ):
        compile_cache.export_to(tmp_path / "d.zip", folder=tmp_path, here=of(torch="2.15.0"))


def test_a_folder_gets_a_file_for_each_case(tmp_path):
    """Each is whole by itself: a case that is too large for a transfer holds up no other."""
    for key in (CASE, OTHER):
        leave(tmp_path / KEY, key)
    (tmp_path / "out").mkdir()

    files, _ = compile_cache.export_to(tmp_path / "out", folder=tmp_path, here=HERE)

    assert [[entry.case_key for entry in cache_archive.read(file.path).entries] for file in files] == [[OTHER], [CASE]]


@pytest.mark.parametrize(
    ("left", "imported", "fingerprint"), [(HERE, HERE, "f00d"), (of(torch="2.12.0"), HERE, "beef")]
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
    monkeypatch.setattr(commands, "_here", lambda device: HERE)
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
