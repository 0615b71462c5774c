"""The hooks of the plugin: the choice of a monitor."""

import sys

import pytest

from speedgate.plugin.hooks import open_monitor
from tests.support.fake_nvml import FakeNvml, answers


@pytest.mark.parametrize(("device", "kind"), [("cpu", "HostMonitor"), ("cuda", "NvmlMonitor")])
def test_each_device_has_its_monitor(monkeypatch, device, kind):
    """A GPU has a monitor with NVML and a CPU has one without; both get the number of our workers."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(answers("idle_h200")) if device == "cuda" else None)

    monitor = open_monitor(device, expected_workers=2)
    monitor.close()

    assert (type(monitor).__name__, monitor.expected_workers) == (kind, 2)
