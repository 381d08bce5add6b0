"""Panoramas as rigs: all placed, rigid, and together with photos."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from refdepth._pycolmap import pycolmap
from refdepth.evaluation.alignment import robust_sim3
from refdepth.ingest import PreparedPhoto, PrepareSettings, find_photos, prepare_picture, safe_stems
from refdepth.ingest.exif import GpsPosition
from refdepth.ingest.panoramas import FACE_FROM_PANORAMA, Face
from refdepth.ingest.photos import PanoramaFace
from refdepth.sfm.joining import join_models
from refdepth.sfm.mapping import reconstruct
from refdepth.sfm.pairs import EXHAUSTIVE_LIMIT, plan_pairs
from refdepth.sfm.settings import Mapper, Matching, SfmSettings
from refdepth.sfm.summary import SfmSummary
from refdepth.synthetic import make_panoramas, make_scene, write_panoramas

COUNT, WIDTH = 5, 640
Placed = tuple[list[PreparedPhoto], Path, SfmSummary]


def prepare(source: Path, images: Path) -> list[PreparedPhoto]:
    images.mkdir(parents=True)
    found = find_photos(source).candidates
    stems = safe_stems([one.original for one in found])
    return [
        row
        for one in found
        for row in prepare_picture(
            one.path, images / stems[one.original], PrepareSettings(), original=one.original
        )
    ]


@pytest.fixture(scope="module")
def truth() -> dict[str, NDArray[np.float64]]:
    """World from panorama of the panoramas below, by name."""
    return {p.name: p.world_from_panorama for p in make_panoramas(COUNT, 64)}


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Placed:
    """Panoramas of the room and four photos of it, placed together."""
    folder = tmp_path_factory.mktemp("walk")
    write_panoramas(make_panoramas(COUNT, WIDTH), folder / "given")
    scene = make_scene(views=4, width=320, height=240)
    scene.write_photos(folder / "given")
    photos = prepare(folder / "given", folder / "images")
    assert sum(photo.face is not None for photo in photos) == 6 * COUNT
    return photos, folder, reconstruct(folder / "images", photos, folder / "sfm")


def check_rigid(model: pycolmap.Reconstruction, photos: list[PreparedPhoto]) -> None:
    """Faces of a panorama have one centre, the cube's angles and the cameras of their cutting."""
    by_name = {photo.name: photo for photo in photos}
    seen = 0
    for frame in model.frames.values():
        images = [model.image(data.id) for data in frame.data_ids]
        panoramas = {by_name[image.name].given for image in images}
        if by_name[images[0].name].face is None or not frame.has_pose():
            continue
        assert (len(images), len(panoramas)) == (6, 1)
        seen += 1
        for image in images:
            face = by_name[image.name].face
            assert face is not None
            pose, rig = image.cam_from_world(), frame.rig_from_world
            turn = pose.rotation.matrix() @ rig.rotation.matrix().T
            np.testing.assert_allclose(turn, FACE_FROM_PANORAMA[face.face], atol=1e-9)
            np.testing.assert_allclose(
                image.projection_center(), images[0].projection_center(), atol=1e-9
            )
            camera, photo = model.camera(image.camera_id), by_name[image.name]
            expected = [photo.focal_px, photo.width / 2, photo.height / 2]
            assert camera.calibration_matrix()[0, 0] == pytest.approx(expected[0], rel=1e-12)
            np.testing.assert_allclose(camera.calibration_matrix()[:2, 2], expected[1:])
    assert seen == COUNT


def test_all_panoramas_and_photos_are_placed_in_one_scene(walk: Placed, truth: dict) -> None:
    photos, folder, summary = walk
    assert set(summary.registered) == {photo.name for photo in photos}
    assert not summary.other_models
    model = pycolmap.Reconstruction(folder / "sfm" / "sparse")
    check_rigid(model, photos)
    exact = {p.name: p.cam_from_world for p in make_scene(views=4, width=32, height=24).views}
    found, true = [], []
    for photo in photos:
        if photo.face is not None and photo.face.face is not Face.FRONT:
            continue
        image = model.find_image_with_name(photo.name)
        found.append(image.projection_center())
        if photo.face is None:
            pose = exact[photo.name]
            true.append(-pose[:3, :3].T @ pose[:3, 3])
        else:
            true.append(truth[photo.given][:3, 3])
    placing = robust_sim3(np.array(found), np.array(true), method="poses")
    off = np.linalg.norm(placing.apply(np.array(found)) - np.array(true), axis=1)
    assert off.max() < 0.03  # metres, in a walk of 2.7 m


def test_undistorted_faces_are_the_faces(walk: Placed) -> None:
    """Pinhole pictures stay as they are, and the model beside them keeps the rigs."""
    photos, folder, _ = walk
    model = pycolmap.Reconstruction(folder / "sfm" / "undistorted" / "sparse")
    check_rigid(model, photos)
    assert sum(rig.num_sensors() == 6 for rig in model.rigs.values()) == 1


def test_the_global_mapper_keeps_panoramas_rigid_too(walk: Placed, tmp_path: Path) -> None:
    photos, folder, _ = walk
    (tmp_path / "sfm").mkdir()
    for part in folder.joinpath("sfm").glob("database*"):
        shutil.copy(part, tmp_path / "sfm")
    settings = SfmSettings(mapper=Mapper.GLOBAL)
    summary = reconstruct(folder / "images", photos, tmp_path / "sfm", settings)
    assert sum("pano" in name for name in summary.registered) == 6 * COUNT
    check_rigid(pycolmap.Reconstruction(tmp_path / "sfm" / "sparse"), photos)


def part_of(folder: Path, panoramas: set[int]) -> pycolmap.Reconstruction:
    """The model in `folder` with only those panoramas placed, and no photo."""
    model = pycolmap.Reconstruction(folder)
    for frame_id in list(model.reg_frame_ids()):
        names = [model.image(data.id).name for data in model.frame(frame_id).data_ids]
        if not any(names[0].startswith(f"pano_{index:04d}") for index in panoramas):
            model.deregister_frame(frame_id)
    return model


def test_models_of_panoramas_are_joined_as_rigs(walk: Placed) -> None:
    photos, folder, _ = walk

    def parts(*panoramas: set[int]) -> dict[int, pycolmap.Reconstruction]:
        return {k: part_of(folder / "sfm" / "sparse", which) for k, which in enumerate(panoramas)}

    kept, changed = join_models(parts({0, 1, 2, 3}, {1, 2, 3, 4}), threads=1)
    assert (list(kept), changed) == ([0], {0})
    check_rigid(kept[0], photos)
    # The six faces of one panorama see its surroundings alike in any scale.
    assert len(join_models(parts({0, 1, 2}, {2, 3, 4}), threads=1)[0]) == 2


def faces(
    name: str, position: tuple[float, float] | None = None, sequence: str = ""
) -> list[PreparedPhoto]:
    place = None
    if position is not None:
        place = GpsPosition(latitude_deg=position[0], longitude_deg=position[1])
    return [
        PreparedPhoto(
            name=f"{name}_{face}.jpg",
            original=f"{name}/{face}.jpg",
            **{"width": 60, "height": 60, "stored_width": 60, "stored_height": 60},
            position=place,
            sequence=sequence,
            face=PanoramaFace(
                panorama=f"{name}.jpg",
                face=face,
                stored_width=200,
                stored_height=100,
                orientation=1,
            ),
        )
        for face in Face
    ]


def together(first: str, second: str) -> bool:
    return first.rpartition("_")[0] == second.rpartition("_")[0]


def test_faces_of_one_panorama_make_no_pair() -> None:
    photos = [*faces("a"), *faces("b"), *faces("c")]
    pairs = plan_pairs(photos, SfmSettings(matching=Matching.EXHAUSTIVE)).pairs({})
    assert len({frozenset(pair) for pair in pairs}) == len(pairs) == 3 * 36
    assert not any(together(*pair) for pair in pairs)
    plan = plan_pairs(photos, SfmSettings(matching=Matching.RETRIEVAL, neighbours=2))
    ranked = {"a_up.jpg": ["a_front.jpg", "a_left.jpg", "b_up.jpg", "c_up.jpg", "c_left.jpg"]}
    assert plan.pairs(ranked) == [("a_up.jpg", "b_up.jpg"), ("a_up.jpg", "c_up.jpg")]
    assert plan.most_asked >= 2 + 5


def test_panoramas_have_panoramas_for_neighbours() -> None:
    count = EXHAUSTIVE_LIMIT // 6 + 10
    film = [row for k in range(count) for row in faces(f"f{k:03d}", sequence="film.mp4")]
    plan = plan_pairs(film, SfmSettings(overlap=12))
    assert plan.matching == Matching.SEQUENTIAL
    apart = {abs(int(a[1:4]) - int(b[1:4])) for a, b in plan.known}
    assert apart == {1, 2}  # as many photos as 12 neighbours
    located = [row for k in range(count) for row in faces(f"g{k:03d}", (50.0, 7 + k / 2000))]
    plan = plan_pairs(located, SfmSettings(neighbours=12))
    assert plan.matching == Matching.SPATIAL
    assert {abs(int(a[1:4]) - int(b[1:4])) for a, b in plan.known} == {1, 2}
