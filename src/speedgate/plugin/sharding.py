"""Select the cases of one shard (`--shard`), and write the manifest of the session, from which `merge` finds gaps."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from speedgate.fleet import shards
from speedgate.measure.machine import installed_versions
from speedgate.plugin.hooks import SESSION
from speedgate.plugin.items import has_gate

MANIFEST = pytest.StashKey[shards.ManifestWriter]()
# The keys of all selected cases, and of those that this shard measures. Missing if the collection failed.
SELECTED = pytest.StashKey[tuple[list[str], list[str]]]()


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Refuse a folder with results of an earlier session: `merge` would take them for results of this shard."""
    config.addinivalue_line(
        "markers",
        f"{shards.MARK}: unit, cost and needs of a case, by which --shard divides the cases (speedgate.fleet.shards)",
    )
    shard, results = config.getoption("shard"), config.stash[SESSION].options.results
    if shard.of > 1 and any(results.glob("*.json")):
        raise pytest.UsageError(
            f"--results {results}: contains results already, which would be mixed with those of shard {shard}; name a new"
            " folder"
        )


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Generator[None]:
    """Leave out the cases of other shards, after every other plugin has made its selection."""
    yield
    if has_gate(items):
        config.stash[SELECTED] = _select_shard(config, items)


def _select_shard(config: pytest.Config, items: list[pytest.Item]) -> tuple[list[str], list[str]]:
    """Remove the tests of other shards from `items`; return the keys of all cases and of this shard's."""
    shard, tasks = config.getoption("shard"), shards.collect_tasks(items)
    selection = [task.key for task in tasks]
    if shard.of == 1:
        return selection, selection
    try:
        part = shards.divide(tasks, shard.of)[shard.number - 1]
    except ValueError as error:
        raise pytest.UsageError(f"--shard {shard}: {error}") from error
    items[:], others = shards.split_items(items, part, is_first_shard=shard.number == 1)
    config.hook.pytest_deselected(items=others)
    return selection, part


def pytest_report_collectionfinish(config: pytest.Config) -> list[str]:
    """Write how many of the selected cases this shard measures."""
    shard = config.getoption("shard")
    if shard.of == 1 or SELECTED not in config.stash:
        return []
    selection, part = config.stash[SELECTED]
    return [f"speedgate: shard {shard}, {len(part)} of {len(selection)} cases"]


@pytest.hookimpl(trylast=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Write the manifest before the first case, so that a session that is killed shows as a gap."""
    config = session.config
    if config.option.collectonly or not has_gate(session.items) or SELECTED not in config.stash:
        return
    config.stash[SESSION].selected_keys = frozenset(config.stash[SELECTED][1])
    config.stash[MANIFEST] = shards.ManifestWriter(
        folder=config.stash[SESSION].options.results, manifest=_manifest(config)
    )
    config.stash[MANIFEST].begin()


def _manifest(config: pytest.Config) -> shards.Manifest:
    state, (selection, part) = config.stash[SESSION], config.stash[SELECTED]
    commit = state.inputs.commit
    if not commit and config.pluginmanager.hasplugin("benchmark"):
        commit = config.hook.pytest_benchmark_generate_commit_info(config=config)
    return shards.Manifest(
        shard=config.getoption("shard"),
        selection=tuple(selection),
        case_keys=tuple(part),
        gpu_key=state.machine.key,
        commit={name: commit.get(name) for name in ("id", "dirty")},
        versions={**installed_versions(), "driver": state.machine.driver},
        policy=state.options.policy,
        against=state.inputs.other_arm,
        injected=state.injection,
        quick=state.options.is_quick,
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """Note the outcome of each test: a case whose tests were all skipped has no result, and is no gap."""
    result = yield
    if MANIFEST in item.config.stash and (result.when == "call" or not result.passed):
        item.config.stash[MANIFEST].add_outcome(shards.case_keys_of(item), result.outcome)
    return result


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the exit status into the manifest; a fire drill has set its own by now."""
    if MANIFEST in session.config.stash:
        outcome, manifest = session.config.stash[SESSION].outcome, session.config.stash[MANIFEST]
        try:
            manifest.end(int(session.exitstatus), cases_with_result=[*outcome.runs, *outcome.verdicts])
        except OSError as error:  # what was measured must still be shown
            outcome.unwritten[str(manifest.folder / shards.MANIFEST_FILE)] = str(error.strerror)
