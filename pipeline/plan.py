"""How many processes a work gets, and with what."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import psutil

from refdepth.pipeline.devices import gpus
from refdepth.pipeline.memory import MemoryBudget
from refdepth.pipeline.work import Cost

logger = logging.getLogger(__name__)

WORKER_BYTES = 250 << 20
"""Memory of a worker with its libraries, before it does anything."""
START_SECONDS = 1.0
"""Of a core, to start a worker and have it open a work."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How many processes do a work, and with what."""

    workers: int
    """1: this process."""
    threads: int
    """Of each."""
    cache_bytes: int
    """Of each."""


def plan_workers(
    cost: Cost,
    items: int,
    *,
    asked: int | None,
    running: int,
    cores: int,
    max_memory_gb: float | None,
) -> Plan:
    """How many workers do `items` of a `cost`.

    `asked` None: as many as there are cores and items for and memory allows, and no more than are
    worth starting beside those `running`. A number is kept to, but for `max_memory_gb`.
    """
    own = float(psutil.Process().memory_info().rss)
    limit = MemoryBudget.limit(max_memory_gb) + (0 if max_memory_gb else own)
    each = WORKER_BYTES + cost.bytes
    bearable = max(1, int((limit - own) // each))
    workers = min(items, asked or cores)
    if asked is None:
        total = cost.seconds * items
        worth = total / START_SECONDS if running < 2 else total / (0.1 * START_SECONDS)
        workers = min(workers, max(1, int(worth)), bearable)
    elif max_memory_gb is not None and workers > bearable:
        logger.warning("%d workers, not %d: --max-memory allows no more", bearable, workers)
        workers = bearable
    if cost.gpu:
        workers = min(workers, max(1, int(len(gpus()) / cost.gpu)))
    workers = max(1, workers)
    left = (limit - own - workers * each) / workers
    return Plan(
        workers=workers,
        threads=max(1, cores // workers),
        cache_bytes=int(min(max(left, 0), cost.cache_bytes)),
    )
