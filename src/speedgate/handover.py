"""`python3 -m speedgate.handover give|take|date|red PATH`: a small file from one job to the next, as a job output.

Not as an artifact: any job of a run may replace one. Only the job itself sets its outputs, so what a hosted job gives is what the
other hosted job takes, whatever the GPU job between them did.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from speedgate.markdown import log_line
from speedgate.rendering import append

OUTPUT = "file"  # the output's name, as the workflows write it
VARIABLE = "HANDED_OVER"  # the environment variable that a workflow puts it in
_DATE = re.compile(r"^# date: (\d{8})$", re.MULTILINE)  # as `speedgate pin update` writes it
_MAX_BYTES = 64 * 2**10  # Linux takes 128 KiB in one variable, and base64 adds a third


def main(argv: Sequence[str] | None = None, environment: Mapping[str, str] = os.environ) -> int:
    """Give a file, its date or a bump's colour to $GITHUB_OUTPUT, or take the file from the environment.

    0, or 2 with one line on stderr.
    """
    parser = argparse.ArgumentParser(prog="python3 -m speedgate.handover")
    parser.add_argument("direction", choices=("give", "take", "date", "red"))
    parser.add_argument("file", type=Path, metavar="PATH", help="the file; of red the folder of bumps")
    options = parser.parse_args(argv)
    try:
        if options.direction == "give":
            append(Path(environment["GITHUB_OUTPUT"]), f"{OUTPUT}={packed(options.file.read_bytes())}\n")
        elif options.direction == "date":
            append(Path(environment["GITHUB_OUTPUT"]), f"date={date_of(options.file)}\n")
        elif options.direction == "red":
            append(Path(environment["GITHUB_OUTPUT"]), f"red={str(is_red(options.file)).lower()}\n")
        else:
            options.file.write_bytes(unpacked(environment.get(VARIABLE, "")))
    except (OSError, ValueError) as error:
        print("speedgate:", log_line(str(error)), file=sys.stderr)
        return 2
    return 0


def date_of(pin: Path) -> str:
    """YYYYMMDD of a nightly pin; empty where there is none yet."""
    found = _DATE.search(pin.read_text(encoding="utf-8")) if pin.exists() else None
    return found[1] if found else ""


def is_red(bumps: Path) -> bool:
    """Whether a bump below the folder was judged and found worse: not where it broke, nor where it did not come to a verdict.

    A step's status does not tell: tox ends with 1 too where it cannot install.
    """
    found = [json.loads(path.read_text(encoding="utf-8")) for path in bumps.glob("*/verdict.json")]
    return any(verdict["judged"] and not verdict["green"] for verdict in found)


def packed(data: bytes) -> str:
    """`data` on one line; a `ValueError` where there is nothing or too much."""
    if not 0 < len(data) <= _MAX_BYTES:
        raise ValueError(f"{len(data)} bytes to hand over: expected 1 to {_MAX_BYTES}")
    return base64.b64encode(data).decode("ascii")


def unpacked(line: str) -> bytes:
    """What `packed` was given."""
    if not line:
        raise ValueError(f"{VARIABLE} is empty: the job before this one has handed nothing over")
    return base64.b64decode(line, validate=True)


if __name__ == "__main__":
    raise SystemExit(main())
