"""Houses under the sky through a whole run: photos, maps of a simulated network, masks, exports."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import maximum_filter

from refdepth.cli.exit_codes import ExitCode
from refdepth.cli.main import run
from refdepth.io.ply import read_ply
from refdepth.pipeline.items import ItemStore
from refdepth.pipeline.results import Results
from refdepth.pipeline.workspace import Workspace
from refdepth.synthetic.outdoors import make_outdoors
from refdepth.synthetic.scene import SyntheticScene
from refdepth.types.camera import transform

MASKED = 24
"""Columns at the left that the masks leave out."""


@pytest.fixture(scope="module")
def made() -> SyntheticScene:
    return make_outdoors(views=6, width=240, height=180)


@pytest.fixture(scope="module")
def out(made: SyntheticScene, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("outdoors")
    made.write_photos(folder / "photos")
    for part in ("maps", "masks"):
        (folder / part).mkdir()
    for index, view in enumerate(made.views):
        stem = Path(view.name).stem
        np.save(folder / "maps" / f"{stem}.npy", made.simulated_prior(index).values)
        mask = np.full(view.depth.shape, 255, np.uint8)
        mask[:, :MASKED] = 0
        Image.fromarray(mask).save(folder / "masks" / f"{stem}.png")
    command = ["reconstruct", str(folder / "photos"), str(folder / "out"), "--quality", "fast"]
    command += ["--depth-maps", str(folder / "maps"), "--depth-kind", "inverse_affine"]
    command += ["--masks", str(folder / "masks"), "--quiet"]
    assert run(command) == ExitCode.DONE
    return folder / "out"


@pytest.fixture(scope="module")
def truth(made: SyntheticScene, out: Path) -> dict[str, NDArray[np.float32]]:
    """Exact depth, 0 in the sky, at the rays of the undistorted photos' pixels."""
    scene = Results(Workspace(out)).scene
    assert len(scene) == len(made.views)
    found = {}
    for view, exact in zip(scene.views, made.views, strict=True):
        height, width = view.camera.shape
        pixels = np.stack(np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5), axis=-1)
        rays = view.camera.unproject(np.ones(height * width), pixels.reshape(-1, 2))
        x, y = (rays @ exact.camera.K.T)[:, :2].astype(int).T
        depth = exact.depth[y.clip(0, exact.camera.height - 1), x.clip(0, exact.camera.width - 1)]
        found[view.name] = depth.reshape(height, width)
    return found


@pytest.fixture(scope="module")
def true_sky(truth: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.bool_]]:
    """The sky, without what is next to something else: SfM's cameras are not quite the true."""
    return {name: maximum_filter(depth, 9) == 0 for name, depth in truth.items()}


def test_no_artifact_holds_infinity_and_the_sky_has_no_depth(
    out: Path, true_sky: dict[str, NDArray[np.bool_]]
) -> None:
    for stage in ("refine", "fuse"):
        for path in (out / stage).rglob("*.npz"):
            found = ItemStore(path.parent, "").arrays(path.stem)
            assert all(np.isfinite(v).all() for v in found.values() if v.dtype.kind == "f")
    results = Results(Workspace(out))
    for name, sky in true_sky.items():
        for found in (results.scaled(name), results.first_round(name).depth):
            assert np.isfinite(found).all()
            assert (found[sky] > 0).mean() < 0.02
        for final in (results.refined(name), results.fused(name)):
            assert (final.depth[sky] > 0).mean() < 0.002
            assert not final.confidence[sky & (final.depth == 0)].any()


def test_the_cloud_ends_at_the_farthest_surface(
    out: Path, truth: dict[str, NDArray[np.float32]]
) -> None:
    results = Results(Workspace(out))
    points = read_ply(out / "fuse" / "cloud.ply").points.astype(np.float64)
    for name, depth in truth.items():
        found = results.refined(name).depth
        both = (found > 0) & (depth > 0) & (depth < 30)
        scale = np.median(found[both] / depth[both])
        z = transform(results.scene[name].cam_from_world, points)[:, 2]
        assert z.max() < 1.05 * scale * depth.max()


def test_exports_mask_the_sky(out: Path, true_sky: dict[str, NDArray[np.bool_]]) -> None:
    kinds = ("graphdeco", "gsplat", "nerfstudio")
    command = ["export", str(out), "--quiet", "--to", "depth", "--depth-as", "exr"]
    assert run([*command, *(word for kind in kinds for word in ("--to", kind))]) == ExitCode.DONE
    for name, sky in true_sky.items():
        unmasked = sky.copy()
        unmasked[:, : MASKED + 2] = False
        for kind in kinds:
            for part in ("depth_masks", "confidence"):
                found = np.asarray(Image.open(out / "export" / kind / part / f"{name}.png"))
                assert (found[unmasked] > 0).mean() < 0.002
                assert (found[:, MASKED + 2 :] > 0).mean() > 0.5
        depth = np.asarray(
            Image.open(next((out / "export/graphdeco/depths").glob(f"{name[:-4]}*")))
        )
        assert (depth[unmasked] > 0).mean() < 0.002


def test_the_report_says_how_much_has_no_depth(
    made: SyntheticScene, out: Path, true_sky: dict[str, NDArray[np.bool_]]
) -> None:
    page = (out / "report.html").read_text()
    of_all = re.search(r"of all pixels, without depth</dt><dd>(\d+) % sky, (\d+) % masked<", page)
    assert of_all is not None
    sky = np.mean([(view.depth == 0)[:, MASKED:].mean() for view in made.views])
    assert int(of_all[1]) == pytest.approx(100 * sky * (1 - MASKED / 240), abs=4)
    assert int(of_all[2]) == pytest.approx(100 * MASKED / 240, abs=1)
    assert len(re.findall(r"Without depth</td>.*?% sky, \d+ % masked", page)) == len(made.views)
    for name in true_sky:
        record = json.loads((out / "refine" / f"{name}.json").read_text())["record"]
        assert record["sky_share"] > 0.3
        assert record["masked_share"] == pytest.approx(MASKED / 240, abs=0.01)
