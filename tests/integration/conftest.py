"""Scenes with a full run, for all ways in and out."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from connections import FIGURES, Case

from refdepth.synthetic import make_scene

SWEEP = ("--depth-model", "sweep")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints what the connections gave."""
    if FIGURES:
        terminalreporter.section("figures")
        for line in FIGURES:
            terminalreporter.write_line(line)


LARGE = (
    pytest.param("demo", marks=pytest.mark.connections),
    pytest.param("hololens", marks=[pytest.mark.connections, pytest.mark.shared]),
)


@pytest.fixture(scope="session", params=["small room", *LARGE])
def case(request: pytest.FixtureRequest, made_cases: Callable[[str], Case]) -> Case:
    """Photos, truth and a finished run: a small room always, more with `-m connections`."""
    return made_cases(request.param)


@pytest.fixture(scope="session", params=LARGE)
def large_case(request: pytest.FixtureRequest, made_cases: Callable[[str], Case]) -> Case:
    """The demo and real photos."""
    return made_cases(request.param)


@pytest.fixture(scope="session")
def made_cases(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Case]:
    """A case by its name; each is run once."""

    @cache
    def make(name: str) -> Case:
        folder = tmp_path_factory.mktemp(name.replace(" ", "_"))
        if name == "hololens":
            made = _hololens(request.getfixturevalue("shared_scenes") / name, folder)
        else:
            made = _synthetic(name, folder)
        made.reconstruct(made.out)
        return made

    return make


def _synthetic(name: str, folder: Path) -> Case:
    small = name == "small room"
    scene = make_scene(views=6, width=240, height=180) if small else make_scene()
    scene.write_photos(folder / "photos")
    scene.write_ground_truth(folder / "truth")
    return Case(
        name=name,
        folder=folder,
        truth=folder / "truth",
        prior=SWEEP,
        options=("--quality", "fast") if small else (),
        synthetic=scene,
    )


def _hololens(source: Path, folder: Path) -> Case:
    if not all((source / part).is_dir() for part in ("images", "mono", "gt")):
        pytest.skip(f"needs images, mono and gt in {source}")
    (folder / "photos").symlink_to(source / "images", target_is_directory=True)
    return Case(
        name="hololens",
        folder=folder,
        truth=source / "gt",
        prior=("--depth-maps", str(source / "mono"), "--depth-kind", "inverse_affine"),
        options=(),
        maps=source / "mono",
    )
