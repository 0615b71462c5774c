"""The rooms of the repository: imports run one way, nothing heavy is imported early, and nothing unsafe is loaded."""

import ast
import graphlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OURS = {"bench", "conftest", "fixtures", "speedgate", "tests"}
HEAVY = {"accelerate", "diffusers", "scipy", "skimage", "torch", "torchao", "transformers"}
# Each package of speedgate may import only packages of lower floors.
FLOORS = {
    "results": 1,
    "measure": 2,
    "gate": 2,
    "baselines": 3,
    "report": 4,
    "history": 5,
    "fleet": 5,
    "versions": 6,
    "plugin": 6,
    "cli": 7,
    "__main__": 8,
}
UNSAFE = re.compile(r"pickle\.loads?\b|torch\.load\b|trust_remote_code\W+True|weights_only\s*=\s*False")


def sources(room):
    """A room's Python files."""
    found = sorted((ROOT / room).rglob("*.py"))
    assert found, f"{room} holds no Python file"
    return found


def imported(tree):
    """The top-level names that a tree imports, inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield str(node.module).partition(".")[0]


def parse(path):
    """A file's syntax tree."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def run(*arguments):
    """Run a fresh interpreter at the root, with the repository on its path, and return the completed process."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")])}
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )


@pytest.mark.parametrize(
    ("room", "allowed"),
    [("src/speedgate", {"speedgate"}), ("fixtures", {"fixtures", "speedgate"}), ("bench", {"speedgate"})],
)
def test_imports_run_one_way(room, allowed):
    """speedgate knows none of the other rooms, fixtures know speedgate, and bench asks for fixtures by name only."""
    found = {path.name: set(imported(parse(path))) & OURS - allowed for path in sources(room)}

    assert {name: names for name, names in found.items() if names} == {}


def module_name(path):
    """The dotted name of a Python file."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[1:] if parts[0] == "src" else parts).removesuffix(".__init__")


def module_imports(path, modules):
    """The modules of ours that a file imports: late imports and those for type checkers included."""
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if name in modules else node.module


@pytest.mark.parametrize("room", ["src/speedgate", "fixtures"])
def test_no_module_imports_itself_through_others(room):
    """Imports form no circle, so each module can be read and tested after those below it."""
    modules = {module_name(path): path for path in sources(room)}
    # A package's own file names its plugins and imports nothing that a module of it needs.
    graph = {
        name: {
            found
            for found in module_imports(path, modules)
            if found in modules and found != name and modules[found].stem != "__init__"
        }
        for name, path in modules.items()
    }

    graphlib.TopologicalSorter(graph).prepare()


def test_packages_import_lower_floors_only():
    """Each package stands on lower floors, and every package has one: at most eight."""
    packages = {
        path: path.relative_to(ROOT / "src" / "speedgate").parts[0].removesuffix(".py")
        for path in sources("src/speedgate")
    }
    upward = {
        f"{module_name(path)} -> {module}"
        for path, package in packages.items()
        for module in module_imports(path, {module_name(file) for file in packages})
        if module.startswith("speedgate.") and (target := module.split(".")[1]) in FLOORS
        if target != package and FLOORS[target] >= FLOORS.get(package, 0)
    }

    assert upward == set()
    assert {package for package in packages.values() if package != "__init__"} == set(FLOORS)
    assert max(FLOORS.values()) <= 8


def test_nothing_is_imported_relatively():
    """Every import says where it leads, so that the test above sees all of them."""
    relative = [
        path.name
        for room in ("src/speedgate", "fixtures", "bench")
        for path in sources(room)
        for node in ast.walk(parse(path))
        if isinstance(node, ast.ImportFrom) and node.level
    ]

    assert relative == []


def test_conftest_names_the_plugins_and_nothing_else():
    """It is a table of contents: a docstring and one assignment."""
    docstring, assignment = parse(ROOT / "conftest.py").body

    assert isinstance(docstring, ast.Expr)
    assert isinstance(assignment, ast.Assign)
    assert ast.unparse(assignment.targets[0]) == "pytest_plugins"
    assert "speedgate.plugin.hooks" in ast.literal_eval(assignment.value)


@pytest.mark.parametrize("path", sources("src/speedgate"), ids=lambda path: path.stem)
def test_speedgate_imports_nothing_heavy_at_module_level(path):
    """torch, scipy and the model libraries are imported where they are used."""
    tree = parse(path)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [ast.Pass()]

    assert set(imported(tree)) & HEAVY == set()


def test_collecting_needs_nothing_heavy():
    """Loading the plugins, as every pytest call at the root does, leaves torch and its companions alone."""
    loaded = run(
        "-c", "import sys, speedgate.plugin.hooks, fixtures.plugin; print(*{m.partition('.')[0] for m in sys.modules})"
    ).stdout

    assert {"speedgate", "fixtures"} <= set(loaded.split())
    assert set(loaded.split()) & HEAVY == set()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["pytest", "--help"], "--gate"),
        (["speedgate.cli", "promote", "--help"], "promote"),
        (["pytest", "bench", "--suite=all", "--pipeline=all", "--collect-only", "-q"], "test_latency[sdxl"),
    ],
    ids=["pytest help", "speedgate help", "collection"],
)
def test_commands_that_measure_nothing_import_nothing_heavy(arguments, text):
    """Help and collection, of every case of every pipeline, do not load torch or its companions."""
    completed = run("-X", "importtime", "-m", *arguments)

    assert text in completed.stdout
    imports = {line.rpartition("|")[2].strip().partition(".")[0] for line in completed.stderr.splitlines()}
    assert "argparse" in imports
    assert imports & HEAVY == set()


def test_nothing_is_unpickled_and_no_remote_code_is_trusted():
    """Weights are read as tensors only, and nothing that a repository sends is run."""
    files = [ROOT / "conftest.py", *(path for room in ("src", "fixtures", "bench", "tests") for path in sources(room))]

    hits = {path.name: UNSAFE.findall(path.read_text(encoding="utf-8")) for path in files}

    assert {name: found for name, found in hits.items() if found} == {}
