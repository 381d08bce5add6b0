"""Lists the kernels that a run calls, with the seconds that compiling each takes, into
`refdepth/kernel_signatures.txt`: what `refdepth.compilation` compiles ahead.

python benchmarks/kernel_signatures.py          # writes the list (a few minutes)
python benchmarks/kernel_signatures.py --used   # prints what a tiny run calls, as JSON
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numba.core.event

from refdepth.compilation import SIGNATURES
from refdepth.signature_text import parse_signature, signature_text

QUALITIES = ("balanced", "high")
ELSEWHERE = ("refdepth.synthetic",)
"""Rooms whose kernels a run on photos does not call."""
HEADER = """\
# The kernels of a run on a CPU: CPU seconds to compile, module:function(argument types).
# `make kernel-signatures` writes this file; `refdepth.compilation` reads it.
"""


class CompileTimes(numba.core.event.Listener):
    """CPU seconds that each specialisation took to compile, with the kernels it calls."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.inner: set[str] = set()
        """Those that were compiled because another needed them."""
        self._open: list[float] = []

    def on_start(self, event: Any) -> None:
        """One begins."""
        self._open.append(time.thread_time())

    def on_end(self, event: Any) -> None:
        """One is done."""
        seconds = time.thread_time() - self._open.pop()
        name = kernel_name(event.data["dispatcher"], event.data["args"])
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds
        if self._open:
            self.inner.add(name)


def kernel_name(dispatcher: Any, arguments: tuple[Any, ...]) -> str:
    """As in the list."""
    function = dispatcher.py_func
    return f"{function.__module__}:{function.__qualname__}({signature_text(arguments)})"


def small_run(folder: Path) -> None:
    """Reconstructs and exports 4 views of 96x72 pixels, from photos and given cameras; smaller ones
    have too few points for all that a scale fit does."""
    import refdepth
    from refdepth import compilation
    from refdepth.io.colmap import to_reconstruction
    from refdepth.pipeline.exports import ExportFormat, export
    from refdepth.pipeline.workspace import Workspace
    from refdepth.synthetic import make_scene

    compilation.uncompiled = lambda: ()  # nothing is compiled but what is called
    photos, model = folder / "photos", folder / "model"
    model.mkdir()
    scene = make_scene(views=4, width=96, height=72).to_scene(photos, points_per_view=150)
    to_reconstruction(scene).write(str(model))
    for quality in QUALITIES:
        out = folder / quality
        refdepth.reconstruct(
            photos, out, quality=quality, depth_model="sweep", model=model, workers=1
        )
    export(Workspace(out), list(ExportFormat))


def used_kernels() -> dict[str, float]:
    """The specialisations that a small run calls in this process, with the seconds each took to
    compile (0: its code was kept)."""
    times = CompileTimes()
    heard = numba.core.event.install_listener("numba:compile", times)
    with heard, tempfile.TemporaryDirectory() as folder:
        small_run(Path(folder))
    called = {
        kernel_name(kernel, arguments)
        for name, module in list(sys.modules.items())
        if name.startswith("refdepth.") and not name.startswith(ELSEWHERE)
        for kernel in vars(module).values()
        if hasattr(kernel, "py_func") and kernel.py_func.__module__ == name
        for arguments in kernel.signatures
    }
    return {name: times.seconds.get(name, 0.0) for name in sorted(called - times.inner)}


def used_by_new_process(kept_code: Path) -> dict[str, float]:
    """`used_kernels` of another process, whose code is kept in a folder."""
    done = subprocess.run(
        [sys.executable, __file__, "--used"],
        env={**os.environ, "NUMBA_CACHE_DIR": str(kept_code)},
        stdout=subprocess.PIPE,
        check=True,
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def write_list() -> None:
    """Runs twice: what the first has to compile is timed, what the second loads is called by name
    (what kernels call is part of their own code)."""
    with tempfile.TemporaryDirectory() as kept_code:
        seconds = used_by_new_process(Path(kept_code))
        called = used_by_new_process(Path(kept_code))
    rounded = {name: coarse(seconds.get(name, 0.0)) for name in called}
    for name in called:
        parse_signature(name.partition("(")[2][:-1])
    lines = [
        f"{rounded[name]:g} {name}" for name in sorted(called, key=lambda one: (-rounded[one], one))
    ]
    SIGNATURES.write_text(HEADER + "\n".join(lines) + "\n", encoding="utf-8")
    print(f"{len(lines)} kernels, {sum(seconds.values()):.0f} s -> {SIGNATURES}")


def coarse(seconds: float) -> float:
    """To a power of two from a quarter of a second, so that the list changes when kernels do and
    not with each measurement."""
    return 2.0 ** round(math.log2(max(seconds, 0.25)))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    arguments.add_argument("--used", action="store_true", help="print what a tiny run calls")
    if arguments.parse_args().used:
        print(json.dumps(used_kernels()))
    else:
        write_list()


if __name__ == "__main__":
    main()
