"""The part of a report that shows what each stage makes, beside the reference and the maps of both."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from speedgate.report.html import page
from speedgate.report.html.pictures import MAP_TIMES, Pictures
from speedgate.report.html.view import Entry, Report
from speedgate.results.run import Run

if TYPE_CHECKING:
    from markupsafe import Markup

_SMALL_PX = 256  # below it a pixel is shown as a square rather than smoothed


@dataclasses.dataclass(frozen=True, kw_only=True)
class Image:
    """One picture of a row. What several rows show stands in the page once, under `own_id`; they name it by `other_id`."""

    caption: str
    source: str
    size_px: tuple[int, int]
    own_id: str | None = None
    other_id: str | None = None


def pictures(report: Report) -> Markup | None:
    """Each stage's image beside the reference, with both maps."""
    shown = {entry.case_key: entry.pictures for entry in report.entries if entry.pictures is not None}
    shared = {
        reference: f"picture-{n}" for n, reference in enumerate(sorted({own.reference for own in shown.values()}))
    }
    rows = [_row(entry, own, shown, shared) for entry in report.entries if (own := entry.pictures) is not None]
    return page.render("pictures.html", rows=rows) if rows else None


def _row(entry: Entry, own: Pictures, shown: Mapping[str, Pictures], shared: Mapping[str, str]) -> dict[str, Any]:
    reference = shown.get(own.reference)
    is_reference = own.reference == entry.case_key
    images = [_image(f"{entry.stage}: what it makes", own.image, own_id=shared.get(entry.case_key))]
    if reference is not None and not is_reference:
        images.insert(0, _image(f"reference: {own.reference}", reference.image, other_id=shared[own.reference]))
        maps = {
            f"difference, times {MAP_TIMES}": own.difference,
            f"SSIM map, 1 - SSIM times {MAP_TIMES}": own.similarity,
        }
        images += [_image(caption, data) for caption, data in maps.items() if data is not None]
    return {
        "title": entry.case_key,
        "ssim": ssim(entry.run),
        "small": own.width_px < _SMALL_PX,
        "is_reference": is_reference,
        "has_reference": reference is not None,
        "images": images,
    }


def _image(caption: str, data: bytes, **ids: str | None) -> Image:
    return Image(caption=caption, source=page.png(data), size_px=page.png_size(data), **ids)


def ssim(run: Run | None) -> str:
    """The figure that parity was judged by."""
    if run is None or run.parity is None:
        return "-"
    value = run.parity.get("ssim")
    return "NaN" if value is None else f"{value:.4f}"
