"""What the tests that build real pipelines share: each is built once."""

import dataclasses

import numpy as np
import pytest

from fixtures.parity import Output
from fixtures.stages import STAGES, Phase


@pytest.fixture(scope="session")
def build():
    """Build a tiny SDXL stage in this process, without compiling: `build("int8")` is the eager int8 stage."""
    from fixtures.built import BuiltCase

    compiling = STAGES["compile"]
    eager = tuple(step for step in compiling.steps if step[0] is not Phase.COMPILE)
    built = []

    def make(stage, *, weights=None):
        case = BuiltCase(
            pipeline="sdxl", size="tiny", stage=stage, weights=weights or {"source": "synthetic"}, device="cpu"
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(STAGES, "compile", dataclasses.replace(compiling, steps=eager))
            case.load()
        built.append(case)
        return case

    yield make
    for case in built:
        case.close()


@pytest.fixture(scope="session")
def look():
    """What a built case makes, as parity sees it."""

    def inspect(case, *, precise=False):
        seen = case.inspect(precise=precise)
        arrays = {
            name: np.frombuffer(seen[name], np.float32).reshape(seen[f"{name}_shape"])
            for name in ("image", "step", "decoded")
        }
        return Output(**arrays, precise=Output(**arrays) if precise else None)

    return inspect
