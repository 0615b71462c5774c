"""A file in parts, and an unfinished recording that is carried in them: it comes out as it went in, or not at all."""

import json
import random
import zipfile

import pytest

from speedgate import cache_files, carrying, compile_cache, parts
from speedgate.cache_files import Content
from speedgate.cli import main
from speedgate.recordings import kept
from tests.baseline_samples import INT8, KEY, obtain
from tests.test_cache_verbs import HERE, leave, options  # noqa: F401 - a fixture
from tests.test_recordings import CONDITIONS, RUN, keep


@pytest.fixture
def split(tmp_path):
    """Three parts of ten bytes, the last one shorter."""
    path = tmp_path / "c.zip"
    path.write_bytes(bytes(range(25)))
    return parts.split(path, most_bytes=10)


def test_no_part_is_larger_than_allowed(split):
    """The whole file is gone, and its parts say how many they are."""
    assert [path.name for path in split] == ["c.zip.1-of-3", "c.zip.2-of-3", "c.zip.3-of-3"]
    assert [path.stat().st_size for path in split] == [10, 10, 5]
    assert sorted(split[0].parent.iterdir()) == split


def test_parts_join_whatever_their_order(split, tmp_path):
    """The whole comes back beside a file that never was in parts."""
    (tmp_path / "whole.zip").write_bytes(b"x")

    with parts.joined([split[2], tmp_path / "whole.zip", split[0], split[1]]) as files:
        assert {path.name: path.read_bytes() for path in files} == {"whole.zip": b"x", "c.zip": bytes(range(25))}


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_a_missing_part_is_refused_by_name(split, lost):
    """Whichever it is, nothing is taken from the others."""
    with pytest.raises(ValueError, match=rf"its part c\.zip\.{lost + 1}-of-3 is missing"):  # noqa: SIM117
        with parts.joined([part for part in split if part != split[lost]]):
            pytest.fail("joined without it")


def test_parts_of_two_exports_are_refused(split):
    """Which of them belong together cannot be told."""
    other = split[0].with_name("c.zip.1-of-2")
    other.touch()

    with pytest.raises(ValueError, match="parts of several exports"), parts.joined([*split, other]):
        pytest.fail("joined all the same")


def test_a_second_split_leaves_nothing_of_the_first(split):
    """Fewer parts, or one whole file, take the place of the earlier ones."""
    path = split[0].with_name("c.zip")
    path.write_bytes(b"small")

    assert parts.split(path, most_bytes=10) == [path]
    assert list(path.parent.iterdir()) == [path]


def test_a_compile_cache_travels_in_parts(tmp_path, capsys, options):  # noqa: F811
    """Export splits it below the limit, import takes all parts, and refuses them where one is missing."""
    folder = tmp_path / "caches" / KEY
    folder.mkdir(parents=True)
    content = random.Random(1).randbytes(10_000)  # noqa: S311 - what does not compress
    entry = Content(case_key=INT8, fingerprint="f00d", artifacts=content)
    cache_files.write(folder / f"{cache_files.file_name(INT8)}.zip", origin=HERE, contents=[entry])
    path = tmp_path / "c.zip"

    assert main(["cache", "export", str(path), "--max-file-mb", "0.001", *options]) == 0
    found = sorted(str(part) for part in tmp_path.glob("c.zip*"))
    assert len(found) > 1 and capsys.readouterr().out.count("part: ") == len(found)
    assert main(["cache", "import", *found[1:], *options]) == 2
    assert "is missing" in capsys.readouterr().err
    assert main(["cache", "import", *found, *options]) == 0
    imported = cache_files.read(next((folder / compile_cache.IMPORTED).iterdir()))
    assert imported.artifacts(imported.entries[0]) == content


@pytest.fixture
def packed(tmp_path):
    """A machine's unfinished recording, packed: a case, its log, a compile cache and an obtained file."""
    root, caches = tmp_path / "baselines", tmp_path / "caches"
    obtain(root)
    keep(root, KEY, conditions=CONDITIONS, run=RUN)
    (root / KEY / "recording" / "times.jsonl").write_text("{}\n")
    leave(caches / KEY, INT8)
    carrying.pack(tmp_path / "out", root=root, caches=caches, gpu_key=None, most_bytes=1000)
    return tmp_path / "out"


def test_a_recording_goes_on_elsewhere(packed, tmp_path):
    """What was kept counts on the next machine, and its compile caches are loaded by the next start."""
    root, caches = tmp_path / "there", tmp_path / "there-caches"

    key, written = carrying.unpack(packed, root=root, caches=caches)

    assert (key, len(written)) == (KEY, 4)
    assert all(path.stat().st_size <= 1000 for path in packed.iterdir())
    assert kept(root, KEY, conditions=CONDITIONS) == RUN
    (cache,) = (caches / KEY / "imported").iterdir()
    assert cache_files.read(cache).entries[0].case_key == INT8


def test_unpacking_loses_nothing(packed, tmp_path):
    """Twice is as good as once, and a file that is there and differs is set aside."""
    root, caches = tmp_path / "there", tmp_path / "there-caches"
    carrying.unpack(packed, root=root, caches=caches)
    log = root / KEY / "recording" / "times.jsonl"
    log.write_text("more\n")

    assert carrying.unpack(packed, root=root, caches=caches)[1] == [log]
    assert log.with_name("previous-times.jsonl").read_text() == "more\n"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("../../evil", "holds other files"),
        ("recording/../../evil", "holds what no recording has"),
        ("recording/.hidden", "holds what no recording has"),
        ("other/file", "holds what no recording has"),
        ("recording/x", "not the bytes that its manifest describes"),
    ],
)
def test_an_edited_recording_is_refused(tmp_path, name, said):
    """No name leads elsewhere, and nothing is written where one is wrong."""
    manifest = {"kind": "speedgate recording", "schema": 1, "gpu_key": KEY, "files": {name: "0"}}
    with zipfile.ZipFile(tmp_path / carrying.NAME, "w") as archive:
        archive.writestr(name if said != "holds other files" else "recording/x", b"")
        archive.writestr("manifest.json", json.dumps(manifest))

    with pytest.raises(ValueError, match=said):
        carrying.unpack(tmp_path, root=tmp_path / "there", caches=tmp_path / "caches")
    assert not (tmp_path / "there").exists()


def test_a_damaged_recording_is_refused(packed, tmp_path):
    """A bit that fell over is a checksum that does not match, or a zip that is none."""
    (first, *_) = sorted(packed.iterdir())
    content = bytearray(first.read_bytes())
    content[500] ^= 1
    first.write_bytes(bytes(content))

    with pytest.raises(ValueError, match=r"not a whole recording|not the bytes"):
        carrying.unpack(packed, root=tmp_path / "there", caches=tmp_path / "caches")
    assert not (tmp_path / "there").exists()


def test_a_packed_recording_that_is_not_there_is_told(tmp_path, capsys):
    """The verb that writes one is named."""
    assert main(["recording", "unpack", str(tmp_path / "missing")]) == 2
    said = f"speedgate: {tmp_path / 'missing'}: no folder; name the one that `speedgate recording pack` wrote\n"
    assert capsys.readouterr().err == said


def test_the_verbs_say_what_was_carried(tmp_path, capsys, monkeypatch):
    """Both name their files; a machine without a recording is told how one begins."""
    monkeypatch.chdir(tmp_path)
    keep(tmp_path / "baselines", KEY, conditions=CONDITIONS, run=RUN)

    assert main(["recording", "pack", "out"]) == 0
    assert "out/recording.zip: 0.0 MB" in capsys.readouterr().out
    assert main(["--root", "there", "recording", "unpack", "out"]) == 0
    assert f"{KEY}: 1 files; pytest bench --gate record goes on from here" in capsys.readouterr().out
    assert main(["--root", "nowhere", "recording", "pack", "out"]) == 2
    assert "which recording? name one with --gpu-key; there are: none" in capsys.readouterr().err
