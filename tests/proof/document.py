"""`docs/proof.md`, from what was measured, replayed and injected: no number in it is typed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from speedgate.plugin import options
from tests.proof import real, table
from tests.proof.faults import HARMLESS, Result
from tests.proof.peers import RULES
from tests.proof.replay import NATIVE, PAIRS, PAIRS_LOOKS, ROUNDS, SAME, SERIES, STORED, STORED_LOOKS, TOLERANCE, Cell
from tests.proof.series import LEVELS

INTRODUCTION = """\
# Proof

What the gate says where the truth is known. Written by `tox -e proof`, which measures the real series, replays the
simulated ones and injects the faults; nothing in here is typed by hand.

The tolerance is {tolerance:.0%} and the error rate of a whole sequence of looks 1 %. Promised: at most 1 % false alarms without a
change, and at least 95 % of slowdowns of twice the tolerance caught. Against a stored baseline of {recorded} processes a
verdict is tried at {stored} processes, in a live comparison at {pairs} pairs. UNDECIDED is neither an alarm nor a pass: it is red
under `--gate enforce`, and says that this machine is too noisy for this tolerance with so many processes.
"""

REAL = """\
## Real processes

{processes} processes of tiny SDXL (`fp32`, 64 px, 4 steps) one at a time and {pairs} live pairs, in turn, on `{machine}` with
torch {torch} and diffusers {diffusers}. A slowdown is injected into the last denoising step: it goes on for so many percent
of the image's seconds, as that process takes them.

| | |
|---|---:|
| seconds per image | {median_s:.4f} |
| spread (sd) of process medians over the whole series | {between:.2%} |
| drift: the middle of five consecutive processes, slowest over fastest | {drift:+.1%} |
| spread (sd) of the rounds within a process | {within:.2%} |
| spread (sd) of the log-ratio of a live pair, its order taken into account | {of_pairs:.2%} |
| slower by being opened first | {order:+.2%} |

{comparisons} comparisons a row, each of processes drawn from that series without replacement; two comparisons may share
processes, so the shares are those of our rule on this machine's processes and no finer than their number allows.
"""

INDEPENDENT = """\
Comparisons without a change that share no process, in the order in which they were measured: {told}.

A stored figure is older than what is compared with it, and drawing processes at random hides what a drift of the machine does to
that. With every {recorded} consecutive processes as the baseline of every later run, without a change, our stored rule says:
{ordered}. Nothing in such figures tells a machine that became slower from a change that is; a live pair does not see the drift.
"""

BUDGET = """\
### The same series, judged by other tools

Each tool's rule, with its own threshold, is in `tests/proof/peers.py` with its source. As it measures by itself a tool has
one process a side (asv two); given the same processes, or the same live pairs, it has every round that ours had, as one sample.
Share of alarms:
"""

SECONDS = """\
Seconds for one comparison without a change, builds included ({opening:.1f} s a process here):
"""

SIMULATED = """\
## Simulated processes

{repetitions} comparisons a cell in {replay_s:.0f} s; {rounds} rounds a process that spread by 0.1 %. Process medians
spread by 0.3, 0.6 and 1.5 %, or have two modes 5 % apart with even odds. A cell: alarms without a change / slowdowns of
6 % caught / slowdowns of 6 % called fine.
"""

FAULTS = """\
## Faults

{caught} of {faults} injected faults are caught by the gate that is named, and no gate fires on {left} of {harmless} harmless
changes (`pytest tests/faults`).
"""


def lines(
    measured: dict[str, Any],
    drawn: Sequence[Cell],
    simulated: Sequence[Cell],
    faults: Sequence[Result],
    *,
    trend: Sequence[str],
    repetitions: int,
    replay_s: float,
) -> list[str]:
    """The document's lines; `trend` is the section of that name."""
    stored, pairs = (", ".join(map(str, looks.counts)) for looks in (STORED_LOOKS, PAIRS_LOOKS))
    introduction = INTRODUCTION.format(
        tolerance=TOLERANCE, recorded=options.RECORD_PROCESSES, stored=stored, pairs=pairs
    )
    return [
        introduction,
        *_real(measured, drawn),
        *_simulated(simulated, repetitions, replay_s),
        "![Share of alarms over the true change, by rule and series](proof.svg)",
        "",
        *trend,
        *_faults(faults),
    ]


def _real(measured: dict[str, Any], drawn: Sequence[Cell]) -> list[str]:
    spread, environment = real.spread(measured), measured["environment"]
    facts = {"machine": measured["machine"], "torch": environment["torch"], "diffusers": environment["diffusers"]}
    told = "; ".join(
        f"{rule}: " + ", ".join(f"{outcomes.count(name)} {name}" for name in sorted(set(outcomes)))
        for rule, outcomes in real.independent(measured).items()
    )
    ordered = ", ".join(f"{name} {share:.1%}" for name, share in real.in_order(measured["alone"]).items())
    return [
        REAL.format(**vars(spread), **facts, comparisons=real.COMPARISONS),
        *table.verdicts(drawn, series=real.ALONE),
        "",
        INDEPENDENT.format(told=told, ordered=ordered, recorded=options.RECORD_PROCESSES),
        BUDGET,
        *(line for budget in (NATIVE, SAME, real.LIVE) for line in _alarms(drawn, budget)),
        SECONDS.format(opening=spread.opening_s),
        *_seconds(drawn, spread),
        "",
    ]


def _alarms(drawn: Sequence[Cell], budget: str) -> list[str]:
    return [f"Other tools {budget}:", "", *table.alarms(drawn, series=real.ALONE, budget=budget), ""]


def _seconds(drawn: Sequence[Cell], spread: real.Spread) -> list[str]:
    """Fresh processes a comparison starts, each built once and measured for as long as the suite does by default."""
    of = {cell.rule: cell.processes for cell in drawn if cell.change == LEVELS[0] and cell.budget == SAME}
    alone_s, live_s = (spread.opening_s + least for least in (options.MIN_TOTAL_S, options.AGAINST_MIN_TOTAL_S))
    figures = {
        f"{STORED} (its {options.RECORD_PROCESSES} recorded processes once)": of[STORED] * alone_s,
        PAIRS: of[PAIRS] * 2 * live_s,
    }
    figures |= {f"{name}, {NATIVE}": rule.processes * alone_s for name, rule in RULES.items()}
    return ["| rule | seconds |", "|---|---:|", *(f"| {name} | {seconds:.0f} |" for name, seconds in figures.items())]


def _simulated(simulated: Sequence[Cell], repetitions: int, replay_s: float) -> list[str]:
    found = [SIMULATED.format(repetitions=repetitions, replay_s=replay_s, rounds=ROUNDS)]
    for budget in (NATIVE, SAME):
        found += [f"Other tools {budget}:", "", *table.summary(simulated, budget=budget), ""]
    found += ["What our rules said on each series:", ""]
    for one in SERIES:
        found += [f"{one.name}:", "", *table.verdicts(simulated, series=one.name), ""]
    return found


def _faults(faults: Sequence[Result]) -> list[str]:
    wrong = [result for result in faults if result.family != HARMLESS]
    harmless = [result for result in faults if result.family == HARMLESS]
    text = FAULTS.format(
        caught=sum(result.held for result in wrong),
        faults=len(wrong),
        left=sum(result.held for result in harmless),
        harmless=len(harmless),
    )
    rows = [
        f"| {result.family} | {result.name.replace('_', ' ')} | {result.says} | {result.gate} | {_said(result)} |"
        for result in faults
    ]
    return [text, "| family | what | in words | gate | result |", "|---|---|---|---|---|", *rows]


def _said(result: Result) -> str:
    if result.family == HARMLESS:
        return "passes" if result.held else "**fires**"
    return "caught" if result.held else "**missed**"
