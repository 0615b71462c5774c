"""The hooks of the plugin: the choice of a monitor, and colours."""

import sys
from types import SimpleNamespace

import pytest

from speedgate.plugin.hooks import open_monitor, write_coloured
from tests.support.fake_nvml import FakeNvml, answers


@pytest.mark.parametrize(("device", "kind"), [("cpu", "HostMonitor"), ("cuda", "NvmlMonitor")])
def test_each_device_has_its_monitor(monkeypatch, device, kind):
    """A GPU has a monitor with NVML and a CPU has one without; both get the number of our workers."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(answers("idle_h200")) if device == "cuda" else None)

    monitor = open_monitor(device, expected_workers=2)
    monitor.close()

    assert (type(monitor).__name__, monitor.expected_workers) == (kind, 2)


@pytest.mark.parametrize(
    ("outcome", "colour"),
    [
        ("PASS", "green"),
        ("FASTER", "green"),
        ("UNDECIDED", "yellow"),
        ("STALE", "yellow"),
        ("SLOWER", "red"),
        ("DIFFERENT", "red"),
    ],
)
def test_only_the_outcome_is_coloured_by_pytests_own_markup(outcome, colour):
    """pytest's reporter gets the word with its colour, so that `--color` and `NO_COLOR` decide, and the rest without."""
    calls = []
    reporter = SimpleNamespace(
        write=lambda text, **markup: calls.append((text, markup)), line=lambda text: calls.append((text, {}))
    )

    write_coloured(reporter, f"{outcome} sdxl latency: SLOWER is a word here")

    assert calls == [("", {}), (outcome, {colour: True}), (" sdxl latency: SLOWER is a word here", {})]
