"""Where a run computes, and the CPUs that it may use."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest
import torch

from underpaint.training.devices import choose_device, cpu_quota, usable_cpus


def test_a_device_that_is_not_there_is_named() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="device=cuda is not available here; this machine has"):
            choose_device("cuda")


def write_group(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


@pytest.mark.parametrize(
    ("groups", "files", "quota"),
    [
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),
        ("0::/\n", {"cpu.max": "max 100000\n"}, None),
        ("0::/a/b\n", {"a/b/cpu.max": "400000 100000\n", "a/cpu.max": "200000 100000\n"}, 2.0),  # the one above is less
        ("0::/a\n", {"a/cpu.max": "max 100000\n", "cpu.max": "50000 100000\n"}, 0.5),
        (
            "4:cpu,cpuacct:/x\n",
            {"cpu,cpuacct/x/cpu.cfs_quota_us": "300000\n", "cpu,cpuacct/x/cpu.cfs_period_us": "100000"},
            3.0,
        ),
        (
            "4:cpu,cpuacct:/\n",
            {"cpu,cpuacct/cpu.cfs_quota_us": "-1\n", "cpu,cpuacct/cpu.cfs_period_us": "100000"},
            None,
        ),
        ("3:memory:/\n", {"memory/cpu.cfs_quota_us": "1000", "memory/cpu.cfs_period_us": "1000"}, None),
        ("0::/../../..\n", {}, None),
        ("0::/\n", {"cpu.max": "rubbish"}, None),
        ("0::/\n", {"cpu.max": "1 0"}, None),
        ("", {}, None),
    ],
)
def test_the_quota_of_a_control_group(tmp_path: Path, groups: str, files: dict[str, str], quota: float | None) -> None:
    write_group(tmp_path / "sys", files)
    (tmp_path / "cgroup").write_text(groups)
    assert cpu_quota(tmp_path / "cgroup", tmp_path / "sys") == quota
    expected = len(os.sched_getaffinity(0)) if quota is None else min(len(os.sched_getaffinity(0)), math.ceil(quota))
    assert usable_cpus(proc=tmp_path / "cgroup", root=tmp_path / "sys") == expected
    assert cpu_quota(tmp_path / "none", tmp_path / "sys") is None
