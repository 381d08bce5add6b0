"""What people bring and cannot be used: named, with the right exit code, nothing lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from refdepth._pycolmap import pycolmap
from refdepth.cli.main import run

WIDTH, HEIGHT = 64, 48
NAMES = ("a.png", "b.png", "c.png")


@pytest.fixture
def given(tmp_path: Path) -> Path:
    """A folder with three photos in `photos`."""
    (tmp_path / "photos").mkdir()
    for seed, name in enumerate(NAMES):
        pixels = np.random.default_rng(seed).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / name)
    return tmp_path


def reconstruct(given: Path, *options: str) -> int:
    command = ["reconstruct", str(given / "photos"), str(given / "out"), "--quiet", *options]
    prior = () if "--depth-maps" in options else ("--depth-model", "sweep")
    return run([*command, *prior])


def write_model(folder: Path) -> None:
    model = pycolmap.Reconstruction()
    camera = pycolmap.Camera(
        camera_id=1, model="PINHOLE", width=WIDTH, height=HEIGHT, params=[60, 60, 32, 24]
    )
    model.add_camera_with_trivial_rig(camera)
    for number, name in enumerate(NAMES, start=1):
        image = pycolmap.Image(name=name, camera_id=1, image_id=number)
        pose = np.hstack([np.eye(3), [[0.1 * number], [0], [0]]])
        model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(pose))
    folder.mkdir()
    model.write(str(folder))


def transforms(given: Path, edit: Callable[[list[dict[str, Any]]], object]) -> str:
    frames = []
    for number, name in enumerate(NAMES):
        pose = np.eye(4)
        pose[0, 3] = 0.1 * number
        frames.append({"file_path": name, "transform_matrix": pose.tolist()})
    edit(frames)
    path = given / "transforms.json"
    path.write_text(json.dumps({"fl_x": 60, "w": WIDTH, "h": HEIGHT, "frames": frames}))
    return str(path)


@pytest.mark.parametrize("left", [("cameras.bin",), ("cameras.bin", "images.bin")])
def test_half_a_model(given: Path, left: tuple[str, ...], capsys: Any) -> None:
    write_model(given / "model")
    for path in (given / "model").iterdir():
        if path.name not in left:
            path.unlink()
    assert reconstruct(given, "--model", str(given / "model")) == 3
    said = capsys.readouterr().err
    assert str(given / "model") in said
    assert "no COLMAP model" in said


def test_a_model_that_breaks_off(given: Path, capsys: Any) -> None:
    write_model(given / "model")
    images = given / "model" / "images.bin"
    images.write_bytes(images.read_bytes()[:-30])
    assert reconstruct(given, "--model", str(given / "model")) == 3
    assert "images.bin" in capsys.readouterr().err


def test_poses_whose_photos_are_missing(given: Path, capsys: Any) -> None:
    def rename(frames: list[dict[str, Any]]) -> None:
        for frame in frames[:2]:
            frame["file_path"] = f"elsewhere/lost_{frame['file_path']}"

    assert reconstruct(given, "--poses", transforms(given, rename)) == 3
    said = capsys.readouterr().err
    assert "1 of its 3 frames" in said
    assert "lost_a.png" in said


@pytest.mark.parametrize(
    ("axis", "factor", "reason"), [(1, 0.0, "singular"), (0, -1.0, "left-handed"), (2, 3.0, "rota")]
)
def test_poses_that_are_none(
    given: Path, axis: int, factor: float, reason: str, capsys: Any
) -> None:
    def spoil(frames: list[dict[str, Any]]) -> None:
        frames[1]["transform_matrix"][axis][axis] *= factor

    assert reconstruct(given, "--poses", transforms(given, spoil)) == 3
    said = capsys.readouterr().err
    assert "frames[1]" in said
    assert reason in said


def test_masks_of_another_size(given: Path, capsys: Any) -> None:
    (given / "masks").mkdir()
    Image.fromarray(np.full((HEIGHT, WIDTH + 5), 255, np.uint8)).save(given / "masks/b.png")
    assert reconstruct(given, "--masks", str(given / "masks")) == 3
    said = " ".join(capsys.readouterr().err.split())
    assert "b.png" in said
    assert f"{WIDTH + 5}x{HEIGHT}" in said
    assert f"{WIDTH}x{HEIGHT}" in said


def test_masks_of_other_photos(given: Path, capsys: Any) -> None:
    (given / "masks").mkdir()
    Image.fromarray(np.full((HEIGHT, WIDTH), 255, np.uint8)).save(given / "masks/z.png")
    assert reconstruct(given, "--masks", str(given / "masks")) == 3
    assert "a.png.png" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--export", "obj"), "colmap, nerfstudio, depth, splat, graphdeco"),
        (("--model", "{0}", "--poses", "{0}"), "--model and --poses"),
        (("--depth-maps", "{0}", "--depth-kind", "inverse"), "inverse_affine"),
    ],
)
def test_options_that_cannot_be(
    given: Path, options: tuple[str, ...], words: str, capsys: Any
) -> None:
    assert reconstruct(given, *(part.format(given / "photos") for part in options)) == 2
    assert words in " ".join(capsys.readouterr().err.split())
    assert not (given / "out").exists()


@pytest.mark.parametrize("option", ["--model", "--poses", "--masks", "--depth-maps"])
def test_what_does_not_exist_is_named(given: Path, option: str, capsys: Any) -> None:
    kind = ("--depth-kind", "metric") if option == "--depth-maps" else ()
    assert reconstruct(given, option, str(given / "nowhere"), *kind) == 3
    said = capsys.readouterr().err
    assert "nowhere" in said
    assert option in said
    assert not (given / "out").exists()


@pytest.mark.parametrize("kind", ["affine", "inverse_affine"])
def test_a_unit_of_maps_that_have_none(given: Path, kind: str, capsys: Any) -> None:
    (given / "maps").mkdir()
    maps = ("--depth-maps", str(given / "maps"), "--depth-kind", kind)
    assert reconstruct(given, *maps, "--depth-unit", "0.001") == 2
    assert "--depth-unit" in capsys.readouterr().err
    assert reconstruct(given, *maps, "--set", "depth.maps_unit=0.001") == 2
    assert "depth.maps_unit" in capsys.readouterr().err


def test_masks_without_photo_are_named_and_the_run_goes_on(given: Path, capsys: Any) -> None:
    (given / "masks/old").mkdir(parents=True)
    for name in ("a.png", "d.jpg.png", "old/b.png"):
        Image.new("L", (WIDTH, HEIGHT), 255).save(given / "masks" / name)
    options = ("--masks", str(given / "masks"), "--until", "prepare")
    assert reconstruct(given, *options) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "2 masks are named like no photo that is used: d.jpg.png, old/b.png" in said
    manifest = json.loads((given / "out/prepare/manifest.json").read_text())
    assert manifest["summary"]["masks"] == 1
    assert any("d.jpg.png" in warning for warning in manifest["summary"]["warnings"])


def test_a_mask_that_may_be_of_two_photos(given: Path, capsys: Any) -> None:
    for folder in ("left", "right"):
        (given / "photos" / folder).mkdir()
    (given / "photos/a.png").rename(given / "photos/left/x.png")
    (given / "photos/b.png").rename(given / "photos/right/x.png")
    (given / "masks").mkdir()
    Image.new("L", (WIDTH, HEIGHT), 255).save(given / "masks/x.png")
    options = ("--masks", str(given / "masks"), "--until", "prepare")
    assert reconstruct(given, *options) == 3
    said = " ".join(capsys.readouterr().err.split())
    assert "masks/x.png: may belong to any of the photos left/x.png, right/x.png" in said


def test_a_mask_that_leaves_nothing(given: Path, capsys: Any) -> None:
    (given / "masks").mkdir()
    Image.new("L", (WIDTH, HEIGHT), 0).save(given / "masks/a.png")
    assert reconstruct(given, "--masks", str(given / "masks"), "--until", "prepare") == 0
    assert "a.png: the mask leaves nothing" in " ".join(capsys.readouterr().out.split())
