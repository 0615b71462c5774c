"""A package index on disk (PEP 503) with small wheels that tests make."""

from __future__ import annotations

import base64
import hashlib
import urllib.parse
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

COMMITS = {number: f"{number:040x}" for number in range(100)}


class Index:
    """The index; pass `url` to `--index-url`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def url(self) -> str:
        return self.folder.as_uri()

    def add(
        self,
        package: str,
        version: str,
        *,
        code: str = "",
        commit: str | None = None,
        tag: str = "py3-none-any",
        requires: Sequence[str] = (),
        attributes: str = "",
        fragment: str = "",
    ) -> Path:
        """Add a wheel to the package's page, with `+` in its address escaped as servers do."""
        folder = self.folder / package
        folder.mkdir(exist_ok=True)
        path = folder / f"{package}-{version}-{tag}.whl"
        information = f"{package}-{version}.dist-info"
        metadata = [
            "Metadata-Version: 2.1",
            f"Name: {package}",
            f"Version: {version}",
            "Project-URL: Homepage, https://example.org",
            f"Project-URL: Repository, https://github.com/somebody/{package}",
            *(f"Requires-Dist: {line}" for line in requires),
        ]
        version_py = f"cuda: Optional[str] = None\ngit_version = '{commit}'\n" if commit else ""
        files = {
            f"{package}/__init__.py": code,
            f"{package}/version.py": version_py,
            f"{information}/METADATA": "\n".join(metadata) + "\n",
            f"{information}/WHEEL": f"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: {tag}\n",
        }
        _write(path, files, record=f"{information}/RECORD")
        href = urllib.parse.quote(path.name) + fragment
        with (folder / "index.html").open("a", encoding="utf-8") as page:
            page.write(f'<a href="{href}"{attributes}>{path.name}</a><br>\n')
        return path


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _write(path: Path, files: Mapping[str, str], *, record: str) -> None:
    lines = []
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            lines.append(f"{name},sha256={digest},{len(text.encode())}")
        wheel.writestr(record, "\n".join([*lines, f"{record},,", ""]))
