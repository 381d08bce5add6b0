"""Runs the command line in forked children that kill themselves where they are told to.

Everything heavy is imported once, before the first fork, so that a run costs little more than its
work. Reads one JSON job a line; answers with the child's pid, then with how it ended.

A job: `arguments` of the command line; `output`: file for what it prints; `folder`: the workspace;
`kill_before`: kind of event (`rename` or `any` change of the workspace) and its number;
`tear`: whether the file written last is cut in half first, as after a power failure; `fail_before`:
the same event fails instead, with an error number; `pace`: seconds that each progress step takes,
each said as `at work`; `memory_mb`: what it may allocate beyond what the server holds;
`tile_points`: unmerged points of a tile of fusion; `break_writes`: artifacts are written straight
to their place; `environment`: more variables; `only_look`: opening weights or a socket is said as
`FORBIDDEN` and fails.
"""

from __future__ import annotations

import gc
import importlib
import json
import logging
import os
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SECONDS_WITHOUT_MEMORY = 90
"""A process that is refused memory in the midst of an import may wait for its own lock for ever:
an alarm ends it then."""
CHANGES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.truncate")
HEAVY = (
    "PIL.Image",
    "jinja2",
    "numba",
    "torch",
    "refdepth._pycolmap",
    "refdepth.cli.commands.reconstruct",
    "refdepth.cli.session",
    "refdepth.cli.summary",
    "refdepth.fusion.cloud",
    "refdepth.fusion.kernels",
    "refdepth.io.exr",
    "refdepth.io.ply",
    "refdepth.pipeline.api",
    "refdepth.pipeline.engine",
    "refdepth.pipeline.exports",
    "refdepth.pipeline.measure_scale",
    "refdepth.pipeline.report.page",
    "refdepth.pipeline.report.views",
    "refdepth.pipeline.workers",
    "refdepth.priors.sweep",
    "refdepth.refine.mesh.refine",
    "refdepth.refine.rounds",
    "refdepth.render",
    "refdepth.render.cpu",
    "refdepth.sfm.mapping",
    "refdepth.sfm.model_entry",
)


class Harm:
    """An audit hook: before a chosen change of the workspace it ends the process, or fails."""

    def __init__(
        self, folder: str, kind: str, number: int, *, tear: bool = False, error: int = 0
    ) -> None:
        self.folder = folder
        self.kind = kind
        self.left = number
        self.tear = tear
        self.error = error
        self.written = ""

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        opened = event == "open" and _writes(arguments)
        if not (opened or event in CHANGES) or not isinstance(arguments[0], str | os.PathLike):
            return
        path = os.fspath(arguments[0])
        if not isinstance(path, str) or not path.startswith(self.folder):
            return
        if event == "os.mkdir" and Path(path).is_dir():  # which changes nothing
            return
        if self.kind == "any" or event == "os.rename":
            self.left -= 1
            if self.left == 0 and self.error:
                raise OSError(self.error, os.strerror(self.error), path)
            if self.left == 0:
                self._end()
        if opened:
            self.written = path

    def _end(self) -> None:
        if self.tear and self.written and not self.written.endswith((".log", ".lock")):
            try:
                descriptor = os.open(self.written, os.O_RDWR)
                os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
            except OSError:
                pass
        os.kill(os.getpid(), signal.SIGKILL)


def _only_look(event: str, arguments: tuple[Any, ...]) -> None:
    weights = event == "open" and str(arguments[0]).endswith(".safetensors")
    if weights or event.startswith("socket."):
        print("FORBIDDEN", event, arguments, flush=True)
        raise RuntimeError(f"{event} {arguments}")


def _writes(arguments: tuple[Any, ...]) -> bool:
    return bool(arguments[2] & (os.O_WRONLY | os.O_RDWR))


def _child(job: dict[str, Any]) -> int:
    from refdepth.cli.main import run

    output = os.open(job["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for descriptor, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(descriptor, target)
    sys.argv = ["refdepth", *job["arguments"]]
    os.environ.update(job.get("environment", {}))
    if job.get("only_look"):
        sys.addaudithook(_only_look)
    if "kill_before" in job:
        kind, number = job["kill_before"]
        sys.addaudithook(Harm(job["folder"], kind, number, tear=job.get("tear", False)))
    if "fail_before" in job:
        kind, number, error = job["fail_before"]
        sys.addaudithook(Harm(job["folder"], kind, number, error=error))
    if "pace" in job:
        from refdepth.cli.console import PlainProgress

        PlainProgress.step = _slow_step(job["pace"])  # type: ignore[method-assign]
    if "tile_points" in job:
        importlib.import_module("refdepth.fusion.tiles").TILE_POINTS = job["tile_points"]
    if "memory_mb" in job:
        held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        limit = held + job["memory_mb"] * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        signal.alarm(SECONDS_WITHOUT_MEMORY)
    if job.get("break_writes"):
        from refdepth.pipeline import files

        files.replacing = _not_replacing  # type: ignore[assignment]
    return run(job["arguments"])


def _slow_step(seconds: float) -> Callable[..., None]:
    def step(_: Any, label: str, *__: Any) -> None:
        print(f"at work: {label}", flush=True)
        time.sleep(seconds)

    return step


@contextmanager
def _not_replacing(path: Path, **_: Any) -> Iterator[Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    yield path


def _prepare() -> None:
    """Takes on what every run would: imports, numba's tables, kernels, the command's options, the
    report's colours and template."""
    from refdepth.pipeline.environment import prepare_process

    prepare_process()
    for name in HEAVY:
        importlib.import_module(name)
    from refdepth.cli.main import command
    from refdepth.io.colors import color_table
    from refdepth.pipeline.report.page import template

    _load_kernels()
    command()
    template()
    for colors in ("turbo", "viridis", "RdBu_r"):
        color_table(colors)
    gc.collect()
    gc.freeze()  # so that no child copies memory to collect what all have


def _load_kernels() -> None:
    """Those of one thread; those of many would start threads, which a fork does not have."""
    from refdepth.compilation import compile_kernel, known_kernels
    from refdepth.signature_text import parse_signature

    for kernel in known_kernels():
        name, _, arguments = kernel.removesuffix(")").partition("(")
        module, _, function = name.partition(":")
        compiled: Any = getattr(importlib.import_module(module), function)
        if not compiled.targetoptions.get("parallel"):
            compile_kernel(kernel)
            compiled.compile(parse_signature(arguments))
    assert threading.active_count() == 1


def main() -> None:
    logging.getLogger().addHandler(logging.NullHandler())
    _prepare()
    for line in sys.stdin:
        job = json.loads(line)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                code = _child(job)
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        print("started", pid, flush=True)
        _, status = os.waitpid(pid, 0)
        print("ended", os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
