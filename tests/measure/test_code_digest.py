"""The digest of the code that measures: what changes it, and what does not."""

import ast
from pathlib import Path

from fixtures.case import _building
from speedgate import source


def test_the_list_is_closed():
    """What a module that measures, or the worker's target, imports of ours measures too: none is left out by mistake."""
    imported = set()
    for path in [*source.measuring(), *(path for path in _building() if path.name in ("built.py", "generation.py"))]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == "speedgate":
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("speedgate."):
                imported.add(node.module.split(".")[1])

    assert imported and imported <= set(source.MEASURING)
    assert all(path.is_file() for path in source.measuring())


def test_any_change_changes_it(tmp_path):
    """Content, name and number of the files count, their order does not."""
    one, two = tmp_path / "one.py", tmp_path / "two.py"
    one.write_text("1")
    two.write_text("2")
    before = source.digest([one, two])

    assert source.digest([two, one]) == before
    assert source.digest([one]) != before
    two.write_text("3")
    assert source.digest([one, two]) != before


def test_what_a_case_is_held_to_is_left_out():
    """A band that a first recording shows to be wrong is mended without measuring anything again."""
    names = {path.name for path in _building()}

    assert {"built.py", "stages.py", "synthetic.py", "sdxl.py"} <= names
    assert not [name for name in names if name.endswith(("_expected.py", "_bands.py", "_facts.py"))]
    assert all(Path(path).is_file() for path in _building())
