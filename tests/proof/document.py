"""Write `docs/proof.md` from measured, simulated and injected results: no number in it is typed by hand."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from speedgate.plugin import options
from speedgate.results.run import Outcome
from tests.proof import real, table
from tests.proof.confirmation_section import Section
from tests.proof.faults import HARMLESS, Result
from tests.proof.peers import RULES
from tests.proof.replay import (
    NATIVE,
    PAIRS,
    PAIRS_LOOKS,
    ROUNDS,
    SAME,
    SERIES,
    SLOWDOWN,
    STORED,
    STORED_LOOKS,
    TOLERANCE,
    Cell,
)
from tests.proof.series import LEVELS

_IS_BLOCK = re.compile(r"^(\||#|- |!\[|```)", re.MULTILINE)  # a table, a heading, a list, a picture, code

INTRODUCTION = """\
# Proof

After this page you know how often a verdict is wrong, and which faults the gates catch.

On real processes, live comparisons raised a false alarm in {pairs_false_alarms:.1%} of the cases without a change and caught
{pairs_caught:.1%} of the slowdowns of {slowdown:.0%}. On the same machine, whose processes vary by {between:.1%}, a stored
baseline caught {stored_caught:.1%} of them, was UNDECIDED in {stored_undecided:.1%} of the cases without a change, and raised a
false alarm in {older_false_alarms:.1%} if all processes of the baseline were older than the run; on a simulated machine whose
processes vary by {simulated_between:.1%} it caught {simulated_caught:.1%}, with {simulated_false_alarms:.1%} false alarms.

With confirmation by live pairs, those baselines that are older than the run
{confirmed}. The gates
{gates}.

This file is written by `tox -e proof`, which measures the real series, simulates other series and injects the faults.
No number in it is typed by hand.

The tolerance is {tolerance:.0%}, and the error rate of a whole sequence of looks is 1 %. The gate promises at most 1 % false
alarms without a change, and that it catches at least 95 % of slowdowns of twice the tolerance. With a stored baseline of
{recorded} processes it tries to reach a verdict after {stored} processes, in a live comparison after {pairs} pairs.
UNDECIDED is neither an alarm nor a pass: it is red under `--gate enforce` and means that this machine is too noisy for this
tolerance with so many processes.
"""

# Both contain only numbers and words that may be searched for in an older document.
CONFIRMED = "raised a false alarm in {false_alarms:.1%}, caught {caught:.1%} and left {undecided:.1%} undecided"
GATES = "caught {caught} of {faults} injected faults and fired on {fired} of {harmless} harmless changes"

REAL = """\
## Real processes

{processes} processes of tiny SDXL (`fp32`, 64 px, 4 steps) alone and {pairs} live pairs were measured in turn on `{machine}` with
torch {torch} and diffusers {diffusers}. They are of the tiny SDXL before commit ce06cb6, which was deeper. To inject a slowdown,
the last denoising step waits for a percentage of the seconds that an image takes in that process.

| | |
|---|---:|
| seconds per image | {median_s:.4f} |
| standard deviation of process medians over the whole series | {between:.2%} |
| drift: the median of five consecutive processes, slowest over fastest | {drift:+.1%} |
| standard deviation of the rounds within a process | {within:.2%} |
| standard deviation of the log-ratio of a live pair, corrected for the order | {between_pairs:.2%} |
| slowdown of the arm that is opened first | {order:+.2%} |

A row has {comparisons} comparisons, each of processes drawn from that series without replacement. Two comparisons may share
processes, so the shares describe our rule on this machine only, and are no more precise than the number of processes allows.
"""

INDEPENDENT = """\
Comparisons without a change that share no process, in the order of measurement: {outcomes}.

A stored figure is older than the run that is compared with it, and drawing at random hides the effect of a drift of the machine.
With every {recorded} consecutive processes as the baseline of every later run, without a change, our stored rule gives:
{ordered}. Such figures cannot distinguish a slower machine from slower code; a live pair is not affected by the drift.
"""

BUDGET = """\
### The same series, judged by other tools

Each tool's rule, with its own threshold and its source, is in `tests/proof/peers.py`. A tool that measures by itself has one
process per side (asv two). Given the same processes or the same live pairs, it has all rounds of ours, as one sample.
A cell is the share of alarms:
"""

SECONDS = """\
Seconds for one comparison without a change, including the start of the processes ({opening_s:.1f} s each here):
"""

SIMULATED = """\
## Simulated processes

A cell has {repetitions} comparisons; all of them took {replay_s:.0f} s. A process has {rounds} rounds that vary by 0.1 %. Process
medians vary by 0.3, 0.6 and 1.5 %, or have two equally likely modes 5 % apart. A cell has three shares: false alarms without a
change / slowdowns of {slowdown:.0%} caught / slowdowns of {slowdown:.0%} passed.
"""

FAULTS = """\
## Faults

{caught} of {faults} injected faults are caught by their gate, and no gate fires on {passed} of {harmless} harmless changes
(`pytest tests/faults --exhaustive`).
"""


def lines(
    measured: dict[str, Any],
    drawn: Sequence[Cell],
    simulated: Sequence[Cell],
    faults: Sequence[Result],
    *,
    confirmation: Section,
    trend: Sequence[str],
    repetitions: int,
    replay_s: float,
) -> list[str]:
    """Return the document's lines; `drawn` are the cells of the real series, `trend` is the section on trends."""
    return [
        _introduction(measured, drawn, simulated, faults, confirmation),
        *_real(measured, drawn),
        *_simulated(simulated, repetitions, replay_s),
        "![Share of alarms over the true change, by rule and series](proof.svg)",
        "",
        *confirmation.lines,
        *trend,
        *_faults(faults),
    ]


def _introduction(
    measured: dict[str, Any],
    drawn: Sequence[Cell],
    simulated: Sequence[Cell],
    faults: Sequence[Result],
    confirmation: Section,
) -> str:
    quiet = SERIES[0]
    unchanged, slower = (_cell(drawn, STORED, real.ALONE, change) for change in (0.0, SLOWDOWN))
    quiet_unchanged, quiet_slower = (_cell(simulated, STORED, quiet.name, change) for change in (0.0, SLOWDOWN))
    return INTRODUCTION.format(
        pairs_false_alarms=_cell(drawn, PAIRS, real.ALONE, 0.0).alarms,
        pairs_caught=_cell(drawn, PAIRS, real.ALONE, SLOWDOWN).alarms,
        slowdown=SLOWDOWN,
        between=real.spread(measured).between,
        stored_caught=slower.alarms,
        stored_undecided=unchanged.undecided,
        older_false_alarms=real.in_order(measured["alone"]).get(Outcome.SLOWER.value, 0.0),
        simulated_between=quiet.between,
        simulated_caught=quiet_slower.alarms,
        simulated_false_alarms=quiet_unchanged.alarms,
        confirmed=CONFIRMED.format(**confirmation.shares),
        gates=GATES.format(**_fault_counts(faults)),
        tolerance=TOLERANCE,
        recorded=options.RECORD_PROCESSES,
        stored=_listed(STORED_LOOKS.counts),
        pairs=_listed(PAIRS_LOOKS.counts),
    )


def _cell(cells: Sequence[Cell], rule: str, series: str, change: float) -> Cell:
    return next(cell for cell in cells if (cell.rule, cell.series, cell.change) == (rule, series, change))


def _listed(counts: Sequence[int]) -> str:
    return f"{', '.join(map(str, counts[:-1]))} and {counts[-1]}"


def _real(measured: dict[str, Any], drawn: Sequence[Cell]) -> list[str]:
    spread, environment = real.spread(measured), measured["environment"]
    facts = {"machine": measured["machine"], "torch": environment["torch"], "diffusers": environment["diffusers"]}
    outcomes_by_rule = "; ".join(
        f"{rule}: " + ", ".join(f"{outcomes.count(name)} {name}" for name in sorted(set(outcomes)))
        for rule, outcomes in real.independent(measured).items()
    )
    ordered = ", ".join(f"{name} {share:.1%}" for name, share in real.in_order(measured["alone"]).items())
    return [
        REAL.format(**vars(spread), **facts, comparisons=real.COMPARISONS),
        *table.verdicts(drawn, series=real.ALONE),
        "",
        INDEPENDENT.format(outcomes=outcomes_by_rule, ordered=ordered, recorded=options.RECORD_PROCESSES),
        BUDGET,
        *(line for budget in (NATIVE, SAME, real.LIVE) for line in _alarms_table(drawn, budget)),
        SECONDS.format(opening_s=spread.opening_s),
        *_seconds_table(drawn, spread),
        "",
    ]


def _alarms_table(drawn: Sequence[Cell], budget: str) -> list[str]:
    return [f"Other tools {budget}:", "", *table.alarms(drawn, series=real.ALONE, budget=budget), ""]


def _seconds_table(drawn: Sequence[Cell], spread: real.Spread) -> list[str]:
    """Multiply the fresh processes of a comparison by the seconds of a start and of the suite's default rounds."""
    processes = {cell.rule: cell.processes for cell in drawn if cell.change == LEVELS[0] and cell.budget == SAME}
    alone_s, live_s = (spread.opening_s + rounds_s for rounds_s in (options.MIN_TOTAL_S, options.AGAINST_MIN_TOTAL_S))
    seconds_by_rule = {
        f"{STORED} (its {options.RECORD_PROCESSES} recorded processes once)": processes[STORED] * alone_s,
        PAIRS: processes[PAIRS] * 2 * live_s,
    }
    seconds_by_rule |= {f"{name}, {NATIVE}": rule.processes * alone_s for name, rule in RULES.items()}
    rows = [f"| {name} | {seconds:.0f} |" for name, seconds in seconds_by_rule.items()]
    return ["| rule | seconds |", "|---|---:|", *rows]


def _simulated(simulated: Sequence[Cell], repetitions: int, replay_s: float) -> list[str]:
    section = [SIMULATED.format(repetitions=repetitions, replay_s=replay_s, rounds=ROUNDS, slowdown=SLOWDOWN)]
    for budget in (NATIVE, SAME):
        section += [f"Other tools {budget}:", "", *table.summary(simulated, budget=budget), ""]
    section += ["Verdicts of our rules on each series:", ""]
    for series in SERIES:
        section += [f"{series.name}:", "", *table.verdicts(simulated, series=series.name), ""]
    return section


def _faults(faults: Sequence[Result]) -> list[str]:
    return [
        FAULTS.format(**_fault_counts(faults)),
        "| family | fault or change | description | gate | result |",
        "|---|---|---|---|---|",
        *_fault_rows(faults),
    ]


def _fault_counts(faults: Sequence[Result]) -> dict[str, int]:
    harmful = [result.held for result in faults if result.family != HARMLESS]
    harmless = [result.held for result in faults if result.family == HARMLESS]
    return {
        "caught": sum(harmful),
        "faults": len(harmful),
        "passed": sum(harmless),
        "harmless": len(harmless),
        "fired": len(harmless) - sum(harmless),
    }


def replace_faults(document: str, faults: Sequence[Result]) -> str:
    """Replace the last section and the sentence that counts its rows."""
    others = _replace_figures(document.partition("\n## Faults\n")[0], GATES, _fault_counts(faults))
    return "\n".join([others, *_faults(faults)]) + "\n"


def replace_confirmation(document: str, confirmation: Section) -> str:
    """Replace the section on confirmation and the sentence with its shares."""
    return replace_section(_replace_figures(document, CONFIRMED, confirmation.shares), confirmation.lines)


def _replace_figures(document: str, sentence: str, figures: Mapping[str, float]) -> str:
    older = re.sub(r"\\{[^}]+\\}", r"[\\d.%]+", re.escape(sentence))
    return re.sub(older, sentence.format(**figures), document)


def wrap(text: str) -> str:
    """Wrap each paragraph anew, because its figures have other lengths than their names; other blocks stay the same."""
    return (
        "\n\n".join(
            block if _IS_BLOCK.search(block) else textwrap.fill(" ".join(block.split()), 120, break_on_hyphens=False)
            for block in text.strip().split("\n\n")
        )
        + "\n"
    )


def replace_section(document: str, section: Sequence[str]) -> str:
    """Replace the section with the same heading, or insert the section before the last one."""
    sections = document.split("\n## ")
    new = "\n".join(section).removeprefix("## ")
    headings = [text.partition("\n")[0] for text in sections]
    place = headings.index(heading) if (heading := new.partition("\n")[0]) in headings else len(sections) - 1
    return "\n## ".join([*sections[:place], new, *sections[place + (heading in headings) :]])


def _fault_rows(faults: Sequence[Result]) -> Iterator[str]:
    for result in faults:
        words = ("passes", "**fires**") if result.family == HARMLESS else ("caught", "**missed**")
        name, outcome = result.name.replace("_", " "), words[0 if result.held else 1]
        yield f"| {result.family} | {name} | {result.description} | {result.gate} | {outcome} |"
