"""Draw the share of alarms over the true change as a reproducible SVG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.proof.replay import BUDGETS, OURS, TOLERANCE, Cell, cells_by_rule

# Okabe and Ito's colours, which colour-blind readers can distinguish; our rules have the first two.
COLOURS = ("#000000", "#0072b2", "#d55e00", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#999999", "#b8a800")
MARKERS = ("o", "s", "v", "^", "D", "P", "X", "<", ">")
STYLE = {
    "font.size": 9,
    "svg.fonttype": "none",  # keep text as text, for search and screen readers
    "svg.hashsalt": "speedgate",  # else matplotlib gives its elements random names
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def save(cells: Sequence[Cell], path: Path) -> None:
    """Write one panel per series and budget with one line per rule. Needs matplotlib, from the dependency group `proof`."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    series = list(dict.fromkeys(cell.series for cell in cells))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3 * len(series), 6.2), facecolor="white", layout="constrained")
        panels = figure.subplots(len(BUDGETS), len(series), sharex=True, sharey=True, squeeze=False)
        for budget, row in zip(BUDGETS, panels, strict=True):
            for name, panel in zip(series, row, strict=True):
                _draw(panel, cells_by_rule(cells, series=name, budget=budget))
            row[0].set_ylabel(f"alarms\n(others {budget})")
        for name, top, bottom in zip(series, panels[0], panels[-1], strict=True):
            top.set_title(name)
            bottom.set_xlabel("true slowdown")
        figure.legend(*panels[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
        # Leave out the date and matplotlib's version, so that the file changes only with its figures.
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


def _draw(panel: Any, row_by_rule: dict[str, list[Cell]]) -> None:
    """Draw one panel. Shade the changes within the tolerance, where our rule must not alarm."""
    panel.axvspan(0, TOLERANCE, color="#eeeeee", linewidth=0, label="tolerated by speedgate")
    for number, (rule, cells) in enumerate(row_by_rule.items()):
        panel.plot(
            [cell.change for cell in cells],
            [cell.alarms for cell in cells],
            label=rule,
            color=COLOURS[number % len(COLOURS)],
            marker=MARKERS[number % len(MARKERS)],
            markersize=4,
            linewidth=2.4 if rule in OURS else 1.1,
            zorder=3 if rule in OURS else 2,
            clip_on=False,
        )
    panel.set_xlim(0, 0.10)
    panel.set_ylim(0, 1)
    panel.xaxis.set_major_formatter("{x:.0%}")
    panel.yaxis.set_major_formatter("{x:.0%}")
