"""What is compiled before which stage."""

from __future__ import annotations

import pytest

from refdepth import compilation
from refdepth.pipeline.cancellation import Cancellation
from refdepth.pipeline.compile_ahead import ROOMS, Compilation, kernels_to_compile
from refdepth.pipeline.engine import stage_names
from refdepth.pipeline.executors import SerialExecutor
from refdepth.pipeline.work import Watch


def test_a_stage_needs_the_kernels_of_its_rooms(monkeypatch: pytest.MonkeyPatch) -> None:
    known = compilation.known_kernels()
    monkeypatch.setattr(compilation, "uncompiled", lambda: known)
    fuse = kernels_to_compile(["fuse"])
    assert {kernel.split(":")[0] for kernel in fuse} == {
        "refdepth.fusion.kernels",
        "refdepth.geometry.normals",
    }
    assert kernels_to_compile(["prepare", "sfm", "scale"]) == []
    assert kernels_to_compile(stage_names()) == list(known)  # every listed kernel has a stage
    assert set(ROOMS) <= set(stage_names())


def test_what_is_compiled_already_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    some = compilation.known_kernels()[::5]
    monkeypatch.setattr(compilation, "uncompiled", lambda: some)
    assert kernels_to_compile(stage_names()) == list(some)


def test_compiling_is_work_like_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    monkeypatch.setattr(compilation, "compile_kernel", done.append)
    list(SerialExecutor().run(Compilation(), ["a", "b"], Watch(cancellation=Cancellation())))
    assert done == ["a", "b"]
