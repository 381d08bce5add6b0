"""Looking at a run with a hub model: no socket, no weights opened, nothing written."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from fault_runs import Ended, Photos, Runner, make_photos
from tiny_checkpoints import save_depth_anything

from refdepth.synthetic import make_scene

MODEL, COMMIT = "somebody/tiny-depth", "0123456789abcdef0123456789abcdef01234567"
STAGES = ("prepare", "sfm", "depth", "scale", "refine", "fuse")


@dataclass(frozen=True, kw_only=True)
class Place:
    """Photos, truth and a run's output, with a hub cache of its own."""

    root: Path
    photos: Photos
    runner: Runner

    @property
    def out(self) -> Path:
        return self.root / "out"

    @property
    def cache(self) -> Path:
        return self.root / "hub"

    def command(self, *more: str, model: str = MODEL, out: Path | None = None) -> list[str]:
        command = self.photos.command(out or self.out, *more)
        command[command.index("--depth-model") + 1] = model
        return command

    def look(self, *commands: list[str]) -> str:
        """What commands say that may neither open a socket nor read weights; all must end well."""
        said = ""
        for command in commands:
            ended = self._run(command, only_look=True)
            said += ended.said
            assert "FORBIDDEN" not in said, said
            assert ended.code == 0, said
        return said

    def run(self, *more: str, model: str = MODEL) -> Ended:
        """A real run, without a network."""
        return self._run(self.command(*more, model=model), HF_HUB_OFFLINE="1")

    def _run(self, command: list[str], *, only_look: bool = False, **variables: str) -> Ended:
        variables |= {"HF_HUB_CACHE": str(self.cache), "COLUMNS": "200"}
        return self.runner.run(command, only_look=only_look, environment=variables)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, runner: Runner) -> Place:
    """A finished run; not to be changed."""
    root = tmp_path_factory.mktemp("looking")
    place = Place(root=root, photos=make_photos(root), runner=runner)
    make_scene(views=4, width=64, height=48).write_ground_truth(root / "exact")
    repository = place.cache / f"models--{MODEL.replace('/', '--')}"
    save_depth_anything(repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    shutil.copytree(repository / "snapshots" / COMMIT, root / "network")
    ended = place.run()
    assert ended.code == 0, ended.said
    return place


@pytest.fixture
def without_weights(finished: Place, tmp_path: Path) -> Place:
    """A copy of the run, with an empty hub cache."""
    shutil.copytree(finished.root, tmp_path / "copy")
    place = Place(root=tmp_path / "copy", photos=finished.photos, runner=finished.runner)
    shutil.rmtree(place.cache)
    return place


def files(root: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}


def test_a_finished_run_is_looked_at_without_network_and_weights(without_weights: Place) -> None:
    place = without_weights
    before = files(place.out)
    said = place.look(
        ["status", str(place.out), "--json"],
        ["status", str(place.out)],
        place.command("--dry-run"),
        ["evaluate", str(place.out), "--ground-truth", str(place.root / "exact"), "--json"],
    )
    assert files(place.out) == before
    status, evaluation = (
        json.loads(line, parse_constant=pytest.fail)
        for line in said.splitlines()
        if line.startswith("{")
    )
    assert [row["state"] for row in status["stages"]] == ["done"] * 6
    assert said.count(" reuse") == 6
    assert json.loads((place.out / "depth/view_000.png.json").read_text())["record"]["device"]
    assert evaluation["depth"]["stages"]["refined"]["mean"]["all"]["coverage"] > 0
    place.look(["report", str(place.out)])


def test_errors_that_nothing_could_be_measured_for_are_null_in_json(
    without_weights: Place,
) -> None:
    place = without_weights
    for path in (place.out / "fuse").glob("*.npz"):  # no pixel is confirmed
        with np.load(path) as stored:
            nothing = {name: np.zeros_like(stored[name]) for name in stored.files}
        np.savez(path, **nothing)
    said = place.look(
        ["evaluate", str(place.out), "--ground-truth", str(place.root / "exact"), "--json"]
    )
    line = next(line for line in said.splitlines() if line.startswith("{"))
    fused = json.loads(line, parse_constant=pytest.fail)["depth"]["stages"]["fused"]
    assert fused["mean"]["all"]["coverage"] == 0
    assert fused["mean"]["all"]["median_rel"] is None


def test_a_dry_run_in_a_new_place_says_that_weights_are_looked_up_later(
    without_weights: Place, tmp_path: Path
) -> None:
    said = without_weights.look(without_weights.command("--dry-run", out=tmp_path / "new"))
    assert f"depth    run: not made yet; weights of {MODEL} are looked up when the stage" in said
    assert "scale    run: not made yet; decided when depth has run" in said
    assert not (tmp_path / "new").exists()


def test_a_run_that_reuses_its_depth_needs_no_weights(without_weights: Place) -> None:
    ended = without_weights.run()
    assert ended.code == 0, ended.said
    assert ended.said.count("unchanged, reused") == 6, ended.said


def test_weights_that_a_run_will_need_are_asked_for_before_anything_is_made(
    without_weights: Place,
) -> None:
    place = without_weights
    before = files(place.out / "sfm")
    ended = place.run("--set", "sfm.max_features=5000")
    assert ended.code == 5, ended.said
    assert f"hf download {MODEL} --revision {COMMIT}" in ended.said
    assert files(place.out / "sfm") == before


def test_another_revision_or_model_makes_status_say_that_it_cannot_know(
    without_weights: Place,
) -> None:
    place = without_weights
    said = place.look(
        place.command("--dry-run", "--set", "depth.revision=other"),
        place.command("--dry-run", model="auto"),
    )
    assert f"depth    run: weights of {MODEL} are looked up" in said
    assert "depth    run: weights of depth-anything/Depth-Anything-V2-Small-hf are looked" in said
    assert said.count("sfm      reuse") == 2
    assert said.count("fuse     run: decided when refine has run") == 2


def test_a_weights_folder_counts_by_its_content_and_is_read_by_runs_only(
    finished: Place, tmp_path: Path
) -> None:
    shutil.copytree(finished.root, tmp_path / "copy")
    place = Place(root=tmp_path / "copy", photos=finished.photos, runner=finished.runner)
    network = str(place.root / "network")
    assert "not made yet" not in place.look(place.command("--dry-run", model=network))
    assert place.run("--until", "depth", model=network).code == 0
    assert "depth    reuse" in place.look(place.command("--dry-run", model=network))
    for path in Path(network).iterdir():
        os.utime(path, ns=(1, 1))
    said = place.look(place.command("--dry-run", model=network))
    assert f"depth    run: weights in {network} are looked up when the stage runs" in said
    assert "depth: unchanged, reused" in place.run("--until", "depth", model=network).said
    shutil.rmtree(network)
    assert "depth    reuse" in place.look(
        ["status", str(place.out)], place.command("--dry-run", model=network)
    )
