"""The image of a case beside its reference, with maps of where they differ and where they are alike, as PNG.

An image is an array [h, w, 3] of 0..1, of any model. Above `LONGEST_PX` a map is made at full size and then reduced; each of its
pixels is the worst of those that it stands for, because an average would hide a small fault.
"""

from __future__ import annotations

import dataclasses
import io
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # numpy is imported late, so that `speedgate --help` stays fast
    import numpy as np
    from numpy.typing import NDArray

LONGEST_PX = 512  # a page holds four images per stage; at 1024 px they would be 6 MB per stage
MAP_TIMES = 10  # as in the files of `--images`: the noise of a correct stage is just visible, a fault is bright
# From dark to bright, as in the difference map: bright pixels differ.
_HEAT = ((0, 0, 0), (64, 10, 103), (147, 38, 103), (221, 81, 58), (252, 165, 10), (252, 255, 164))


@dataclasses.dataclass(frozen=True, kw_only=True)
class CaseImage:
    """The image of a case, float32 [h, w, 3] in 0..1, and the key of the case that it is compared with."""

    image: NDArray[np.float32]
    reference: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pictures:
    """PNG files of a case. `reference` is the key of the case it is compared with; without its image there are no maps.

    `width_px` is the width of the image before it was reduced.
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

    pictures = Pictures(
        reference=case.reference, width_px=case.image.shape[1], image=_encode_png(_reduce(case.image, np.mean))
    )
    if reference is None or reference.image.shape != case.image.shape:
        return pictures
    difference = MAP_TIMES * np.abs(case.image - reference.image)
    dissimilarity = MAP_TIMES * (1 - similarity_map(case.image, reference.image))
    return dataclasses.replace(
        pictures,
        difference=_encode_png(_reduce(difference, np.max)),
        similarity=_encode_png(_heat(_reduce(dissimilarity, np.max))),
    )


def similarity_map(image: NDArray[np.float32], reference: NDArray[np.float32]) -> NDArray[np.float64]:
    """Compute the SSIM around each pixel, [h, w], as the mean of the three colours: 1 for equal, 0 and below for unlike."""
    from skimage.metrics import structural_similarity

    _, full = structural_similarity(reference, image, channel_axis=-1, data_range=1.0, full=True)
    similarity: NDArray[np.float64] = full.mean(axis=-1)
    return similarity


def _reduce(values: NDArray[Any], combine: Any) -> NDArray[Any]:
    """Combine blocks of pixels, so that the result is at most `LONGEST_PX` wide and high."""
    from skimage.measure import block_reduce

    block = math.ceil(max(values.shape[:2]) / LONGEST_PX)
    height, width = (side // block * block for side in values.shape[:2])  # a part of a block would be filled with zeros
    blocks = (block, block, 1)[: values.ndim]
    reduced: NDArray[Any] = block_reduce(values[:height, :width], blocks, combine)
    return reduced


def _heat(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Colour [h, w] as [h, w, 3] of 0..1. 1 and above is the brightest, and so is NaN, which is worse than any number."""
    import numpy as np

    stops = np.linspace(0, 1, len(_HEAT))
    finite = np.nan_to_num(values, nan=1.0)
    return np.stack([np.interp(finite, stops, channel) for channel in np.array(_HEAT).T / 255], axis=-1)


def _encode_png(values: NDArray[Any]) -> bytes:
    import numpy as np
    from PIL import Image

    pixels = (np.nan_to_num(np.clip(values, 0, 1)) * 255).round().astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="png", optimize=True)
    return stream.getvalue()
