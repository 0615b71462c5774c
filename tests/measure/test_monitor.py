"""The host's state around a round, and the summary of a process's readings."""

import errno
import json
import os
from pathlib import Path

import pytest

from speedgate.measure.monitor import HostMonitor, Reading, summarize
from tests.support.fake_nvml import NAMES, one_round, open_gpu

TICKS = os.sysconf("SC_CLK_TCK")
SUMMED = ("energy_mj", "power_cap_ns", "thermal_ns", "sync_boost_ns", "board_limit_ns", "reliability_ns")
STAT = "cpu  944647 15551 100605 1421738 6956 0 1107 {steal} 7 3\ncpu0 1 1 1 1 1 1 1 999999 0 0\n"
PRESSURE = "some avg10=0.14 avg60=0.99 avg300=18.53 total=1462403324\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=17\n"


@pytest.fixture
def host(tmp_path):
    """Make a host whose kernel files have the texts that a test gives."""

    def make(**files):
        for name, text in files.items():
            path = tmp_path / name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return HostMonitor(proc=tmp_path / "proc", cpu0=tmp_path / "cpu0")

    return make


def test_the_facts_of_a_host_come_from_kernel_files(host):
    """Governor, load, cores, steal seconds and pressure are those of the kernel's files."""
    facts = host(
        cpu0__cpufreq__scaling_governor="powersave\n",
        proc__loadavg="0.94 1.78 1.63 1/85 26557\n",
        proc__stat=STAT.format(steal=3 * TICKS),
        proc__pressure__cpu=PRESSURE,
    ).facts()

    cores = len(os.sched_getaffinity(0))
    assert facts == {
        "governor": "powersave",
        "load_1min": 0.94,
        "cores": cores,
        "cpu_quota": None,
        "stolen_s": 3.0,
        "cpu_pressure_us": 1462403324,
        "allows_busy": False,
    }
    assert json.loads(json.dumps(facts)) == facts


def test_a_missing_kernel_file_is_none(host):
    """A virtual machine without cpufreq and an old kernel lack facts, which is no error."""
    monitor = host(proc__stat="cpu  944647 15551 100605 1421738 6956 0 1107\n")

    facts = monitor.facts()
    monitor.begin()

    assert {name for name, value in facts.items() if value is None} == {
        *("governor", "load_1min", "stolen_s", "cpu_pressure_us", "cpu_quota")
    }
    reading = monitor.end()
    assert reading.facts == {"waited_s": None, "others_s": None, "stolen_s": None}
    assert reading.discarded_reason is None


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.EACCES])
def test_an_unreadable_kernel_file_is_none(host, monkeypatch, tmp_path, code):
    """A kernel without pressure information, or a sandbox, refuses to open its file; any other failure is an error."""
    (tmp_path / "proc" / "stat").mkdir(parents=True)
    with pytest.raises(IsADirectoryError):
        host().begin()

    monkeypatch.setattr(Path, "read_text", lambda *_, **__: (_ for _ in ()).throw(OSError(code, "no")))
    assert host().facts()["cpu_pressure_us"] is None


def test_the_readings_of_a_process_are_summarized():
    """The summary has the lowest and median clock, all reasons, the slowest state, and the sums of energy and time at limits."""
    values = {
        "sm_clock_mhz": (1980, 1410, 1965),
        "throttle_reasons": (0x1, 0x4, 0x5),
        "temperature_c": (61, 66, 64),
        "pstate": (2, 0, 0),
        "gpu_processes": (1, 2, 1),
        **dict.fromkeys(SUMMED, (1500, 1600, 1400)),
    }
    readings = [Reading(facts={name: each[index] for name, each in values.items()}) for index in range(3)]

    assert summarize(readings) == {
        "sm_clocks_mhz": [1980, 1410, 1965],
        "sm_clock_min_mhz": 1410,
        "sm_clock_median_mhz": 1965,
        "throttle_reasons": 0x5,
        "temperature_max_c": 66,
        "pstate_max": 2,
        "gpu_processes_max": 2,
        **dict.fromkeys(SUMMED, 4500),
    }


def test_an_unknown_fact_stays_none():
    """A missing reading does not become zero, a zero is not missing, and one known value is enough."""
    unknown = Reading(facts={"thermal_ns": None, "stolen_s": None, "throttle_reasons": 0})

    assert summarize([unknown, Reading(facts={"stolen_s": 0.5})]) == {
        "thermal_ns": None,
        "stolen_s": 0.5,
        "throttle_reasons": 0,
    }
    assert summarize([]) == {}


@pytest.mark.parametrize("name", NAMES)
def test_every_fact_of_a_gpu_has_a_summary(monkeypatch, name):
    """A fact without a rule would raise `KeyError` in the middle of a run."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    summary = summarize([one_round(open_gpu(monkeypatch, name))])

    assert {"sm_clock_min_mhz", "throttle_reasons", "temperature_max_c", "energy_mj", "thermal_ns"} <= set(summary)
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
