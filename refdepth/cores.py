"""How many cores this process may use: affinity masks and container quotas count, not only what is
in the machine."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

_OWN_GROUPS = Path("/proc/self/cgroup")
_HIERARCHIES = Path("/sys/fs/cgroup")


def usable_cores() -> int:
    """Cores that this process can keep busy, at least 1: those it may run on (`taskset`, a batch
    system), no more than its control group pays for (a container's `--cpus`)."""
    limits = [os.cpu_count() or 1]
    if hasattr(os, "sched_getaffinity"):
        limits.append(len(os.sched_getaffinity(0)))
    quota = cgroup_quota()
    if quota is not None:
        limits.append(math.ceil(quota))
    return max(1, min(limits))


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Has torch compute on one thread in the block (or decorated function): its sums and products
    differ in the last digits with the number of threads, and results must not."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def cgroup_quota(own: Path = _OWN_GROUPS, hierarchies: Path = _HIERARCHIES) -> float | None:
    """Cores' worth of time that control groups (cgroup v1 or v2) leave this process; None: all.

    `own` names the groups the process is in, `hierarchies` is where their files are mounted. The
    groups above count too; inside a container only the mount's own root may be there to be read.
    """
    try:
        rows = [line.split(":", 2) for line in own.read_text().splitlines()]
    except OSError:
        return None
    quotas: list[float] = []
    for _, controllers, group in (row for row in rows if len(row) == 3):
        if not controllers:
            for mount in (hierarchies, hierarchies / "unified"):
                quotas += _found(map(_quota_v2, _upwards(mount, group)))
        elif "cpu" in controllers.split(","):
            for mount in (hierarchies / "cpu", hierarchies / "cpu,cpuacct"):
                quotas += _found(map(_quota_v1, _upwards(mount, group)))
    return min(quotas, default=None)


def _upwards(mount: Path, group: str) -> Iterator[Path]:
    """The folder of a group and of each group above it, the mount's root last."""
    path = PurePosixPath(group)
    for folder in (path, *path.parents):
        yield mount / folder.relative_to(folder.anchor)


def _found(quotas: Iterator[float | None]) -> list[float]:
    return [quota for quota in quotas if quota is not None]


def _quota_v2(folder: Path) -> float | None:
    """From `cpu.max`: microseconds (or max) in each period."""
    try:
        quota, period = (folder / "cpu.max").read_text().split()
        return int(quota) / int(period) if quota != "max" else None
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _quota_v1(folder: Path) -> float | None:
    """From `cpu.cfs_quota_us` (-1: none) and `cpu.cfs_period_us`."""
    try:
        quota = int((folder / "cpu.cfs_quota_us").read_text())
        period = int((folder / "cpu.cfs_period_us").read_text())
        return quota / period if quota > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None
