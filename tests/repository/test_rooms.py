"""The rooms of the repository: imports run one way, nothing heavy or unsafe is loaded, and every test says its claim."""

import ast
import functools
import graphlib
import os
import re
import subprocess
import sys

import pytest

from tests.support.suite import NESTED, ROOT

OURS = {"bench", "conftest", "fixtures", "speedgate", "tests"}
HEAVY = {"accelerate", "diffusers", "scipy", "skimage", "torch", "torchao", "transformers"}
# Each package of speedgate may import only packages of lower floors.
FLOORS = {
    "results": 1,
    "measure": 2,
    "gate": 2,
    "gpu_code": 3,
    "baselines": 3,
    "report": 4,
    "history": 5,
    "fleet": 5,
    "versions": 5,
    "plugin": 6,
    "cli": 7,
    "__main__": 8,
}
CLOCK = re.compile(r"\btime\.(?:monotonic|perf_counter|process_time|thread_time|time)\(")
UNSAFE = re.compile(r"pickle\.loads?\b|torch\.load\b|trust_remote_code\W+True|weights_only\s*=\s*False")


def sources(room):
    """A room's Python files."""
    files = sorted((ROOT / room).rglob("*.py"))
    assert files, f"{room} holds no Python file"
    return files


@functools.cache
def imports(path):
    """The import statements of a file, inside functions too."""
    return [node for node in ast.walk(parse(path)) if isinstance(node, ast.Import | ast.ImportFrom)]


def imported(nodes):
    """The top-level names that import statements name."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield str(node.module).partition(".")[0]


@functools.cache
def parse(path):
    """A file's syntax tree."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


@pytest.mark.parametrize(
    ("room", "allowed"),
    [("src/speedgate", {"speedgate"}), ("fixtures", {"fixtures", "speedgate"}), ("bench", {"speedgate"})],
)
def test_imports_run_one_way(room, allowed):
    """speedgate knows none of the other rooms, fixtures know speedgate, and bench asks for fixtures by name only."""
    forbidden = {path.name: set(imported(imports(path))) & OURS - allowed for path in sources(room)}

    assert {name: names for name, names in forbidden.items() if names} == {}


def module_name(path):
    """The dotted name of a Python file."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[1:] if parts[0] == "src" else parts).removesuffix(".__init__")


def module_imports(path, modules):
    """The modules of ours that a file imports: late imports and those for type checkers included."""
    for node in imports(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif node.module:
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
            target
            for target in module_imports(path, modules)
            if target in modules and target != name and modules[target].stem != "__init__"
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
        for node in imports(path)
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


def module_level(nodes):
    """Import statements that run when a module is imported: those outside of functions."""
    for node in nodes:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from module_level(ast.iter_child_nodes(node))


@pytest.mark.parametrize("room", ["src/speedgate", "bench"])
def test_nothing_heavy_is_imported_at_module_level(room):
    """torch, scipy and the model libraries are imported where they are used."""
    heavy = {module_name(path): set(imported(module_level(parse(path).body))) & HEAVY for path in sources(room)}

    assert {name: names for name, names in heavy.items() if names} == {}


def test_collection_imports_nothing_heavy():
    """Loading the plugins and collecting every case of every pipeline leaves torch and its companions alone."""
    collect = ["-X", "importtime", "-m", "pytest", "bench/test_latency.py", "--collect-only", "-q", "-s"]
    options = ["--suite=all", "--pipeline=all", "-p", "benchmark", "-p", "no:cacheprovider"]
    environment = NESTED | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")])}

    done = subprocess.run(
        [sys.executable, *collect, *options], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )

    packages = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "test_latency[sdxl" in done.stdout
    assert {"speedgate", "fixtures"} <= packages
    assert packages & HEAVY == set()


def test_nothing_is_unpickled_and_no_remote_code_is_trusted():
    """Weights are read as tensors only, and nothing that a repository sends is run."""
    files = [ROOT / "conftest.py", *(path for room in ("src", "fixtures", "bench", "tests") for path in sources(room))]

    hits = {path: UNSAFE.findall(path.read_text(encoding="utf-8")) for path in files}

    assert {path: texts for path, texts in hits.items() if texts} == {}


def test_no_test_compares_a_clock_with_a_number():
    """A function that reads a clock compares with a deadline or with other seconds of the run, never with a number."""
    comparisons = [
        f"{path.relative_to(ROOT)}: {ast.unparse(node)}"
        for path in sources("tests")
        if CLOCK.search(path.read_text(encoding="utf-8"))
        for function in ast.walk(parse(path))
        if isinstance(function, ast.FunctionDef) and CLOCK.search(ast.unparse(function))
        for node in ast.walk(function)
        if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Lt | ast.LtE | ast.Gt | ast.GtE)
        if any(isinstance(side, ast.Constant) for side in (node.left, *node.comparators))
    ]

    assert comparisons == []


def test_every_test_has_a_docstring():
    """Each test function says in its docstring what would be untrue if it failed."""
    bare = [
        f"{path.relative_to(ROOT)}: {node.name}"
        for room in ("bench", "tests")
        for path in sources(room)
        if path.name.startswith("test_")
        for node in parse(path).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_") and not ast.get_docstring(node)
    ]

    assert bare == []
