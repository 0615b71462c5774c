"""A file of compile caches reads as it was written; an edited or damaged file is refused."""

from __future__ import annotations

import json
import random
import zipfile

import pytest

from speedgate.fleet import compile_cache
from speedgate.fleet.cache_archive import Build, CacheContent, CacheOrigin, file_stem, read_cache_file, write_cache_file
from tests.support.baseline_samples import KEY

CASE, OTHER = "sdxl/int8/1024px-30steps-b1", "sdxl/compile/1024px-30steps-b1"
VERSIONS = {"python": "3.11.7", "torch": "2.13.0+cu130", "torch_git": "cf30153", "triton": "3.7.0"}
HERE = CacheOrigin(gpu_key=KEY, build=Build.from_versions(VERSIONS))
BYTES = bytes(range(256)) * 8


@pytest.fixture
def path(tmp_path):
    """A file of one case."""
    content = CacheContent(case_key=CASE, fingerprint="f00d", artifacts=BYTES)
    return write_cache_file(tmp_path / "c.zip", origin=HERE, contents=[content]).path


def test_a_file_reads_as_it_was_written(tmp_path):
    """Origin, cases, recipes and bytes come back; a missing file and a folder are named, and one wrong case spoils them all."""
    contents = [CacheContent(case_key=key, fingerprint="f00d", artifacts=key.encode()) for key in (CASE, OTHER)]
    path = tmp_path / "c.zip"
    written = write_cache_file(path, origin=HERE, contents=contents)

    file = read_cache_file(path)
    assert file == written
    assert [file.artifacts(entry) for entry in file.entries] == [CASE.encode(), OTHER.encode()]
    for name in ("absent.zip", "."):
        with pytest.raises(ValueError, match="cannot be read"):
            read_cache_file(tmp_path / name)
    rewritten(path, members={file_stem(OTHER): OTHER.encode()[::-1]})
    with pytest.raises(ValueError, match="sdxl__compile__1024px-30steps-b1: not the bytes"):
        compile_cache.import_from(path, folder=tmp_path / "there", here=HERE)
    assert not (tmp_path / "there").exists()


def test_a_failed_write_leaves_the_old_file(path):
    """A failed write keeps the earlier file and leaves no temporary file."""
    before = path.read_bytes()

    with pytest.raises(ValueError, match=r"case key '\.\./evil'"):
        write_cache_file(
            path, origin=HERE, contents=[CacheContent(case_key="../evil", fingerprint="f00d", artifacts=b"")]
        )
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def rewritten(path, *, members=None, **changes):
    """Change the manifest or the members of the file."""
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(content["manifest.json"])
    for name, value in changes.items():
        where = manifest if name in manifest else manifest["cases"][0]
        where[name] = value
    content["manifest.json"] = json.dumps(manifest).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, value in (content | (members or {})).items():
            archive.writestr(name, value)
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"members": {"sdxl__int8__1024px-30steps-b1": BYTES[::-1]}}, "not the bytes that its manifest describes"),
        ({"sha256": "0" * 64}, "not the bytes that its manifest describes"),
        ({"artifact_bytes": len(BYTES) - 1}, "more than 2047 bytes"),
        ({"artifact_bytes": 2**40}, "artifact_bytes: expected a whole number <= 1073741824"),
        ({"members": {"../../evil.py": b"import os"}}, "leads out of the archive"),
        ({"members": {"evil.py": b"import os"}}, "holds other files than its manifest names"),
        ({"case_key": "../../../etc"}, "expected pipeline/stage/workload"),
        ({"case_key": OTHER}, "holds other files than its manifest names"),
        ({"fingerprint": "\x1b[2J"}, "fingerprint: expected a text matching"),
        ({"schema": 2}, "its schema is 2, this speedgate reads 1"),
        ({"kind": "zip"}, "no compile cache of speedgate"),
    ],
)
def test_an_edited_file_is_refused(path, changes, message):
    """Names and sizes are checked, and nothing is written if one of them is wrong."""
    there = path.parent / "there"

    with pytest.raises(ValueError) as refused:
        compile_cache.import_from(rewritten(path, **changes), folder=there, here=HERE)
    assert message in str(refused.value)
    assert not there.exists()


def test_a_damaged_file_is_one_clear_error(path):
    """With any damage, the file reads as it was written or raises a `ValueError` that names it."""
    whole, draw = path.read_bytes(), random.Random(1)  # noqa: S311 - which bytes are hit is no secret
    for _ in range(60):
        damaged = bytearray(whole)
        damaged[draw.randrange(len(whole))] ^= draw.randrange(1, 256)
        path.write_bytes(damaged[: draw.choice([len(whole), draw.randrange(len(whole))])])
        try:
            file = read_cache_file(path)
            assert file.artifacts(file.entries[0]) == BYTES
        except ValueError as error:
            assert str(error).startswith(str(path))
