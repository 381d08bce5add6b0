"""Memory: refused, it ends in one clear message; it does not grow with the number of views; and
what it may be changes no result."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fault_runs import Photos, Runner, broken, difference, make_photos, result, temporaries

from refdepth.errors import ResourceError
from refdepth.io.colmap_model import read_scene
from refdepth.io.images import load_photo
from refdepth.pipeline.engine import Engine
from refdepth.pipeline.memory import MemoryBudget, PeakMemory, is_out_of_memory
from refdepth.pipeline.stages.refine import RefineStage
from refdepth.pipeline.views import WorkingViews
from refdepth.pipeline.workspace import Workspace

WIDTH, HEIGHT = 240, 180


def numpy_refuses() -> None:
    np.empty(1 << 60, np.uint8)


def torch_refuses() -> None:
    import torch

    torch.empty(1 << 60, dtype=torch.uint8)


def cuda_refuses() -> None:
    raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def system_refuses() -> None:
    raise OSError(12, "Cannot allocate memory")


REFUSALS = [numpy_refuses, torch_refuses, cuda_refuses, system_refuses]


@pytest.mark.parametrize("refuse", REFUSALS)
def test_a_stage_without_memory_says_so_and_the_workspace_stays_valid(
    refuse: Callable[[], None],
    workspace: Path,
    monkeypatch: pytest.MonkeyPatch,
    survived: Counter[str],
) -> None:
    folder = Workspace(workspace)
    engine = Engine(folder, folder.request())
    before = result(workspace)
    with monkeypatch.context() as patch:
        patch.setattr(RefineStage, "run", lambda *_: refuse())
        (workspace / "refine" / "manifest.json").unlink()
        with pytest.raises(ResourceError, match=r"refine: ran out of memory.*--max-memory"):
            engine.reconstruct()
    statuses = Engine(folder, folder.request()).reconstruct()
    assert [status.state for status in statuses] == ["done"] * len(statuses)
    assert difference(result(workspace), before) == []
    survived["refused memory"] += 1


RESOURCE = 7
NATIVE = (-6, 127)
"""What the process ends with when a compiler aborts it, or the loader of libraries ends it."""


@pytest.mark.parametrize(
    ("memory_mb", "codes"),
    [
        (8, {RESOURCE}),
        (12, {RESOURCE, *NATIVE}),
        *(
            pytest.param(amount, {0, RESOURCE, *NATIVE}, marks=pytest.mark.faults)
            for amount in (4, 6, 7, 9, 10, 11, 13, 14, 15, 17, 20, 30)
        ),
    ],
)
def test_a_run_that_may_not_take_memory_leaves_a_valid_workspace(
    memory_mb: int,
    codes: set[int],
    runner: Runner,
    photos: Photos,
    reference: Path,
    tmp_path: Path,
    survived: Counter[str],
) -> None:
    """Where native code (the compiler of kernels, the loader of libraries) is refused memory, it
    may end the process itself; that is a kill, and loses nothing either."""
    out = tmp_path / "out"
    ended = runner.run(photos.command(out), memory_mb=memory_mb)
    if ended.code == -signal.SIGALRM:  # see `SECONDS_WITHOUT_MEMORY`
        ended = runner.run(photos.command(out), memory_mb=memory_mb)
    assert ended.code in codes, ended.said
    if ended.code == RESOURCE:
        assert "ran out of memory" in ended.said
    assert broken(out) == []
    assert runner.run(photos.command(out)).code == 0
    assert difference(result(out), result(reference)) == []
    assert temporaries(out) == []
    survived["refused memory"] += 1


def test_other_faults_are_not_taken_for_a_lack_of_memory() -> None:
    assert not is_out_of_memory(RuntimeError("shapes do not fit"))
    assert not is_out_of_memory(OSError(28, "No space left on device"))


SHORT = """
import os, resource, signal, sys
import numpy, refdepth.pipeline.memory as memory
from pathlib import Path

def limit_to(kilobytes):
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + (kilobytes << 10)
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
"""
IMPORT_IN_LITTLE_MEMORY = """
for kilobytes in range(200, 8_000, 97):
    if os.fork() == 0:
        signal.alarm(20)
        try:
            limit_to(kilobytes)
            import sympy
        except BaseException as error:
            found = memory.is_out_of_memory(error)
            os.write(1, f"{type(error).__name__} {found}\\n".encode())
        os._exit(0)
    os.wait()
"""
UNEXPLAINED = """
errors = [SystemError("error return without exception set"), SystemError("bad argument")]
for kilobytes in (1 << 10, 1 << 20):
    limit_to(kilobytes)
    print(*(memory.is_out_of_memory(error) for error in errors))
"""


def said_by(code: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", SHORT + code], stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout.splitlines()


linux = pytest.mark.skipif(sys.platform != "linux", reason="limits of the address space")


@linux
def test_errors_of_native_code_that_was_refused_memory_are_known() -> None:
    """Python's importer itself fails without an exception (CPython 3.11: one time in ten).

    A process that was refused memory in the middle of an import may also wait for itself for ever;
    the alarm ends it.
    """
    said = Counter(said_by(IMPORT_IN_LITTLE_MEMORY))
    assert said["MemoryError True"] > 20
    assert {line for line in said if line.startswith("SystemError")} <= {"SystemError True"}
    if not said["SystemError True"]:
        pytest.skip("this Python says it each time")


@linux
def test_a_failure_without_a_word_is_a_lack_of_memory_only_where_memory_is_refused() -> None:
    assert said_by(UNEXPLAINED) == ["True False", "False False"]


def test_a_lack_of_memory_may_be_the_cause_of_a_system_error() -> None:
    error = SystemError("<built-in function f> returned a result with an exception set")
    assert not is_out_of_memory(error)
    error.__cause__ = MemoryError()
    assert is_out_of_memory(error)


def test_the_budget_follows_what_is_given_and_never_exceeds_what_is_free() -> None:
    small, large = MemoryBudget.of(1.0), MemoryBudget.of(4.0)
    assert small.cache * 4 == large.cache == 1 << 30
    assert small.cache + small.features <= 1 << 30
    free = MemoryBudget.of(None)
    assert 0 < free.cache * 4 < 2**50


def test_the_least_memory_gives_the_same_result(
    runner: Runner, photos: Photos, reference: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(reference, out, ignore=shutil.ignore_patterns("refine", "fuse"))
    ended = runner.run(photos.command(out, "--max-memory", "0.0001"))
    assert ended.code == 0, ended.said
    ours, theirs = result(out), result(reference)
    assert difference(ours, theirs) == ["refdepth.json"]


def test_the_peak_counts_what_was_given_back_again() -> None:
    peak = PeakMemory()
    before = peak.megabytes()
    block = np.ones(100 << 17)
    del block
    assert before + 90 < peak.megabytes() < before + 400


def test_every_manifest_says_how_much_memory_its_stage_took(reference: Path) -> None:
    for path in reference.glob("*/manifest.json"):
        assert json.loads(path.read_text())["peak_memory_mb"] > 20, path


def test_photos_beyond_the_budget_are_dropped(photos: Photos) -> None:
    scene = read_scene(photos.model, photos.images)
    photo = load_photo(scene[scene.names[0]]).image.nbytes
    size = WorkingViews(scene, max_bytes=0, max_pixels=10**6)[scene.names[0]].nbytes
    cache = WorkingViews(scene, max_bytes=2 * size, max_pixels=10**6)
    tracemalloc.start()
    try:
        for _ in range(15):
            for name in scene.names:
                assert cache[name].gray.shape == scene[name].camera.shape
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Two views, and the photo and its greys that one is made from.
    assert held < 2 * size + 5 * photo


def stage_memory(root: Path, views: int, runner: Runner) -> dict[str, float]:
    """Peak memory in MiB by stage."""
    photos = make_photos(root, views=views, width=WIDTH, height=HEIGHT)
    ended = runner.run(photos.command(root / "out", "--max-memory", "0.01"))
    assert ended.code == 0, ended.said
    manifests = {
        path.parent.name: json.loads(path.read_text()) for path in root.glob("out/*/manifest.json")
    }
    return {name: manifest["peak_memory_mb"] for name, manifest in manifests.items()}


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_memory_does_not_grow_with_the_number_of_views(tmp_path: Path, runner: Runner) -> None:
    few = stage_memory(tmp_path / "few", 10, runner)
    many = stage_memory(tmp_path / "many", 60, runner)
    photo_mb = WIDTH * HEIGHT * 3 * 4 / 2**20
    for stage in ("prepare", "depth", "scale", "refine", "fuse"):
        # Half of what fifty more photos would take, were they kept; sparse points and records do.
        assert many[stage] < few[stage] + 25 * photo_mb, (stage, few[stage], many[stage])
