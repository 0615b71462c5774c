"""Write the section of `docs/proof.md` on confirmation by live pairs, from the real series and simulated machines."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from speedgate.plugin import options
from speedgate.results.run import Outcome
from tests.proof import confirmations, peers
from tests.proof.confirmations import CHANGES, GREEN, Judgement, Replay
from tests.proof.replay import PAIRS_LOOKS, SLOWDOWN, STORED_LOOKS, TOLERANCE

HEADING = "## Confirmation"
CASES = 6  # of the ladder

TEXT = """\
{heading}

A stored figure cannot distinguish a slower machine from slower code. So with `--confirm auto` a case that the stored rule calls
SLOWER or leaves UNDECIDED is measured again in live pairs, against the code and the versions of its baseline, and the verdict of
the pairs counts. PASS and FASTER are not measured again.

In the first table the real series is replayed in its order: every {recorded} consecutive processes are the baseline of every
later run, which makes {comparisons} comparisons. A suspected case is judged by the pairs that were measured next after the run,
or by pairs at random. A simulated machine has {repetitions} comparisons and becomes slower or faster by its drift between the
recording and the run. A cell has the share by the stored rule alone, an arrow, and the share with confirmation. The aims are at
most 1 % false SLOWER, at least 95 % of the slowdowns of {slowdown:.0%} found, and at most 5 % UNDECIDED.
"""
LIMITS = """\
The pairs of the real series are few: {unchanged} without a change, which are {blocks} separate comparisons of {last}, and
{slower} with the slowdown. The {comparisons} comparisons share them, so a share of 0 % means that no set of these pairs was
wrong, and not that the true share is below 1 %; the simulated machines have independent draws. More pairs, on an idle machine:
`tox -e proof -- --only-confirmation --pairs {more}` on the machine and with the versions of the series; elsewhere,
`tox -e proof -- --series FILE` measures a new one, at 12 s a process and 21 s a pair.

Confirmation does not help in two cases. A machine that became faster since the recording hides a slowdown: the stored rule says
PASS, and a PASS is not measured again. Simulated processes that vary by 1.5 % or have two modes miss the aims: both arms of a
pair vary by as much, and independently. On the measured machine they vary together, so that a pair varies less than a process.
"""
COSTS = """\
The next table has the cost of confirmation in a session of {cases} cases (the ladder) without a change: the share of cases that
are measured again, the pairs of such a case, and the seconds of the middle case times {cases}, of the pairs alone and beyond
those of the stored rule alone. The stored rule alone takes up to {last} processes; with confirmation, a case goes to the pairs
as soon as more processes are not expected to acquit it. A process alone took {process_s:.1f} s and a pair {pair_s:.1f} s on two
cores, starts included. The last column is the time of the session, relative to the stored rule alone. The time to make the
baseline's environment again is not included; it is made once for a session.
"""
PEERS = """\
Other projects have the same problem. Where their answer is a rule, it is replayed on the same real series in order, one process
for each attempt or commit:

| project | answer | false alarms | +{slowdown:.0%} found | source |
|---|---|---:|---:|---|
| SGLang | a failed performance test is repeated up to six times, and one good attempt makes it green; the limit is 20 % and 20 ms | {sglang} | `test/runner/pytest_runner.py`, `test/server/test_server_utils.py` in sgl-project/sglang, `python/sglang/multimodal_gen` |
| SGLang's repetition with our tolerance | the same with a limit of {tolerance:.0%} | {sglang_tolerance} | - |
| rustc-perf | a change counts if it is above the third quartile plus three interquartile ranges of the last {history} differences; people judge the list each week | {rustc_perf} | `docs/comparison-analysis.md`, `site/src/comparison.rs` in rust-lang/rustc-perf |
| vllm-omni | hard limits were given up after false alarms; tests check completion, and a nightly report lists cases that are 10 % slower for days | 0.0% | 0.0% | issues 2863, 3262, 3266, 3490, 5694 and 7722 of vllm-project/vllm-omni |
| CodSpeed | wall time is measured on dedicated bare-metal machines only; other machines are marked as unknown | - | - | https://codspeed.io/docs/instruments/walltime |
| speedgate | live pairs with the baseline's code and versions | {speedgate} | this page |

Repetition makes false alarms rarer and hides slowdowns as well: the machine's good moments decide. A band from the history is as
wide as the machine's noise. A dedicated machine is the row of 0.3 % without drift in the first table, where the stored rule
suffices.
"""  # noqa: E501 - rows of a table


@dataclasses.dataclass(frozen=True, kw_only=True)
class Section:
    """Hold the section's lines, and the shares of the real series with the next pairs for the introduction of the page."""

    lines: Sequence[str]
    shares: Mapping[str, float]


def replay_section(measured: dict[str, Any], *, repetitions: int = confirmations.REPETITIONS) -> Section:
    """Replay all machines and write the section."""
    process_s, pair_s = confirmations.process_seconds(measured), confirmations.pair_seconds(measured)
    real = confirmations.real(measured)
    replays = [*real, *confirmations.simulated(process_s=process_s, pair_s=pair_s, repetitions=repetitions)]
    ordered = next(replay for replay in replays if replay.machine == confirmations.NEXT)
    counts = {change: len(list(confirmations.real_pairs(measured, change))) for change in CHANGES}
    facts = {"recorded": options.RECORD_PROCESSES, "comparisons": len(ordered.unchanged), "last": PAIRS_LOOKS.last}
    pairs = {
        "unchanged": counts[0.0],
        "slower": counts[SLOWDOWN],
        "blocks": counts[0.0] // PAIRS_LOOKS.last,
        "more": 3 * len(measured["pairs"]),
    }
    lines = [
        *TEXT.format(heading=HEADING, repetitions=repetitions, slowdown=SLOWDOWN, **facts).strip().splitlines(),
        "",
        *verdict_table(replays),
        "",
        *LIMITS.format(**facts, **pairs).strip().splitlines(),
        "",
        *COSTS.format(cases=CASES, last=STORED_LOOKS.last, process_s=process_s, pair_s=pair_s).strip().splitlines(),
        "",
        *cost_table(replays),
        "",
        *peers_table(measured, ordered),
    ]
    shares = {
        "false_alarms": _share(ordered.unchanged, _final, Outcome.SLOWER),
        "caught": _share(ordered.slower, _final, Outcome.SLOWER),
        "undecided": _share(ordered.unchanged, _final, Outcome.UNDECIDED),
    }
    return Section(lines=lines, shares=shares)


def verdict_table(replays: Sequence[Replay]) -> list[str]:
    """Show the shares of wrong and of missing verdicts by the stored rule alone, and with confirmation."""
    header = [
        "machine",
        "false SLOWER",
        f"+{SLOWDOWN:.0%} found",
        "UNDECIDED without a change",
        f"+{SLOWDOWN:.0%} passed",
    ]
    rows = [
        [
            replay.machine,
            _both(replay.unchanged, Outcome.SLOWER),
            _both(replay.slower, Outcome.SLOWER),
            _both(replay.unchanged, Outcome.UNDECIDED),
            _both(replay.slower, *GREEN),
        ]
        for replay in replays
    ]
    return _table(header, rows)


def cost_table(replays: Sequence[Replay]) -> list[str]:
    """Show the seconds of confirmation in a session of the ladder without a change."""
    rows = []
    for replay in replays:
        pairs = [judgement.pairs for judgement in replay.unchanged if judgement.pairs is not None]
        middle_s, added_s, stored_s = (
            statistics.median(seconds(judgement) for judgement in replay.unchanged)
            for seconds in (_pairs_s, _added_s, _stored_s)
        )
        figures = [
            f"{len(pairs) / len(replay.unchanged):.1%}",
            f"{statistics.fmean(pairs):.1f}" if pairs else "-",
            *(f"{CASES * seconds:.0f}" for seconds in (middle_s, added_s)),
            f"{1 + added_s / stored_s:.1f}",
        ]
        rows.append([replay.machine, *figures])
    return _table(["machine", "measured again", "pairs", "seconds of pairs", "added seconds", "relative"], rows)


def peers_table(measured: dict[str, Any], ordered: Replay) -> list[str]:
    """Show what other projects do, with the shares of their rules on the real series in order."""
    rules: dict[str, Callable[[float], Sequence[bool]]] = {
        "sglang": lambda change: confirmations.sglang_alarms(measured, change, limit=peers.sglang_limit),
        "sglang_tolerance": lambda change: confirmations.sglang_alarms(
            measured, change, limit=lambda expected_s: expected_s * (1 + TOLERANCE)
        ),
        "rustc_perf": lambda change: confirmations.rustc_perf_alarms(measured, change),
        "speedgate": lambda change: [
            judgement.outcome is Outcome.SLOWER for judgement in (ordered.slower if change else ordered.unchanged)
        ],
    }
    cells = {
        name: " | ".join(f"{statistics.fmean(rule(change)):.1%}" for change in CHANGES) for name, rule in rules.items()
    }
    facts = {"slowdown": SLOWDOWN, "tolerance": TOLERANCE, "history": peers.RUSTC_PERF_HISTORY}
    return [*PEERS.format(**cells, **facts).strip().splitlines(), ""]


def _pairs_s(judgement: Judgement) -> float:
    return judgement.pairs_s


def _added_s(judgement: Judgement) -> float:
    return judgement.added_s


def _stored_s(judgement: Judgement) -> float:
    return judgement.stored_s


def _stored(judgement: Judgement) -> Outcome:
    return judgement.stored


def _final(judgement: Judgement) -> Outcome:
    return judgement.outcome


def _share(judgements: Sequence[Judgement], outcome: Callable[[Judgement], Outcome], *wanted: Outcome) -> float:
    return sum(outcome(judgement) in wanted for judgement in judgements) / len(judgements)


def _both(judgements: Sequence[Judgement], *wanted: Outcome) -> str:
    return " → ".join(f"{_share(judgements, outcome, *wanted):.1%}" for outcome in (_stored, _final))


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    cells = [header, ["---", *("---:" for _ in header[1:])], *rows]
    return [f"| {' | '.join(row)} |" for row in cells]
