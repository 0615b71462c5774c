"""Workflows, verbs and pins: what keeps a stranger's code off our GPUs, and each version in one place."""

from __future__ import annotations

import configparser
import json
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").iterdir())
PINS = ROOT / ".github" / "pins"
PIN_FILES = ("stable.txt", "tools.txt")
VERBS = {"lint", "type", "tests", "bench", "record", "nightly", "proof"}
INSTALL = "python -m pip install -c .github/pins/tools.txt tox"
TOX = re.compile(r'tox -e (\w+|"\$VERB")( --( [\w.=-]+| "\$\w+")+)?')
USES = re.compile(r"\s*(- )?uses: [\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")
HOSTED = re.compile(r"(ubuntu|macos|windows)-[\w.-]+")
OURS = {"push", "schedule", "workflow_dispatch"}  # the events that only somebody who may write here can cause

Rule = Callable[[dict[str, Any], str], list[str]]


def jobs(workflow: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The workflow's jobs by name."""
    found: dict[str, dict[str, Any]] = workflow["jobs"]
    return found


def steps(workflow: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The steps of all jobs."""
    for job in jobs(workflow).values():
        yield from job.get("steps", [])


def events(workflow: dict[str, Any]) -> dict[str, Any]:
    """What starts the workflow, and its filters; `on` may be a word, a list or a mapping."""
    on = workflow["on"]
    return on if isinstance(on, dict) else dict.fromkeys([on] if isinstance(on, str) else on)


def scripts_are_tox(workflow: dict[str, Any], _: str) -> list[str]:
    """Whatever CI does can be done at a desk by the same verb, so a script is tox or its installation."""
    scripts = [step["run"] for step in steps(workflow) if "run" in step]
    return [script for script in scripts if script != INSTALL and not TOX.fullmatch(script)]


def verbs_exist(workflow: dict[str, Any], _: str) -> list[str]:
    """A verb that tox.ini lacks fails only once it is pushed."""
    named = {match[1] for step in steps(workflow) if (match := TOX.fullmatch(step.get("run", "")))} - {'"$VERB"'}
    for job in jobs(workflow).values():
        named.update(job.get("strategy", {}).get("matrix", {}).get("verb", []))
    return sorted(named - VERBS)


def scripts_hold_no_expression(workflow: dict[str, Any], _: str) -> list[str]:
    """An expression is pasted into the script before the shell reads it, whatever it turned out to be."""
    return [step["run"] for step in steps(workflow) if "${{" in step.get("run", "")]


def actions_are_pinned(workflow: dict[str, Any], text: str) -> list[str]:
    """A tag can be moved to other code, a commit cannot; the comment says which version the commit is."""
    lines = [line for line in text.splitlines() if re.match(r"\s*(- )?uses:", line)]
    used = [node["uses"] for node in (*jobs(workflow).values(), *steps(workflow)) if "uses" in node]
    escaped = [] if len(lines) == len(used) else [f"{len(used)} actions on {len(lines)} lines of their own"]
    return [line for line in lines if not USES.fullmatch(line)] + escaped


def outsiders_stay_hosted(workflow: dict[str, Any], _: str) -> list[str]:
    """A machine that outlives the job runs only what was merged, or was started by somebody who may write here."""
    if all(HOSTED.fullmatch(str(job.get("runs-on"))) for job in jobs(workflow).values()):
        return []
    push = events(workflow).get("push", {"branches": ["main"]})
    return sorted(set(events(workflow)) - OURS) + ([] if push == {"branches": ["main"]} else [f"push: {push}"])


def token_only_reads(workflow: dict[str, Any], _: str) -> list[str]:
    """Without `permissions`, the token may be allowed to write."""
    granted = [workflow.get("permissions")]
    granted += [job["permissions"] for job in jobs(workflow).values() if "permissions" in job]
    return [str(grant) for grant in granted if grant not in ({"contents": "read"}, {})]


def no_secret_is_named(workflow: dict[str, Any], _: str) -> list[str]:
    """What a job does not hold, nobody can take from it."""
    return re.findall(r"\bsecrets\b|github\.token", json.dumps(workflow))


def checkout_is_bare(workflow: dict[str, Any], _: str) -> list[str]:
    """The token would lie on disk for every later step; a chosen ref could be a commit of a fork."""
    checkouts = [step for step in steps(workflow) if step.get("uses", "").startswith("actions/checkout@")]
    return [str(step) for step in checkouts if step.get("with") != {"persist-credentials": "false"}]


def jobs_end(workflow: dict[str, Any], _: str) -> list[str]:
    """A job that hangs would hold a GPU for GitHub's six hours, and one beside another would be slowed by it."""
    endless = [name for name, job in jobs(workflow).items() if not str(job.get("timeout-minutes", "")).isdigit()]
    return endless + ([] if "concurrency" in workflow else ["no concurrency"])


RULES: list[Rule] = [
    scripts_are_tox,
    verbs_exist,
    scripts_hold_no_expression,
    actions_are_pinned,
    outsiders_stay_hosted,
    token_only_reads,
    no_secret_is_named,
    checkout_is_bare,
    jobs_end,
]

# (rule, workflow, what stands there, what someone might write instead)
FAULTS: list[tuple[Rule, str, str, str]] = [
    (scripts_are_tox, "cpu", INSTALL, f"{INSTALL} && make"),
    (scripts_are_tox, "cpu", 'tox -e "$VERB"', "pytest bench"),
    (scripts_are_tox, "gpu", "run: tox -e bench", "run: |\n          make\n          tox -e bench"),
    (scripts_are_tox, "gpu", '"$PROCESSES"', "$PROCESSES"),
    (verbs_exist, "cpu", "[lint, type,", "[lint, types,"),
    (verbs_exist, "gpu", "tox -e bench", "tox -e benchmark"),
    (scripts_hold_no_expression, "gpu", '"$PROCESSES"', "${{ inputs.processes }}"),
    (scripts_hold_no_expression, "cpu", '"$VERB"', "${{github.event.pull_request.title}}"),
    (scripts_hold_no_expression, "cpu", '"$VERB"', "${{ matrix.verb }}"),
    (actions_are_pinned, "cpu", "@a309ff8b426b58ec0e2a45f0f869d46889d02405 # v6.2.0", "@v6.2.0"),
    (actions_are_pinned, "cpu", " # v6.2.0", ""),
    (actions_are_pinned, "gpu", "- run: python", "- {uses: someone/tool@main}\n      - run: python"),
    (outsiders_stay_hosted, "gpu", "  push:", "  pull_request:\n  push:"),
    (outsiders_stay_hosted, "gpu", "  schedule:", "  pull_request_target:\n  schedule:"),
    (outsiders_stay_hosted, "gpu", "  schedule:", "  issue_comment:\n  schedule:"),
    (outsiders_stay_hosted, "gpu", "  schedule:", "  workflow_run: {workflows: [cpu]}\n  schedule:"),
    (outsiders_stay_hosted, "gpu", "    branches: [main]", "    branches: ['**']"),
    (outsiders_stay_hosted, "cpu", "runs-on: ubuntu-24.04", "runs-on: [self-hosted, gpu]"),
    (outsiders_stay_hosted, "cpu", "runs-on: ubuntu-24.04", "runs-on: {group: gpus}"),
    (outsiders_stay_hosted, "cpu", "runs-on: ubuntu-24.04", "runs-on: ${{ github.head_ref }}"),
    (token_only_reads, "cpu", "permissions:\n  contents: read\n", ""),
    (token_only_reads, "gpu", "  contents: read", "  contents: write"),
    (token_only_reads, "gpu", "    runs-on:", "    permissions: write-all\n    runs-on:"),
    (no_secret_is_named, "gpu", "${{ inputs.processes || 3 }}", "${{ secrets.TOKEN }}"),
    (checkout_is_bare, "gpu", "        with:\n          persist-credentials: false\n", ""),
    (checkout_is_bare, "gpu", "credentials: false", "credentials: false\n          ref: main"),
    (jobs_end, "gpu", "    timeout-minutes: 240\n", ""),
    (jobs_end, "gpu", "concurrency:\n  group: gpu\n  cancel-in-progress: false\n", ""),
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


@pytest.mark.parametrize(
    ("rule", "workflow", "old", "new"),
    FAULTS,
    ids=[f"{rule.__name__}-{index}" for index, (rule, *_) in enumerate(FAULTS)],
)
def test_a_rule_sees_the_fault(rule: Rule, workflow: str, old: str, new: str) -> None:
    """A plausible edit of a real workflow breaks the rule that is there for it."""
    text = (ROOT / ".github" / "workflows" / f"{workflow}.yml").read_text(encoding="utf-8")

    assert old in text
    assert offences(rule, text.replace(old, new)) != []


def test_every_rule_has_been_seen_to_fail() -> None:
    """A rule without a fault might hold for everything."""
    assert {rule.__name__ for rule, *_ in FAULTS} == {rule.__name__ for rule in RULES}


def test_both_workflows_are_there() -> None:
    """The rules are kept by two files, not by an empty folder."""
    assert [path.name for path in WORKFLOWS] == ["cpu.yml", "gpu.yml"]


def test_tox_defines_the_verbs() -> None:
    """The environments of tox.ini are the verbs, no fewer and no more."""
    assert {name.removeprefix("testenv:") for name in tox_ini().sections() if ":" in name} == VERBS


def test_a_bare_tox_records_no_baseline() -> None:
    """`tox` alone runs what a pull request has to pass, the verbs of the hosted workflow: no record, no nightly, no proof."""
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "cpu.yml").read_text(encoding="utf-8"))

    assert tox_ini()["tox"]["env_list"].split() == workflow["jobs"]["tox"]["strategy"]["matrix"]["verb"]
    assert VERBS - set(tox_ini()["tox"]["env_list"].split()) == {"record", "nightly", "proof"}


def test_every_verb_installs_by_the_pins() -> None:
    """The constraints stand where all environments inherit them, none sets its own, and the files exist."""
    parser = tox_ini()

    assert [section for section in parser.sections() if "constraints" in parser[section]] == ["testenv"]
    assert {ROOT / name for name in parser["testenv"]["constraints"].split()} == {PINS / name for name in PIN_FILES}


def test_each_dependency_is_pinned_once_within_its_range() -> None:
    """stable.txt holds pyproject's dependencies, each once and by a version that pyproject allows."""
    dependencies = requirements(pyproject()["project"]["dependencies"])
    pinned = pins("stable.txt")

    assert [name for name, _ in pinned] == sorted(dependencies)
    assert [f"{name}=={version}" for name, version in pinned if version not in dependencies[name].specifier] == []


def test_each_tool_is_pinned_once_within_its_range() -> None:
    """tools.txt holds tox and the tools of pyproject's dependency groups."""
    groups = pyproject()["dependency-groups"]
    tools = requirements([line for group in groups.values() for line in group])
    tools["tox"] = Requirement(f"tox>={tox_ini()['tox']['min_version']}")
    pinned = pins("tools.txt")

    assert [name for name, _ in pinned] == sorted(tools)
    assert [f"{name}=={version}" for name, version in pinned if version not in tools[name].specifier] == []


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
