"""The digest of the code that measures: changes that affect it and changes that do not."""

import ast
from pathlib import Path

from fixtures.plugin import _building
from speedgate.measure import code_digest


def test_the_digest_covers_the_code_that_measures():
    """The measuring loop is in it, and every module of speedgate that the code which measures depends on."""
    paths, imported = code_digest.measuring_files(), set()
    assert {"runner.py", "pairs.py", "builder.py", "rounds.py"} <= {path.name for path in paths}
    for path in paths:
        if path.parent.name == "plugin":  # the runner also judges, which the digest leaves out
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("speedgate."):
                imported.add(node.module.split(".")[1])

    assert imported and imported <= set(code_digest.PACKAGES)


def test_any_change_of_a_file_changes_the_digest(tmp_path):
    """Content and number of the files count, their order does not."""
    first, second = tmp_path / "first.py", tmp_path / "second.py"
    first.write_text("1")
    second.write_text("2")
    before = code_digest.digest([first, second])

    assert code_digest.digest([second, first]) == before
    assert code_digest.digest([first]) != before
    second.write_text("3")
    assert code_digest.digest([first, second]) != before


def test_what_a_case_is_held_to_is_left_out():
    """A range that a first recording shows to be wrong is mended without measuring anything again."""
    names = {path.name for path in _building()}

    assert {"built_case.py", "ladder.py", "synthetic.py", "sdxl.py"} <= names
    assert not names & {"expected.py", "regenerate.py", "gpu_visit.py"}
    assert all(Path(path).is_file() for path in _building())
