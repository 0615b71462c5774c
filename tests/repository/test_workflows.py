"""Workflows, verbs and pins: what keeps a stranger's code off our GPUs, and each version in one place."""

from __future__ import annotations

import configparser
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from speedgate.fleet import post
from tests.repository.workflow_rules import (
    INSTALL,
    POST,
    ROOT,
    RULES,
    SHELL,
    VENV,
    VERBS,
    Rule,
    a_gate_confirms_by_its_own_history,
    actions_are_pinned,
    checkout_is_bare,
    gpus_are_not_shared,
    gpus_take_vetted_commits,
    jobs_end,
    no_secret_is_named,
    outsiders_stay_hosted,
    permissions_are_listed,
    red_alone_is_followed_up,
    scripts_are_ours,
    scripts_hold_no_expression,
    steps,
    tokens_meet_our_code_only,
    verbs_exist,
)

WORKFLOWS = sorted((ROOT / ".github" / "workflows").iterdir())
PINS = ROOT / ".github" / "pins"
PIN_FILES = ("stable.txt", "tools.txt")
TOKEN = "${{ github.token }}"
SELF_HOSTED = "runs-on: [self-hosted, gpu, a100]"

# A rule, a workflow, and a text in it with a plausible replacement that breaks the rule.
FAULTS: list[tuple[Rule, str, str, str]] = [
    (scripts_are_ours, "ci", INSTALL, f"{INSTALL} && make"),
    (verbs_exist, "gpu", "tox -e bench", "tox -e benchmark"),
    (scripts_hold_no_expression, "ci", '"$VERB"', "${{github.event.pull_request.title}}"),
    (actions_are_pinned, "ci", "@a309ff8b426b58ec0e2a45f0f869d46889d02405 # v6.2.0", "@v6.2.0"),
    (outsiders_stay_hosted, "gpu", "  push:", "  pull_request_target:\n  push:"),
    (outsiders_stay_hosted, "ci", "runs-on: ubuntu-24.04", "runs-on: ${{ github.head_ref }}"),
    (gpus_take_vetted_commits, "gpu", "          ref: ${{ needs.vet.outputs.commit }}\n", ""),
    (gpus_take_vetted_commits, "gpu", '[[ "$COMMIT" =~ ^[0-9a-f]{40}$ ]]', "true"),
    (gpus_take_vetted_commits, "gpu", "fetch-depth: 0 #", "ref: ${{ inputs.commit }} #"),
    (permissions_are_listed, "ci", "permissions: {}\n", ""),
    (permissions_are_listed, "gpu", "      contents: read # to", "      id-token: write # to"),
    (tokens_meet_our_code_only, "comment", f"- run: {VENV}", f"- run: {INSTALL}\n      - run: {VENV}"),
    (tokens_meet_our_code_only, "comment", f"GH_TOKEN: {TOKEN}", f"OTHER: {TOKEN}"),
    (tokens_meet_our_code_only, "nightly", "runs-on: ubuntu-24.04", SELF_HOSTED),
    (no_secret_is_named, "gpu", "${{ inputs.processes || 3 }}", "${{ secrets.TOKEN }}"),
    (checkout_is_bare, "ci", "credentials: false", "credentials: false\n          ref: main"),
    (jobs_end, "gpu", "    timeout-minutes: 240\n", ""),
    (gpus_are_not_shared, "gpu", "      group: gpu\n", "      group: gpu-${{ github.ref }}\n"),
    (a_gate_confirms_by_its_own_history, "gpu", "--confirm auto", "--confirm never"),
    (a_gate_confirms_by_its_own_history, "gpu", "fetch-depth: 0 # live", "fetch-depth: 1 # live"),
    (
        red_alone_is_followed_up,
        "nightly",
        "steps.compare.outputs.red == 'true'",
        "steps.compare.conclusion == 'failure'",
    ),
    (red_alone_is_followed_up, "nightly", "        if: ${{ needs.compare.outputs.red == 'true' }}\n", ""),
    (red_alone_is_followed_up, "nightly", "        if: ${{ needs.compare.outputs.red != 'true' }}\n", ""),
]


def offences(rule: Rule, text: str) -> list[str]:
    """What in the workflow breaks the rule."""
    workflow = yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506  BaseLoader makes strings only; `on` stays a word
    return rule(workflow, text)


def tox_ini() -> configparser.ConfigParser:
    """tox.ini as it stands, without tox's substitutions."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string((ROOT / "tox.ini").read_text(encoding="utf-8"))
    return parser


def pins(name: str) -> list[tuple[str, str]]:
    """The file's (name, version) pairs, in its order, every line that is no comment being a pair."""
    lines = (PINS / name).read_text(encoding="utf-8").splitlines()
    return [(canonicalize_name(line.split("==")[0]), line.split("==")[1]) for line in lines if not line.startswith("#")]


def pyproject() -> dict[str, Any]:
    """pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def requirements(lines: list[str]) -> dict[str, Requirement]:
    """The requirements by the name that indexes know them by."""
    return {canonicalize_name(requirement.name): requirement for requirement in map(Requirement, lines)}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_keeps_the_rule(path: Path, rule: Rule) -> None:
    """Every file in the workflows folder keeps every rule."""
    assert offences(rule, path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(("rule", "workflow", "old", "new"), FAULTS, ids=[rule.__name__ for rule, *_ in FAULTS])
def test_a_rule_sees_the_fault(rule: Rule, workflow: str, old: str, new: str) -> None:
    """A plausible edit of a real workflow breaks the rule that is there for it."""
    text = (ROOT / ".github" / "workflows" / f"{workflow}.yml").read_text(encoding="utf-8")

    assert old in text
    assert offences(rule, text.replace(old, new)) != []


def test_every_rule_has_been_seen_to_fail() -> None:
    """Each rule has a fault that it sees, so none of them holds for everything."""
    assert {rule.__name__ for rule, *_ in FAULTS} == {rule.__name__ for rule in RULES}


def test_every_allowed_script_is_used() -> None:
    """The workflows use each of the scripts and each verb of `speedgate.fleet.post`, and no other verb."""
    scripts = [
        step for path in WORKFLOWS for step in steps(yaml.safe_load(path.read_text(encoding="utf-8"))) if "run" in step
    ]

    assert {step["id"] for step in scripts if "id" in step} == {*SHELL, "compare"}
    assert {match[1] for step in scripts if (match := POST.fullmatch(step["run"]))} == set(post.VERBS)


def test_lint_looks_at_every_workflow() -> None:
    """`tox -e lint` audits the folder and checks the schema of each of the five files, without a network."""
    commands = tox_ini()["testenv:lint"]["commands"].splitlines()

    assert [path.name for path in WORKFLOWS] == ["ci.yml", "comment.yml", "drill.yml", "gpu.yml", "nightly.yml"]
    assert "zizmor --offline --persona auditor .github/workflows" in commands
    (schema,) = [command for command in commands if command.startswith("check-jsonschema ")]
    checked = ["--builtin-schema", "vendor.github-workflows", *(f".github/workflows/{path.name}" for path in WORKFLOWS)]
    assert schema.split()[1:] == checked


def test_what_the_audit_ignores_is_what_the_rules_hold() -> None:
    """An ignored finding is one that a rule of ours looks at more closely, in the files where it does."""
    config = yaml.safe_load((ROOT / ".github" / "zizmor.yml").read_text(encoding="utf-8"))

    assert {name: rule["ignore"] for name, rule in config["rules"].items()} == {
        "dangerous-triggers": ["comment.yml"],
        "self-hosted-runner": ["drill.yml", "gpu.yml", "nightly.yml"],
    }


def test_tox_defines_the_verbs() -> None:
    """The environments of tox.ini are the verbs, no fewer and no more."""
    assert {name.removeprefix("testenv:") for name in tox_ini().sections() if ":" in name} == VERBS


def test_a_bare_tox_records_no_baseline() -> None:
    """`tox` alone runs what a pull request has to pass, the verbs of the hosted workflow, and nothing that writes a file."""
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))

    assert tox_ini()["tox"]["env_list"].split() == workflow["jobs"]["tox"]["strategy"]["matrix"]["verb"]
    assert VERBS - set(tox_ini()["tox"]["env_list"].split()) == {"drill", "record", "nightly", "proof", "gpu_code"}


def test_every_verb_installs_by_the_pins() -> None:
    """The constraints stand where all environments inherit them; one, which measures nothing, has another torch."""
    parser = tox_ini()
    constraints = {
        name: parser[name]["constraints"].split() for name in parser.sections() if "constraints" in parser[name]
    }

    assert {name: {ROOT / path for path in paths} for name, paths in constraints.items()} == {
        "testenv": {PINS / name for name in PIN_FILES},
        "testenv:gpu_code": {PINS / "gpu_code.txt", PINS / "tools.txt"},
    }


def test_the_pins_of_generated_code_differ_in_torch_alone() -> None:
    """gpu_code.txt is stable.txt with another version of torch, so a bump of any other package reaches both."""
    stable, generating = (dict(pins(name)) for name in ("stable.txt", "gpu_code.txt"))

    assert generating == stable | {"torch": generating["torch"]}


def test_generated_code_gets_a_build_for_cuda() -> None:
    """The job that generates code does not see the index that has torch for CPUs."""
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))

    assert "PIP_EXTRA_INDEX_URL" in str(workflow["jobs"]["tox"])
    assert "PIP_EXTRA_INDEX_URL" not in str(workflow["jobs"]["gpu_code"])


@pytest.mark.parametrize("name", PIN_FILES)
def test_each_dependency_is_pinned_once_within_its_range(name: str) -> None:
    """stable.txt pins the dependencies, and tools.txt tox, the groups and the extras, each once and as pyproject allows."""
    project, groups = pyproject()["project"], pyproject()["dependency-groups"]
    lines = [line for group in (*groups.values(), *project["optional-dependencies"].values()) for line in group]
    tools = [f"tox>={tox_ini()['tox']['min_version']}", *(line for line in lines if not line.startswith("speedgate["))]
    ranges = requirements(project["dependencies"] if name == "stable.txt" else tools)
    pinned = pins(name)

    assert [package for package, _ in pinned] == sorted(ranges)
    assert [f"{package}=={version}" for package, version in pinned if version not in ranges[package].specifier] == []


@pytest.mark.parametrize(
    "path",
    [ROOT / "tox.ini", ROOT / ".ci" / "run", *WORKFLOWS, *sorted(set(PINS.iterdir()) - {PINS / "nightly.txt"})],
    ids=lambda path: path.name,
)
def test_no_file_says_where_packages_come_from(path: Path) -> None:
    """Which index serves a wheel is the machine's matter: no address, and no option of pip's for one.

    But for the nightly pins: an index forgets a nightly after two months, so that only its address names it.
    """
    text = path.read_text(encoding="utf-8")

    assert re.findall(r"\S*://\S*|--(?:extra-)?index-url\S*|--find-links\S*", text) == []
