"""One small reconstruction through the command line, and what may happen to it afterwards."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from tiny_checkpoints import save_depth_anything

from refdepth.cli.main import run
from refdepth.fusion import FusionSettings, check_view
from refdepth.io.ply import read_ply_points
from refdepth.matching.neighbours import select_sources
from refdepth.pipeline.results import Results
from refdepth.pipeline.workspace import Workspace
from refdepth.synthetic import SyntheticScene, make_scene
from refdepth.types.camera import camera_center

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
    scene, settings = results.scene, FusionSettings()
    for name in scene.names:
        sources = select_sources(scene, scene[name], settings.neighbours)
        found = check_view(scene[name], [scene[s] for s in sources], results.refined, settings)
        stored = results.fused(name)
        np.testing.assert_array_equal(stored.valid, found.mask)
        np.testing.assert_allclose(stored.depth, found.depth, rtol=1e-5)
        np.testing.assert_allclose(stored.confidence, found.confidence, atol=0.003)
        np.testing.assert_array_equal(results.consistent(name), found.mask)
        assert 0.3 < found.mask.mean() < 1


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
    assert changed == {f"refine/{lost.name}", f"refine/{lost.stem}.json", "refine/manifest.json"}
    assert lost.read_bytes() == content


def test_a_stage_made_again_gives_the_same_bytes(copy: Path) -> None:
    out = copy / "out"
    before = {p: p.read_bytes() for p in [*out.glob("scale/*.npz"), *out.glob("fuse/*.ply")]}
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


def test_maps_in_metres_give_the_scene_its_unit(base: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ["reconstruct", str(base / "photos"), str(out), "--until", "scale"]
    command += ["--depth-maps", str(base / "exact"), "--depth-kind", "metric"]
    assert run([*command, "--model", str(base / "out/sfm/sparse")]) == 0
    results = Results(Workspace(out))
    manifest = results.manifest("scale")
    assert manifest is not None
    true = [np.load(path)["cam_from_world"] for path in sorted((base / "exact").glob("*.npz"))]
    centers = np.array([camera_center(pose) for pose in true])
    found = np.array([view.center for view in results.scene.views])
    metres = np.linalg.norm(centers[-1] - centers[0]) / np.linalg.norm(found[-1] - found[0])
    # Cameras from photos this small are about a hundredth off.
    assert manifest.summary["metres_per_unit"] == pytest.approx(metres, rel=0.02)


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
