"""The digest of the code that measures: what changes it, and what does not."""

import ast
from pathlib import Path

from fixtures.plugin import _building
from speedgate.measure import code_digest


def test_the_packages_that_measure_import_no_other_package():
    """The digest covers every module of speedgate that the code that measures depends on."""
    imported = set()
    for path in code_digest.measuring_files():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("speedgate."):
                imported.add(node.module.split(".")[1])

    assert imported and imported <= set(code_digest.PACKAGES)


def test_any_change_changes_it(tmp_path):
    """Content, name and number of the files count, their order does not."""
    one, two = tmp_path / "one.py", tmp_path / "two.py"
    one.write_text("1")
    two.write_text("2")
    before = code_digest.digest([one, two])

    assert code_digest.digest([two, one]) == before
    assert code_digest.digest([one]) != before
    two.write_text("3")
    assert code_digest.digest([one, two]) != before


def test_what_a_case_is_held_to_is_left_out():
    """A band that a first recording shows to be wrong is mended without measuring anything again."""
    names = {path.name for path in _building()}

    assert {"built_case.py", "ladder.py", "synthetic.py", "sdxl.py"} <= names
    assert not [name for name in names if name.endswith(("_expected.py", "bands.py", "expected.py"))]
    assert all(Path(path).is_file() for path in _building())
