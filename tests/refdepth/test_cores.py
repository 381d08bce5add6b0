"""Cores that may be used: affinity and control groups, against what the kernel's files say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from refdepth import cores
from refdepth.cores import cgroup_quota, usable_cores


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")


def v1(folder: Path, quota: int, period: int = 100_000) -> None:
    write(folder / "cpu.cfs_quota_us", str(quota))
    write(folder / "cpu.cfs_period_us", str(period))


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity here")
def test_a_process_bound_to_one_core_counts_one() -> None:
    core = min(os.sched_getaffinity(0))
    code = (
        f"import os; os.sched_setaffinity(0, {{{core}}});"
        " from refdepth.cores import usable_cores; print(usable_cores())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path.cwd()
    )
    assert done.stdout == "1\n"


def test_there_are_no_more_than_the_machine_has_and_one_at_least(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)
    monkeypatch.setattr(cores, "cgroup_quota", lambda: 0.2)
    assert usable_cores() == 1
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    monkeypatch.setattr(cores, "cgroup_quota", lambda: 2.5)
    assert usable_cores() == 3
    monkeypatch.setattr(cores, "cgroup_quota", lambda: None)
    assert usable_cores() == 6
    monkeypatch.delattr(os, "sched_getaffinity")
    assert usable_cores() == 8


def test_the_tightest_quota_of_cgroup_v2_on_the_way_up_counts(tmp_path: Path) -> None:
    own, mount = tmp_path / "cgroup", tmp_path / "fs"
    write(own, "0::/batch/job/step")
    write(mount / "batch/job/step/cpu.max", "max 100000")
    assert cgroup_quota(own, mount) is None
    write(mount / "batch/job/cpu.max", "150000 100000")
    write(mount / "batch/cpu.max", "800000 100000")
    assert cgroup_quota(own, mount) == 1.5


def test_a_container_that_sees_only_its_own_group_is_read_at_the_root(tmp_path: Path) -> None:
    own, mount = tmp_path / "cgroup", tmp_path / "fs"
    write(own, "0::/")
    write(mount / "cpu.max", "400000 100000")
    assert cgroup_quota(own, mount) == 4
    write(own, "4:cpu,cpuacct:/docker/0123\n1:name=systemd:/docker/0123")
    v1(mount / "cpu,cpuacct", 50_000)
    assert cgroup_quota(own, mount) == 0.5


def test_quotas_of_cgroup_v1_are_read_and_minus_one_is_none(tmp_path: Path) -> None:
    own, mount = tmp_path / "cgroup", tmp_path / "fs"
    write(own, "5:cpu:/batch/job\n0::/")
    v1(mount / "cpu", -1)
    v1(mount / "cpu/batch", -1)
    assert cgroup_quota(own, mount) is None
    v1(mount / "cpu/batch/job", 300_000)
    assert cgroup_quota(own, mount) == 3


@pytest.mark.parametrize("text", ["", "0", "nonsense", "a b", "100000 0"])
def test_files_that_make_no_sense_limit_nothing(tmp_path: Path, text: str) -> None:
    own, mount = tmp_path / "cgroup", tmp_path / "fs"
    assert cgroup_quota(own, mount) is None
    write(own, f"{text}\n0::/job")
    write(mount / "job/cpu.max", text)
    assert cgroup_quota(own, mount) is None
