"""Depth seen from another view, worked out by hand."""

import numpy as np

from refdepth.geometry.working_view import WorkingView
from refdepth.refine.settings import ConsistencySettings
from refdepth.refine.transfer import Transferred, agreement, disagreement, opinions, transfer
from refdepth.types.camera import PinholeCamera, pose_matrix
from refdepth.types.depth_map import DepthMap
from refdepth.types.scene import PosedImage

CAMERA = PinholeCamera(K=np.array([[40.0, 0, 20], [0, 40, 15], [0, 0, 1]]), width=40, height=30)


def _view(position, mask=None) -> WorkingView:
    photo = PosedImage(
        camera=CAMERA,
        cam_from_world=pose_matrix(np.eye(3), -np.asarray(position, float)),
        image=np.zeros((30, 40, 3), np.uint8),
        mask=mask,
    )
    return WorkingView.of(photo, max_pixels=10**6)


def _map(depth, confidence=1.0) -> DepthMap:
    depth = np.broadcast_to(np.asarray(depth, np.float32), CAMERA.shape).copy()
    return DepthMap(depth=depth, confidence=np.full(CAMERA.shape, confidence, np.float32))


def test_a_wall_seen_from_further_back_is_nearer_to_the_reference():
    seen = transfer(_view([0, 0, 1]), [_view([0, 0, 0])], [_map(4.0, 0.7)])
    known = seen.depth[0] > 0
    assert known.mean() > 0.5
    np.testing.assert_allclose(seen.depth[0][known], 3.0, rtol=1e-6)
    np.testing.assert_allclose(seen.confidence[0][known], 0.7, rtol=1e-6)


def test_a_sideways_step_shifts_by_the_parallax():
    depth = np.full(CAMERA.shape, 4.0)
    depth[:, 8:13] = 4.2
    depth[:, 13] = 0.0
    seen = transfer(_view([0.5, 0, 0]), [_view([0, 0, 0])], [_map(depth)])
    assert np.all(seen.depth[0][:, 5] == np.float32(4.2))  # 10.5 - 40 * 0.5 / 4.2 = 5.7
    assert np.all(seen.depth[0][:, 20] == 4.0)


def test_pixels_on_a_depth_step_are_left_out_and_slopes_are_not():
    depth = np.full(CAMERA.shape, 4.0)
    depth[:, 20:] = 5.0
    depth *= 1.02 ** np.arange(30)[:, None]
    seen = transfer(_view([0, 0, 0]), [_view([0, 0, 0])], [_map(depth)]).depth[0]
    assert np.all(seen[:, 19:21] == 0)
    assert np.all(seen[:, :19] > 0)
    assert np.all(seen[:, 21:] > 0)


def test_what_a_neighbours_mask_leaves_out_says_nothing():
    mask = np.ones(CAMERA.shape, bool)
    mask[5:20, 10:30] = False
    depth = np.full(CAMERA.shape, 4.0)
    depth[5:20, 10:30] = 2.0  # a person before a wall, masked
    seen = transfer(_view([0, 0, 0]), [_view([0, 0, 0], mask)], [_map(depth)])
    assert not seen.depth[0][5:20, 10:30].any()
    assert not seen.confidence[0][5:20, 10:30].any()
    assert (seen.depth[0][22:] == 4.0).all()


def test_the_nearer_of_two_surfaces_wins():
    depth = np.full(CAMERA.shape, 8.0)
    depth[:, :20] = 2.0
    seen = transfer(_view([-0.5, 0, 0]), [_view([0, 0, 0])], [_map(depth)])
    # The near half moves right by 10 pixels and covers far columns 17.5 to 27.5 of the far half.
    assert np.all(seen.depth[0][:, 12:29] == 2.0)


def _transferred(ratios, confidence=1.0) -> Transferred:
    depth = np.asarray(ratios, np.float32).reshape(-1, 1, 1) * 2
    return Transferred(depth=depth, confidence=np.full_like(depth, confidence))


def test_agreement_counts_half_at_the_tolerance_and_nothing_where_unknown():
    depth = np.full((1, 1), 2.0, np.float32)
    near = _transferred([1.0, np.exp(0.01), np.exp(-0.01), 0.0])
    np.testing.assert_allclose(agreement(near, depth, 0.01), 2.0, rtol=1e-4)
    assert agreement(near, np.zeros((1, 1), np.float32), 0.01) == 0


def test_disagreement_tells_behind_from_before():
    depth = np.full((1, 1), 2.0, np.float32)
    behind, before = disagreement(_transferred([1.5, 1.4, 0.5, 1.0]), depth, 0.05)
    np.testing.assert_allclose([behind, before], [[[2 / 5]], [[1 / 5]]], rtol=1e-6)


def test_another_surface_has_no_opinion_and_a_carried_one_little():
    settings = ConsistencySettings(weight=0.5, least_confidence=0.05, limit=0.25, unsure_limit=4.0)
    at_two = np.full((1, 1), 2.0, np.float32)
    values, weights = opinions(_transferred([1.1, 1.4, 0.0], confidence=1.0), at_two, settings)
    np.testing.assert_allclose(values[0], np.log(1.1), rtol=1e-5)
    np.testing.assert_allclose(weights.ravel(), [0.5, 0, 0], rtol=1e-6)
    # Who is unsure may be as far off as priors are: log 1.4 = 0.34 < 4 * 0.1 < log 1.7 = 0.53.
    carried = _transferred([1.1, 1.4, 1.7], confidence=0.0)
    _, weights = opinions(carried, at_two, settings, typical=0.1)
    np.testing.assert_allclose(weights.ravel(), [0.05, 0.05, 0], rtol=1e-6)
    _, weights = opinions(carried, at_two, settings, typical=0.01)
    np.testing.assert_allclose(weights.ravel(), [0.05, 0, 0], rtol=1e-6)
