"""The pins: exact releases in stable.txt, and in nightly.txt full addresses with our own checksums."""

from __future__ import annotations

import dataclasses
import re
import tempfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from speedgate.results.json_io import atomic_write
from speedgate.versions import index
from speedgate.versions.index import Wheel, WheelOrigin

FOLDER, STABLE, NIGHTLY = Path(".github/pins"), "stable.txt", "nightly.txt"
# PyTorch's index of nightlies, by what its builds are for.
NIGHTLY_INDEX = "https://download.pytorch.org/whl/nightly/{variant}"
TOGETHER = ("torch", "torchao")  # of one date: either is built against the other's that day
_COMMIT = re.compile(r"^# torch git_version: ([0-9a-f]{40})$", re.MULTILINE)
_HEADER = """\
# The other arm of `tox -e nightly`: written by `speedgate pin update --channel nightly`, never by hand. Full addresses and
# our own checksums, because the index lists a nightly for two months only, keeps its file, and gives no checksum.
# date: {date}
# torch git_version: {commit}
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Moved:
    """What `update_nightly` did: where the pin stood before, what it names now, and what should be known of the choice."""

    date: str
    versions: Mapping[str, str]
    compare: str
    remarks: tuple[str, ...]


def read(path: Path) -> dict[str, str]:
    """The requirements of a pins file by canonical name; a `ValueError` names what does not pin one release or file."""
    if not path.exists():
        channel = "; `speedgate pin update --channel nightly` writes it" if path.name == NIGHTLY else ""
        raise ValueError(f"{path}: does not exist{channel or '; run this at the root of the repository'}")
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    found: dict[str, str] = {}
    for line in (line for line in lines if line and not line.startswith("#")):
        found[canonicalize_name(exact(line, where=str(path)).name)] = line
    return found


def exact(text: str, *, where: str) -> Requirement:
    """`text` as a requirement of one release (`==`) or of one file (`@`); a `ValueError` for anything else."""
    try:
        requirement = Requirement(text)
    except InvalidRequirement as error:
        raise ValueError(f"{where}: {text!r} is no requirement; expected PACKAGE==VERSION") from error
    if requirement.url is None and pinned_version(requirement) is None:
        raise ValueError(f"{where}: {text!r} does not name one version; expected PACKAGE==VERSION")
    return requirement


def pinned_version(requirement: Requirement) -> str | None:
    """The one version that a requirement allows; None where it allows several."""
    only = list(requirement.specifier)
    one = len(only) == 1 and only[0].operator == "==" and not only[0].version.endswith(".*")
    return only[0].version if one else None


def moved(asked: Iterable[str], *, stable: Mapping[str, str], where: str) -> dict[str, str]:
    """Requirements by canonical name; a `ValueError` where one does not name one version, is there twice, or moves nothing."""
    found: dict[str, str] = {}
    for text in asked:
        requirement = exact(text, where=where)
        name, version = canonicalize_name(requirement.name), pinned_version(requirement)
        if name in found:
            raise ValueError(f"{where}: {name} is named twice, as {found[name]} and {text}; name it once")
        held = pinned_version(Requirement(stable[name])) if name in stable else None
        if version and held and Version(version) == Version(held):
            raise ValueError(
                f"{where}: {name} {held} is pinned already: nothing to compare; name another version of it"
            )
        found[name] = text
    return found


def without(stable: Iterable[str], packages: Iterable[str]) -> tuple[str, ...]:
    """The lines of the stable pins that still hold when `packages` are another version."""
    moved = {canonicalize_name(name) for name in packages}
    return tuple(line for line in stable if canonicalize_name(Requirement(line).name) not in moved)


def update_nightly(
    path: Path, *, index_url: str, variant: str, installed: WheelOrigin, date: str | None = None
) -> Moved:
    """Write to `path` the newest nightly (or that of `date`, YYYYMMDD) of which torch and torchao both have a wheel.

    What torch itself asks for in a version that no release has (its triton) is pinned with it. The range of commits starts at
    the pin that stood there, or at `installed`, the torch of this environment. A `ValueError` where there is none, and
    then the old pin stays.
    """
    listed = {package: _dated(index.available(index_url, package), variant) for package in TOGETHER}
    chosen = _choose_date(listed, date=date, where=f"{index_url} ({variant})")
    picked = {package: max(listed[package][chosen], key=lambda wheel: wheel.version) for package in TOGETHER}
    remarks = tuple(_remarks(listed, chosen, picked))
    before = _before(path, installed)
    with tempfile.TemporaryDirectory(prefix="speedgate-pin-") as scratch:
        files = {package: Path(scratch) / Path(wheel.url).name for package, wheel in picked.items()}
        digests = {package: index.fetch(picked[package], file) for package, file in files.items()}
        places = [str(files[TOGETHER[0]])]
        torch, own = index.origin(TOGETHER[0], places), _own_nightlies(places, index_url)
        digests |= {package: index.fetch(wheel, Path(scratch) / package) for package, wheel in own.items()}
    picked |= own
    lines = [f"{package} @ {wheel.url}#sha256={digests[package]}\n" for package, wheel in picked.items()]
    _write(path, _HEADER.format(date=chosen, commit=torch.git_version or "unknown") + "".join(lines))
    versions = {package: str(wheel.version) for package, wheel in picked.items()}
    return Moved(date=chosen, versions=versions, compare=before.compare(torch), remarks=remarks)


def _dated(found: Sequence[Wheel], variant: str) -> dict[str, list[Wheel]]:
    """The nightlies of a variant by their date."""
    dated: dict[str, list[Wheel]] = {}
    for wheel in found:
        if wheel.date and wheel.version.local in (None, variant):
            dated.setdefault(wheel.date, []).append(wheel)
    return dated


def _choose_date(listed: Mapping[str, Mapping[str, object]], *, date: str | None, where: str) -> str:
    dates = {package: sorted(found) for package, found in listed.items()}
    shared = sorted(set.intersection(*(set(found) for found in dates.values())))
    if date in shared:
        return str(date)
    if date is None and shared:
        return shared[-1]
    newest = ", ".join(f"{package} {found[-1] if found else 'none'}" for package, found in dates.items())
    wanted = f"of {date}" if date else "of one date"
    choices = f"; both have {', '.join(shared[-5:])}" if shared else ""
    raise ValueError(
        f"{where}: no nightlies {wanted} of both {' and '.join(dates)} for this Python; newest: {newest}{choices}"
    )


def _own_nightlies(places: list[str], index_url: str) -> dict[str, Wheel]:
    """What the wheel requires here in one version that is no plain release, found in the same index."""
    own: dict[str, Wheel] = {}
    for requirement in map(Requirement, index.distribution(TOGETHER[0], places).requires or []):
        version = pinned_version(requirement)
        applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if version is None or not applies or not (Version(version).local or Version(version).is_prerelease):
            continue
        matching = [
            wheel for wheel in index.available(index_url, requirement.name) if wheel.version == Version(version)
        ]
        if not matching:
            raise ValueError(f"{index_url}: no {requirement.name} {version} for this Python, which that torch requires")
        own[requirement.name] = matching[0]
    return own


def _before(path: Path, installed: WheelOrigin) -> WheelOrigin:
    commit = _COMMIT.search(path.read_text(encoding="utf-8")) if path.exists() else None
    return dataclasses.replace(installed, git_version=commit[1]) if commit else installed


def _remarks(
    listed: Mapping[str, Mapping[str, Collection[Wheel]]], date: str, picked: Mapping[str, Wheel]
) -> list[str]:
    return [
        f"{package}: {date} exists as {' and '.join(str(wheel.version) for wheel in found[date])}; took"
        f" {picked[package].version}"
        for package, found in listed.items()
        if len(found[date]) > 1
    ]


def _write(path: Path, text: str) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
