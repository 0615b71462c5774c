"""Overlay environments hold only what differs, share the rest, and are built again only if something changed."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import threading
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
    """An index with another version of an installed package, which requires one installed package and one that is not."""
    index = Index(tmp_path_factory.mktemp("index"))
    index.add("iniconfig", "99.0", requires=["pluggy>=1", "stubhelper==1.0"])
    index.add("stubhelper", "1.0")
    return index


@pytest.fixture(autouse=True)
def no_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ignore the configuration of pip on this machine."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)


@pytest.fixture(scope="module")
def overlay(index: Index) -> OverlayEnvironment:
    return OverlayEnvironment(requirements=("iniconfig==99.0",), constraints=("pluggy>=1",), index_url=index.url)


@pytest.mark.slow
def test_an_overlay_holds_what_differs_and_shares_the_rest(overlay: OverlayEnvironment, tmp_path: Path) -> None:
    """The overlay imports its version of a package, and all others from this environment, without copies."""
    python = environment.build(overlay, cache=tmp_path)

    output = subprocess.run([str(python), "-c", ASK], capture_output=True, text=True, check=True).stdout.split()
    (packages,) = python.parents[1].glob("lib/python*/site-packages")
    assert output[0] == "99.0"
    assert Path(output[1]).is_relative_to(packages)
    assert not Path(output[2]).is_relative_to(packages)
    assert {path.name for path in packages.iterdir() if path.is_dir()} == {
        "iniconfig", "iniconfig-99.0.dist-info", "stubhelper", "stubhelper-1.0.dist-info"
    }  # fmt: skip
    assert importlib.metadata.version("iniconfig") != "99.0"


@pytest.fixture
def pip_calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """Replace pip, and return the list of its calls."""
    calls: list[tuple[str, ...]] = []

    def run_pip(*arguments: str) -> str:
        calls.append(arguments)
        return "Available versions: 1.2, 1.0"

    monkeypatch.setattr(environment, "_run_pip", run_pip)
    return calls


def test_an_overlay_is_made_once(overlay: OverlayEnvironment, tmp_path: Path, pip_calls: list[tuple[str, ...]]) -> None:
    """Of two commands that need the same overlay one builds it and the other waits; a later one uses it."""
    with ThreadPoolExecutor(2) as both:
        pythons = list(both.map(lambda _: environment.build(overlay, cache=tmp_path), range(2)))

    assert {*pythons, environment.build(overlay, cache=tmp_path)} == {pythons[0]}
    assert [call[2:] for call in pip_calls] == [
        (
            "install", "--no-compile", "--index-url", overlay.index_url,
            "--constraint", str(pythons[0].parents[1] / "constraints.txt"), "iniconfig==99.0",
        )
    ]  # fmt: skip
    assert (pythons[0].parents[1] / "constraints.txt").read_text() == "pluggy>=1\n"


@pytest.mark.parametrize("prereleases", [False, True])
def test_prereleases_are_listed_on_request(prereleases: bool, pip_calls: list[tuple[str, ...]]) -> None:
    """The versions of pip's list keep their order, and `--pre` is given only on request."""
    versions = environment.list_versions("listed", index_url=None, prereleases=prereleases)

    assert versions == ["1.2", "1.0"]
    assert pip_calls == [("index", "versions", "listed", *["--pre"] * prereleases)]


def test_an_overlay_that_was_interrupted_is_made_again(
    overlay: OverlayEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files of an interrupted installation are never used, and do not stay on a disk that may be full."""
    calls = []

    def interrupted(*arguments: str) -> str:
        calls.append(arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(environment, "_run_pip", interrupted)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            environment.build(overlay, cache=tmp_path)

    assert len(calls) == 2
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]


def test_an_exact_overlay_gets_nothing_but_its_wheels(tmp_path: Path, pip_calls: list[tuple[str, ...]]) -> None:
    """No dependency is installed, and no source, whose build would run its code; it is another environment than without that."""
    plain = OverlayEnvironment(requirements=("iniconfig==99.0",))
    exact = OverlayEnvironment(requirements=plain.requirements, is_exact=True)

    environment.build(exact, cache=tmp_path)

    assert {"--no-deps", "--only-binary", ":all:"} <= set(pip_calls[0])
    assert plain.digest != exact.digest


@pytest.mark.slow
def test_pins_that_hold_are_not_moved(index: Index, tmp_path: Path) -> None:
    """A version that conflicts with a pin cannot be installed, and the message is pip's."""
    overlay = OverlayEnvironment(
        requirements=("iniconfig==99.0",), constraints=("stubhelper==2.0",), index_url=index.url
    )

    with pytest.raises(InstallFailure, match=r"Cannot install iniconfig==99\.0"):
        environment.build(overlay, cache=tmp_path)


def test_other_pins_or_packages_are_another_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The requirements, the constraints, the index and what is installed here are all part of the folder's name."""
    changes = [
        {},
        {"requirements": ("iniconfig==98.0",)},
        {"constraints": ("pluggy==1.0",)},
        {"index_url": "https://example.org/simple"},
    ]
    overlays = [OverlayEnvironment(**({"requirements": ("iniconfig==99.0",)} | change)) for change in changes]  # type: ignore[arg-type]
    digests = set()
    for installed in (["torch==2.13.0"], ["torch==2.14.0"]):
        monkeypatch.setattr(environment, "_installed", lambda installed=installed: installed)
        digests |= {overlay.digest for overlay in overlays}

    assert len(digests) == 8


@pytest.mark.slow
def test_versions_are_those_that_pip_lists(index: Index) -> None:
    """Versions are listed newest first, with pre-releases only on request."""
    for version in ("1.0", "1.2", "2.0.dev20260804"):
        index.add("listed", version)

    versions = [
        environment.list_versions("listed", index_url=index.url, prereleases=wanted) for wanted in (False, True)
    ]

    assert versions == [["1.2", "1.0"], ["2.0.dev20260804", "1.2", "1.0"]]


class Statuses(BaseHTTPRequestHandler):
    """A server that answers with the status in the address."""

    def do_GET(self) -> None:
        self.send_response(int(self.path.split("/")[1]))
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002  the base class's name
        """Write no log."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Run the server and yield its address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Statuses) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("address", "failure", "message"),
    [
        (
            "http://127.0.0.1:9",
            IndexFailure,
            r"^the index cannot be reached: .*127\.0\.0\.1:9/nosuch/: connection error",
        ),
        ("{server}/503", IndexFailure, r"^the index cannot be reached: .*too many 503 error responses"),
        ("{server}/401", IndexFailure, r"^the index cannot be reached: .*: 401 Client Error"),
        ("{server}/404", InstallFailure, "^No matching distribution found for nosuch$"),
        ("{server}/403", InstallFailure, "^No matching distribution found for nosuch$"),
    ],
)
def test_an_index_out_of_reach_is_no_missing_version(server, tmp_path, address, failure, message, monkeypatch) -> None:
    """pip reports a missing version and a failing index with the same message; here they are different errors."""
    monkeypatch.setenv("PIP_RETRIES", "0")
    url = address.format(server=server)

    with pytest.raises(failure, match=message):
        environment.list_versions("nosuch", index_url=url, prereleases=False)
    if failure is IndexFailure:
        with pytest.raises(failure, match=r"^the index cannot be reached: "):
            environment.build(OverlayEnvironment(requirements=("nosuch==1.0",), index_url=url), cache=tmp_path)


FETCH = "  Could not fetch URL http://x/y/: {}: http://x/y/ - skipping\n"


@pytest.mark.parametrize(
    ("stderr", "log", "failure"),
    [
        ("ERROR: No matching distribution", FETCH.format("connection error"), IndexFailure),
        ("ERROR: No matching distribution", FETCH.format("503 Server Error"), IndexFailure),
        ("ERROR: No matching distribution", FETCH.format("404 Client Error"), InstallFailure),
        ("ERROR: No matching distribution", FETCH.format("403 Client Error"), InstallFailure),
        ("ERROR: HTTP error 503 while getting https://x/y.whl", "", IndexFailure),
        ("ERROR: Could not install packages: HTTPSConnectionPool(host='x', port=443): Read", "", IndexFailure),
        ("ERROR: Could not install packages: [Errno 28] No space left on device", "", IndexFailure),
        ("WARNING: Retrying after HTTPSConnectionPool(host='x')\nERROR: Cannot install x==1", "", InstallFailure),
        ("ERROR: HTTP error 404 while getting https://x/y.whl", "", InstallFailure),
        ("ERROR: Could not install packages: [Errno 2] No such file or directory: 'x.whl'", "", InstallFailure),
    ],
)
def test_an_index_or_download_that_fails_is_no_missing_version(
    stderr: str, log: str, failure: type[ValueError], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Errors of the network, the index and the disk are not the version's fault; a page or wheel that is gone is."""

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        Path(command[command.index("--log") + 1]).write_text(log)
        return subprocess.CompletedProcess(command, returncode=1, stdout="", stderr=stderr)

    monkeypatch.setattr(subprocess, "run", run)

    with pytest.raises(failure):
        environment.list_versions("x", index_url=None, prereleases=False)


def test_no_path_of_this_environment_leads_into_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """PYTHONPATH is removed, because it would come before the packages of an overlay."""
    monkeypatch.setenv("PYTHONPATH", "/here")
    monkeypatch.setenv("HOME", "/home")

    variables = environment.clean_variables()

    assert "PYTHONPATH" not in variables
    assert variables["HOME"] == "/home"


def test_this_environment_has_to_be_the_pinned_one(tmp_path: Path) -> None:
    """An environment with other versions than the stable pins is refused, and each difference is named."""
    here = importlib.metadata.version("packaging")
    environment.check_stable_pins({"packaging": f"packaging=={here}"}, where=tmp_path)

    with pytest.raises(
        ValueError, match=f"packaging is {here}, pinned packaging==0.1; nosuch is missing, pinned nosuch==1"
    ):
        environment.check_stable_pins({"packaging": "packaging==0.1", "nosuch": "nosuch==1"}, where=tmp_path)
