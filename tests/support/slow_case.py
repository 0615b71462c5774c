"""A built case that can be told to become slower, or other than it was, in one of its components."""

from __future__ import annotations

import functools
import time
from typing import Any

from fixtures.worker.built_case import BuiltCase


class SlowCase(BuiltCase):
    """Speaks as `BuiltCase` does; `slow` changes one thing until `heal` puts it back."""

    def slow(self, *, component: str, seconds: float, call: int | None = None) -> None:
        """Every call of a component takes so much longer, or one of the calls in each image does."""
        owner, method = {
            "text_encoders": (self.pipeline.text_encoder, "forward"),
            "denoiser": (self.pipeline.unet.conv_in, "forward"),
            "scheduler": (self.pipeline.scheduler, "step"),
            "vae_decode": (self.pipeline.vae.decoder, "forward"),
        }[component]
        function, calls = getattr(owner, method), [0]

        @functools.wraps(function)
        def slower(*args: Any, **keywords: Any) -> Any:
            if call is None or calls[0] % self.workload.steps == call:
                time.sleep(seconds)
            calls[0] += 1
            return function(*args, **keywords)

        setattr(owner, method, slower)
        self._changed = owner, method

    def heal(self) -> None:
        """As it was built."""
        delattr(*self._changed)

    def attend_plainly(self) -> None:
        """The denoiser's attention is matrix products and softmax again."""
        self.pipeline.unet.set_default_attn_processor()
