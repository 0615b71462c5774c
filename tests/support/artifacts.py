"""Make result files of a run, and archives of them."""

from __future__ import annotations

import io
import json
import stat
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from speedgate.results.json_io import to_json
from tests.support.baseline_samples import INT8, KEY, make_run

SESSION = "20261121T155618Z-19269"
NAME = f"{SESSION}/case.json"
HOSTILE = (
    "</code></pre><img src=x onerror=alert(1)><!-- --> **b** [a](javascript:x) `c` | d |\n\n# h\n::set-output name=a::b\r\n"
    "##[add-mask]x @octocat #1 GH-2 https://evil.example www.evil.example \u202e\u200b\x1b[31m $(id) ${{ github.token }}"
)


# The mark of a fire drill and of a quick run in a result file, each with the start of the warning beside its figures.
MARKS: list[tuple[dict[str, Any], str]] = [
    (
        {"injected": {"fault": "slower_step=10", "gate": "latency", "outcome": "SLOWER", "case_keys": [INT8]}},
        f"Fire drill: injected fault slower_step=10 in {INT8}: the figures",
    ),
    ({"quick": True}, "Quick run: --quick checked structure and images"),
]


def result(case_key: str = INT8, *, outcome: str = "PASS", **changes: Any) -> dict[str, Any]:
    """Make the document of a result file with one verdict."""
    verdict = {"case_key": case_key, "claim": "latency", "outcome": outcome, "sentence": "2 s against 1 s"}
    document = {
        "gpu_key": KEY,
        "machine": {},
        "health": {},
        "run": to_json(make_run(case_key)),
        "verdicts": [verdict],
    }
    return {**document, **changes}


def encoded(document: Any) -> bytes:
    """Encode a document as it is in a file."""
    return json.dumps(document).encode()


def write_results(folder: Path, *documents: Any) -> Path:
    """Write result files into a folder; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, document in enumerate(documents):
        (folder / f"{number}.json").write_bytes(encoded(document))
    return folder


def archive(files: Mapping[str, bytes], *, mode: int = stat.S_IFREG | 0o644) -> bytes:
    """Make a zip archive whose entries all have this mode."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as zip_file:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = mode << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            zip_file.writestr(entry, data)
    return stream.getvalue()
