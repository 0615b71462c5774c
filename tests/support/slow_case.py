"""A built case in which a test can slow down a component, or change its attention."""

from __future__ import annotations

import functools
import time
from typing import Any

from fixtures.worker.built_case import BuiltCase


class SlowCase(BuiltCase):
    """A `BuiltCase`; `slow` slows down one component until `heal` restores it."""

    def slow(self, *, component: str, seconds: float, call: int | None = None) -> None:
        """Add seconds to every call of a component, or only to one of its calls in each image."""
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
        """Restore the component that `slow` changed."""
        delattr(*self._changed)

    def attend_plainly(self) -> None:
        """Let the denoiser compute attention by matrix products and softmax."""
        self.pipeline.unet.set_default_attn_processor()
