"""Panoramas, photos and films of both in the `prepare` stage."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from recorded_executor import RecordedExecutor
from small_panoramas import HEIGHT, WIDTH, sphere, write_film

from refdepth.errors import InputError
from refdepth.pipeline.config import RunInputs, RunRequest, build_config
from refdepth.pipeline.engine import Engine
from refdepth.pipeline.manifest import Manifest
from refdepth.pipeline.workspace import Workspace


@pytest.fixture
def given(tmp_path: Path) -> Path:
    """Two panoramas, one in a folder, and two photos, one of odd ratio."""
    photos = tmp_path / "photos"
    (photos / "walk").mkdir(parents=True)
    Image.fromarray(sphere(1)).save(photos / "walk" / "a.png")
    Image.fromarray(sphere(2)).save(photos / "b.png")
    rng = np.random.default_rng(0)
    for name, size in (("c.png", (48, 64)), ("d.png", (40, 160))):
        Image.fromarray(rng.integers(0, 255, (*size, 3), np.uint8)).save(photos / name)
    return photos


def prepare(
    root: Path, photos: Path, *assignments: str, masks: Path | None = None
) -> tuple[list[dict[str, Any]], list[str], RecordedExecutor]:
    """The table's rows, what was skipped and why, and who did what."""
    root.mkdir(exist_ok=True)
    executor = RecordedExecutor()
    inputs = RunInputs(images=str(photos), masks=None if masks is None else str(masks))
    request = RunRequest(inputs=inputs, config=build_config(assignments=assignments))
    Engine(Workspace(root), request, executor=executor).run_stage("prepare", resume=True)
    table = json.loads((root / "prepare" / "table.json").read_text())
    skipped = [f"{row['original']}: {row['reason']}" for row in table["skipped"]]
    return table["photos"], skipped, executor


def test_photos_and_panoramas_are_told_apart(given: Path, tmp_path: Path) -> None:
    rows, skipped, executor = prepare(tmp_path / "out", given)
    assert Counter(row["face"] is not None for row in rows) == {True: 12, False: 2}
    assert skipped == []
    assert {row["face"]["panorama"] for row in rows if row["face"]} == {"walk/a.png", "b.png"}
    assert len(list((tmp_path / "out" / "prepare" / "images").iterdir())) == 14
    made = sorted(name for kind, name in executor.done if kind == "ReadPhotos")
    assert made == ["b.png", "c.png", "d.png", "walk/a.png"]
    manifest = Manifest.read(tmp_path / "out" / "prepare")
    assert manifest is not None
    assert manifest.summary["panoramas"] == 2


def test_as_asked_all_are_panoramas_or_none(given: Path, tmp_path: Path) -> None:
    rows, *_ = prepare(tmp_path / "none", given, "prepare.panoramas=no")
    assert [row["face"] for row in rows] == [None] * 4
    rows, skipped, _ = prepare(tmp_path / "all", given, "prepare.panoramas=yes")
    assert len(rows) == 12
    assert len(skipped) == 2
    assert skipped[0].startswith("c.png: 64x48 is no 360 degree panorama")
    for name in ("walk/a.png", "b.png"):
        (given / name).unlink()
    with pytest.raises(InputError, match=r"no usable|0 |holds.*64x48"):
        prepare(tmp_path / "odd", given, "prepare.panoramas=yes")


def test_one_panorama_alone_is_too_little(given: Path, tmp_path: Path) -> None:
    for name in ("walk/a.png", "c.png", "d.png"):
        (given / name).unlink()
    with pytest.raises(InputError, match=r"one|1 usable") as raised:
        prepare(tmp_path / "out", given)
    assert "two panoramas" in str(raised.value)


def test_masks_belong_to_panoramas_and_photos(given: Path, tmp_path: Path) -> None:
    masks = tmp_path / "masks"
    (masks / "walk").mkdir(parents=True)
    half = np.full((HEIGHT, WIDTH), 255, np.uint8)
    half[HEIGHT // 2 :] = 0  # all below the horizon
    Image.fromarray(half).save(masks / "walk" / "a.png")
    Image.fromarray(np.full((48, 64), 255, np.uint8)).save(masks / "c.png.png")
    rows, *_ = prepare(tmp_path / "out", given, masks=masks)
    masked = {row["original"]: row["mask"] for row in rows if row["mask"]}
    faces = ("front", "right", "back", "left", "up", "down")
    assert sorted(masked) == sorted(["c.png", *(f"walk/a/{face}.png" for face in faces)])
    folder = tmp_path / "out" / "prepare" / "masks"
    shares = [
        (np.asarray(Image.open(folder / masked[f"walk/a/{f}.png"])) > 0).mean() for f in faces
    ]
    np.testing.assert_allclose(shares, [0.5, 0.5, 0.5, 0.5, 1, 0], atol=0.02)
    assert all(row["warnings"] == [] for row in rows)  # a face without anything is nothing to say
    Image.new("L", (64, 64)).save(masks / "b.png")
    with pytest.raises(InputError, match=rf"64x64.*{WIDTH}x{HEIGHT} \(b.png\)"):
        prepare(tmp_path / "again", given, masks=masks)


def test_what_is_prepared_is_not_prepared_again(given: Path, tmp_path: Path) -> None:
    before, *_ = prepare(tmp_path / "out", given)
    images = tmp_path / "out" / "prepare" / "images"
    times = {path.name: path.stat().st_mtime_ns for path in images.iterdir()}
    (tmp_path / "out" / "prepare" / "manifest.json").unlink()
    (images / "b_left.png").unlink()  # as if the run had been stopped
    after, *_ = prepare(tmp_path / "out", given)
    assert after == before
    renewed = {p.name for p in images.iterdir() if times[p.name] != p.stat().st_mtime_ns}
    assert renewed == {f"b_{face}.png" for face in ("front", "right", "back", "left", "up", "down")}


def test_the_same_panorama_twice_is_taken_once(given: Path, tmp_path: Path) -> None:
    (given / "e.png").write_bytes((given / "b.png").read_bytes())
    rows, skipped, _ = prepare(tmp_path / "out", given)
    assert {row["original"] for row in rows if row["original"].startswith("e/")} == set()
    assert len(rows) == 14
    assert skipped == ["e.png: the same picture as b.png"]


def test_a_photo_with_the_name_of_a_face_is_refused(given: Path, tmp_path: Path) -> None:
    (given / "b").mkdir()
    (given / "d.png").rename(given / "b" / "front.png")
    with pytest.raises(InputError, match=r"b/front\.png.*face of the panorama b\.png"):
        prepare(tmp_path / "out", given)


def test_a_photo_with_the_name_of_a_frame_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("av")
    photos = tmp_path / "photos"
    photos.mkdir()
    write_film(photos / "film.mp4", sphere(3), frames=12, step=8)
    options = ("prepare.panoramas=no", "prepare.max_frames=3")
    rows, *_ = prepare(tmp_path / "out", photos, *options)
    picture = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    Image.fromarray(picture).save(photos / rows[1]["name"])
    with pytest.raises(
        InputError, match=rf"photos/{rows[1]['name']}.*frame of the video film\.mp4"
    ):
        prepare(tmp_path / "out", photos, *options)


def test_a_film_and_a_panorama_go_together(given: Path, tmp_path: Path) -> None:
    pytest.importorskip("av")
    write_film(given / "film.mp4", sphere(3), frames=12, step=8)
    rows, *_ = prepare(tmp_path / "out", given, "prepare.max_frames=3")
    faces = Counter(row["face"]["panorama"].partition("#")[0] for row in rows if row["face"])
    assert faces["film.mp4"] in (12, 18)
    assert faces["b.png"] == 6
