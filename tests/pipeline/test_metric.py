"""The scale of a workspace: measured, kept, told, gone stale; and exports in metres."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import open3d as o3d
import pytest
import trimesh
from exact_room import ExactRoom
from measured_room import (
    EAST_NORTH_UP,
    METRES,
    ORIGIN,
    TAG_SIDE_M,
    measured_room,
    pixel_of,
    positions_of,
    tag_corners,
    write_positions,
)
from numpy.testing import assert_allclose
from recorded_executor import RecordedExecutor

from refdepth._pycolmap import pycolmap
from refdepth.errors import ConfigurationError, InputError
from refdepth.metric.geodesy import Utm, enu_from_geodetic
from refdepth.pipeline.exports import (
    CloudFile,
    DepthFile,
    ExportFormat,
    ExportOptions,
    Grid,
    export,
)
from refdepth.pipeline.manifest import Manifest
from refdepth.pipeline.measure_scale import ScaleOptions, measure_scale
from refdepth.pipeline.metric import metres_per_unit, read_scale
from refdepth.pipeline.report import write_report
from refdepth.pipeline.report.advice import advice_of
from refdepth.pipeline.results import Results
from refdepth.pipeline.workspace import Workspace

pytest.importorskip("cv2")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ExactRoom]:
    """Tag 3 is in all photos, tag 8 in the second alone."""
    folder = tmp_path_factory.mktemp("measured")
    return measured_room(folder, {3: (0, 1, 2, 3), 8: (1,)})


@pytest.fixture
def workspace(made: tuple[Path, ExactRoom], tmp_path: Path) -> Workspace:
    return Workspace(Path(shutil.copytree(made[0], tmp_path / "out")))


@pytest.fixture
def room(made: tuple[Path, ExactRoom]) -> ExactRoom:
    return made[1]


def distance(room: ExactRoom, first: int, second: int, metres: float = TAG_SIDE_M) -> str:
    """The upper edge of the tag, its left end picked in one photo and its right in another."""
    names = room.scene.names
    a, b = (
        pixel_of(room, names[n], tag_corners()[corner]) for n, corner in ((first, 0), (second, 1))
    )
    return f"{Path(names[first]).stem}.JPG:{a[0]},{a[1]} {names[second]}:{b[0]},{b[1]} {metres}m"


def with_gps(workspace: Workspace, room: ExactRoom, factor: float = 1.0) -> dict[str, np.ndarray]:
    """Four views hardly tell noise from truth, so GPS is exact here."""
    centers = {view.name: view.center * METRES * factor for view in room.scene.views}
    write_positions(workspace.root, room, positions_of(centers))
    return centers


def test_two_picked_pixels_and_their_distance(workspace: Workspace, room: ExactRoom) -> None:
    found = measure_scale(workspace, ScaleOptions(distances=(distance(room, 0, 2),)))
    assert found["metres_per_unit"] == pytest.approx(METRES, rel=0.005)
    assert found["used"] == ["distances"]
    assert found["up"] == "cameras"
    both = (distance(room, 0, 2), distance(room, 1, 1))
    found = measure_scale(workspace, ScaleOptions(distances=both))
    assert found["metres_per_unit"] == pytest.approx(METRES, rel=0.005)
    assert len(found["sources"][0]["measurements"]) == 2
    assert metres_per_unit(Results(workspace)) == found["metres_per_unit"]


def test_pixels_are_those_of_the_photo_as_given_turned_upright(
    workspace: Workspace, room: ExactRoom
) -> None:
    """Twice as large as prepared, and stored on its side."""
    path = workspace.root / "prepare" / "table.json"
    table = json.loads(path.read_text())
    for row in table["photos"]:
        row |= {"stored_width": 480, "stored_height": 640, "orientation": 6}
    path.write_text(json.dumps(table))
    name = room.scene.names[1]
    a, b = (2 * np.array(pixel_of(room, name, tag_corners()[corner])) for corner in (0, 2))
    text = f"{name}:{a[0]},{a[1]} {b[0]},{b[1]} {2**0.5 * TAG_SIDE_M}m"
    found = measure_scale(workspace, ScaleOptions(distances=(text,)))
    assert found["metres_per_unit"] == pytest.approx(METRES, rel=0.005)


def test_tags_in_the_photos(workspace: Workspace) -> None:
    executor = RecordedExecutor()
    found = measure_scale(
        workspace, ScaleOptions(tag_size=f"{100 * TAG_SIDE_M}cm"), executor=executor
    )
    assert len(executor.done) == 4
    assert found["metres_per_unit"] == pytest.approx(METRES, rel=0.005)
    rows = found["sources"][0]["measurements"]
    assert [row["what"] for row in rows] == [
        "tag 3, in 4 photos",
        "tag 8, in one photo, by its depth",
    ]
    assert rows[1]["metres_per_unit"] == pytest.approx(METRES, rel=0.02)


def test_a_tag_seen_once_without_depth_is_said(workspace: Workspace) -> None:
    for stage in ("refine", "fuse"):
        shutil.rmtree(workspace.stage_dir(stage))
    measure_scale(workspace, ScaleOptions(tag_size="0.5m"))
    said = [advice.what for advice in advice_of(Results(workspace))]
    assert any("tag 8 is in one photo only" in what for what in said)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("view_000.JPG:10,200 20,200 1m", "view_000.JPG:10,200: has no depth there"),
        ("view_000.JPG:10,20 500,20 1m", "view_000.JPG:500,20: lies outside .* 320x240"),
        ("nobody.jpg:1,2 3,4 1m", "nobody.jpg: is none of the photos.*like view_000.JPG"),
        ("view_001.JPG:30.5,40 30.5,40 1m", "both ends are one place"),
    ],
)
def test_distances_that_cannot_be_measured(workspace: Workspace, text: str, words: str) -> None:
    results = Results(workspace)
    name = results.scene.names[0]
    for stage in ("refine", "fuse"):  # a hole in the lower left
        items = results._items(stage)
        arrays = items.arrays(name)
        arrays["depth"][190:, :40] = 0
        items.write_arrays(name, arrays)
    with pytest.raises(InputError, match=words):
        measure_scale(workspace, ScaleOptions(distances=(text,)))
    assert read_scale(results) is None


def test_gps_gives_scale_north_and_origin(workspace: Workspace, room: ExactRoom) -> None:
    centers = with_gps(workspace, room)
    found = measure_scale(workspace, ScaleOptions())
    assert found["used"] == ["GPS"]
    assert found["metres_per_unit"] == pytest.approx(METRES, rel=1e-3)
    scale = read_scale(Results(workspace))
    assert scale is not None
    assert scale.origin is not None
    shift = enu_from_geodetic(
        [ORIGIN.latitude_deg, ORIGIN.longitude_deg, ORIGIN.altitude_m], scale.origin
    )
    for name, center in centers.items():
        there = EAST_NORTH_UP @ center + shift
        assert_allclose(scale.frame.points(room.scene[name].center), there, atol=0.01)
    assert measure_scale(workspace, ScaleOptions(distances=(distance(room, 0, 2),)))["origin"]
    with pytest.raises(InputError, match="nothing says how long a unit is"):
        measure_scale(workspace, ScaleOptions(gps=False))


def test_gps_that_says_nothing_is_an_error_where_it_is_asked_for(
    workspace: Workspace, room: ExactRoom
) -> None:
    with pytest.raises(InputError, match="GPS: 0 placed photos have a GPS position"):
        measure_scale(workspace, ScaleOptions(gps=True))
    with_gps(workspace, room, factor=0)
    with pytest.raises(InputError, match="GPS: all photos are in one place"):
        measure_scale(workspace, ScaleOptions(gps=True))
    found = measure_scale(workspace, ScaleOptions(distances=(distance(room, 0, 2),)))
    assert found["warnings"] == ["GPS is not used: all photos are in one place by their positions"]
    positions = positions_of({view.name: view.center for view in room.scene.views})
    lacking = {name: replace(at, altitude_m=None) for name, at in positions.items()}
    write_positions(workspace.root, room, lacking)
    with pytest.raises(InputError, match="4 more lack the altitude"):
        measure_scale(workspace, ScaleOptions(gps=True))


def test_contradictions_are_said_and_the_better_source_wins(
    workspace: Workspace, room: ExactRoom
) -> None:
    with_gps(workspace, room, factor=1.5)
    manifest = Manifest.read(workspace.stage_dir("scale"))
    assert manifest is not None
    manifest.summary["metres_per_unit"] = METRES * 1.1
    manifest.write(workspace.stage_dir("scale"))
    assert metres_per_unit(Results(workspace)) == pytest.approx(METRES * 1.1)
    asked = ScaleOptions(tag_size="50cm", distances=(distance(room, 0, 2, 2 * TAG_SIDE_M),))
    found = measure_scale(workspace, asked)
    assert found["used"] == ["distances", "tags"]
    assert [source["source"] for source in found["sources"]] == [
        "distances",
        "tags",
        "GPS",
        "metric depth",
    ]
    assert len(found["warnings"]) >= 3
    assert found["relative_error"] > 0.02
    found = measure_scale(workspace, ScaleOptions(tag_size="50cm"))
    assert found["metres_per_unit"] == pytest.approx(METRES, rel=0.005)
    assert any("GPS says 0.6 m a unit" in text for text in found["warnings"])
    assert (found["up"], found["origin"]) == ("cameras", None)
    said = [advice.what for advice in advice_of(Results(workspace))]
    assert any(text.startswith("Scale: tags say 0.4") for text in said)
    page = write_report(workspace).read_text()
    assert "a unit, by 2 tags" in page


def test_a_new_reconstruction_makes_it_stale(workspace: Workspace, room: ExactRoom) -> None:
    asked = ScaleOptions(distances=(distance(room, 0, 2),))
    measure_scale(workspace, asked)
    stage = workspace.stage_dir("sfm")
    manifest = Manifest.read(stage)
    assert manifest is not None
    manifest.model_copy(update={"fingerprint": "another"}).write(stage)
    results = Results(workspace)
    scale = read_scale(results)
    assert scale is not None
    assert scale.stale
    assert metres_per_unit(results) is None
    assert any("refdepth scale-to OUT --distance" in a.what for a in advice_of(results))
    with pytest.raises(InputError, match="Run `refdepth scale-to`"):
        export(workspace, [ExportFormat.CLOUD], options=ExportOptions(metres=True))


def test_a_file_that_was_edited_counts_for_nothing(workspace: Workspace, room: ExactRoom) -> None:
    measure_scale(workspace, ScaleOptions(distances=(distance(room, 0, 2),)))
    path = workspace.root / "scale.json"
    path.write_text(path.read_text().replace('"relative_error"', '"other"'))
    assert read_scale(Results(workspace)) is None


def test_exports_in_metres_lie_in_one_world_with_z_up(
    workspace: Workspace, room: ExactRoom
) -> None:
    with_gps(workspace, room)
    measure_scale(workspace, ScaleOptions())
    formats = [ExportFormat.CLOUD, ExportFormat.MESH, ExportFormat.DEPTH, ExportFormat.COLMAP]
    kinds = (CloudFile.PLY, CloudFile.LAS, CloudFile.COPC, CloudFile.E57)
    options = ExportOptions(metres=True, cloud_files=kinds, depth_files=(DepthFile.NPZ,))
    folders = export(workspace, formats, options=options)
    scale = read_scale(Results(workspace))
    assert scale is not None
    assert scale.origin is not None
    told = json.loads((folders[ExportFormat.CLOUD] / "refdepth-export.json").read_text())
    assert (told["unit"], told["metres_per_unit"]) == ("metres", 1)
    assert told["world"]["axes"] == "x east, y north, z up"
    assert told["crs"].startswith("EPSG:32632 ")
    cloud = o3d.t.io.read_point_cloud(str(folders[ExportFormat.CLOUD] / "cloud.ply"))
    local = cloud.point.positions.numpy()
    ours = o3d.t.io.read_point_cloud(str(workspace.root / "fuse" / "cloud.ply"))
    assert_allclose(local, scale.frame.points(ours.point.positions.numpy()), atol=1e-4)
    assert 2.0 < np.ptp(local[:, 2]) < 3.0  # the room is 2.6 m high
    check_on_the_map(folders[ExportFormat.CLOUD], local, scale.origin)
    mesh = trimesh.load_mesh(folders[ExportFormat.MESH] / "mesh.ply")
    glb = trimesh.load_scene(folders[ExportFormat.MESH] / "mesh.glb").to_geometry()
    assert_allclose(mesh.bounds[:, 2], glb.bounds[:, 1], atol=1e-3)  # glTF's y is our z
    assert_allclose(mesh.bounds[:, 0], glb.bounds[:, 0], atol=1e-3)
    index = json.loads((folders[ExportFormat.DEPTH] / "depth.json").read_text())
    assert index["unit"] == "metres"
    name = room.scene.names[2]
    model = pycolmap.Reconstruction(str(folders[ExportFormat.COLMAP] / "sparse"))
    image = next(image for image in model.images.values() if image.name == name)
    center = scale.frame.points(room.scene[name].center)
    assert_allclose(image.projection_center(), center, atol=1e-6)
    pose = np.array(index["views"][name]["cam_from_world"])
    assert_allclose(np.linalg.inv(pose)[:3, 3], center, atol=1e-6)
    with np.load(folders[ExportFormat.DEPTH] / "npz" / f"{name}.npz") as stored:
        assert_allclose(stored["depth"], room.depth[name] * METRES, rtol=1e-3)


def test_a_mesh_in_metres_lies_as_without_them_where_up_is_not_known(
    workspace: Workspace, room: ExactRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("refdepth.pipeline.metric.cameras_up", lambda scene: None)
    measure_scale(workspace, ScaleOptions(distances=(distance(room, 0, 2),)))
    scale = read_scale(Results(workspace))
    assert scale is not None
    assert scale.up is None
    bounds = {}
    for metres in (False, True):
        options = ExportOptions(metres=metres)
        folder = export(workspace, [ExportFormat.MESH], options=options, force=True)
        mesh = trimesh.load_scene(folder[ExportFormat.MESH] / "mesh.glb").to_geometry()
        bounds[metres] = mesh.bounds
    assert_allclose(bounds[True], bounds[False] * scale.metres_per_unit, atol=0.02)


def test_a_view_whose_photo_is_gone_from_the_table_is_named(workspace: Workspace) -> None:
    """Photos were taken out and prepared again; cameras are those of before."""
    table = workspace.stage_dir("prepare") / "table.json"
    stored = json.loads(table.read_text())
    gone = stored["photos"].pop()
    table.write_text(json.dumps(stored))
    options = ExportOptions(grid=Grid.ORIGINAL)
    with pytest.raises(InputError, match="not among the prepared photos any more") as refused:
        export(workspace, [ExportFormat.DEPTH], options=options)
    assert refused.value.subject == gone["name"]
    with pytest.raises(InputError, match="not among the prepared photos any more"):
        measure_scale(workspace, ScaleOptions(tag_size="16cm"))


def check_on_the_map(folder: Path, local: np.ndarray, origin) -> None:
    laspy, pye57 = pytest.importorskip("laspy"), pytest.importorskip("pye57")
    zone = Utm.at(origin)
    assert zone is not None
    east, north, up = zone.project([origin.latitude_deg, origin.longitude_deg, origin.altitude_m])
    las = laspy.read(folder / "cloud.las")
    assert las.header.global_encoding.wkt
    assert [vlr.string for vlr in las.header.vlrs.get("WktCoordinateSystemVlr")] == [zone.wkt]
    with laspy.CopcReader.open(str(folder / "cloud.copc.laz")) as reader:
        copc = reader.query()
    with laspy.open(str(folder / "cloud.copc.laz")) as reader:
        (record,) = reader.header.vlrs.get("WktCoordinateSystemVlr")
        assert record.string.rstrip("\0") == zone.wkt
    for found in (las, copc):
        # A metre is 0.9996 to 1.0004 m on the map; the grid's north is a degree off at most here.
        assert_allclose(np.mean(found.x), east + local[:, 0].mean(), atol=0.1)
        assert_allclose(np.mean(found.y), north + local[:, 1].mean(), atol=0.1)
        assert_allclose(np.mean(found.z), up + local[:, 2].mean(), atol=1e-3)
    with pye57.E57(str(folder / "cloud.e57")) as file:
        e57 = file.read_scan(0, ignore_missing_fields=True)
    assert_allclose(e57["cartesianX"].mean(), local[:, 0].mean(), atol=1e-3)


def test_trainers_that_scale_scenes_themselves_get_no_metres(workspace: Workspace) -> None:
    with pytest.raises(ConfigurationError, match=r"--metres: is not for nerfstudio"):
        export(workspace, [ExportFormat.NERFSTUDIO], options=ExportOptions(metres=True))
