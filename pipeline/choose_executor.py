"""Which executor a run gets."""

from __future__ import annotations

from pathlib import Path

from refdepth.pipeline.config import RunRequest
from refdepth.pipeline.executors import Executor, SerialExecutor


def choose_executor(workspace: Path, request: RunRequest) -> Executor:
    """The one that the settings of `request` ask for; nothing is started before there is work for
    it. Nodes of a cluster have to see `workspace` and what `request` names."""
    runtime = request.config.runtime
    asked = None if runtime.workers == "auto" else runtime.workers
    if runtime.cluster is not None:
        from refdepth.pipeline.cluster import RayExecutor

        return RayExecutor(
            runtime.cluster,
            workspace=workspace,
            request=request,
            workers=asked,
            max_memory_gb=runtime.max_memory_gb,
        )
    if asked == 1:
        return SerialExecutor(runtime.max_memory_gb)
    from refdepth.pipeline.workers import WorkerPool

    return WorkerPool(asked, max_memory_gb=runtime.max_memory_gb)
