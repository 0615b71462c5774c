"""`speedgate pin update` chooses nightlies from an index, writes them to the pins, and refuses what it cannot pin."""

from __future__ import annotations

import http.server
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from packaging.version import Version

from speedgate.cli import main
from speedgate.versions import pins
from speedgate.versions.index import Wheel, WheelOrigin, download, list_wheels, read_origin, torch_variant
from tests.support.stub_index import COMMITS, Index, sha256

INSTALLED = WheelOrigin(version="2.13.0", git_version=COMMITS[99], repository="https://github.com/pytorch/pytorch")
PYTHON = f"cp3{sys.version_info[1]}-cp3{sys.version_info[1]}-linux_{os.uname().machine}"


@pytest.fixture
def index(tmp_path: Path) -> Index:
    """An index of three days: both packages on the second, only torch on the last, and wheels for another Python and CUDA."""
    index = Index(tmp_path / "index")
    for number, date in enumerate(("20260803", "20260804", "20260805")):
        index.add("torch", f"2.14.0.dev{date}+cpu", commit=COMMITS[number], tag=PYTHON)
    index.add("torch", "2.14.0.dev20260804+cu130", commit=COMMITS[9], tag=PYTHON)
    index.add("torch", "2.13.0", commit=COMMITS[9], tag=PYTHON)
    for date in ("20260803", "20260804"):
        index.add("torchao", f"0.19.0.dev{date}+cpu")
    index.add("torchao", "0.19.0.dev20260805+cpu", tag="cp38-cp38-linux_x86_64")
    return index


def update(index: Index, path: Path, *, date: str | None = None) -> pins.NightlyPin:
    """Move the pin in `path`."""
    return pins.update_nightly(path, index_url=index.url, variant="cpu", installed=INSTALLED, date=date)


def test_the_newest_date_of_both_is_pinned_by_address_and_checksum(index: Index, tmp_path: Path) -> None:
    """The newest day with both packages for this Python is pinned, by full address with `+` escaped, and by sha256."""
    moved = update(index, tmp_path / "nightly.txt")

    name = f"torch-2.14.0.dev20260804+cpu-{PYTHON}.whl"
    digest = sha256(index.folder / "torch" / name)
    address = f"{index.url}/torch/{name.replace('+', '%2B')}"
    assert moved.date == "20260804"
    assert pins.read_pins(tmp_path / "nightly.txt")["torch"] == f"torch @ {address}#sha256={digest}"
    assert set(pins.read_pins(tmp_path / "nightly.txt")) == {"torch", "torchao"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index", "nightly.txt"]


def test_the_commits_reach_from_the_pin_before_to_this_one(index: Index, tmp_path: Path) -> None:
    """The first range of commits starts at the installed torch, the next one at the pin before."""
    ranges = [update(index, tmp_path / "nightly.txt", date=date).compare for date in ("20260803", "20260804")]

    link = "https://github.com/somebody/torch/compare/{}...{}"
    assert ranges == [link.format(COMMITS[99], COMMITS[0]), link.format(COMMITS[0], COMMITS[1])]


def test_of_two_base_versions_on_a_date_the_higher_is_taken_and_said(index: Index, tmp_path: Path) -> None:
    """If a date exists twice, as around a branch cut, the higher version is pinned and a remark says so."""
    index.add("torch", "2.15.0.dev20260804+cpu", commit=COMMITS[5], tag=PYTHON)

    moved = update(index, tmp_path / "nightly.txt")

    assert moved.versions["torch"] == "2.15.0.dev20260804+cpu"
    assert moved.remarks == (
        "torch: 20260804 exists as 2.14.0.dev20260804+cpu and 2.15.0.dev20260804+cpu; took 2.15.0.dev20260804+cpu",
    )


def test_a_nightly_that_torch_requires_is_pinned_with_it(index: Index, tmp_path: Path) -> None:
    """torch's own build of triton is pinned; releases and packages for other systems are left to pip."""
    requires = ["triton==3.9.0+git1234; sys_platform == 'linux'", "numpy==2.0", "pywin==1.0+x; sys_platform == 'win32'"]
    index.add("torch", "2.15.0.dev20260804+cpu", commit=COMMITS[5], tag=PYTHON, requires=requires)
    wheel = index.add("triton", "3.9.0+git1234", tag=PYTHON)

    update(index, tmp_path / "nightly.txt")

    pinned = pins.read_pins(tmp_path / "nightly.txt")
    assert set(pinned) == {"torch", "torchao", "triton"}
    assert pinned["triton"].endswith(f"triton-3.9.0%2Bgit1234-{PYTHON}.whl#sha256={sha256(wheel)}")


@pytest.mark.parametrize(
    ("date", "message"),
    [
        ("20260805", "no nightlies of 20260805 of both torch and torchao .* both have 20260803, 20260804"),
        ("20200101", "no nightlies of 20200101 of both torch and torchao for this Python; newest: torch 20260805"),
        (None, r"no nightlies of one date .*; newest: torch 20260805, torchao none$"),
    ],
)
def test_a_date_that_lacks_one_of_them_is_an_error(
    index: Index, tmp_path: Path, date: str | None, message: str
) -> None:
    """If a date, or the index, lacks one package, the old pin stays and the message names the existing days."""
    path = tmp_path / "nightly.txt"
    path.write_text("old")
    if date is None:
        (index.folder / "torchao" / "index.html").write_text("")

    with pytest.raises(ValueError, match=message):
        update(index, path, date=date)
    assert path.read_text() == "old"


def test_a_file_that_is_not_what_the_index_promised_is_refused(index: Index, tmp_path: Path) -> None:
    """A file with another checksum than the index's is refused."""
    index.add("torchao", "0.20.0.dev20260804+cpu", fragment=f"#sha256={'0' * 64}")

    with pytest.raises(ValueError, match=f"the index says {'0' * 64}"):
        update(index, tmp_path / "nightly.txt")

    assert not (tmp_path / "nightly.txt").exists()


class CutOff(http.server.BaseHTTPRequestHandler):
    """A server that promises ten bytes and sends four."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "10")
        self.end_headers()
        self.wfile.write(b"four")

    def log_message(self, *arguments: object) -> None:
        """Write no log."""


def test_a_download_that_is_cut_off_is_no_checksum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that was cut off is refused; otherwise its checksum would be pinned."""
    monkeypatch.setenv("no_proxy", "*")
    with http.server.HTTPServer(("127.0.0.1", 0), CutOff) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        wheel = Wheel(version=Version("1.0"), url=f"http://127.0.0.1:{server.server_port}/a.whl")
        with pytest.raises(ValueError, match="cut off after 4 of 10 bytes"):
            download(wheel, tmp_path / "a.whl")
        thread.join()


def test_yanked_files_and_those_for_another_python_do_not_count(index: Index) -> None:
    """Wheels that pip would not install are not listed."""
    index.add("torchao", "0.21.0", attributes=' data-yanked="broken"')
    index.add("torchao", "0.22.0", attributes=' data-requires-python="&lt;3.9"')
    index.add("torchao", "0.23.0", attributes=' data-requires-python="&gt;=3.9"')

    with (index.folder / "torchao" / "index.html").open("a") as page:
        page.write('<a href="torchao_extras-9.0-py3-none-any.whl">x</a><a href="torchao-9.0.tar.gz">y</a><a>z</a>')

    assert [str(wheel.version) for wheel in list_wheels(index.url, "torchao")][-1] == "0.23.0"
    assert [wheel.nightly_date for wheel in list_wheels(index.url, "torchao")] == ["20260803", "20260804", None]


@pytest.mark.parametrize("url", ["file:///nowhere/simple", "ftp://example.org/simple", "nonsense"])
def test_an_index_that_cannot_be_read_is_one_line(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The command ends with status 2 and the address."""
    assert main(["pin", "update", "--channel=nightly", f"--index-url={url}"]) == 2
    assert capsys.readouterr().err.startswith(f"speedgate: {url}")


def test_the_command_moves_the_pin_and_prints_the_range(
    index: Index, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command pins the variant of the installed torch and prints the range from its commit."""
    monkeypatch.setattr("speedgate.versions.index.torch_variant", lambda paths: "cpu")
    before = read_origin("torch", [*sys.path])

    assert main(["pin", "update", "--channel=nightly", f"--index-url={index.url}", f"--pins={tmp_path}"]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{tmp_path}/nightly.txt: torch 2.14.0.dev20260804+cpu, torchao 0.19.0.dev20260804+cpu"
    assert lines[-1].endswith(f"/compare/{before.git_version}...{COMMITS[1]}")


@pytest.mark.slow
def test_pip_holds_the_pin_to_its_checksum(index: Index, tmp_path: Path) -> None:
    """pip installs a file by its pin, and refuses it after the file has changed."""
    update(index, tmp_path / "nightly.txt")
    (wheel,) = index.folder.glob("torchao/*20260804*.whl")
    line = pins.read_pins(tmp_path / "nightly.txt")["torchao"]
    command = [sys.executable, "-m", "pip", "--isolated", "install", "--no-index", "--no-deps", "-q", "--target"]

    done = [subprocess.run([*command, str(tmp_path / "first"), line], check=False, capture_output=True, text=True)]
    wheel.write_bytes(wheel.read_bytes() + b" ")
    done += [subprocess.run([*command, str(tmp_path / "second"), line], check=False, capture_output=True, text=True)]

    assert [run.returncode for run in done] == [0, 1]
    assert "DO NOT MATCH THE HASHES" in done[1].stderr


def test_a_variant_is_read_from_torch_without_importing_it(tmp_path: Path) -> None:
    """A build for CUDA 13.0 is the variant cu130, and a build without CUDA is cpu."""
    index = Index(tmp_path / "index")
    wheel = index.add("torch", "2.13.0", commit=COMMITS[1])
    assert torch_variant([str(wheel)]) == "cpu"

    place = tmp_path / "site-packages"
    (place / "torch").mkdir(parents=True)
    (place / "torch" / "version.py").write_text("cuda: Optional[str] = '13.0'\nhip: Optional[str] = None\n")
    (place / "torch-2.13.0.dist-info").mkdir()
    (place / "torch-2.13.0.dist-info" / "METADATA").write_text("Name: torch\nVersion: 2.13.0\n")
    assert torch_variant([str(place)]) == "cu130"


@pytest.mark.parametrize("line", ["torch", "torch>=2", "torch==2.*", "not a requirement", "==2"])
def test_what_pins_no_version_is_refused(tmp_path: Path, line: str) -> None:
    """A line that does not name one release or file is refused; without a file the message names what writes nightly.txt."""
    (tmp_path / "stable.txt").write_text(f"# a comment\n\nnumpy==2.0\n{line}\n")

    with pytest.raises(ValueError, match=r"stable\.txt: '.*' (does not name one version|is no requirement); expected "):
        pins.read_pins(tmp_path / "stable.txt")
    with pytest.raises(ValueError, match=r"nightly\.txt: does not exist; `speedgate pin update --channel nightly` wri"):
        pins.read_pins(tmp_path / "nightly.txt")
