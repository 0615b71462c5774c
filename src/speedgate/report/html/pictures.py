"""What a case made beside its reference: the two images, where they differ, and where they are alike, as PNG.

Knows images and no model: arrays [h, w, 3] of 0..1. Above `LONGEST_PX` the maps are made at full size and shown smaller, a pixel
of a map being the worst of those that it stands for: a small fault must not be averaged away.
"""

from __future__ import annotations

import dataclasses
import io
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # an array is worked with where one was made
    import numpy as np
    from numpy.typing import NDArray

# A page holds four images a stage; at 1024 px they would be 6 MB a stage.
LONGEST_PX = 512
# As in the pictures that `--images` saves: the noise of a correct stage is just seen, a fault is bright.
MAP_TIMES = 10
# Dark to bright, as in the difference map: what is bright differs.
_HEAT = ((0, 0, 0), (64, 10, 103), (147, 38, 103), (221, 81, 58), (252, 165, 10), (252, 255, 164))


@dataclasses.dataclass(frozen=True, kw_only=True)
class CaseImage:
    """The image of a case, float32 [h, w, 3] in 0..1, and the key of the case that it is compared with."""

    image: NDArray[np.float32]
    reference: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pictures:
    """PNG files of a case; `reference` is the key of the case it is compared with, and the maps None where that made none.

    `width_px` is the image's own.
    """

    reference: str
    width_px: int
    image: bytes
    difference: bytes | None = None
    similarity: bytes | None = None


def make_pictures(images: Mapping[str, CaseImage]) -> dict[str, Pictures]:
    """Encode the image of each case and its two maps, by case key."""
    return {key: _pictures_of(case, images.get(case.reference)) for key, case in images.items()}


def _pictures_of(case: CaseImage, reference: CaseImage | None) -> Pictures:
    import numpy as np

    shown = Pictures(reference=case.reference, width_px=case.image.shape[1], image=_png(_smaller(case.image, np.mean)))
    if reference is None or reference.image.shape != case.image.shape:
        return shown
    difference = MAP_TIMES * np.abs(case.image - reference.image)
    unlike = MAP_TIMES * (1 - similarity_map(case.image, reference.image))
    return dataclasses.replace(
        shown, difference=_png(_smaller(difference, np.max)), similarity=_png(_heat(_smaller(unlike, np.max)))
    )


def similarity_map(image: NDArray[np.float32], reference: NDArray[np.float32]) -> NDArray[np.float64]:
    """SSIM around each pixel, [h, w], the mean of the three colours; 1 where both are alike, 0 and below where nothing is."""
    from skimage.metrics import structural_similarity

    _, full = structural_similarity(reference, image, channel_axis=-1, data_range=1.0, full=True)
    found: NDArray[np.float64] = full.mean(axis=-1)
    return found


def _smaller(values: NDArray[Any], how: Any) -> NDArray[Any]:
    """At most `LONGEST_PX` wide and high: blocks of pixels become one."""
    from skimage.measure import block_reduce

    block = math.ceil(max(values.shape[:2]) / LONGEST_PX)
    height, width = (side // block * block for side in values.shape[:2])  # a part of a block would be filled with zeros
    blocks = (block, block, 1)[: values.ndim]
    reduced: NDArray[Any] = block_reduce(values[:height, :width], blocks, how)
    return reduced


def _heat(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """[h, w] as colours [h, w, 3] of 0..1, 1 and above as the brightest; NaN, which is worse than any number, too."""
    import numpy as np

    stops = np.linspace(0, 1, len(_HEAT))
    known = np.nan_to_num(values, nan=1.0)
    return np.stack([np.interp(known, stops, channel) for channel in np.array(_HEAT).T / 255], axis=-1)


def _png(values: NDArray[Any]) -> bytes:
    import numpy as np
    from PIL import Image

    pixels = (np.nan_to_num(np.clip(values, 0, 1)) * 255).round().astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="png", optimize=True)
    return stream.getvalue()
