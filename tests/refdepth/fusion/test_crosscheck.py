"""Which pixels a cloud is made of: neighbours that agree, contradict, or see nothing."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from wall_scene import FAR, HEIGHT, NEAR, VIEWS, WIDTH, changed, noted, off_surface

from refdepth.errors import InputError
from refdepth.fusion import FusionSettings, check_view, fuse, kernels
from refdepth.fusion.crosscheck import DepthCache
from refdepth.types.camera import transform
from refdepth.types.depth_map import DepthMap
from refdepth.types.scene import Scene


def test_what_one_view_alone_believes_is_left_out(wall):
    scene, maps = wall
    bump = maps["2.png"].depth.copy()
    bump[20:40, 10:30] *= 0.9
    cloud = fuse(scene, changed(maps, "2.png", depth=bump).__getitem__, FusionSettings())
    assert off_surface(cloud.points).max() < 0.02


def test_a_point_that_neighbours_see_through_is_left_out(wall):
    scene, maps = wall
    # Two views share the same mistake; the other three see the wall behind it.
    wrong = dict(maps)
    for name in ("1.png", "2.png"):
        xy, _ = scene[name].camera.project(
            transform(scene[name].cam_from_world, [[-0.6, -0.5, 3.0], [-0.2, 0.5, 3.0]])
        )
        (x0, y0), (x1, y1) = np.rint(xy).astype(int)
        depth = maps[name].depth.copy()
        depth[y0:y1, x0:x1] = 3.0
        wrong = changed(wrong, name, depth=depth)
    strict = FusionSettings()
    blind = FusionSettings(min_belief=0)
    assert (abs(fuse(scene, wrong.__getitem__, blind).points[:, 2] - 3) < 0.01).any()
    assert not (abs(fuse(scene, wrong.__getitem__, strict).points[:, 2] - 3) < 0.01).any()


def test_a_ramp_across_a_depth_step_needs_more_witnesses_than_a_surface(wall):
    scene, maps = wall
    # Two views interpolate across the board's edge: points that hang between board and wall.
    wrong = dict(maps)
    for name in ("1.png", "2.png"):
        depth = maps[name].depth.copy()
        edge = int(np.flatnonzero(depth[0] == NEAR)[0])
        depth[:, edge - 2 : edge + 2] = np.linspace(FAR, NEAR, 6, dtype=np.float32)[1:-1]
        wrong = changed(wrong, name, depth=depth)
    pair = [scene["1.png"]]
    loose = {"max_depth_ratio": 0.2, "max_reprojection_px": 5.0, "min_belief": 0.0}
    plain = FusionSettings(min_agreeing_steep=1, **loose)
    assert hanging(check_view(scene["2.png"], pair, wrong.__getitem__, plain)) > 0
    three = [scene["1.png"], scene["0.png"], scene["3.png"]]
    strict = FusionSettings(min_agreeing_steep=3, **loose)
    checked = check_view(scene["2.png"], three, wrong.__getitem__, strict)
    assert hanging(checked) == 0
    assert checked.mask[:, 10:30].mean() > 0.9  # the wall itself stays


def hanging(checked) -> int:
    """How many kept pixels lie between board and wall."""
    kept = checked.depth[checked.mask]
    return int(((kept > NEAR * 1.05) & (kept < FAR * 0.95)).sum())


def test_a_slanted_surface_is_not_steep_at_any_picture_size():
    slant = np.tan(np.radians(60))
    for focal in (100.0, 800.0):
        x = (np.arange(60) - 30) / focal
        depth = np.tile((1 / (1 - slant * x)).astype(np.float32), (20, 1))
        limit = 4 * np.tan(np.radians(75)) / focal
        assert not kernels.near_steps(depth, 2, limit).any()
        depth[:, 30:] *= 1.5
        marked = kernels.near_steps(depth, 2, limit)
        assert marked[:, 28:32].all()
        assert not marked[:, :28].any()


def test_specks_go_and_thin_connected_things_stay():
    depth = np.full((60, 80), 2.0, np.float32)
    keep = np.zeros(depth.shape, bool)
    keep[5, 3:40] = True  # a wire, 37 px
    keep[20:24, 20:24] = True  # a speck of 16 px
    np.fill_diagonal(keep[30:58, 30:58], True)  # a slanted wire, 28 px
    keep[40:60, :20] = True
    depth[45:48, 5:8] = 1.0  # a speck in front of a surface, 9 px
    kernels.small_segments(depth, keep, 0.02, 20)
    assert keep[5, 3:40].all()
    assert keep[30:58, 30:58].diagonal().all()
    assert not keep[20:24, 20:24].any()
    assert not keep[45:48, 5:8].any()
    assert keep.sum() == 37 + 28 + 20 * 20 - 9


def test_what_claims_no_confidence_gives_no_point(wall):
    scene, maps = wall
    doubtful = {
        name: DepthMap(depth=m.depth, confidence=np.where(m.depth == FAR, m.confidence, 0))
        for name, m in maps.items()
    }
    cloud = fuse(scene, doubtful.__getitem__, FusionSettings(min_confidence=0.05))
    assert len(cloud) > 0
    assert (cloud.points[:, 2] > 3).all()


def test_a_nearer_surface_hides_and_does_not_contradict(wall):
    scene, maps = wall
    checked = check_view(
        scene["0.png"], [scene["4.png"]], maps.__getitem__, FusionSettings(min_agreeing=0)
    )
    assert checked.against.sum() == 0


def test_who_knows_little_says_little_against_a_pixel(wall):
    """Two of three neighbours see through what one confirms."""
    scene, maps = wall
    wrong = dict(maps)
    for name in ("0.png", "4.png"):
        wrong = changed(wrong, name, depth=maps[name].depth * np.float32(1.2))
    others = [scene[name] for name in ("1.png", "0.png", "4.png")]

    def checked(doubt: float):
        said = dict(wrong)
        for name in ("0.png", "4.png"):
            sure = np.full_like(maps[name].confidence, 1 - doubt)
            said[name] = DepthMap(depth=wrong[name].depth, confidence=sure)
        sure = np.full_like(maps["2.png"].confidence, 0.5)
        for name in ("1.png", "2.png"):
            said[name] = DepthMap(depth=maps[name].depth, confidence=sure)
        return check_view(scene["2.png"], others, said.__getitem__, FusionSettings())

    flat = (maps["2.png"].depth == FAR) & (checked(0.4).against > 1.1)
    assert flat.mean() > 0.2
    assert not checked(0.4).mask[flat].any()  # 1.0 in favour, 1.2 against
    assert checked(0.6).mask[flat].mean() > 0.9  # 1.0 in favour, 0.8 against


def test_where_nobody_else_looks_a_pixel_is_believed_as_far_as_it_believes_itself(wall):
    scene, maps = wall
    for sure, kept in ((0.6, True), (0.4, False)):
        own = DepthMap(
            depth=maps["2.png"].depth, confidence=np.full_like(maps["2.png"].confidence, sure)
        )
        checked = check_view(scene["2.png"], [], {"2.png": own}.__getitem__, FusionSettings())
        assert checked.mask.any() == kept


def test_what_a_mask_leaves_out_gives_no_point_and_no_witness(wall, tmp_path):
    scene, maps = wall
    mask = np.full((HEIGHT, WIDTH), 255, np.uint8)
    mask[: HEIGHT // 2] = 0
    Image.fromarray(mask).save(tmp_path / "mask.png")
    everywhere = Scene(
        [replace(view, mask_path=tmp_path / "mask.png") for view in scene.views], scene.points
    )
    cloud = fuse(everywhere, maps.__getitem__, FusionSettings())
    assert len(cloud) > 0
    assert (cloud.points[:, 1] > 0).all()
    own_only = Scene(
        [
            replace(v, mask_path=tmp_path / "mask.png" if v.name == "2.png" else None)
            for v in scene.views
        ],
        scene.points,
    )
    agreeing = np.zeros((HEIGHT, WIDTH))
    fuse(
        own_only,
        maps.__getitem__,
        FusionSettings(),
        on_view=lambda name, checked: agreeing.__iadd__(checked.agreeing if name == "1.png" else 0),
    )
    assert agreeing[: HEIGHT // 2].max() == VIEWS - 2
    assert agreeing[HEIGHT // 2 + 1 :].max() == VIEWS - 1


def test_depth_of_another_size_is_refused(wall):
    scene, maps = wall
    small = DepthMap(depth=np.ones((4, 5), np.float32), confidence=np.ones((4, 5), np.float32))
    with pytest.raises(InputError, match="5x4"):
        fuse(scene, {**maps, "3.png": small}.__getitem__, FusionSettings())


def test_cache_forgets_the_least_recently_used(wall):
    scene, maps = wall
    load, loads = noted(maps)
    two = 2.5 * maps["0.png"].depth.nbytes * 2 / 2**20
    cache = DepthCache(load, scene, two)
    for name in ("0.png", "1.png", "0.png", "2.png", "0.png", "1.png"):
        cache(name)
    assert loads == ["0.png", "1.png", "2.png", "1.png"]
