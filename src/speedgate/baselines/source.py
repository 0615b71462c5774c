"""Read and keep the code that measures: from a commit, or in an archive where it is in none.

Git is only asked for the bytes of files. Nothing is checked out, so no hook, filter or attribute of a repository is used.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import subprocess
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from speedgate.results.provenance import commit_problem
from speedgate.results.zip_reader import ZipReader

# The folders of a checkout that a worker imports from.
SPEEDGATE, FIXTURES = "src/speedgate", "fixtures"
FOLDERS = (SPEEDGATE, FIXTURES)
COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
ARCHIVE = re.compile(r"source-[0-9a-f]{16}\.zip")
# The tip of the default branch, by the first of these that exists. A clone of a job has no `origin/HEAD`.
_TIPS = (
    "refs/remotes/origin/HEAD",
    "refs/remotes/origin/main",
    "refs/remotes/origin/master",
    "refs/heads/main",
    "refs/heads/master",
    "HEAD",
)
# Variables that point git at another repository than that of the folder; git sets them for its hooks.
_REPOSITORY_VARIABLES = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR")
# English errors, and no question to a person or a server: a clone may lack objects that its server has.
_VARIABLES = {"LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0", "GIT_NO_LAZY_FETCH": "1"}
_PLAIN_MODES = ("100644", "100755")
_MAX_FILES, _MAX_FILE_BYTES, _MAX_TOTAL_BYTES = 2000, 4 * 2**20, 64 * 2**20  # the code has 320 files and 1.4 MB
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip file can state


def commit_of(root: Path, code: Mapping[str, Path]) -> str | None:
    """Return the full name of the commit that holds exactly this code; None if it is in no commit, or there is no git.

    `code` has the folder on disk of each of `FOLDERS`. Every file of the commit must be there, and every Python file on disk
    must be in the commit.
    """
    try:
        if not has_repository(root) or (commit := _resolve(root, "HEAD")) is None:
            return None
        committed = _blobs(root, commit)
    except ValueError:
        return None
    files = read_folders(code)
    same = all(
        name in files and _blob_id(files[name], like=blob) == blob
        for name, blob in committed.items()
        if not _is_hidden(Path(name))
    )
    return commit if same and all(name in committed for name in files if name.endswith(".py")) else None


def read_folders(code: Mapping[str, Path]) -> dict[str, bytes]:
    """Read the files of the code on disk, by their names in a checkout; hidden files and compiled modules are left out."""
    files = {}
    for place, folder in code.items():
        for path in sorted(folder.rglob("*")):
            inner = path.relative_to(folder)
            if path.is_file() and not _is_hidden(inner):
                files[f"{place}/{inner.as_posix()}"] = path.read_bytes()
    return files


def read_commit(root: Path, commit: str) -> dict[str, bytes]:
    """Read the code of a commit, by name in the checkout. A `ValueError` if the history of the default branch lacks it."""
    check_commit(root, commit)
    blobs = _blobs(root, commit)
    request = "".join(f"{blob}\n" for blob in blobs.values()).encode()
    answer = io.BytesIO(_git(root, "cat-file", "--batch", stdin=request))
    files = {}
    for name in blobs:
        header = answer.readline().split()
        if len(header) != 3 or header[1] != b"blob":
            raise ValueError(f"commit {commit[:12]}: git lacks the bytes of {name}; fetch the repository again")
        files[name] = answer.read(int(header[2]))
        answer.readline()
    return files


def check_commit(root: Path, commit: str) -> None:
    """Raise a `ValueError` unless `commit` is the full name of a commit in the history of the default branch of this clone."""
    if not COMMIT.fullmatch(commit):
        raise ValueError(f"commit {commit[:64]!r}: expected a full name of 40 or 64 hexadecimal digits")
    short = commit[:12]
    if not has_repository(root):
        raise ValueError(f"commit {short} cannot be read: {root} is in no git repository")
    is_shallow = _git(root, "rev-parse", "--is-shallow-repository").strip() == b"true"
    advice = "; this clone has only a part of the history: git fetch --unshallow" if is_shallow else ""
    if _resolve(root, commit) != commit:
        raise ValueError(f"commit {short} is not in this clone{advice or ': fetch it, or it is of another repository'}")
    name, tip = _tip(root)
    if not _succeeds(root, "merge-base", "--is-ancestor", commit, tip):
        raise ValueError(f"commit {short} is not in the history of {name}, and only that is run{advice}")


def is_committed(root: Path, path: Path) -> bool:
    """Return True if the tip of the default branch holds this file with the same bytes, or if there is no repository."""
    if not has_repository(root):
        return True
    try:
        name = path.resolve().relative_to(root.resolve())
    except ValueError:
        return False
    entry = _git(root, "ls-tree", "-z", _tip(root)[1], "--", name.as_posix()).decode().partition("\t")[0].split()
    return len(entry) == 3 and entry[0] in _PLAIN_MODES and _blob_id(path.read_bytes(), like=entry[2]) == entry[2]


def has_repository(root: Path) -> bool:
    """Return True if the folder is in a git repository; a `ValueError` if git is missing or refuses to read it."""
    done = _run(root, "rev-parse", "--git-dir")
    if done.returncode == 0:
        return True
    error = done.stderr.decode(errors="replace").strip()
    if "not a git repository" in error:
        return False
    raise ValueError(commit_problem({"error": error}))


def write_files(files: Mapping[str, bytes], folder: Path) -> None:
    """Write files below a new folder, which appears when it is whole: it is made beside its place and then renamed."""
    part = folder.with_name(f"{folder.name}.part")
    for name, data in files.items():
        path = part / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    part.rename(folder)


def pack(files: Mapping[str, bytes]) -> tuple[str, bytes]:
    """Pack code into a zip file; return its name, which has the digest of its bytes, and the bytes."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in sorted(files.items()):
            info = zipfile.ZipInfo(name, _EPOCH)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o100644 << 16
            archive.writestr(info, data)
    data = stream.getvalue()
    return archive_name(data), data


def archive_name(data: bytes) -> str:
    """Return the file name of an archive with these bytes."""
    return f"source-{hashlib.sha256(data).hexdigest()[:16]}.zip"


def read_archive(root: Path, path: Path) -> dict[str, bytes]:
    """Read the code of an archive. A `ValueError` if its bytes do not match its name, or if main does not hold it."""
    if not ARCHIVE.fullmatch(path.name):
        raise ValueError(f"archive {path.name[:64]!r}: expected a name as source-0123456789abcdef.zip")
    if not path.is_file():
        raise ValueError(f"{path}: the archive with the code does not exist")
    if not is_committed(root, path):
        raise ValueError(
            f"{path}: the archive is not committed in the history of {_tip(root)[0]}, and only that is run"
        )
    data = path.read_bytes()
    if archive_name(data) != path.name:
        raise ValueError(f"{path}: its bytes do not match its name")
    files = {}
    with ZipReader(io.BytesIO(data), archive_name=path.name, max_files=_MAX_FILES) as archive:
        room = _MAX_TOTAL_BYTES
        for entry in archive.names:
            if not entry.startswith(tuple(f"{place}/" for place in FOLDERS)):
                raise ValueError(f"{path.name}: {entry}: expected files in {' and '.join(FOLDERS)} only")
            files[entry] = archive.read(entry, max_bytes=min(_MAX_FILE_BYTES, room))
            room -= len(files[entry])
    _check_complete(files, where=path.name)
    return files


def _tip(root: Path) -> tuple[str, str]:
    """Return the name of the default branch, for sentences, and its newest commit; HEAD if this clone has no such branch."""
    for reference in _TIPS:
        if (commit := _resolve(root, reference)) is not None:
            return reference.removeprefix("refs/remotes/").removeprefix("refs/heads/"), commit
    raise ValueError(f"{root}: its git repository has no commit")


def _resolve(root: Path, reference: str) -> str | None:
    done = _run(root, "rev-parse", "--verify", "--quiet", f"{reference}^{{commit}}")
    return done.stdout.decode().strip() if done.returncode == 0 else None


def _blobs(root: Path, commit: str) -> dict[str, str]:
    """Return the object of each file of the code, by name relative to `root`; a `ValueError` for a link or a submodule."""
    listing = _git(root, "ls-tree", "-r", "-z", commit, "--", *FOLDERS).decode(errors="surrogateescape")
    blobs = {}
    for line in filter(None, listing.split("\0")):
        (mode, _, blob), name = line.partition("\t")[0].split(), line.partition("\t")[2]
        if mode not in _PLAIN_MODES:
            raise ValueError(f"commit {commit[:12]}: {name}: a link or another repository; expected plain files")
        blobs[name] = blob
    _check_complete(blobs, where=f"commit {commit[:12]}")
    return blobs


def _is_hidden(path: Path) -> bool:
    return any(part == "__pycache__" or part.startswith(".") for part in path.parts)


def _check_complete(names: Iterable[str], *, where: str) -> None:
    for place in FOLDERS:
        if not any(name.startswith(f"{place}/") for name in names):
            raise ValueError(f"{where}: has no {place}; it is of another project")


def _blob_id(data: bytes, *, like: str) -> str:
    """Return the name that git gives to these bytes, by SHA-1 or SHA-256 as that of `like`."""
    algorithm = hashlib.sha1 if len(like) == 40 else hashlib.sha256
    return algorithm(b"blob %d\0" % len(data) + data).hexdigest()


def _succeeds(root: Path, *arguments: str) -> bool:
    return _run(root, *arguments).returncode == 0


def _git(root: Path, *arguments: str, stdin: bytes = b"") -> bytes:
    done = _run(root, *arguments, stdin=stdin)
    if done.returncode:
        raise ValueError(f"git {arguments[0]}: {done.stderr.decode(errors='replace').strip().partition(chr(10))[0]}")
    return done.stdout


def _run(root: Path, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    variables = {name: value for name, value in os.environ.items() if name not in _REPOSITORY_VARIABLES}
    # A replacement of an object would put other bytes under the name of a commit.
    command = ["git", "--no-replace-objects", "-C", str(root), *arguments]
    try:
        return subprocess.run(  # noqa: S603
            command, input=stdin, capture_output=True, check=False, env=variables | _VARIABLES
        )
    except FileNotFoundError as error:
        raise ValueError(commit_problem({"error": "FileNotFoundError"})) from error
    except OSError as error:
        raise ValueError(f"git cannot be started ({error.strerror})") from error
