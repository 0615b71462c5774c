"""What every workflow keeps to: one function a rule, which lists what in the workflow breaks it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
VERBS = {"lint", "type", "tests", "slow", "bench", "drill", "record", "nightly", "proof", "gpu_code"}
INSTALL = "python -m pip install -c .github/pins/tools.txt tox"
ARGUMENTS = r'(?: (?:[\w./=-]+|"\$\w+"))*'
TOX = re.compile(rf'tox -e (\w+|"\$VERB")(?: --{ARGUMENTS})?')
TOX_EXEC = re.compile(rf"tox exec -e (\w+) -- speedgate (?:pin update|bisect|summary){ARGUMENTS}")
# The scripts of a job with a token. The one package that `speedgate.fleet.post` needs comes as a wheel: installing it runs no
# code.
VENV = "python3 -m venv .venv"
INSTALL_POST = ".venv/bin/python -m pip install --no-deps --only-binary msgspec -c .github/pins/stable.txt msgspec"
POST = re.compile(r"\.venv/bin/python -m speedgate\.fleet\.post ([a-z-]+)")
# The scripts of more than one command, by the `id` of their step. tests/repository/test_workflow_scripts.py runs them.
_DATE = """\
sed -nE 's/^# date: ([0-9]{8})$/date=\\1/p' .github/pins/nightly.txt >> "$GITHUB_OUTPUT"
"""
SHELL = {
    "vet": """\
[[ "$GITHUB_REF" == refs/heads/main ]] || { echo "Start the workflow from main, whose own text was reviewed."; exit 2; }
[[ "$COMMIT" =~ ^[0-9a-f]{40}$ ]] || { echo "Give the full hash of a commit: 40 lower-case hexadecimal digits."; exit 2; }
git merge-base --is-ancestor "$COMMIT" HEAD || { echo "This commit is not in main's history. Merge it first."; exit 2; }
echo "commit=$COMMIT" >> "$GITHUB_OUTPUT"
""",
    "old": _DATE,
    "new": _DATE,
    "give": """\
pin=$(base64 --wrap=0 .github/pins/nightly.txt)
[[ -n "$pin" ]]
echo "pin=$pin" >> "$GITHUB_OUTPUT"
""",
    "take": 'printf %s "$PIN" | base64 --decode > .github/pins/nightly.txt',
}
USES = re.compile(r"\s*(- )?uses: [\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")
HOSTED = re.compile(r"(ubuntu|macos|windows)-[\w.-]+")
OURS = {"push", "schedule", "workflow_dispatch"}  # the events that only somebody who may write here can cause
VETTED = re.compile(r"\$\{\{ needs\.(\w+)\.outputs\.commit \}\}")
# Which job may write what. One that is not here may read, and nothing else.
WRITES = {
    ("nightly", "bump"): {"contents", "pull-requests"},
    ("nightly", "report"): {"issues"},
    ("comment", "comment"): {"pull-requests"},
}

Workflow = dict[str, Any]
Rule = Callable[[Workflow, str], list[str]]


def jobs(workflow: Workflow) -> dict[str, dict[str, Any]]:
    """The workflow's jobs by name."""
    jobs_by_name: dict[str, dict[str, Any]] = workflow["jobs"]
    return jobs_by_name


def steps(workflow: Workflow) -> Iterator[dict[str, Any]]:
    """The steps of all jobs."""
    for job in jobs(workflow).values():
        yield from job.get("steps", [])


def scripts(job: dict[str, Any]) -> list[str]:
    """What the job runs."""
    return [step["run"] for step in job.get("steps", []) if "run" in step]


def gpu_jobs(workflow: Workflow) -> dict[str, dict[str, Any]]:
    """The jobs on machines that outlive them: whatever is not plainly hosted."""
    return {name: job for name, job in jobs(workflow).items() if not HOSTED.fullmatch(str(job.get("runs-on")))}


def checkouts(job: dict[str, Any]) -> list[dict[str, Any]]:
    """The settings of the job's checkouts."""
    return [
        step.get("with") or {} for step in job.get("steps", []) if step.get("uses", "").startswith("actions/checkout@")
    ]


def events(workflow: Workflow) -> dict[str, Any]:
    """What starts the workflow, and its filters; `on` may be a word, a list or a mapping."""
    on = workflow["on"]
    return on if isinstance(on, dict) else dict.fromkeys([on] if isinstance(on, str) else on)


def scripts_are_ours(workflow: Workflow, _: str) -> list[str]:
    """A script is a verb of tox, its installation, a verb of `speedgate.fleet.post`, or one of a few that the tests run."""
    return [step["run"] for step in steps(workflow) if "run" in step and not _is_ours(step)]


def _is_ours(step: dict[str, Any]) -> bool:
    script = step["run"]
    if script == SHELL.get(step.get("id", "")) or script in (INSTALL, VENV, INSTALL_POST):
        return True
    return bool(TOX.fullmatch(script) or TOX_EXEC.fullmatch(script) or POST.fullmatch(script))


def verbs_exist(workflow: Workflow, _: str) -> list[str]:
    """A verb that tox.ini lacks fails only once it is pushed."""
    lines = [step.get("run", "") for step in steps(workflow)]
    named = {match[1] for script in lines if (match := TOX.fullmatch(script) or TOX_EXEC.fullmatch(script))}
    for job in jobs(workflow).values():
        named.update(job.get("strategy", {}).get("matrix", {}).get("verb", []))
    return sorted(named - {'"$VERB"'} - VERBS)


def scripts_hold_no_expression(workflow: Workflow, _: str) -> list[str]:
    """An expression is pasted into the script before the shell reads it, whatever it turned out to be."""
    return [step["run"] for step in steps(workflow) if "${{" in step.get("run", "")]


def actions_are_pinned(workflow: Workflow, text: str) -> list[str]:
    """A tag can be moved to other code, a commit cannot; the comment says which version the commit is."""
    lines = [line for line in text.splitlines() if re.match(r"\s*(- )?uses:", line)]
    used = [node["uses"] for node in (*jobs(workflow).values(), *steps(workflow)) if "uses" in node]
    escaped = [] if len(lines) == len(used) else [f"{len(used)} actions on {len(lines)} lines of their own"]
    return [line for line in lines if not USES.fullmatch(line)] + escaped


def outsiders_stay_hosted(workflow: Workflow, _: str) -> list[str]:
    """A machine that outlives the job is reached by no pull request, comment, or run that either has started."""
    if not gpu_jobs(workflow):
        return []
    push = events(workflow).get("push", {"branches": ["main"]})
    return sorted(set(events(workflow)) - OURS) + ([] if push == {"branches": ["main"]} else [f"push: {push}"])


def gpus_take_vetted_commits(workflow: Workflow, _: str) -> list[str]:
    """A GPU job checks out what a hosted job of the same workflow found in main's history, and nothing else."""
    wrong = []
    for name, job in gpu_jobs(workflow).items():
        refs = [VETTED.fullmatch(settings.get("ref", "")) for settings in checkouts(job)]
        wrong += [name for ref in refs or [None] if ref is None or not _vets(jobs(workflow).get(ref[1], {}))]
    return wrong


def _vets(job: dict[str, Any]) -> bool:
    vet = [step for step in job.get("steps", []) if step.get("run") == SHELL["vet"]]
    handed_on = job.get("outputs", {}).get("commit") == "${{ steps.vet.outputs.commit }}"
    # Nothing of the commit may have run before: what is asked for is checked with main's own text.
    bare = all("ref" not in settings for settings in checkouts(job))
    return [step.get("id") for step in vet] == ["vet"] and handed_on and bare


def permissions_are_listed(workflow: Workflow, _: str) -> list[str]:
    """Nothing by default; each job names what it needs, a GPU job the code alone, and a write stands in our table."""
    wrong = [] if workflow.get("permissions") == {} else ["top level"]
    for name, job in jobs(workflow).items():
        granted = job.get("permissions")
        if not isinstance(granted, dict) or (name in gpu_jobs(workflow) and granted != {"contents": "read"}):
            wrong.append(f"{name}: {granted}")
            continue
        writes = {scope for scope, access in granted.items() if access != "read"}
        wrong += [f"{name}: {scope}" for scope in writes - WRITES.get((workflow["name"], name), set())]
    return wrong


def tokens_meet_our_code_only(workflow: Workflow, _: str) -> list[str]:
    """A job with a token in hand is hosted, uses no action but the checkout, of main, and runs `speedgate.fleet.post` alone.

    Main's pins say what is installed for that, and no step but the last kind gets the token.
    """
    wrong = []
    for name, job in jobs(workflow).items():
        if "github.token" not in json.dumps(job) and "write" not in job.get("permissions", {}).values():
            continue
        used = [step["uses"] for step in job.get("steps", []) if "uses" in step]
        bare = all(use.startswith("actions/checkout@") for use in used) and all("ref" not in s for s in checkouts(job))
        posts = [script for script in scripts(job) if POST.fullmatch(script)]
        ordered = scripts(job) == [VENV, INSTALL_POST, *posts]
        if name in gpu_jobs(workflow) or not bare or not ordered or not _token_is_narrow(job):
            wrong.append(name)
    return wrong


def _token_is_narrow(job: dict[str, Any]) -> bool:
    """Check that the token is in the environment of the posting steps only, as `GH_TOKEN`, so that no argument shows it."""
    tokens = [name for step in job["steps"] for name, value in step.get("env", {}).items() if "github.token" in value]
    posts = [step for step in job["steps"] if POST.fullmatch(step.get("run", ""))]
    named = [step for step in posts if step.get("env", {}).get("GH_TOKEN") == "${{ github.token }}"]
    return len(named) == len(tokens) == json.dumps(job).count("github.token")


def no_secret_is_named(workflow: Workflow, _: str) -> list[str]:
    """What a workflow does not hold, nobody can take from it."""
    return re.findall(r"\bsecrets\b", json.dumps(workflow))


def checkout_is_bare(workflow: Workflow, _: str) -> list[str]:
    """The token would lie on disk for every later step; a chosen ref could be a commit of a fork."""
    allowed = {("persist-credentials", "false"), ("fetch-depth", "0")}
    settings = [settings for job in jobs(workflow).values() for settings in checkouts(job)]
    odd = [str(s) for s in settings if {kv for kv in s.items() if not VETTED.fullmatch(kv[1])} - allowed]
    return odd + [str(s) for s in settings if s.get("persist-credentials") != "false"]


def jobs_end(workflow: Workflow, _: str) -> list[str]:
    """A job that hangs would hold a machine for GitHub's six hours."""
    return [name for name, job in jobs(workflow).items() if not str(job.get("timeout-minutes", "")).isdigit()]


def gpus_are_not_shared(workflow: Workflow, _: str) -> list[str]:
    """All GPU jobs of all workflows stand in one queue; none is cancelled, by the next or by the one after that."""
    queue = {"group": "gpu", "cancel-in-progress": "false", "queue": "max"}
    wrong = [name for name, job in gpu_jobs(workflow).items() if job.get("concurrency") != queue]
    # The workflow's own group: the same one twice would wait for itself.
    group = workflow.get("concurrency", {}).get("group", "gpu")
    return wrong + (["top level"] if group == "gpu" else [])


def a_gate_confirms_by_its_own_history(workflow: Workflow, _: str) -> list[str]:
    """A GPU job that enforces by stored figures confirms them, and has main's whole history: no other commit may run."""
    wrong = []
    for name, job in gpu_jobs(workflow).items():
        gates = [script for script in scripts(job) if "tox -e bench" in script and "--gate enforce" in script]
        if gates and not all("--confirm auto" in script for script in gates):
            wrong.append(f"{name}: stored figures decide alone")
        if gates and any(settings.get("fetch-depth") != "0" for settings in checkouts(job)):
            wrong.append(f"{name}: a part of the history")
    return wrong


def red_alone_is_followed_up(workflow: Workflow, _: str) -> list[str]:
    """A bisection and an issue answer a verdict, not a GPU that is missing or a wheel that cannot be installed."""
    wrong = []
    for step in steps(workflow):
        script, condition = step.get("run", ""), step.get("if", "")
        if "bisect" in script and ("&& steps.compare.outputs.red == 'true'" not in condition or "||" in condition):
            wrong.append(script)
        if "open-issue" in script and condition != "${{ needs.compare.outputs.red == 'true' }}":
            wrong.append(script)
        if "close-issue" in script and condition != "${{ needs.compare.outputs.red != 'true' }}":
            wrong.append(script)
    return wrong


RULES: list[Rule] = [
    scripts_are_ours,
    verbs_exist,
    scripts_hold_no_expression,
    actions_are_pinned,
    outsiders_stay_hosted,
    gpus_take_vetted_commits,
    permissions_are_listed,
    tokens_meet_our_code_only,
    no_secret_is_named,
    checkout_is_bare,
    jobs_end,
    gpus_are_not_shared,
    a_gate_confirms_by_its_own_history,
    red_alone_is_followed_up,
]
