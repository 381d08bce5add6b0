"""Measures against values worked out by hand."""

import numpy as np
import pytest

from refdepth.evaluation.metrics import (
    changes,
    cloud_scores,
    depth_errors,
    edge_band,
    f_score,
    mean_over_views,
    sparsification,
    tanks_and_temples_f,
    thin,
)


def test_depth_errors_equal_values_worked_out_by_hand():
    truth = np.array([1.0, 2.0, 4.0, 5.0])
    estimate = np.array([1.02, 2.6, 3.0, 0.0])  # 2 % off, 30 % too far, 25 % too near, missing
    found = depth_errors(estimate, truth)
    assert found["pixels"] == 4
    assert found["coverage"] == 0.75
    assert found["abs_rel"] == pytest.approx((0.02 + 0.3 + 0.25) / 3)
    assert found["median_rel"] == pytest.approx(0.25)
    assert found["mae"] == pytest.approx((0.02 + 0.6 + 1.0) / 3)
    assert found["rmse"] == pytest.approx(np.sqrt((0.0004 + 0.36 + 1.0) / 3))
    logs = np.log([1.02, 1.3, 0.75])
    assert found["log_rmse"] == pytest.approx(np.sqrt((logs**2).mean()))
    assert found["inlier_1.03"] == 0.25
    assert found["delta_1"] == 0.25  # ratios 1.02, 1.3, 1.333: only the first is below 1.25
    assert found["delta_2"] == 0.75  # below 1.5625; the missing pixel is wrong
    assert found["delta_3"] == 0.75


def test_ratio_counts_too_near_and_too_far_alike():
    assert depth_errors([1.0, 1.0], [1.029, 1 / 1.029])["inlier_1.03"] == 1.0
    assert depth_errors([1.0, 1.0], [1.031, 1 / 1.031])["inlier_1.03"] == 0.0


def test_centimetres_are_only_given_where_metres_are_known():
    truth, estimate = np.full(4, 2.0), np.array([2.005, 2.03, 2.08, np.nan])
    assert not any("cm" in key for key in depth_errors(estimate, truth))
    found = depth_errors(estimate, truth, in_metres=True)
    assert (found["within_1cm"], found["within_5cm"], found["within_10cm"]) == (0.25, 0.5, 0.75)


@pytest.mark.parametrize("missing", [0.0, -1.0, np.nan, np.inf])
def test_every_kind_of_missing_depth_is_missing(missing):
    found = depth_errors([1.0, missing], [1.0, 1.0])
    assert found["coverage"] == 0.5
    assert found["abs_rel"] == 0.0
    assert found["inlier_1.03"] == 0.5


def test_a_view_without_any_estimate_has_no_error_and_no_good_pixel():
    found = depth_errors(np.zeros(3), np.ones(3))
    assert np.isnan(found["abs_rel"])
    assert found["inlier_1.03"] == found["coverage"] == 0.0


def test_unknown_truth_is_refused():
    with pytest.raises(ValueError, match="true depth"):
        depth_errors([1.0, 1.0], [1.0, 0.0])
    with pytest.raises(ValueError, match="estimate is"):
        depth_errors([1.0], [1.0, 1.0])


def test_mean_over_views_leaves_out_what_a_view_does_not_have():
    rows = [
        {"pixels": 10.0, "abs_rel": 0.1, "coverage": 1.0},
        {"pixels": 5.0, "abs_rel": float("nan"), "coverage": 0.0},
    ]
    assert mean_over_views(rows) == {"pixels": 15.0, "abs_rel": 0.1, "coverage": 0.5}


def test_edge_band_surrounds_the_step_and_ignores_holes_and_slopes():
    depth = np.full((9, 20), 2.0)
    depth[:, 10:] = 3.0
    depth[4, 3] = 0.0
    depth[:, :10] *= 1 + 0.01 * np.arange(10)
    band = edge_band(depth, ratio=1.1, radius_px=2)
    assert np.flatnonzero(band.any(axis=0)).tolist() == [7, 8, 9, 10, 11, 12]
    assert np.flatnonzero(edge_band(depth, radius_px=0).any(axis=0)).tolist() == [9, 10]


def test_changes_count_better_worse_gained_and_lost_pixels():
    truth = np.ones(6)
    before = [1.1, 1.1, 1.0, 0.0, 1.1, 1.1]
    after = [1.0, 1.2, 1.001, 1.1, 0.0, 0.9]
    assert changes(before, after, truth) == {
        "better": pytest.approx(1 / 6),
        "worse": pytest.approx(1 / 6),
        "gained": pytest.approx(1 / 6),
        "lost": pytest.approx(1 / 6),
    }


def test_sparsification_equals_values_worked_out_by_hand():
    error = np.array([1.0, 2.0, 3.0, 6.0])
    curve = sparsification(error, np.array([0.9, 0.1, 0.8, 0.2]), steps=4)
    # order by confidence: 1, 3, 6, 2; truly best: 1, 2, 3, 6
    np.testing.assert_allclose(curve.kept, [1, 0.75, 0.5, 0.25])
    np.testing.assert_allclose(curve.by_confidence, [3, 10 / 3, 2, 1])
    np.testing.assert_allclose(curve.oracle, [3, 2, 1.5, 1])
    assert curve.ause == pytest.approx((4 / 3 + 0.5) / 4)
    assert curve.ause_random == pytest.approx((0 + 1 + 1.5 + 2) / 4)
    assert curve.gain_of_dropping(0.5) == pytest.approx(1 / 3)


def test_a_perfect_confidence_has_no_area_and_a_constant_one_that_of_random():
    error = np.random.default_rng(0).exponential(size=1000)
    assert sparsification(error, -error).ause == pytest.approx(0, abs=1e-12)
    constant = sparsification(error, np.full(1000, 0.5))
    assert constant.ause == pytest.approx(constant.ause_random)
    with pytest.raises(ValueError, match="finite"):
        sparsification([np.nan], [1.0])


def test_cloud_scores_equal_values_worked_out_by_hand():
    truth = np.array([[0.0, 0, 0], [1, 0, 0], [2, 0, 0], [3, 0, 0]])
    cloud = np.array([[0.0, 0, 0.01], [1, 0, 0.04], [9, 0, 0]])
    found = cloud_scores(cloud, truth, distances=(0.02, 0.05), spacing=0.001)
    assert found["precision_0.02"] == pytest.approx(1 / 3)
    assert found["recall_0.02"] == 0.25
    assert found["f_0.02"] == pytest.approx(2 * (1 / 3) * 0.25 / (1 / 3 + 0.25))
    assert found["precision_0.05"] == pytest.approx(2 / 3)
    assert found["recall_0.05"] == 0.5
    cropped = cloud_scores(cloud, truth, distances=(0.05,), spacing=0.001, crop=0.2)
    assert cropped["precision_0.05"] == 1.0
    assert cropped["far_share"] == pytest.approx(1 / 3)


def test_thinning_takes_away_the_advantage_of_dense_good_points():
    good = np.random.default_rng(0).uniform(0, 0.009, (500, 3))
    cloud = np.concatenate([good, [[5.0, 0, 0]]])
    found = cloud_scores(cloud, np.zeros((1, 3)), distances=(0.02,), spacing=0.01)
    assert found["precision_0.02"] == 0.5
    np.testing.assert_allclose(thin(good, 1.0)[0], good.mean(axis=0))


def test_eth3d_accuracy_weights_voxels_not_points():
    truth = np.array([[0.0, 0, 0], [10, 0, 0]])
    cloud = np.array([[0.0, 0, 0], [0.1, 0, 0], [0.2, 0, 0], [10, 0, 3]])
    found = cloud_scores(cloud, truth, distances=(1.0,), spacing=0.01)
    assert found["precision_1"] == 0.75
    assert found["eth3d_accuracy_1"] == 0.5


def test_tanks_and_temples_thins_to_half_the_distance():
    truth = np.array([[0.0, 0, 0]])
    cloud = np.array([[0.0, 0, 0], [0.4, 0, 0], [3.0, 0, 0]])  # the first two share a voxel of 0.5
    found = tanks_and_temples_f(cloud, truth, 1.0)
    assert found == {"precision": 0.5, "recall": 1.0, "f": pytest.approx(2 / 3)}


def test_empty_clouds_have_no_score():
    found = cloud_scores(np.zeros((0, 3)), np.ones((2, 3)), distances=(1.0,), spacing=0.1)
    assert found["f_1"] == found["precision_1"] == found["recall_1"] == 0.0
    assert f_score(0, 0) == 0
