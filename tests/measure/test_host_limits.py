"""Limits of a CPU that change what is measured, read from scripted kernel files and variables."""

import pytest

from speedgate.measure.host_limits import cpu_conditions, cpu_quota, onednn_max_cpu_isa

V1 = "cpu,cpuacct/a/cpu.cfs_"


@pytest.mark.parametrize(
    ("groups", "files", "quota"),
    [
        ("0::/", {"cpu.max": "150000 100000"}, 1.5),
        ("0::/", {"cpu.max": "max 100000"}, None),
        ("0::/a/b", {"a/b/cpu.max": "max 100000", "a/cpu.max": "200000 100000"}, 2.0),  # of the group above
        ("0::/a/b", {"a/b/cpu.max": "50000 100000", "a/cpu.max": "200000 100000"}, 0.5),
        ("0::/../../host", {"cpu.max": "300000 100000"}, 3.0),  # the host's path, which this container does not see
        ("4:cpu,cpuacct:/a", {f"{V1}quota_us": "250000", f"{V1}period_us": "100000"}, 2.5),
        ("4:cpu,cpuacct:/a", {f"{V1}quota_us": "-1", f"{V1}period_us": "100000"}, None),
        ("4:cpu,cpuacct:/a", {"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"}, 1.0),
        ("3:cpuset:/a", {"cpu.max": "100000 100000"}, None),
        ("0::/", {"cpu.max": "rubbish"}, None),
        ("", {}, None),
    ],
)
def test_the_lowest_quota_on_the_way_up_counts(tmp_path, groups, files, quota):
    """Both versions of cgroups are read, in a container too, and a file that is missing or odd is no limit."""
    proc, cgroups = tmp_path / "proc", tmp_path / "cgroup"
    texts = {proc / "self" / "cgroup": groups} | {cgroups / name: text for name, text in files.items()}
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")

    assert cpu_quota(proc=proc, cgroups=cgroups) == quota


def test_the_instruction_set_of_onednn_is_recorded():
    """A variable that lowers oneDNN's instruction set is a fact, and its values without a limit are none."""
    ours, older = "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"
    environments = [
        {},
        {ours: "avx2"},
        {older: "SSE41"},
        {ours: "AVX2", older: "SSE41"},
        {ours: "all"},
        {ours: "DEFAULT"},
    ]

    assert [onednn_max_cpu_isa(environ) for environ in environments] == [None, "AVX2", "SSE41", "AVX2", None, None]


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
