"""The pinned versions: exact releases in stable.txt, full addresses with checksums in nightly.txt."""

from __future__ import annotations

import dataclasses
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from speedgate.results.json_io import atomic_write
from speedgate.versions import index
from speedgate.versions.index import Wheel, WheelOrigin

FOLDER, STABLE, NIGHTLY = Path(".github/pins"), "stable.txt", "nightly.txt"
# PyTorch's index of nightlies; the variant is `cpu`, `cu130`, ...
NIGHTLY_INDEX = "https://download.pytorch.org/whl/nightly/{variant}"
PACKAGES = ("torch", "torchao")  # of one date: torchao is built against the torch of that day
_COMMIT = re.compile(r"^# torch git_version: ([0-9a-f]{40})$", re.MULTILINE)
_HEADER = """\
# The other arm of `tox -e nightly`. Written by `speedgate pin update --channel nightly`; do not edit it by hand.
# Addresses and checksums, because the index lists a nightly for two months only, keeps its file, and gives no checksum.
# date: {date}
# torch git_version: {commit}
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class NightlyPin:
    """The result of `update_nightly`: the pinned versions, the commits since the pin before, and remarks on the choice."""

    date: str
    versions: Mapping[str, str]
    compare: str
    remarks: tuple[str, ...]


def read_pins(path: Path) -> dict[str, str]:
    """Read the requirements of a pins file by canonical name; a `ValueError` names a line that does not pin one version."""
    if not path.exists():
        hint = "run this at the root of the repository"
        if path.name == NIGHTLY:
            hint = "`speedgate pin update --channel nightly` writes it"
        raise ValueError(f"{path}: does not exist; {hint}")
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    return {
        canonicalize_name(parse_pin(line, where=str(path)).name): line
        for line in lines
        if line and not line.startswith("#")
    }


def parse_pin(text: str, *, where: str) -> Requirement:
    """Parse a requirement of one release (`==`) or one file (`@`); a `ValueError` for anything else."""
    try:
        requirement = Requirement(text)
    except InvalidRequirement as error:
        raise ValueError(f"{where}: {text!r} is no requirement; expected PACKAGE==VERSION") from error
    if requirement.url is None and pinned_version(requirement) is None:
        raise ValueError(f"{where}: {text!r} does not name one version; expected PACKAGE==VERSION")
    return requirement


def pinned_version(requirement: Requirement) -> str | None:
    """Return the only version that a requirement allows; None if it allows several."""
    specifiers = list(requirement.specifier)
    is_exact = len(specifiers) == 1 and specifiers[0].operator == "==" and not specifiers[0].version.endswith(".*")
    return specifiers[0].version if is_exact else None


def parse_changes(texts: Iterable[str], *, stable: Mapping[str, str], where: str) -> dict[str, str]:
    """Parse changed requirements, by canonical name.

    Raises `ValueError` for one that does not name one version, is listed twice, or is equal to the stable pin.
    """
    changes: dict[str, str] = {}
    for text in texts:
        requirement = parse_pin(text, where=where)
        name, version = canonicalize_name(requirement.name), pinned_version(requirement)
        if name in changes:
            raise ValueError(f"{where}: {name} is named twice, as {changes[name]} and {text}; name it once")
        stable_version = pinned_version(Requirement(stable[name])) if name in stable else None
        if version and stable_version and Version(version) == Version(stable_version):
            raise ValueError(
                f"{where}: {name} {stable_version} is pinned already: nothing to compare; name another version of it"
            )
        changes[name] = text
    return changes


def without(stable: Iterable[str], packages: Iterable[str]) -> tuple[str, ...]:
    """Return the lines of the stable pins without those of `packages`, which get another version."""
    names = {canonicalize_name(name) for name in packages}
    return tuple(line for line in stable if canonicalize_name(Requirement(line).name) not in names)


def update_nightly(
    path: Path, *, index_url: str, variant: str, installed: WheelOrigin, date: str | None = None
) -> NightlyPin:
    """Write to `path` the newest nightly, or that of `date` (YYYYMMDD), for which torch and torchao both have a wheel.

    Also pins what torch requires in a version that is no release (its triton). The range of commits starts at the pin
    before, or at `installed`, the torch of this environment. Raises `ValueError` if there is no such nightly; the old pin stays.
    """
    wheels = {package: _wheels_by_date(index.list_wheels(index_url, package), variant) for package in PACKAGES}
    chosen = _choose_date(wheels, date=date, where=f"{index_url} ({variant})")
    pinned = {package: max(wheels[package][chosen], key=lambda wheel: wheel.version) for package in PACKAGES}
    remarks = tuple(
        f"{package}: {chosen} exists as {' and '.join(str(wheel.version) for wheel in choices)}; took {taken.version}"
        for package, taken in pinned.items()
        if len(choices := wheels[package][chosen]) > 1
    )
    commit = _COMMIT.search(path.read_text(encoding="utf-8")) if path.exists() else None
    before = dataclasses.replace(installed, git_version=commit[1]) if commit else installed
    with tempfile.TemporaryDirectory(prefix="speedgate-pin-") as scratch:
        files = {package: Path(scratch) / Path(wheel.url).name for package, wheel in pinned.items()}
        digests = {package: index.download(pinned[package], file) for package, file in files.items()}
        torch_wheel = [str(files["torch"])]
        torch = index.read_origin("torch", torch_wheel)
        required = _required_nightlies(torch_wheel, index_url)
        digests |= {package: index.download(wheel, Path(scratch) / package) for package, wheel in required.items()}
    pinned |= required
    lines = [f"{package} @ {wheel.url}#sha256={digests[package]}\n" for package, wheel in pinned.items()]
    header = _HEADER.format(date=chosen, commit=torch.git_version or "unknown")
    with atomic_write(path) as temporary:
        temporary.write_text(header + "".join(lines), encoding="utf-8")
    versions = {package: str(wheel.version) for package, wheel in pinned.items()}
    return NightlyPin(date=chosen, versions=versions, compare=before.compare(torch), remarks=remarks)


def _wheels_by_date(wheels: Sequence[Wheel], variant: str) -> dict[str, list[Wheel]]:
    by_date: dict[str, list[Wheel]] = {}
    for wheel in wheels:
        if wheel.nightly_date and wheel.version.local in (None, variant):
            by_date.setdefault(wheel.nightly_date, []).append(wheel)
    return by_date


def _choose_date(wheels: Mapping[str, Mapping[str, object]], *, date: str | None, where: str) -> str:
    dates = {package: sorted(by_date) for package, by_date in wheels.items()}
    shared = sorted(set.intersection(*map(set, dates.values())))
    if date is None and shared:
        return shared[-1]
    if date is not None and date in shared:
        return date
    newest = ", ".join(f"{package} {days[-1] if days else 'none'}" for package, days in dates.items())
    wanted = f"of {date}" if date else "of one date"
    choices = f"; both have {', '.join(shared[-5:])}" if shared else ""
    raise ValueError(
        f"{where}: no nightlies {wanted} of both {' and '.join(dates)} for this Python; newest: {newest}{choices}"
    )


def _required_nightlies(torch_wheel: list[str], index_url: str) -> dict[str, Wheel]:
    """Find the wheels of what torch requires here in exactly one version that is no plain release."""
    required: dict[str, Wheel] = {}
    for requirement in map(Requirement, index.find_distribution("torch", torch_wheel).requires or []):
        version = pinned_version(requirement)
        applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if version is None or not applies or not (Version(version).local or Version(version).is_prerelease):
            continue
        wheels = index.list_wheels(index_url, requirement.name)
        matching = [wheel for wheel in wheels if wheel.version == Version(version)]
        if not matching:
            raise ValueError(f"{index_url}: no {requirement.name} {version} for this Python, which that torch requires")
        required[requirement.name] = matching[0]
    return required
