"""`python -m speedgate.wheelhouse`: the wheels that a machine without a network still lacks, resolved beside what it has.

pip resolves them as always, for that machine's Python and platform. For each package that is there already it finds an empty
stand-in of that version and nothing else, so that whatever is chosen fits it; the stand-ins are left out of the folder.
"""

from __future__ import annotations

import argparse
import base64
import dataclasses
import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from packaging.metadata import parse_email
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from speedgate.parts import MEGABYTE

ROOT = Path(__file__).parents[2]
PINS = ROOT / ".github" / "pins" / "stable.txt"
# What a machine with PyTorch for CUDA has, whatever else it lacks: the least torch that we take, unless --have says which.
TORCH = "torch==2.11.0"
MOST_MB = 60.0
# glibc 2.28, and the older ones whose wheels it runs; pip takes each name by itself.
PLATFORMS = (*(f"manylinux_2_{minor}_x86_64" for minor in (28, 27, 26, 24, 17, 12, 5)), "manylinux2014_x86_64")
_PYTHON = re.compile(r"3\.[0-9]+")


@dataclasses.dataclass(frozen=True, kw_only=True)
class There:
    """A package that the machine has."""

    name: str
    version: Version

    @property
    def standing_in(self) -> str:
        """The stand-in's version, which no index has: pip would otherwise prefer a real wheel of the same one."""
        return f"{self.version.public}+there"


def main(argv: Sequence[str] | None = None) -> int:
    """Write the folder; 0, or 2 with one line on stderr."""
    options = _parser().parse_args(argv)
    try:
        wheels = build(
            options.folder,
            have=there([*options.have, *(options.have_file.read_text().split() if options.have_file else [])]),
            python=options.python_version,
            platforms=options.platform or PLATFORMS,
            most_bytes=int(options.max_mb * MEGABYTE),
        )
    except (OSError, ValueError) as error:
        print("speedgate:", error, file=sys.stderr)
        return 2
    for wheel in wheels:
        print(f"{wheel.stat().st_size / MEGABYTE:6.2f} MB  {wheel.name}")
    print(
        f"{sum(wheel.stat().st_size for wheel in wheels) / MEGABYTE:6.2f} MB in {len(wheels)} wheels: {options.folder}"
    )
    print(f"there: python -m pip install --no-index --find-links {options.folder.name} speedgate")
    return 0


def there(said: Iterable[str]) -> list[There]:
    """`NAME==VERSION` of each package; torch, where it is not among them, as the least that we take.

    The newest wins of a name that is said twice: a default stands first.
    """
    found: dict[str, There] = {}
    for text in (TORCH, *said):
        try:
            requirement = Requirement(text)
            (specifier,) = requirement.specifier
            version = Version(specifier.version if specifier.operator == "==" else "")
        except (InvalidRequirement, InvalidVersion, ValueError):
            raise ValueError(
                f"--have {text}: expected NAME==VERSION, as `pip list --format=freeze` says it there"
            ) from None
        found[canonicalize_name(requirement.name)] = There(name=canonicalize_name(requirement.name), version=version)
    return list(found.values())


def build(folder: Path, *, have: Sequence[There], python: str, platforms: Sequence[str], most_bytes: int) -> list[Path]:
    """Fill `folder`, which must not hold anything yet; the wheels, largest first.

    A `ValueError` where pip finds none that fit, or they are larger than `most_bytes` together.
    """
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder}: is not empty, and what lies there would be installed too; remove it first")
    with tempfile.TemporaryDirectory(prefix="speedgate-wheelhouse-") as scratch:
        stand_ins, got = Path(scratch) / "there", Path(scratch) / "got"
        for package in have:
            stand_in(stand_ins, package)
        _pip("wheel", "--no-deps", "--wheel-dir", str(got), str(_sources(Path(scratch) / "sources")))
        (ours,) = got.iterdir()
        constraints = Path(scratch) / "constraints.txt"
        constraints.write_text("\n".join(constraining(PINS.read_text(encoding="utf-8"), have)) + "\n")
        names = [option for platform in platforms for option in ("--platform", platform)]
        versions = ["--python-version", python, "--implementation", "cp", "--only-binary=:all:"]
        links = ["--find-links", str(stand_ins), "--constraint", str(constraints)]
        _pip("download", "--dest", str(got), *versions, *names, *links, str(ours))
        wheels = [path for path in got.iterdir() if "+there-" not in path.name]
        wheels.sort(key=lambda path: -path.stat().st_size)
        check_size(wheels, most_bytes=most_bytes)
        check_complete(wheels, have=have, python=python)
        folder.mkdir(parents=True, exist_ok=True)
        return [path.replace(folder / path.name) for path in wheels]


def constraining(pins: str, have: Sequence[There]) -> list[str]:
    """The pins, but for what is there, which is held to its stand-in."""
    names = {package.name for package in have}
    lines = [line for line in pins.splitlines() if line and not line.startswith("#")]
    kept = [line for line in lines if canonicalize_name(Requirement(line).name) not in names]
    return [*kept, *(f"{package.name}==={package.standing_in}" for package in have)]


def check_size(wheels: Sequence[Path], *, most_bytes: int) -> None:
    """A `ValueError` that names the largest where they are larger than allowed; `wheels` come largest first."""
    size = sum(path.stat().st_size for path in wheels)
    if size > most_bytes:
        said = ", ".join(f"{path.name.split('-')[0]} {path.stat().st_size / MEGABYTE:.1f}" for path in wheels[:6])
        raise ValueError(
            f"{size / MEGABYTE:.1f} MB of wheels, of which {said} MB, where {most_bytes / MEGABYTE:g} were allowed: say"
            " with --have NAME==VERSION, or --have-file, what is there already, or allow more with --max-mb"
        )


def check_complete(wheels: Iterable[Path], *, have: Sequence[There], python: str) -> None:
    """A `ValueError` where a wheel needs what is neither among them nor there.

    pip chooses wheels for another Python, but asks this one whether a requirement applies (pypa/pip#11010).
    """
    needs = {path: _needs(path, python=python) for path in wheels}
    known = {parse_wheel_filename(path.name)[0] for path in needs} | {package.name for package in have}
    missing = [f"{path.name.split('-')[0]} needs {name}" for path, names in needs.items() for name in names - known]
    if missing:
        raise ValueError(
            f"for Python {python}: {'; '.join(sorted(missing))}: run this with Python {python}, or add them"
        )


def _needs(path: Path, *, python: str) -> set[str]:
    """The names of what a wheel requires on that Python, extras aside."""
    with zipfile.ZipFile(path) as wheel:
        (name,) = [name for name in wheel.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name)]
        metadata, _ = parse_email(wheel.read(name))
    there = {"python_version": python, "python_full_version": f"{python}.0", "extra": ""}
    required = [Requirement(line) for line in metadata.get("requires_dist", [])]
    return {canonicalize_name(one.name) for one in required if one.marker is None or one.marker.evaluate(there)}


def stand_in(folder: Path, package: There) -> Path:
    """An empty wheel of a package that is there: it needs nothing, because that is there as well."""
    stem = f"{package.name.replace('-', '_')}-{package.standing_in}"
    path, information = folder / f"{stem}-py3-none-any.whl", f"{stem}.dist-info"
    files = {
        f"{information}/METADATA": f"Metadata-Version: 2.1\nName: {package.name}\nVersion: {package.standing_in}\n",
        f"{information}/WHEEL": "Wheel-Version: 1.0\nGenerator: speedgate\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    folder.mkdir(parents=True, exist_ok=True)
    record = []
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            record.append(f"{name},sha256={digest},{len(text.encode())}")
        wheel.writestr(f"{information}/RECORD", "\n".join([*record, f"{information}/RECORD,,", ""]))
    return path


def _sources(folder: Path) -> Path:
    """A copy of what our wheel is built from: in the checkout setuptools would pack what an earlier build has left, too."""
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    return folder


def _pip(*arguments: str) -> None:
    # Not --quiet: between which versions a conflict is pip tells among what it does.
    command = [sys.executable, "-m", "pip", *arguments, "--progress-bar=off", "--disable-pip-version-check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own pip
    if done.returncode != 0:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        said = " ".join(errors[-3:]) or f"ended with {done.returncode}"
        raise ValueError(f"pip {arguments[0]}: {said}{_conflict(done.stdout)}")


def _conflict(said: str) -> str:
    """What pip says of the versions that do not go together, on one line; "" where it names none."""
    lines = said.partition("The conflict is caused by:\n")[2].partition("\n\n")[0].splitlines()
    return f": {'; '.join(' '.join(line.split()) for line in lines)}" if lines else ""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m speedgate.wheelhouse", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", default=Path("wheelhouse"), help="default: %(default)s")
    parser.add_argument("--python-version", type=_python, default="3.12", metavar="3.N", help="default: %(default)s")
    parser.add_argument(
        "--platform", action="append", metavar="TAG", help="repeatable (default: Linux on x86-64, glibc 2.28 or later)"
    )
    parser.add_argument(
        "--have",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME==VERSION",
        help=f"what is there already, beside torch (default: {TORCH}) and what torch itself needs",
    )
    parser.add_argument(
        "--have-file", type=Path, metavar="FILE", help="the same, as `pip list --format=freeze` writes it there"
    )
    parser.add_argument("--max-mb", type=float, default=MOST_MB, help="megabytes at most (default: %(default)g)")
    return parser


def _python(text: str) -> str:
    if not _PYTHON.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text}: expected a version such as 3.12")
    return text


if __name__ == "__main__":
    raise SystemExit(main())
