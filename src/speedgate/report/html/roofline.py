"""What an image takes, by component, and where the machine's ceilings are known the least seconds and the share reached."""

from __future__ import annotations

from typing import TYPE_CHECKING

from speedgate.report.html.tables import Table, table
from speedgate.report.html.view import Entry, Report, mapping, numbers

if TYPE_CHECKING:
    from markupsafe import Markup

_COLUMNS = ("case", "component", "TFLOP", "floor", "share reached")


def section(report: Report) -> Markup | None:
    """A row a component and one for the image; None where nothing was counted. Floors are by the ceilings of that machine."""
    rows = [row for entry in _told(report) for row in _rows(entry)]
    count = len(_COLUMNS) if any(row[3] != "-" for row in rows) else 3
    columns, cells = _COLUMNS[:count], [row[:count] for row in rows]
    caption = "Operations of an image, by component"
    shown = Table(caption=caption, columns=columns, rows=cells, numbers=frozenset(columns[2:]))
    return table(shown) if rows else None


def _told(report: Report) -> list[Entry]:
    """Those of which operations are known; without ceilings every stage of a workload says the same, so the first alone."""
    found, said = [], set()
    for entry in report.entries:
        known = bool(numbers(entry.roofline.get("floors_s")))
        if entry.roofline and (known or entry.group not in said):
            said.add(entry.group)
            found.append(entry)
    return found


def _rows(entry: Entry) -> list[tuple[str, ...]]:
    name = entry.case_key if numbers(entry.roofline.get("floors_s")) else entry.group
    floors_s, image = numbers(entry.roofline.get("floors_s")), numbers(entry.roofline)
    flops = {
        component: sum(numbers(mapping(one).get("flops")).values())
        for component, one in mapping(entry.roofline.get("operations")).items()
    }
    rows = [
        (name, component, _tflop(count), _seconds(floors_s.get(component)), "-") for component, count in flops.items()
    ]
    share = f"{image['share']:.0%}" if "share" in image else "-"
    return [*rows, (name, "image", _tflop(sum(flops.values())), _seconds(image.get("floor_s")), share)]


def _tflop(flops: float) -> str:
    return f"{flops / 1e12:.4g}"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g} s"
