"""Run the gate against itself and write `docs/proof.md` with its plot: `tox -e proof`, or `python -m tests.proof`."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from fixtures.pipelines.registry import pipelines
from tests.proof import confirmation_section, document, faults, parity_page, plot, real, replay, series, trend_section

ROOT = Path(__file__).parents[2]
SERIES = ROOT / "tests" / "proof" / "series.json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Collect the real series, replay the simulated ones, inject the faults, and write the results."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if (options.only_confirmation or options.only_trend) and not options.series.exists():
        parser.error(
            f"--series {options.series}: there is no such file, and one section is not written from a new series"
        )
    if options.parity_of:
        print("\n".join(parity_page.lines_of(_collect_parity(intact=options.parity_of))))
        return 0
    if options.only_parity:
        return _write_parity()
    target = ROOT / "docs" / "proof.md"
    if options.only_faults:
        return _write(target, document.replace_faults(target.read_text(encoding="utf-8"), faults.run(ROOT)))
    measured = series.collect(options.series, alone=options.alone, pairs=options.pairs)
    confirmation = confirmation_section.replay_section(measured)
    if options.only_confirmation:
        return _write(target, document.replace_confirmation(target.read_text(encoding="utf-8"), confirmation))
    trend = trend_section.simulate_section(measured)
    if options.only_trend:
        return _write(target, document.replace_section(target.read_text(encoding="utf-8"), trend))
    started_s = time.perf_counter()
    simulated = replay.replay(repetitions=options.repetitions)
    replay_s = time.perf_counter() - started_s
    drawn = real.comparisons(measured)
    results = faults.run(ROOT)
    counts = {"repetitions": options.repetitions, "replay_s": replay_s}
    lines = document.lines(measured, drawn, simulated, results, confirmation=confirmation, trend=trend, **counts)
    plot.save([*drawn, *simulated], ROOT / "docs" / "proof.svg")
    _write(target, "\n".join(lines) + "\n")
    _write_parity()
    return 0 if all(result.held for result in results) else 1


def _collect_parity(*, intact: str | None = None) -> list[parity_page.Row]:
    try:
        return parity_page.collect(ROOT, intact=intact)
    except ValueError as error:
        raise SystemExit(str(error)) from error


def _write_parity() -> int:
    target = ROOT / "docs" / "parity.md"
    page = "\n".join(parity_page.lines(_collect_parity()))
    return _write(target, parity_page.keep_other_sections(page, target.read_text(encoding="utf-8")))


def _write(target: Path, text: str) -> int:
    target.write_text(document.wrap(text), encoding="utf-8")
    print(f"wrote {target.relative_to(ROOT)}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tox -e proof --", description=__doc__)
    parser.add_argument(
        "--series",
        type=Path,
        default=SERIES,
        help="the file of the real series; missing processes are measured and added",
    )
    parser.add_argument(
        "--alone", type=int, default=63, help="processes measured alone, 12 s each (default: %(default)s)"
    )
    parser.add_argument("--pairs", type=int, default=48, help="live pairs, 21 s each (default: %(default)s)")
    parser.add_argument("--repetitions", type=int, default=replay.REPETITIONS, help="simulated comparisons per cell")
    parser.add_argument("--only-faults", action="store_true", help="write only the list of faults")
    parser.add_argument("--only-parity", action="store_true", help="write only docs/parity.md")
    parser.add_argument(
        "--parity-of",
        choices=sorted(pipelines()),
        metavar="PIPELINE",
        help="write nothing: print the errors of a tiny pipeline's intact stages on five seeds",
    )
    parser.add_argument("--only-confirmation", action="store_true", help="write only the section on confirmation")
    parser.add_argument("--only-trend", action="store_true", help="write only the section on trends")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
