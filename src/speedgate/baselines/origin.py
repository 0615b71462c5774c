"""Note where a recording comes from, so that its arm can be made again, and keep its code where no commit has it."""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

from speedgate.baselines import source
from speedgate.measure.machine import installed_version
from speedgate.results.json_io import atomic_write
from speedgate.results.run import Baseline, Origin, Run
from speedgate.results.text import printable

_MAX_NAMED = 4  # packages in a sentence


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecordedCode:
    """The code that measures, as it was when a recording began: its digest, and its commit or its files."""

    digest: str
    commit: str | None = None
    files: Mapping[str, bytes] = dataclasses.field(default_factory=dict, repr=False)

    @functools.cached_property
    def archive(self) -> tuple[str, bytes] | None:
        """The name and bytes of the archive with the files; None if a commit has them."""
        return None if self.commit else source.pack(self.files)


def read_code(root: Path, code: Mapping[str, Path], *, digest: str) -> RecordedCode:
    """Find the commit that holds the code, or read its files; `code` has the folder on disk of each of `source.FOLDERS`."""
    commit = source.commit_of(root, code)
    return RecordedCode(digest=digest, commit=commit, files={} if commit else source.read_folders(code))


def origins(runs: Sequence[Run], code: RecordedCode | None) -> dict[str, Origin]:
    """Return the origin of each run whose packages are known, by case key.

    Each origin has the packages of all cases: they ran in one environment, and so one environment serves all of them. A
    package that changed between two sessions of a recording has the version of the case's own worker.
    """
    if code is None:
        return {}
    packages = {name: version for run in reversed(runs) for name, version in run.packages.items()}
    return {
        run.case_key: Origin(
            python=platform.python_version(),
            packages=dict(sorted({**packages, **run.packages}.items())),
            code_digest=code.digest,
            commit=code.commit,
            archive=code.archive[0] if code.archive else None,
        )
        for run in runs
        if run.packages
    }


def write_archive(folder: Path, code: RecordedCode) -> None:
    """Write the archive of a recording beside it, if its code is in no commit."""
    if code.archive is not None:
        name, data = code.archive
        with atomic_write(folder / name) as temporary:
            temporary.write_bytes(data)


def remove_unused_archives(folder: Path) -> None:
    """Remove the archives that no baseline and no recording of the folder names."""
    if archives := [path for path in folder.glob("source-*.zip") if source.ARCHIVE.fullmatch(path.name)]:
        names = {name for path in folder.glob("*.json") for name in source.ARCHIVE.findall(path.read_text("utf-8"))}
        for path in archives:
            if path.name not in names:
                path.unlink()


def python_problem(origin: Origin) -> str | None:
    """Return why this Python cannot take the place of the recording's; None if it is of the same minor version."""
    here = platform.python_version()
    if origin.python.split(".")[:2] == here.split(".")[:2]:
        return None
    return f"it was recorded with Python {printable(origin.python[:20])}, and this is Python {here}"


def differing_packages(origin: Origin) -> dict[str, str]:
    """Return the packages of an origin, with their versions there, that this environment has in another version or not at all."""
    return {name: version for name, version in origin.packages.items() if installed_version(name) != version}


def name_packages(packages: Mapping[str, str]) -> str:
    """Name the first packages with their versions, and count the others."""
    names = [printable(f"{name} {version}") for name, version in packages.items()]
    return ", ".join(names[:_MAX_NAMED]) + (f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else "")


def missing_parts(baseline: Baseline, *, root: Path) -> list[str]:
    """List what is missing to make the arm of a recorded baseline again, as far as this machine can tell without an index."""
    origin = baseline.origin
    if origin is None:
        return ["its code and its packages were not recorded"]
    gone = differing_packages(origin)
    local = {name: version for name, version in origin.packages.items() if name not in gone and _is_local(name)}
    parts = [_code_problem(origin, Path(baseline.path).parent, root), python_problem(origin)]
    if gone:
        parts.append(f"not installed here: {name_packages(gone)}; it was not checked whether an index still has them")
    if local:
        parts.append(f"not from an index: {name_packages(local)}; they cannot be installed again")
    return [part for part in parts if part]


def _code_problem(origin: Origin, folder: Path, root: Path) -> str | None:
    try:
        if origin.commit is not None:
            source.check_commit(root, origin.commit)
        elif origin.archive is None:
            return "its code is in no commit and in no archive"
        elif not source.is_committed(root, folder / Path(origin.archive).name):
            return f"its code is in no commit; commit the archive {folder / Path(origin.archive).name} too"
    except (OSError, ValueError) as error:
        return str(error)
    return None


def _is_local(package: str) -> bool:
    """Return True if a package was installed from a file, a folder or an address: pip notes that beside its metadata."""
    return importlib.metadata.distribution(package).read_text("direct_url.json") is not None
