"""One small reconstruction through the command line, and what may happen to it afterwards."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_checkpoints import save_depth_anything

import refdepth
from refdepth.cli.main import run
from refdepth.errors import ConfigurationError, InputError
from refdepth.evaluation.ground_truth import open_ground_truth
from refdepth.fusion import fuse
from refdepth.io.images import load_mask
from refdepth.io.ply import read_ply_points
from refdepth.pipeline.metric import metres_per_unit
from refdepth.pipeline.results import Results
from refdepth.pipeline.workspace import Workspace
from refdepth.synthetic import SyntheticScene, make_scene
from refdepth.types.camera import camera_center
from refdepth.types.depth_map import DepthMap

PLACES = ("left/0.jpg", "left/1.jpg", "left/x.jpg", "right/x.jpg", "right/2.jpg", "right/3.jpg")
OPTIONS = ("--depth-model", "sweep", "--set", "refine.iterations=2")


@pytest.fixture(scope="module")
def room() -> SyntheticScene:
    return make_scene("room", views=6, width=240, height=180)


@pytest.fixture(scope="module")
def base(room: SyntheticScene, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos, exact depth and a finished reconstruction; not to be changed."""
    folder = tmp_path_factory.mktemp("small")
    room.write_photos(folder / "photos")
    room.write_ground_truth(folder / "exact")
    assert run(["reconstruct", str(folder / "photos"), str(folder / "out"), *OPTIONS]) == 0
    return folder


@pytest.fixture
def copy(base: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    shutil.copytree(base, tmp_path / "copy")
    return tmp_path / "copy"


def reconstruct(folder: Path, *options: str) -> int:
    return run(["reconstruct", str(folder / "photos"), str(folder / "out"), *OPTIONS, *options])


def times(folder: Path, *parts: str) -> dict[str, int]:
    root = folder / "out"
    return {
        str(path.relative_to(root)): path.stat().st_mtime_ns
        for part in parts
        for path in sorted((root / part).rglob("*"))
        if path.is_file()
    }


def test_every_stage_leaves_its_artifacts_and_a_manifest(base: Path) -> None:
    out = base / "out"
    for stage in ("prepare", "sfm", "depth", "scale", "refine", "fuse"):
        manifest = json.loads((out / stage / "manifest.json").read_text())
        assert manifest["stage"] == stage
        assert manifest["files"], stage
    assert len(Results(Workspace(out)).views("refine")) == 6
    assert len(read_ply_points(out / "fuse" / "cloud.ply")) > 5_000
    assert (out / "report.html").stat().st_size > 10_000
    assert "fuse" in (out / "refdepth.log").read_text()
    assert not list(out.rglob(".tmp-*"))


def test_fusion_keeps_the_depth_that_views_agree_on(base: Path) -> None:
    results = Results(Workspace(base / "out"))
    scene, agreed = results.scene, dict[str, DepthMap]()
    cloud = fuse(scene, results.refined, on_agreed=lambda name, found: agreed.update({name: found}))
    assert len(read_ply_points(base / "out" / "fuse" / "cloud.ply")) == pytest.approx(
        len(cloud), rel=0.002
    )
    for name in scene.names:
        found, stored = agreed[name], results.fused(name)
        np.testing.assert_array_equal(stored.valid, found.valid)
        # Depth is rounded between the rounds: here and there an estimate just counts or does not.
        off = np.abs(stored.depth[found.valid] / found.depth[found.valid] - 1)
        assert np.quantile(off, 0.99) < 1e-4
        assert off.max() < 0.02
        np.testing.assert_allclose(stored.confidence, found.confidence, atol=0.003)
        np.testing.assert_array_equal(results.consistent(name), found.valid)
        assert 0.3 < found.valid.mean() < 1


def test_the_depth_is_close_to_the_exact_depth(
    base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["evaluate", str(base / "out"), "--ground-truth", str(base / "exact"), "--json"]
    assert run(command) == 0
    stages = json.loads(capsys.readouterr().out)["depth"]["stages"]
    refined = stages["refined"]["mean"]["all"]
    assert refined["coverage"] > 0.95
    assert refined["median_rel"] < 0.01
    assert refined["inlier_1.03"] > stages["scaled"]["mean"]["all"]["inlier_1.03"] - 0.02


def test_the_same_command_again_computes_nothing(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stages = ("prepare", "sfm", "depth", "scale", "refine", "fuse")
    assert reconstruct(copy) == 0
    before = times(copy, *stages)
    capsys.readouterr()
    assert reconstruct(copy) == 0
    assert capsys.readouterr().out.count("unchanged, reused") == 6
    assert times(copy, *stages) == before


def test_a_changed_refinement_runs_refine_and_fuse_only(copy: Path) -> None:
    before = times(copy, "prepare", "sfm", "depth", "scale")
    cloud = (copy / "out/fuse/cloud.ply").read_bytes()
    assert reconstruct(copy, "--set", "refine.iterations=0") == 0
    assert times(copy, "prepare", "sfm", "depth", "scale") == before
    assert (copy / "out/fuse/cloud.ply").read_bytes() != cloud


def test_views_that_are_finished_are_not_refined_again(copy: Path) -> None:
    refine = copy / "out" / "refine"
    (refine / "manifest.json").unlink()
    lost = sorted(refine.glob("*.npz"))[2]
    content = lost.read_bytes()
    lost.unlink()
    before = times(copy, "refine")
    assert run(["stage", "refine", "--workspace", str(copy / "out"), "--resume"]) == 0
    after = times(copy, "refine")
    changed = {name for name in after if after[name] != before.get(name)}
    made = {f"{lost.stem}{suffix}" for suffix in (".npz", ".json")}
    made |= {f"second/{name}" for name in made}
    assert changed == {f"refine/{name}" for name in (*made, "manifest.json")}
    assert lost.read_bytes() == content


def test_a_stage_made_again_gives_the_same_bytes(copy: Path) -> None:
    out = copy / "out"
    before = {p: p.read_bytes() for p in [*out.glob("scale/view*.json"), *out.glob("fuse/*.ply")]}
    assert run(["stage", "scale", "--workspace", str(out)]) == 0
    assert run(["stage", "fuse", "--workspace", str(out)]) == 0
    assert {p: p.read_bytes() for p in before} == before


def test_a_new_photo_is_taken_in_and_the_others_are_not_read_again(
    copy: Path, room: SyntheticScene
) -> None:
    before = times(copy, "prepare/images")
    (copy / "photos" / "notes.txt").write_text("not a photo")
    shutil.copy(sorted((copy / "photos").glob("*.jpg"))[0], copy / "photos" / "zz_twin.jpg")
    assert reconstruct(copy, "--until", "prepare") == 0
    assert times(copy, "prepare/images") == before
    table = json.loads((copy / "out/prepare/table.json").read_text())
    reasons = {row["original"]: row["reason"] for row in table["skipped"]}
    assert "same picture" in reasons["zz_twin.jpg"]
    assert len(table["photos"]) == 6


def test_a_given_model_reproduces_the_refinement(base: Path, tmp_path: Path) -> None:
    """The hash-equal depth promised for `--model` with SfM's own output."""
    command = ["reconstruct", str(base / "photos"), str(tmp_path / "again"), *OPTIONS]
    assert run([*command, "--model", str(base / "out/sfm/sparse"), "--until", "refine"]) == 0
    for path in sorted((base / "out/refine").glob("*.npz")):
        assert (tmp_path / "again/refine" / path.name).read_bytes() == path.read_bytes()


def test_given_depth_maps_need_not_cover_all_photos(base: Path, tmp_path: Path) -> None:
    maps = tmp_path / "maps"
    maps.mkdir()
    for path in sorted((base / "exact").glob("*.npz"))[1:]:
        depth = np.load(path)["depth"]
        np.save(maps / f"{path.stem}.npy", 3.0 / depth + 0.2)
    command = ["reconstruct", str(base / "photos"), str(tmp_path / "out"), "--quality", "fast"]
    command += ["--depth-maps", str(maps), "--depth-kind", "inverse_affine"]
    assert run([*command, "--model", str(base / "out/sfm/sparse")]) == 0
    manifest = json.loads((tmp_path / "out/depth/manifest.json").read_text())
    assert len(manifest["summary"]["without_prior"]) == 1
    fits = Results(Workspace(tmp_path / "out"))
    named = [name for name in fits.scene.names if name not in manifest["summary"]["without_prior"]]
    assert max(fits.fit(name)["residual_quantiles"]["0.5"] for name in named) < 0.01


def test_maps_give_the_scene_its_unit_where_theirs_is_declared(base: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ["reconstruct", str(base / "photos"), str(out), "--until", "scale"]
    command += ["--depth-maps", str(base / "exact"), "--depth-kind", "metric"]
    command += ["--model", str(base / "out/sfm/sparse")]
    assert run(command) == 0
    results = Results(Workspace(out))
    undeclared = results.manifest("scale")
    assert undeclared is not None
    assert metres_per_unit(results) is None
    assert run([*command, "--depth-unit", "1"]) == 0
    manifest = results.manifest("scale")
    assert manifest is not None
    assert manifest.summary["median_residual"] == undeclared.summary["median_residual"]
    assert metres_per_unit(results) == manifest.summary["metres_per_unit"]
    true = [np.load(path)["cam_from_world"] for path in sorted((base / "exact").glob("*.npz"))]
    centers = np.array([camera_center(pose) for pose in true])
    found = np.array([view.center for view in results.scene.views])
    metres = np.linalg.norm(centers[-1] - centers[0]) / np.linalg.norm(found[-1] - found[0])
    # Cameras from photos this small are about a hundredth off.
    assert manifest.summary["metres_per_unit"] == pytest.approx(metres, rel=0.02)


@pytest.fixture(scope="module")
def folders(base: Path, room: SyntheticScene, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same photos in two folders, `x.jpg` in both and one of those turned; maps, masks and
    truth in the same folders; and the run that begins with them."""
    given = tmp_path_factory.mktemp("folders")
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise
    exact = sorted((base / "exact").glob("*.npz"))
    cameras = {}
    for index, (name, truth) in enumerate(zip(PLACES, exact, strict=True)):
        for kind in ("photos", "maps", "masks", "truth"):
            (given / kind / name).parent.mkdir(parents=True, exist_ok=True)
        photo = np.round(room.views[index].image * 255).astype(np.uint8)
        if name == "right/x.jpg":
            turned = Image.fromarray(np.ascontiguousarray(np.rot90(photo)))
            turned.save(given / "photos" / name, quality=95, subsampling=0, exif=exif)
        else:
            Image.fromarray(photo).save(given / "photos" / name, quality=95, subsampling=0)
        stored = np.load(truth)
        cameras[name] = {"cam_from_world": stored["cam_from_world"].tolist()}
        np.save(given / "maps" / f"{name}.npy", 3 / stored["depth"] + 0.2)
        shutil.copy(truth, (given / "truth" / name).with_suffix(".npz"))
        mask = np.full(photo.shape[:2], 255, np.uint8)
        mask[: 2 + index] = 0
        Image.fromarray(mask).save(given / "masks" / f"{name}.png")
    (given / "cameras.json").write_text(json.dumps(cameras))
    frames = [
        {
            "file_path": name,
            "transform_matrix": (
                np.linalg.inv(camera["cam_from_world"]) @ np.diag([1, -1, -1, 1])
            ).tolist(),
        }
        for name, camera in cameras.items()
    ]
    K = room.camera.K
    intrinsics = {"fl_x": K[0, 0], "fl_y": K[1, 1], "cx": K[0, 2], "cy": K[1, 2]}
    (given / "transforms.json").write_text(json.dumps({**intrinsics, "frames": frames}))
    command = ["reconstruct", str(given / "photos"), str(given / "out"), "--until", "refine"]
    command += ["--poses", str(given / "transforms.json"), "--masks", str(given / "masks")]
    command += ["--depth-maps", str(given / "maps"), "--depth-kind", "inverse_affine"]
    command += ["--quality", "fast", "--views", "x.jpg", "--views", "left/1.*"]
    assert run(command) == 0
    return given


def test_photos_of_equal_name_get_their_own_mask_map_and_truth(folders: Path) -> None:
    results = Results(Workspace(folders / "out"))
    assert len(results.scene) == 6
    own = {results.names.own(name): name for name in results.scene.names}
    assert own["right/x.jpg"] == "right_x.jpg"
    truth = open_ground_truth(folders / "truth", results.names)
    for index, name in enumerate(PLACES):
        view = own[name]
        assert results.fit(view)["residual_quantiles"]["0.5"] < 0.01
        depth = truth.load(view)
        assert depth is not None
        np.testing.assert_allclose(3 / depth.depth + 0.2, results.prior(view), rtol=1e-3)
        mask = load_mask(results.scene[view])
        assert mask is not None
        assert mask[:, 0].tolist() == [row >= 2 + index for row in range(len(mask))]


def test_patterns_of_views_go_by_the_photos_own_names(folders: Path) -> None:
    manifest = Results(Workspace(folders / "out")).manifest("refine")
    assert manifest is not None
    assert sorted(manifest.summary["sources"]) == ["left/1.jpg", "left/x.jpg", "right/x.jpg"]


def test_people_see_the_photos_own_names(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = folders / "out"
    page = (out / "report.html").read_text()
    assert "right/x.jpg" in page
    assert run(["status", str(out), "--json"]) == 0
    rows = capsys.readouterr().out
    command = ["evaluate", str(out), "--json", "--ground-truth"]
    assert run([*command, str(folders / "truth")]) == 0
    depth = capsys.readouterr().out
    assert run([*command, str(folders / "cameras.json")]) == 0
    cameras = capsys.readouterr().out
    assert json.loads(cameras)["cameras"]["placed"] == 6
    assert "right/x.jpg" in json.loads(cameras)["cameras"]["by_view"]
    assert "right/x.jpg" in json.loads(depth)["depth"]["stages"]["refined"]["views"]
    said = (out / "refdepth.log").read_text()
    for text in (page, rows, depth, cameras, said):
        assert "right_x" not in text
        assert "left_" not in text


def test_a_checkpoint_folder_gives_the_prior(base: Path, tmp_path: Path) -> None:
    save_depth_anything(tmp_path / "network")
    command = ["reconstruct", str(base / "photos"), str(tmp_path / "out"), "--until", "scale"]
    command += ["--depth-model", str(tmp_path / "network")]
    assert run([*command, "--model", str(base / "out/sfm/sparse")]) == 0
    results = Results(Workspace(tmp_path / "out"))
    manifest = results.manifest("depth")
    assert manifest is not None
    assert manifest.inputs["model"] == "local"
    assert len(manifest.inputs["revision"]) >= 12
    assert np.isfinite(results.prior(results.scene.names[0])).all()


def test_auto_says_everywhere_that_it_falls_back_to_the_sweep(
    base: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    out = tmp_path / "out"
    command = ["reconstruct", str(base / "photos"), str(out), "--until", "depth"]
    assert run([*command, "--model", str(base / "out/sfm/sparse")]) == 0
    note = "built-in sweep is used instead"
    assert note in " ".join(capsys.readouterr().out.split())
    assert note in (out / "refdepth.log").read_text()
    manifest = Results(Workspace(out)).manifest("depth")
    assert manifest is not None
    assert any(note in warning for warning in manifest.summary["warnings"])
    assert manifest.inputs["prior"] == "sweep"


def test_status_shows_every_stage(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["status", str(base / "out" / "refine"), "--json", "--verify"]) == 0
    rows = json.loads(capsys.readouterr().out)["stages"]
    assert [row["state"] for row in rows] == ["done"] * 6
    assert run(["status", str(base / "out")]) == 0
    assert "6 views" in capsys.readouterr().out


def test_from_python_the_run_is_the_same(base: Path, tmp_path: Path) -> None:
    results = refdepth.reconstruct(
        base / "photos", tmp_path / "out", depth_model="sweep", settings={"refine.iterations": 2}
    )
    assert (tmp_path / "out" / "report.html").is_file()
    assert results.views("refine") == Results(Workspace(base / "out")).views("refine")
    for name in results.views("refine"):
        file = f"refine/{name}.npz"
        assert (tmp_path / "out" / file).read_bytes() == (base / "out" / file).read_bytes()
    assert len(results.cloud()) > 5_000


def test_a_first_round_is_shown_in_the_photos_grid(base: Path, room: SyntheticScene) -> None:
    results = Results(Workspace(base / "out"))
    for name, view in zip(results.scene.names, room.views, strict=True):
        first, scaled = results.first_round(name), results.scaled(name)
        assert first.depth.shape == scaled.shape == results.scene[name].camera.shape
        assert np.array_equal(first.depth > 0, scaled > 0)
        assert name.split(".")[0] == view.name.split(".")[0]


def test_cameras_twice_and_views_that_are_not_there_are_refused_from_python(base: Path) -> None:
    with pytest.raises(ConfigurationError, match="give cameras twice"):
        refdepth.reconstruct(base / "photos", base / "no", model=base, poses=base)
    with pytest.raises(ConfigurationError, match="hgih"):
        refdepth.reconstruct(base / "photos", base / "no", quality="hgih")
    scene = Results(Workspace(base / "out")).scene
    with pytest.raises(InputError, match="no scaled depth map"):
        refdepth.refine_scene(scene, {}, views=["view_000.png"])
