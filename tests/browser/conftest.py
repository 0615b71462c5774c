"""A browser for the tests of our pages: console, requests, layout, and the findings of axe-core.

Chromium is the system's, axe-core comes from npm. Without one of them its tests are skipped with the reason. If CI is set
they fail instead, because nobody reads the skips of a pipeline.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

HERE = Path(__file__).parent
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
NPM_S = 120
# Playwright's context for each name; a phone of 390 px is the narrowest screen that is tested.
VIEWS: dict[str, dict[str, Any]] = {
    "desktop": {"viewport": {"width": 1280, "height": 900}},
    "dark": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}, "has_touch": True},
    "phone-dark": {"viewport": {"width": 390, "height": 844}, "has_touch": True, "color_scheme": "dark"},
    "print": {"viewport": {"width": 718, "height": 1000}},  # A4 at 96 px per inch, without Chromium's margins
}


@dataclasses.dataclass
class Visit:
    """An open page, with the lines of its console, errors included, and the addresses that it requested."""

    page: Any
    console: list[str] = dataclasses.field(default_factory=list)
    requests: list[str] = dataclasses.field(default_factory=list)

    def foreign_requests(self) -> list[str]:
        """The requested addresses that are neither inside the page nor files beside it."""
        beside = self.page.url.split("#")[0].rsplit("/", 1)[0]
        return [address for address in self.requests if not address.startswith(("data:", beside))]

    def overflow_px(self) -> int:
        """The number of pixels by which the page is wider than the window."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


def missing(what: str) -> Any:
    """Skip the test, or fail it in CI, because a program is missing."""
    if os.environ.get("CI"):
        pytest.fail(f"{what}; in CI that is no reason to skip")
    pytest.skip(what)


@pytest.fixture(scope="session")
def browser():
    """The system's Chromium, headless."""
    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    if executable is None:
        missing(f"no browser: none of {', '.join(BROWSERS)} is installed")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("no playwright: pip install playwright")
    with sync_playwright() as playwright:
        # Chromium's sandbox does not work for root, which containers use; the pages here are ours.
        sandbox = [] if os.geteuid() else ["--no-sandbox"]
        browser = playwright.chromium.launch(executable_path=executable, args=sandbox)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser):
    """Open a file or an address in a named view: `visit(path, "phone")`."""
    contexts = []

    def opened(where: Path | str, view: str = "desktop", **options: Any) -> Visit:
        context = browser.new_context(reduced_motion="reduce", **VIEWS[view], **options)
        contexts.append(context)
        visit = Visit(context.new_page())
        visit.page.on("console", lambda message: visit.console.append(f"{message.type}: {message.text}"))
        visit.page.on("pageerror", lambda error: visit.console.append(f"error: {error}"))
        visit.page.on("dialog", lambda dialog: (visit.console.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        visit.page.on("request", lambda request: visit.requests.append(request.url))
        if view == "print":
            visit.page.emulate_media(media="print")
        visit.page.goto(where.as_uri() if isinstance(where, Path) else where)
        return visit

    yield opened
    for context in contexts:
        context.close()


@pytest.fixture(scope="session")
def axe_source():
    """The script of axe-core in the pinned version."""
    pinned = json.loads((HERE / "package.json").read_text())["dependencies"]["axe-core"]
    package = HERE / "node_modules" / "axe-core"
    package.parent.mkdir(exist_ok=True)
    with FileLock(package.parent / ".lock"):  # several workers of pytest-xdist may want it at the same time
        installed = package / "package.json"
        if not installed.exists() or json.loads(installed.read_text())["version"] != pinned:
            if shutil.which("npm") is None:
                missing("no axe-core: npm is not installed")
            # No lock file of npm: it would name the registry of the machine that wrote it.
            command = ["npm", "install", "--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund"]
            done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=NPM_S, check=False)
            if done.returncode:
                missing(f"no axe-core {pinned}: {' '.join(done.stderr.split())[:300]}")
    return (package / "axe.min.js").read_text(encoding="utf-8")


@pytest.fixture
def axe(axe_source):
    """Run axe-core on an open page; a line for each serious or critical finding."""

    def findings(page: Any) -> list[str]:
        page.evaluate(axe_source)  # through the debugger, because the page's policy allows no other script
        result = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        assert result["passes"], "axe looked at nothing"
        return [
            f"{violation['id']} ({violation['impact']}): {node['html'][:200]}"
            for violation in result["violations"]
            if violation["impact"] in ("serious", "critical")
            for node in violation["nodes"]
        ]

    return findings
