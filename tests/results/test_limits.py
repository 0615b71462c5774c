"""The limits on a stranger's results have room for the largest of our own."""

from __future__ import annotations

import random
import zlib

import msgspec

from fixtures.cases import every_case
from fixtures.pipelines.definition import SIZES
from speedgate.plugin.options import MAX_PAIRS
from speedgate.results import folder
from speedgate.results.json_io import to_json, write_json
from speedgate.results.timings import Component, Loop
from tests.support.artifacts import result
from tests.support.baseline_samples import INT8, make_run

ROUNDS = 100  # of 30 ms, to fill the 3 s of a process of a live comparison


def live_run(loops, components, calls):
    """A run of as many processes as a live comparison takes, with figures of as many digits as a clock gives."""
    draw = random.Random(1)  # noqa: S311
    base = make_run()

    def seconds():
        return tuple(draw.uniform(0.01, 0.05) for _ in range(ROUNDS))

    processes = [
        msgspec.structs.replace(
            base.processes[0],
            seconds=seconds(),
            peak_bytes=tuple(draw.randrange(10**9, 10**10) for _ in range(ROUNDS)),
            loops={f"loop{number}": Loop(iterations=30, seconds=seconds()) for number in range(loops)},
            components={
                f"component{number}": Component(seconds=seconds(), call_medians_s=seconds()[:calls])
                for number in range(components)
            },
        )
        for _ in range(MAX_PAIRS)
    ]
    return to_json(msgspec.structs.replace(base, processes=tuple(processes)))


def live_result(path, **shape):
    """Write the result of a live comparison, of a pipeline with so many loops and components, and return its bytes."""
    run = live_run(**shape)
    ratios = [0.01] * MAX_PAIRS
    against = {"case_key": INT8, "label": "other", "other": run, "turns": "rounds", "log_ratios": ratios}
    write_json(path, result(run=run, against=against))
    return path.read_bytes()


def test_a_live_comparison_of_every_case_is_read(tmp_path):
    """All suites of all pipelines of one size, each with all its pairs, fit as files, together and as an archive.

    The largest case is a cascade of three parts, each with its loop and four components, one of them called in 100 steps.
    """
    largest = live_result(tmp_path / "largest.json", loops=3, components=12, calls=34)
    assert folder.MAX_FILE_BYTES / 8 < len(largest) < folder.MAX_FILE_BYTES

    data = live_result(tmp_path / "case.json", loops=1, components=4, calls=10)
    count = max(len({case.key for case in every_case((size,)) if case.unsupported is None}) for size in SIZES)

    assert count < folder.MAX_FILES
    assert count * len(data) < folder.MAX_TOTAL_BYTES
    assert count * len(zlib.compress(data)) < folder.MAX_ARCHIVE_BYTES
