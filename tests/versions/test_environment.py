"""Environments over this one: what they hold of their own, what they share, and when they are made again."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import threading
import time
import venv
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from speedgate.versions import environment
from speedgate.versions.environment import IndexFailure, InstallFailure, OverlayEnvironment
from tests.support.stub_index import Index

ASK = "import iniconfig, pluggy, importlib.metadata as m; print(m.version('iniconfig'), iniconfig.__file__, pluggy.__file__)"


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    """Another version of a package that is installed here, which requires a second one that is and a third that is not."""
    made = Index(tmp_path_factory.mktemp("index"))
    made.add("iniconfig", "99.0", requires=["pluggy>=1", "stubhelper==1.0"])
    made.add("stubhelper", "1.0")
    return made


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where environments are kept."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def no_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    """What pip would be told on this machine."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)


@pytest.fixture(scope="module")
def overlay(index: Index) -> OverlayEnvironment:
    return OverlayEnvironment(requirements=("iniconfig==99.0",), constraints=("pluggy>=1",), index_url=index.url)


def test_an_overlay_holds_what_differs_and_shares_the_rest(overlay: OverlayEnvironment, cache: Path) -> None:
    """Its own version comes first and is what it says it has; everything else is this environment's, neither copied nor moved."""
    python = environment.build(overlay, cache=cache)

    said = subprocess.run([str(python), "-c", ASK], capture_output=True, text=True, check=True).stdout.split()
    (own,) = python.parents[1].glob("lib/python*/site-packages")
    assert said[0] == "99.0"
    assert Path(said[1]).is_relative_to(own)
    assert not Path(said[2]).is_relative_to(own)
    assert {path.name for path in own.iterdir() if path.is_dir()} == {
        "iniconfig", "iniconfig-99.0.dist-info", "stubhelper", "stubhelper-1.0.dist-info"
    }  # fmt: skip
    assert importlib.metadata.version("iniconfig") != "99.0"


def test_an_overlay_is_made_once(overlay: OverlayEnvironment, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same pins are the same environment, and pip is not asked again."""
    made = environment.build(overlay, cache=cache)
    monkeypatch.setattr(environment, "_run_pip", lambda *arguments: pytest.fail("pip was run"))

    assert environment.build(overlay, cache=cache) == made


def test_an_overlay_that_was_interrupted_is_made_again(
    overlay: OverlayEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an interrupted installation has left is never used."""
    calls = []

    def interrupted(*arguments: str) -> str:
        calls.append(arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(environment, "_run_pip", interrupted)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            environment.build(overlay, cache=tmp_path)

    assert len(calls) == 2


def test_pins_that_hold_are_not_moved(index: Index, tmp_path: Path) -> None:
    """A version that needs another one of what is pinned cannot be installed, and pip's words say so."""
    overlay = OverlayEnvironment(
        requirements=("iniconfig==99.0",), constraints=("stubhelper==2.0",), index_url=index.url
    )

    with pytest.raises(InstallFailure, match=r"Cannot install iniconfig==99\.0"):
        environment.build(overlay, cache=tmp_path)


@pytest.mark.parametrize(
    "other",
    [
        OverlayEnvironment(requirements=("iniconfig==98.0",)),
        OverlayEnvironment(requirements=("iniconfig==99.0",), constraints=("pluggy==1.0",)),
        OverlayEnvironment(requirements=("iniconfig==99.0",), index_url="https://example.org/simple"),
    ],
)
def test_other_pins_are_another_environment(other: OverlayEnvironment) -> None:
    """The folder's name comes from all of them."""
    assert other.digest != OverlayEnvironment(requirements=("iniconfig==99.0",)).digest


def test_another_package_here_is_another_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """An update of what lies below is no reason to measure what is no longer there."""
    overlay = OverlayEnvironment(requirements=("iniconfig==99.0",))
    before = overlay.digest
    monkeypatch.setattr(environment, "_installed", lambda: ["torch==2.14.0"])

    assert overlay.digest != before


def test_versions_are_those_that_pip_lists(index: Index) -> None:
    """Newest first, pre-releases where they are wanted."""
    for version in ("1.0", "1.2", "2.0.dev20260804"):
        index.add("listed", version)

    found = [environment.list_versions("listed", index_url=index.url, prereleases=wanted) for wanted in (False, True)]

    assert found == [["1.2", "1.0"], ["2.0.dev20260804", "1.2", "1.0"]]


class Statuses(BaseHTTPRequestHandler):
    """Answers with the status that stands in the address."""

    def do_GET(self) -> None:
        self.send_response(int(self.path.split("/")[1]))
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002  the base class's name
        """Say nothing."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Its address, and the end of it."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Statuses) as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{made.server_port}"
        made.shutdown()


@pytest.mark.parametrize(
    ("address", "failure", "said"),
    [
        (
            "http://127.0.0.1:9",
            IndexFailure,
            r"^the index cannot be reached: http://127\.0\.0\.1:9/nosuch/: connection error",
        ),
        ("{server}/503", IndexFailure, r"^the index cannot be reached: .*too many 503 error responses"),
        ("{server}/401", IndexFailure, r"^the index cannot be reached: .*: 401 Client Error"),
        ("{server}/404", InstallFailure, "^No matching distribution found for nosuch$"),
        ("{server}/403", InstallFailure, "^No matching distribution found for nosuch$"),
    ],
)
def test_an_index_out_of_reach_is_no_missing_version(
    server: str, address: str, failure: type[ValueError], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pip says of both that it found no version; we say which it was."""
    monkeypatch.setenv("PIP_RETRIES", "0")

    with pytest.raises(failure, match=said):
        environment.list_versions("nosuch", index_url=address.format(server=server), prereleases=False)


def test_an_overlay_whose_index_is_out_of_reach_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same, of an installation."""
    monkeypatch.setenv("PIP_RETRIES", "0")

    with pytest.raises(IndexFailure, match=r"^the index cannot be reached: "):
        environment.build(
            OverlayEnvironment(requirements=("nosuch==1.0",), index_url="http://127.0.0.1:9"), cache=tmp_path
        )


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("ERROR: HTTP error 503 while getting https://x/y.whl", True),
        ("ERROR: Could not install packages due to an OSError: HTTPSConnectionPool(host='x', port=443): Read", True),
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", True),
        ("WARNING: Retrying after HTTPSConnectionPool(host='x')\nERROR: Cannot install x==1 and y==2", False),
        ("ERROR: HTTP error 404 while getting https://x/y.whl", False),
        ("ERROR: Could not install packages due to an OSError: [Errno 2] No such file or directory: 'x.whl'", False),
    ],
)
def test_a_download_that_broke_off_is_no_missing_wheel(
    said: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network and the disk are to blame, and not the version; a wheel that is gone is."""
    done = subprocess.CompletedProcess([], returncode=1, stdout="", stderr=said)
    monkeypatch.setattr(subprocess, "run", lambda *arguments, **options: done)

    with pytest.raises(IndexFailure if expected else InstallFailure):
        environment.list_versions("x", index_url=None, prereleases=False)


def test_no_path_of_this_environment_leads_into_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """PYTHONPATH would come before the packages of an overlay."""
    monkeypatch.setenv("PYTHONPATH", "/here")
    monkeypatch.setenv("HOME", "/home")

    variables = environment.clean_variables()

    assert "PYTHONPATH" not in variables
    assert variables["HOME"] == "/home"


def test_this_environment_has_to_be_the_pinned_one(tmp_path: Path) -> None:
    """A local build of the pinned release is it; another release and a missing package are each named."""
    here = importlib.metadata.version("packaging")
    environment.check_stable_pins({"packaging": f"packaging=={here}"}, where=tmp_path)

    with pytest.raises(
        ValueError, match=f"packaging is {here}, pinned packaging==0.1; nosuch is missing, pinned nosuch==1"
    ):
        environment.check_stable_pins({"packaging": "packaging==0.1", "nosuch": "nosuch==1"}, where=tmp_path)


def test_two_commands_make_one_overlay(
    overlay: OverlayEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two that ask for it at once one makes it, and the other waits for what that one has made."""
    made: list[float] = []
    create = venv.create
    monkeypatch.setattr(
        venv, "create", lambda *where, **options: (made.append(time.monotonic()), create(*where, **options))
    )

    with ThreadPoolExecutor(2) as both:
        pythons = list(both.map(lambda _: environment.build(overlay, cache=tmp_path), range(2)))

    assert pythons[0] == pythons[1]
    assert len(made) == 1
