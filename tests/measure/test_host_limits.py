"""Limits of a CPU that change what is measured, read from scripted kernel files and variables."""

import pytest

from speedgate.measure.host_limits import cpu_conditions, cpu_quota, onednn_max_cpu_isa


@pytest.mark.parametrize(
    ("groups", "files", "quota"),
    [
        ("0::/", {"cpu.max": "150000 100000"}, 1.5),
        ("0::/", {"cpu.max": "max 100000"}, None),
        ("0::/a/b", {"a/b/cpu.max": "max 100000", "a/cpu.max": "200000 100000"}, 2.0),  # of the group above
        ("0::/a/b", {"a/b/cpu.max": "50000 100000", "a/cpu.max": "200000 100000"}, 0.5),
        ("0::/../../host", {"cpu.max": "300000 100000"}, 3.0),  # the host's path, which this container does not see
        (
            "4:cpu,cpuacct:/a",
            {"cpu,cpuacct/a/cpu.cfs_quota_us": "250000", "cpu,cpuacct/a/cpu.cfs_period_us": "100000"},
            2.5,
        ),
        (
            "4:cpu,cpuacct:/a",
            {"cpu,cpuacct/a/cpu.cfs_quota_us": "-1", "cpu,cpuacct/a/cpu.cfs_period_us": "100000"},
            None,
        ),
        ("4:cpu,cpuacct:/a", {"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"}, 1.0),
        ("3:cpuset:/a", {"cpu.max": "100000 100000"}, None),
        ("0::/", {"cpu.max": "rubbish"}, None),
        ("", {}, None),
    ],
)
def test_the_lowest_quota_on_the_way_up_counts(tmp_path, groups, files, quota):
    """Both versions of cgroups are read, in a container too, and a file that is missing or odd is no limit."""
    proc, cgroups = tmp_path / "proc", tmp_path / "cgroup"
    for path, text in {
        proc / "self" / "cgroup": groups,
        **{cgroups / name: text for name, text in files.items()},
    }.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")

    assert cpu_quota(proc=proc, cgroups=cgroups) == quota


@pytest.mark.parametrize(
    ("environ", "isa"),
    [
        ({}, None),
        ({"ONEDNN_MAX_CPU_ISA": "avx2"}, "AVX2"),
        ({"DNNL_MAX_CPU_ISA": "SSE41"}, "SSE41"),
        ({"ONEDNN_MAX_CPU_ISA": "AVX2", "DNNL_MAX_CPU_ISA": "SSE41"}, "AVX2"),
        ({"ONEDNN_MAX_CPU_ISA": "all"}, None),
        ({"ONEDNN_MAX_CPU_ISA": "DEFAULT"}, None),
    ],
)
def test_the_instruction_set_of_onednn_is_recorded(environ, isa):
    """A variable that lowers oneDNN's instruction set is a fact, and its values without a limit are none."""
    assert onednn_max_cpu_isa(environ) == isa


def test_flushed_denormals_are_seen():
    """A process that flushes denormal numbers, which makes some convolutions many times faster, says so."""
    import torch

    before = cpu_conditions()["flushes_denormals"]
    try:
        assert torch.set_flush_denormal(True)
        assert cpu_conditions()["flushes_denormals"] is True
    finally:
        torch.set_flush_denormal(before)
    assert before is False
