"""The wheels of a package index (PEP 503) that this Python can install (PEP 425), and what a wheel says of its source."""

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
_SILENT_S = 60.0  # after which a server that sends nothing is given up
_HOME = re.compile(r"https://github\.com/[\w.-]+/[\w.-]+")
_GIT_VERSION = re.compile(r"^git_version\s*(?::\s*\w+\s*)?=\s*['\"]([0-9a-f]{40})['\"]", re.MULTILINE)
_CUDA = re.compile(r"^cuda\s*(?::[^=\n]+)?=\s*['\"]([0-9]+)\.([0-9]+)['\"]", re.MULTILINE)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wheel:
    """A wheel that this Python can install. `url` has `+` as `%2B` and no fragment; `sha256` is the index's, if it has one."""

    version: Version
    url: str
    sha256: str | None = None

    @property
    def date(self) -> str | None:
        """YYYYMMDD of a nightly, whose development number is its date; None of any other version."""
        number = str(self.version.dev or "")
        return number if len(number) == 8 else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class WheelOrigin:
    """What an installed package, or a wheel, says of the source that it was built from."""

    version: str
    git_version: str | None = None
    repository: str | None = None

    def compare(self, newer: WheelOrigin) -> str:
        """The range of commits up to `newer`: a link where both commits are known, or tags can be taken for granted."""
        home = newer.repository or self.repository
        if self.git_version and newer.git_version:
            span = f"{self.git_version}...{newer.git_version}"
            return f"{home}/compare/{span}" if home else span
        if home:
            return f"{home}/compare/v{Version(self.version).public}...v{Version(newer.version).public}"
        return f"{self.version}...{newer.version}"


class _Links(html.parser.HTMLParser):
    """The anchors of an index page, without those that were yanked or are for another Python."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        href = named.get("href")
        if tag == "a" and href and "data-yanked" not in named and _for_this_python(named.get("data-requires-python")):
            self.found.append(href)


def available(index_url: str, package: str) -> list[Wheel]:
    """Every version of `package` in the index that has a wheel for this Python, oldest first, by its best wheel.

    A `ValueError` where the index cannot be read or does not have the package.
    """
    page = f"{index_url.rstrip('/')}/{canonicalize_name(package)}/"
    if page.startswith("file:"):
        page += "index.html"
    with _open(page, what=package) as stream:
        links = _Links()
        links.feed(stream.read().decode("utf-8", "replace"))
        address = stream.url
    ranks = {tag: rank for rank, tag in enumerate(sys_tags())}
    best: dict[Version, tuple[int, Wheel]] = {}
    for href in links.found:
        found = _wheel(urllib.parse.urljoin(address, href), package, ranks)
        if found is not None and (found[1].version not in best or found[0] < best[found[1].version][0]):
            best[found[1].version] = found
    return [best[version][1] for version in sorted(best)]


def fetch(wheel: Wheel, into: Path) -> str:
    """Download the wheel to the file `into` and return its sha256; a `ValueError` where it is cut off or not as promised."""
    digest = hashlib.sha256()
    with _open(wheel.url, what=into.name) as stream, into.open("wb") as file:
        while block := stream.read(_BLOCK_BYTES):
            digest.update(block)
            file.write(block)
        length, size = stream.headers.get("Content-Length"), file.tell()
    if length is not None and int(length) != size:  # a connection that ends early is no error to http.client
        raise ValueError(f"{wheel.url}: cut off after {size} of {length} bytes; try again")
    found = digest.hexdigest()
    if wheel.sha256 not in (None, found):
        raise ValueError(f"{wheel.url}: sha256 is {found}, the index says {wheel.sha256}")
    return found


def distribution(package: str, places: Sequence[str]) -> importlib.metadata.Distribution:
    """The package as it is in `places`: folders of an environment, or one wheel; nothing of it is imported."""
    name = canonicalize_name(package)
    found = next(iter(importlib.metadata.distributions(name=name, path=list(places))), None)
    if found is None:
        raise ValueError(f"{package}: not in {', '.join(places)}")
    return found


def origin(package: str, places: Sequence[str]) -> WheelOrigin:
    """Version, commit and home of the package in `places`."""
    found = distribution(package, places)
    metadata = found.metadata
    stated = [*metadata.get_all("Project-URL", []), *metadata.get_all("Home-page", [])]
    homes = [match[0].removesuffix(".git") for line in stated if (match := _HOME.search(line))]
    commit = _GIT_VERSION.search(_version_file(found, package))
    return WheelOrigin(
        version=found.version, git_version=commit[1] if commit else None, repository=homes[0] if homes else None
    )


def variant(places: Sequence[str]) -> str:
    """What the nightly indexes call the build of torch in `places`: `cpu`, or `cu130` of CUDA 13.0."""
    cuda = _CUDA.search(_version_file(distribution("torch", places), "torch"))
    return f"cu{cuda[1]}{cuda[2]}" if cuda else "cpu"


def _version_file(found: importlib.metadata.Distribution, package: str) -> str:
    path: Any = found.locate_file(f"{canonicalize_name(package).replace('-', '_')}/version.py")
    text: str = path.read_text(encoding="utf-8") if path.exists() else ""
    return text


def _for_this_python(required: str | None) -> bool:
    try:
        return SpecifierSet(required or "").contains(platform.python_version(), prereleases=True)
    except InvalidSpecifier:  # pip takes no notice of what it cannot read, either
        return True


def _wheel(address: str, package: str, ranks: dict[Tag, int]) -> tuple[int, Wheel] | None:
    """The wheel at an address and how well it fits this Python; None for another package, a source or another Python."""
    parts = urllib.parse.urlsplit(address)
    path = urllib.parse.unquote(parts.path)
    try:
        name, version, _, tags = parse_wheel_filename(PurePosixPath(path).name)
    except (InvalidWheelFilename, InvalidVersion):
        return None
    rank = min((ranks[tag] for tag in tags if tag in ranks), default=None)
    if rank is None or name != canonicalize_name(package):
        return None
    promised = dict(urllib.parse.parse_qsl(parts.fragment)).get("sha256")
    url = parts._replace(path=urllib.parse.quote(path), fragment="").geturl()
    return rank, Wheel(version=version, url=url, sha256=promised)


def _open(url: str, *, what: str) -> Any:
    if urllib.parse.urlsplit(url).scheme not in ("http", "https", "file"):
        raise ValueError(f"{url}: expected the address of a package index, http://, https:// or file://")
    try:
        return urllib.request.urlopen(url, timeout=_SILENT_S)  # noqa: S310 - the schemes are checked above
    except (urllib.error.URLError, OSError) as error:
        raise ValueError(f"{url}: {what} cannot be read: {error}") from error
