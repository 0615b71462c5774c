"""Build a case in a fresh worker, up to its first image, with the compile cache that was imported for it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import speedgate
from speedgate.fleet import compile_cache
from speedgate.fleet.cache_archive import Build, CacheOrigin
from speedgate.measure.budget import Budget
from speedgate.measure.import_server import ImportServers
from speedgate.measure.imported_packages import packages_of
from speedgate.measure.other_arm import OtherArm
from speedgate.measure.worker import InProcessTarget, Target, Worker, WorkerFailure
from speedgate.plugin.progress import Progress
from speedgate.plugin.session import Session
from speedgate.results import profile
from speedgate.results.profile import Attribution
from speedgate.results.run import COMPILED, COMPILED_REGIONS, ColdStart, Run

# Names of the activities of a worker, as progress shows them and the budget of a recording looks them up.
LOAD, FIRST_IMAGE, FIRST_IMAGE_COMPILING = "load and apply", "first image", "first image, compiling"
OTHER_ARM = " of the other arm"  # follows the name of a case


class CaseSpec(Protocol):
    """A case that the runner can build: a suite has one class of its own that satisfies this."""

    @property
    def key(self) -> str:
        """The name of the case in every record: `pipeline/stage/workload`."""

    @property
    def id(self) -> str:
        """The name of the case in progress lines and log files."""

    @property
    def compiles(self) -> bool:
        """True if anything is compiled before the first image."""


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class BuiltWorker:
    """A started worker: its cold start, the run before any round, and the optional operations that it has."""

    worker: Target
    cold_start: ColdStart
    run: Run
    capabilities: frozenset[str] = frozenset()


@dataclasses.dataclass(kw_only=True, repr=False)
class Builder:
    """Builds cases in workers of this arm or the other arm.

    `factory` names the worker's target as `module:name`. `arguments` returns the keyword arguments of the factory for a
    case, and `weights` the weights that it loads; a checkpoint of an interrupted recording counts for the same weights only.
    `injected_arguments` are further arguments for this arm of a case that a fault is injected into. `paths` go to the front
    of the worker's `sys.path`. Workers are forked from `servers`, or are fresh interpreters without it. `open_target`
    replaces the worker process, for tests. `shared_arguments` returns the arguments of a case that is compared with its
    baseline's own code: those that give both arms the same weights. A worker is ended when `budget` is over, by default that
    of the session.
    """

    session: Session
    progress: Progress
    factory: str
    arguments: Callable[[Any], Mapping[str, Any]]
    paths: Sequence[str]
    logs: Path
    weights: Callable[[Any], Mapping[str, Any]] = lambda _: {}
    injected_arguments: Callable[[Any], Mapping[str, Any]] = lambda _: {}
    other: OtherArm | None = None
    shared_arguments: Callable[[Any], Mapping[str, Any]] | None = None
    servers: ImportServers | None = None
    budget: Budget | None = None
    open_target: Callable[[CaseSpec, bool], Target] | None = None

    def against(self, arm: OtherArm, *, budget: Budget) -> Builder:
        """Return a builder of the same cases in this arm and `arm`, with the same weights in both."""
        arguments = self.shared_arguments or self.arguments
        return dataclasses.replace(self, other=arm, arguments=arguments, budget=budget)

    def build(self, case: CaseSpec, *, other: bool = False) -> BuiltWorker:
        """Start a worker, load the case, and make its first image. Raises `WorkerFailure` or `OutOfTime`."""
        name = arm_name(case, other=other)
        worker: Target | None = None
        try:
            with self.progress.activity(f"{name}: {LOAD}"):
                worker = self.open(case, other=other)
                reply = worker.call("load")
            capabilities = frozenset(reply.get("offers", ()))
            first_image = self._make_first_image(case, worker, reply, other=other)
            # Once for a case: its other processes import the same.
            is_recorded = self.session.options.is_recording and not other and case.key not in self.session.outcome.runs
            modules = worker.call("modules") if is_recorded and "modules" in capabilities else ()
        except BaseException:  # Ctrl-C too: nobody else knows of this worker yet
            if worker is not None:
                worker.close()
            raise
        cold_start = ColdStart(**reply["seconds"], **first_image)
        run = Run(
            case_key=case.key,
            fingerprint=fingerprint(reply["recipe"], reply["structure"]),
            environment=reply["environment"],
            recipe=reply["recipe"],
            structure=reply["structure"],
            cold_start=cold_start,
            packages=packages_of(modules) if modules else {},
        )
        return BuiltWorker(worker=worker, cold_start=cold_start, run=run, capabilities=capabilities)

    def open(self, case: CaseSpec, *, other: bool = False) -> Target:
        """Start a worker that has loaded nothing yet."""
        if self.open_target is not None:
            return self.open_target(case, other)
        arguments = {**self.arguments(case), **({} if other else self.injected_arguments(case))}
        if self.session.options.isolation == "none":
            return InProcessTarget(self.factory, arguments=arguments)
        arm = self.other if other else None
        python, paths = (arm.python, arm.paths) if arm else (sys.executable, self.paths)
        return Worker(
            self.factory,
            arguments=arguments,
            paths=paths,
            log=self.logs / f"{case.id}{'-other' if arm else ''}.log",
            timeout_s=self.session.options.worker_timeout_s,
            left_s=lambda: (self.budget or self.session.budget).left_s,
            python=python,
            server=self.servers.server(arm_name(case, other=other), python=python, paths=paths)
            if self.servers
            else None,
            **({"name": f"the worker of {arm.label}"} if arm else {}),
        )

    def _make_first_image(
        self, case: CaseSpec, worker: Target, reply: Mapping[str, Any], *, other: bool
    ) -> dict[str, Any]:
        """Return the first image's part of a `ColdStart`. A case that compiles loads and leaves a compile cache."""
        compiles = any(
            value for fact, value in reply["structure"].items() if fact.endswith((COMPILED, COMPILED_REGIONS))
        )
        # torch saves everything that its process has compiled: in this process that would be every case so far.
        has_own_process = compiles and not other and self.session.options.isolation != "none"
        # A case with an injected fault must not leave its graphs for the case without it.
        uses_cache = has_own_process and self.session.injection is None
        cache = self._compile_cache(case, reply) if uses_cache else None
        load_s = cache.load_into(worker) if cache else 0.0
        activity = FIRST_IMAGE_COMPILING if case.compiles else FIRST_IMAGE  # or exported, which leaves no cache
        with self.progress.activity(f"{arm_name(case, other=other)}: {activity}"):
            first_image: dict[str, Any] = worker.call("first_image")
        for path in first_image.pop("torn_files", ()):
            self.progress.note(f"{case.id}: {path} was half written by a process that was killed; it was built anew")
        if cache:
            cache.save_from(worker, loaded=load_s > 0, missed=first_image["cache_misses"] > 0)
        return first_image | {"cache_load_s": load_s}

    def _compile_cache(self, case: CaseSpec, reply: Mapping[str, Any]) -> compile_cache.CaseCache:
        return compile_cache.CaseCache(
            folder=self.session.options.root / compile_cache.FOLDER,
            origin=CacheOrigin(gpu_key=self.session.machine.key, build=Build.from_versions(reply["environment"])),
            case_key=case.key,
            fingerprint=fingerprint(reply["recipe"], reply["structure"]),
            activity=lambda text: self.progress.activity(f"{case.id}: {text}"),
            note=lambda text: self.progress.note(f"{case.id}: {text}"),
        )


def read_attribution(built: BuiltWorker, *, name: str, session: Session, progress: Progress) -> Attribution | None:
    """Return the kernels of one image, after the rounds. Raises `WorkerFailure`.

    None if the worker has no profile, or if cases share this process: a profiler stays.
    """
    if "attribute" not in built.capabilities or session.options.isolation == "none":
        return None
    with progress.activity(f"{name}: kernels"):
        reply = built.worker.call("attribute")
    try:
        return profile.parse_profile(reply)
    except ValueError as error:
        raise WorkerFailure(str(error)) from error


def arm_name(case: CaseSpec, *, other: bool) -> str:
    """Return the name of the case in progress lines, with its arm if that is the other one."""
    return f"{case.id}{OTHER_ARM}" if other else case.id


def import_paths(root: Path, *packages: ModuleType) -> list[str]:
    """Return the folders from which a worker imports what this process imported: the root, speedgate, and `packages`."""
    folders = [root, *(Path(str(package.__file__)).parents[1] for package in (*packages, speedgate))]
    return list(dict.fromkeys(str(folder) for folder in folders))


def fingerprint(recipe: Mapping[str, Any], structure: Mapping[str, Any]) -> str:
    """Return twelve hexadecimal digits that change if the stage is built differently; weights do not count."""
    content = {"recipe": {name: value for name, value in recipe.items() if name != "weights"}, "structure": structure}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]
