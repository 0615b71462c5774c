"""A table of a page, in one look: the first cell of a row names it, figures stand to the right, what is wide scrolls."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from speedgate.report.html import page
from speedgate.results.run import Outcome

if TYPE_CHECKING:
    from markupsafe import Markup

TONES = {
    **dict.fromkeys(Outcome, "bad"),
    **dict.fromkeys((Outcome.STALE, Outcome.UNDECIDED, Outcome.FASTER, Outcome.SMALLER), "warn"),
    Outcome.NO_BASELINE: "plain",
    Outcome.PASS: "good",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """Cells are texts, shown as such, or `Markup`; `numbers` names the columns of figures."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: frozenset[str] = frozenset()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Panel:
    """A chart, None where its figures alone are shown, and, behind `summary`, the figures."""

    title: str
    figure: Markup | None
    summary: str
    table: Markup


def panels(shown: Sequence[Panel]) -> Markup | None:
    """The panels one below the other; None where there is none."""
    return page.render("panels.html", panels=shown) if shown else None


def table(shown: Table) -> Markup:
    """The table as HTML, in a frame that a keyboard can scroll."""
    return page.render("table.html", table=shown)


def badge(outcome: Outcome | None) -> Markup:
    """An outcome in its colour; the word says it too."""
    return page.render("badge.html", text=outcome or "not judged", tone=TONES[outcome] if outcome else "bad")
