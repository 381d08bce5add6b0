"""Agreement with independent scoring scripts on real photos, where both are at hand."""

import importlib.util
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from refdepth.evaluation import align_by_points, evaluate_cloud, evaluate_depth, true_cloud
from refdepth.evaluation.alignment import robust_sim3
from refdepth.evaluation.ground_truth import open_ground_truth
from refdepth.io.colmap_model import read_scene
from refdepth.io.ply import write_ply
from refdepth.types.cloud import PointCloud
from refdepth.types.scene import Scene

pytestmark = pytest.mark.shared


def script(folder: Path, name: str):
    spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """Three views of the scene with truth, and the folder of the scripts."""
    root = os.environ.get("REFDEPTH_SCENES")
    if not root:
        pytest.skip("set REFDEPTH_SCENES to a folder with hololens/{gt,ref/dense}")
    photos = Path(root) / "hololens"
    scripts = Path(os.environ.get("REFDEPTH_SCORE", Path(root).parent / "score"))
    dense = photos / "ref" / "dense"
    if not dense.is_dir() or not (scripts / "depth_eval.py").is_file():
        pytest.skip(f"needs {dense} and depth_eval.py in {scripts} (REFDEPTH_SCORE)")
    scene = read_scene(dense / "sparse", dense / "images")
    folder = tmp_path_factory.mktemp("agreement")
    (folder / "gt").mkdir()
    for name in scene.names[::15]:
        shutil.copy(photos / "gt" / f"{Path(name).stem}.npz", folder / "gt")
    return scene, folder, dense / "sparse", scripts


def noisy_depth(scene: Scene, name: str) -> np.ndarray:
    """Smooth made-up depth around the SfM points' median, with holes."""
    view = scene[name]
    y, x = np.mgrid[: view.camera.height, : view.camera.width]
    depth = np.median(scene.sparse_depth(view).depth) * (1 + 0.3 * np.sin(x / 90) * np.cos(y / 70))
    depth[(x // 40 + y // 40) % 7 == 0] = 0
    return depth.astype(np.float32)


def test_depth_figures_agree_with_the_script(given):
    scene, folder, model, scripts = given
    depths = folder / "depths"
    depths.mkdir()
    for name in scene.names:
        np.savez(depths / f"{Path(name).stem}.npz", depth=noisy_depth(scene, name))
    theirs, scale = script(scripts, "depth_eval").main(
        str(folder), str(model), str(depths), fmt="npz", quiet=True
    )
    ours = evaluate_depth(
        scene, {"made up": lambda name: noisy_depth(scene, name)}, open_ground_truth(folder / "gt")
    )
    mean = ours["stages"]["made up"]["mean"]["all"]
    assert ours["scale"]["value"] == pytest.approx(scale, rel=1e-9)
    keys = ("abs_rel", "mae", "inlier_1.03", "delta_1", "coverage")
    assert [mean[key] for key in keys] == pytest.approx(list(theirs), rel=1e-6)


def test_cloud_figures_agree_with_the_script(given):
    scene, folder, model, scripts = given
    truth = open_ground_truth(folder / "gt")
    alignment = align_by_points(scene, truth)
    rng = np.random.default_rng(0)
    true = true_cloud(scene, truth, 0.01)
    noisy = true[::2] + rng.normal(scale=0.02, size=true[::2].shape)
    inverse = np.linalg.inv(alignment.matrix)
    points = (noisy @ inverse[:3, :3].T + inverse[:3, 3]).astype(np.float32)
    zero = np.zeros_like(points)
    write_ply(
        folder / "cloud.ply",
        PointCloud(
            points=points, normals=zero, colors=zero.astype(np.uint8), confidence=zero[:, 0]
        ),
    )
    theirs = script(scripts, "cloud_eval").main(
        str(folder), str(model), str(folder / "cloud.ply"), quiet=True
    )
    ours = evaluate_cloud(
        points, true, alignment=alignment, distances=(0.02, 0.05), spacing=0.01, crop=0.2
    )["scores"]
    for distance in ("0.02", "0.05"):
        for short, name in (("P", "precision"), ("R", "recall"), ("F", "f")):
            assert ours[f"{name}_{distance}"] == pytest.approx(
                theirs[f"{short}@{distance}"], abs=0.005
            )


def test_robust_similarity_agrees_with_pycolmap():
    from refdepth._pycolmap import pycolmap

    rng = np.random.default_rng(1)
    source = rng.normal(size=(50, 3))
    target = 0.3 * source[:, [1, 2, 0]] + [1, 2, 3] + rng.normal(scale=0.01, size=(50, 3))
    found = robust_sim3(source, target, method="points", rounds=1)
    other = pycolmap.estimate_sim3d(source, target)
    np.testing.assert_allclose(found.matrix[:3], other.matrix(), atol=1e-9)
