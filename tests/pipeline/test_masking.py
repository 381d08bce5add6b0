"""The user's masks in the `prepare` stage, whoever brings them into the photos' grids."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from recorded_executor import RecordedExecutor

from refdepth.errors import Interrupted
from refdepth.pipeline.cancellation import Cancellation
from refdepth.pipeline.config import RunInputs, RunRequest
from refdepth.pipeline.engine import Engine
from refdepth.pipeline.executors import Executor
from refdepth.pipeline.progress import Silent
from refdepth.pipeline.workspace import Workspace

WIDTH, HEIGHT = 48, 32


@pytest.fixture
def given(tmp_path: Path) -> RunRequest:
    """Four photos: `a` is transparent above and masked on the left, `b` is masked all over, `c` is
    masked on the left and lies in a folder, `d` is not masked."""
    photos, masks = tmp_path / "photos", tmp_path / "masks"
    for folder in (photos, masks):
        (folder / "of").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ("a", "b", "of/c", "d"):
        pixels = rng.integers(0, 255, (HEIGHT, WIDTH, 4), np.uint8)
        pixels[..., 3] = 255
        if name == "a":
            pixels[: HEIGHT // 2, :, 3] = 0
        Image.fromarray(pixels if name == "a" else pixels[..., :3]).save(photos / f"{name}.png")
    left = np.full((HEIGHT, WIDTH), 255, np.uint8)
    left[:, : WIDTH // 2] = 0
    Image.fromarray(left).save(masks / "a.png")
    Image.fromarray(np.zeros_like(left)).save(masks / "b.png")
    Image.fromarray(left).save(masks / "of" / "c.png")
    return RunRequest(inputs=RunInputs(images=str(photos), masks=str(masks)))


def prepare(
    root: Path,
    request: RunRequest,
    executor: Executor,
    progress: Silent | None = None,
    cancellation: Cancellation | None = None,
) -> Path:
    root.mkdir()
    engine = Engine(
        Workspace(root), request, executor=executor, progress=progress, cancellation=cancellation
    )
    engine.run_stage("prepare")
    return root / "prepare"


def test_masks_do_not_depend_on_who_made_them(
    given: RunRequest, tmp_path: Path, executor: RecordedExecutor
) -> None:
    folder = prepare(tmp_path / "out", given, executor)
    assert sorted(name for kind, name in executor.done if kind == "ReadMasks") == [
        "a.png",
        "b.png",
        "of/c.png",
    ]  # as their owner calls the photos
    found = {path.name: np.asarray(Image.open(path)) for path in (folder / "masks").iterdir()}
    assert sorted(found) == ["a.png.png", "b.png.png", "of_c.png.png"]
    assert not found["a.png.png"][: HEIGHT // 2].any()
    assert not found["a.png.png"][:, : WIDTH // 2].any()
    assert found["a.png.png"][HEIGHT // 2 :, WIDTH // 2 :].all()
    assert not found["b.png.png"].any()
    assert found["of_c.png.png"][:, WIDTH // 2 :].all()
    rows = json.loads((folder / "table.json").read_text())["photos"]
    assert {row["original"]: row["mask"] for row in rows} == {
        "a.png": "a.png.png",
        "b.png": "b.png.png",
        "d.png": None,
        "of/c.png": "of_c.png.png",
    }
    warned = [row["original"] for row in rows if "leaves nothing" in str(row["warnings"])]
    assert warned == ["b.png"]


def test_a_stop_between_two_masks_is_obeyed(given: RunRequest, tmp_path: Path) -> None:
    cancellation, executor = Cancellation(), RecordedExecutor()

    class Stop(Silent):
        def step(self, label: str, done: float, total: float | None) -> None:
            if label == "reading masks" and done >= 1:
                cancellation.request()

    with pytest.raises(Interrupted):
        prepare(tmp_path / "out", given, executor, Stop(), cancellation)
    made = [name for kind, name in executor.done if kind == "ReadMasks"]
    assert "a.png" in made
    assert "of/c.png" not in made
    assert not (tmp_path / "out" / "prepare" / "table.json").exists()


def test_masks_and_maps_among_the_photos_are_no_photos(given: RunRequest, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    (tmp_path / "masks").rename(photos / "masks")
    for kind in ("depth", "normals"):
        (photos / kind).mkdir()
        picture = np.random.default_rng(1).integers(0, 255, (HEIGHT, WIDTH), np.uint8)
        Image.fromarray(picture).save(photos / kind / "d.png")
    inputs = RunInputs(
        images=str(photos),
        masks=str(photos / "masks"),
        depth_maps=str(photos / "depth"),
        normal_maps=str(photos / "normals"),
    )
    folder = prepare(tmp_path / "out", RunRequest(inputs=inputs), RecordedExecutor())
    table = json.loads((folder / "table.json").read_text())
    assert [row["original"] for row in table["photos"]] == ["a.png", "b.png", "d.png", "of/c.png"]
    assert sum(row["mask"] is not None for row in table["photos"]) == 3
    assert table["skipped"] == []


def test_masks_beside_their_photos_leave_these_photos(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        pixels = rng.integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{name}.jpg")
        Image.fromarray(pixels[..., 0]).save(tmp_path / f"{name}.jpg.png")
    inputs = RunInputs(images=str(tmp_path), masks=str(tmp_path))
    folder = prepare(tmp_path / "out", RunRequest(inputs=inputs), RecordedExecutor())
    rows = json.loads((folder / "table.json").read_text())["photos"]
    assert {"a.jpg", "b.jpg"} <= {row["original"] for row in rows if row["mask"]}
