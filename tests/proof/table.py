"""Format the cells of a replay as Markdown tables."""

from __future__ import annotations

from collections.abc import Sequence

from tests.proof.replay import OURS, SLOWDOWN, Cell, cells_by_rule


def alarms(cells: Sequence[Cell], *, series: str, budget: str) -> list[str]:
    """Show the share of alarms, one row per rule and one column per true change, and the mean processes at no change."""
    rows = cells_by_rule(cells, series=series, budget=budget)
    changes = sorted({cell.change for row in rows.values() for cell in row})
    return [
        *_header("rule", *(f"true {change:+.0%}" if change else "no change" for change in changes), "processes"),
        *(
            _line(name, *(f"{cell.alarms:.1%}" for cell in row), f"{row[0].processes:.1f}")
            for name, row in rows.items()
        ),
    ]


def verdicts(cells: Sequence[Cell], *, series: str) -> list[str]:
    """Show the shares of our rules' verdicts and the mean processes (or pairs), one row per true change."""
    ours = sorted(
        (cell for cell in cells if cell.series == series and cell.rule in OURS),
        key=lambda cell: (OURS.index(cell.rule), cell.change),
    )
    return [
        *_header("rule", "true change", "slower", "pass", "undecided", "processes"),
        *(
            _line(
                cell.rule,
                f"{cell.change:+.0%}" if cell.change else "none",
                *(f"{share:.1%}" for share in (cell.alarms, cell.passes, cell.undecided)),
                f"{cell.processes:.1f}",
            )
            for cell in ours
        ),
    ]


def summary(cells: Sequence[Cell], *, budget: str, slowdown: float = SLOWDOWN) -> list[str]:
    """Show per rule and series: alarms without a change / slowdowns of that size caught / the same passed.

    The rest of the slowdowns is undecided, which only our rules can be.
    """
    series = list(dict.fromkeys(cell.series for cell in cells))
    rows = {name: cells_by_rule(cells, series=name, budget=budget) for name in series}
    rules = dict.fromkeys(rule for by_rule in rows.values() for rule in by_rule)
    return [
        *_header("rule", *series),
        *(_line(rule, *(_three_shares(rows[name][rule], slowdown) for name in series)) for rule in rules),
    ]


def _three_shares(row: Sequence[Cell], slowdown: float) -> str:
    by_change = {cell.change: cell for cell in row}
    shares = (by_change[0.0].alarms, by_change[slowdown].alarms, by_change[slowdown].passes)
    return " / ".join(f"{share:.1%}" for share in shares)


def _header(first: str, *others: str) -> list[str]:
    return [_line(first, *others), _line("---", *("---:" for _ in others))]


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
