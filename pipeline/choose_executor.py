"""Which executor a run gets."""

from __future__ import annotations

from pathlib import Path

from refdepth.pipeline.config import RuntimeSettings
from refdepth.pipeline.executors import Executor, SerialExecutor


def choose_executor(runtime: RuntimeSettings, workspace: Path) -> Executor:
    """The one that `runtime` asks for; nothing is started before there is work for it."""
    if runtime.workers == 1:
        return SerialExecutor(runtime.max_memory_gb)
    from refdepth.pipeline.workers import WorkerPool

    asked = None if runtime.workers == "auto" else runtime.workers
    return WorkerPool(asked, max_memory_gb=runtime.max_memory_gb)
