"""The folder of a site: what it replaces, and what it never overwrites."""

import re

import pytest

from speedgate.history.site import folder
from tests.support import site_history as histories
from tests.support.site_history import data, write


@pytest.fixture(autouse=True)
def light(monkeypatch):
    """Without the bundle of the charts, which takes seconds to make."""
    monkeypatch.setattr("speedgate.history.site.pages._vega", lambda: "")


def test_a_site_replaces_the_one_before(tmp_path):
    """Of an earlier site nothing is left, and beside it nothing either."""
    target = tmp_path / "site"
    write(target, [histories.series("sdxl/gone/w")])
    write(target, [histories.series("sdxl/new/w")])

    assert [row["key"] for row in data(target, "index")["cases"]] == ["sdxl/new/w"]
    assert len(list(target.glob("data/case-*"))) == 1
    assert list(tmp_path.iterdir()) == [target]


def test_a_failure_leaves_the_earlier_site(tmp_path):
    """What goes wrong half-way changes nothing that is served."""
    write(tmp_path / "site", [histories.series("sdxl/old/w")])
    before = {path: path.read_bytes() for path in (tmp_path / "site").rglob("*") if path.is_file()}

    def full_disk(_):
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write(tmp_path / "site", [histories.series("sdxl/new/w")], changes=full_disk)

    assert {path: path.read_bytes() for path in (tmp_path / "site").rglob("*") if path.is_file()} == before
    assert list(tmp_path.iterdir()) == [tmp_path / "site"]


def foreign(target):
    """A folder of someone else's."""
    target.mkdir()
    (target / "thesis.txt").write_text("mine")


def added(target):
    """A site of ours in which someone put a file."""
    write(target, [histories.series("sdxl/old/w")])
    (target / "CNAME").write_text("mine")


def repository(target):
    """A site of ours that became a repository."""
    write(target, [histories.series("sdxl/old/w")])
    (target / ".git" / "refs").mkdir(parents=True)


def broken(target):
    """A marker that is none."""
    target.mkdir()
    (target / folder.MARKER).write_text("[]")


def file(target):
    """No folder at all."""
    target.write_text("mine")


@pytest.mark.parametrize("make", [foreign, added, repository, broken, file])
def test_what_is_not_ours_is_not_overwritten(tmp_path, make):
    """A folder with anything in it that speedgate did not write is refused and stays as it is."""
    target = tmp_path / "site"
    make(target)
    before = sorted(path.relative_to(target) for path in target.rglob("*"))
    with pytest.raises(ValueError, match=re.escape(str(target))):
        write(target, [histories.series("sdxl/new/w")])

    assert sorted(path.relative_to(target) for path in target.rglob("*")) == before
    assert list(tmp_path.iterdir()) == [target]


def test_a_file_that_comes_meanwhile_is_not_overwritten(tmp_path):
    """The folder is looked at again when the site is done: what was put there since is kept, and the new site is not."""

    def intrude(_):
        (tmp_path / "site").mkdir()
        (tmp_path / "site" / "thesis.txt").write_text("mine")
        return []

    with pytest.raises(ValueError, match="did not write"):
        write(tmp_path / "site", [histories.series("sdxl/new/w")], changes=intrude)

    assert [path.name for path in tmp_path.rglob("*")] == ["site", "thesis.txt"]


def test_an_empty_folder_and_a_link_will_do(tmp_path):
    """An empty folder is used; behind a link, what it leads to is replaced and the link stays."""
    (tmp_path / "real").mkdir()
    (tmp_path / "site").symlink_to(tmp_path / "real")
    write(tmp_path / "site", [histories.series("sdxl/new/w")])

    assert (tmp_path / "site").is_symlink()
    assert (tmp_path / "real" / "index.html").is_file()
