"""`refdepth demo` beside another one, stopped, and where nothing can be written."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import pytest

import refdepth.synthetic
from refdepth.cli.exit_codes import ExitCode
from refdepth.cli.main import run
from refdepth.errors import Interrupted
from refdepth.pipeline.engine import Engine
from refdepth.pipeline.lock import WorkspaceLock


@pytest.fixture(autouse=True)
def small_room(monkeypatch: pytest.MonkeyPatch) -> None:
    make = partial(refdepth.synthetic.make_scene, views=2, width=64, height=48)
    monkeypatch.setattr(refdepth.synthetic, "make_scene", make)


def test_the_photos_of_one_at_work_are_left_alone(tmp_path: Path) -> None:
    with WorkspaceLock(tmp_path):
        assert run(["demo", str(tmp_path), "--seed", "1"]) == ExitCode.BUSY
    assert not (tmp_path / "photos").exists()


def test_stopped_it_says_how_the_same_demo_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(*arguments: object, **options: object) -> None:
        raise Interrupted("stopped.")

    monkeypatch.setattr(Engine, "reconstruct", stopped)
    arguments = ["demo", str(tmp_path), "--seed", "1", "--quality", "fast"]
    monkeypatch.setattr(sys, "argv", ["refdepth", *arguments])
    assert run(arguments) == ExitCode.INTERRUPTED
    assert f"Go on with: refdepth {' '.join(arguments)}\n" in capsys.readouterr().err


def test_photos_that_cannot_be_written_are_no_fault_of_the_program(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "photos").write_bytes(b"a file")
    assert run(["demo", str(tmp_path)]) == ExitCode.RESOURCE
    assert str(tmp_path) in capsys.readouterr().err
