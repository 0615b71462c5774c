"""List and download the wheels of a package index (PEP 503) for this Python (PEP 425), and read the source of a wheel."""

from __future__ import annotations

import dataclasses
import hashlib
import html.parser
import importlib.metadata
import platform
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.tags import Tag, sys_tags
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

_BLOCK_BYTES = 1 << 20
_TIMEOUT_S = 60.0  # without any data from the server
_REPOSITORY = re.compile(r"https://github\.com/[\w.-]+/[\w.-]+")
_GIT_VERSION = re.compile(r"^git_version\s*(?::\s*\w+\s*)?=\s*['\"]([0-9a-f]{40})['\"]", re.MULTILINE)
_CUDA = re.compile(r"^cuda\s*(?::[^=\n]+)?=\s*['\"]([0-9]+)\.([0-9]+)['\"]", re.MULTILINE)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wheel:
    """A wheel that this Python can install. `url` has `%2B` for `+` and no fragment; `sha256` is the index's, if it has one."""

    version: Version
    url: str
    sha256: str | None = None

    @property
    def nightly_date(self) -> str | None:
        return nightly_date(self.version)


@dataclasses.dataclass(frozen=True, kw_only=True)
class WheelOrigin:
    """The source that an installed package, or a wheel, was built from, as its metadata names it."""

    version: str
    git_version: str | None = None
    repository: str | None = None

    def compare(self, newer: WheelOrigin) -> str:
        """Return the range of commits up to `newer`, as a link if the repository is known; releases are assumed to have tags."""
        repository = newer.repository or self.repository
        if self.git_version and newer.git_version:
            commits = f"{self.git_version}...{newer.git_version}"
            return f"{repository}/compare/{commits}" if repository else commits
        if repository:
            return f"{repository}/compare/v{Version(self.version).public}...v{Version(newer.version).public}"
        return f"{self.version}...{newer.version}"


class _Links(html.parser.HTMLParser):
    """Collect the links of an index page, without wheels that were yanked or are for another Python."""

    def __init__(self) -> None:
        super().__init__()
        self.urls: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        url = attributes.get("href")
        if tag != "a" or not url or "data-yanked" in attributes:
            return
        if _allows_this_python(attributes.get("data-requires-python")):
            self.urls.append(url)


def nightly_date(version: Version) -> str | None:
    """Return YYYYMMDD for a nightly, whose development number is its date; None for any other version."""
    number = str(version.dev or "")
    return number if len(number) == 8 else None


def list_wheels(index_url: str, package: str) -> list[Wheel]:
    """List the best wheel of each version of `package` that this Python can install, oldest version first.

    Raises `ValueError` if the index cannot be read or does not have the package.
    """
    page = f"{index_url.rstrip('/')}/{canonicalize_name(package)}/"
    if page.startswith("file:"):
        page += "index.html"
    with _open(page, name=package) as stream:
        links = _Links()
        links.feed(stream.read().decode("utf-8", "replace"))
        page_url = stream.url
    ranks = {tag: rank for rank, tag in enumerate(sys_tags())}
    best: dict[Version, tuple[int, Wheel]] = {}
    for url in links.urls:
        ranked = _rank_wheel(urllib.parse.urljoin(page_url, url), package, ranks)
        if ranked is not None:
            rank, wheel = ranked
            if wheel.version not in best or rank < best[wheel.version][0]:
                best[wheel.version] = ranked
    return [best[version][1] for version in sorted(best)]


def download(wheel: Wheel, path: Path) -> str:
    """Download the wheel to a file and return its sha256; a `ValueError` if it is cut off or has another checksum."""
    digest = hashlib.sha256()
    with _open(wheel.url, name=path.name) as stream, path.open("wb") as file:
        while block := stream.read(_BLOCK_BYTES):
            digest.update(block)
            file.write(block)
        length, size = stream.headers.get("Content-Length"), file.tell()
    if length is not None and int(length) != size:  # a connection that ends early is no error to http.client
        raise ValueError(f"{wheel.url}: cut off after {size} of {length} bytes; try again")
    sha256 = digest.hexdigest()
    if wheel.sha256 not in (None, sha256):
        raise ValueError(f"{wheel.url}: sha256 is {sha256}, the index says {wheel.sha256}")
    return sha256


def find_distribution(package: str, paths: Sequence[str]) -> importlib.metadata.Distribution:
    """Find the package in `paths`, folders of an environment or one wheel, without importing it."""
    name = canonicalize_name(package)
    distribution = next(iter(importlib.metadata.distributions(name=name, path=list(paths))), None)
    if distribution is None:
        raise ValueError(f"{package}: not in {', '.join(paths)}")
    return distribution


def read_origin(package: str, paths: Sequence[str]) -> WheelOrigin:
    """Read version, commit and repository of the package in `paths`."""
    distribution = find_distribution(package, paths)
    metadata = distribution.metadata
    urls = [*metadata.get_all("Project-URL", []), *metadata.get_all("Home-page", [])]
    repositories = [match[0].removesuffix(".git") for url in urls if (match := _REPOSITORY.search(url))]
    commit = _GIT_VERSION.search(_version_file(distribution, package))
    return WheelOrigin(
        version=distribution.version,
        git_version=commit[1] if commit else None,
        repository=repositories[0] if repositories else None,
    )


def torch_variant(paths: Sequence[str]) -> str:
    """Return the name that the nightly indexes have for the build of torch in `paths`: `cpu`, or `cu130` for CUDA 13.0."""
    cuda = _CUDA.search(_version_file(find_distribution("torch", paths), "torch"))
    return f"cu{cuda[1]}{cuda[2]}" if cuda else "cpu"


def _version_file(distribution: importlib.metadata.Distribution, package: str) -> str:
    path: Any = distribution.locate_file(f"{canonicalize_name(package).replace('-', '_')}/version.py")
    text: str = path.read_text(encoding="utf-8") if path.exists() else ""
    return text


def _allows_this_python(specifier: str | None) -> bool:
    try:
        return SpecifierSet(specifier or "").contains(platform.python_version(), prereleases=True)
    except InvalidSpecifier:  # pip ignores what it cannot read, too
        return True


def _rank_wheel(url: str, package: str, ranks: dict[Tag, int]) -> tuple[int, Wheel] | None:
    """Return the wheel and its rank for this Python, 0 is best; None for another package, a source or another Python."""
    parts = urllib.parse.urlsplit(url)
    path = urllib.parse.unquote(parts.path)
    try:
        name, version, _, tags = parse_wheel_filename(PurePosixPath(path).name)
    except (InvalidWheelFilename, InvalidVersion):
        return None
    rank = min((ranks[tag] for tag in tags if tag in ranks), default=None)
    if rank is None or name != canonicalize_name(package):
        return None
    sha256 = dict(urllib.parse.parse_qsl(parts.fragment)).get("sha256")
    file_url = parts._replace(path=urllib.parse.quote(path), fragment="").geturl()
    return rank, Wheel(version=version, url=file_url, sha256=sha256)


def _open(url: str, *, name: str) -> Any:
    if urllib.parse.urlsplit(url).scheme not in ("http", "https", "file"):
        raise ValueError(f"{url}: expected the address of a package index, http://, https:// or file://")
    try:
        return urllib.request.urlopen(url, timeout=_TIMEOUT_S)  # noqa: S310 - the schemes are checked above
    except (urllib.error.URLError, OSError) as error:
        raise ValueError(f"{url}: {name} cannot be read: {error}") from error
