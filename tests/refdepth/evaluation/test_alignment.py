"""Similarities from pairs and by ICP."""

import numpy as np
import pytest

from refdepth.evaluation.alignment import fit_sim3, icp, no_alignment, robust_sim3


def similarity(scale: float = 0.4) -> np.ndarray:
    angle = 0.7
    c, s = np.cos(angle), np.sin(angle)
    out = np.eye(4)
    out[:3, :3] = scale * np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])
    out[:3, 3] = [1.0, -2.0, 3.0]
    return out


def move(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def test_sim3_is_recovered_exactly():
    points = np.random.default_rng(0).normal(size=(10, 3))
    np.testing.assert_allclose(
        fit_sim3(points, move(similarity(), points)), similarity(), atol=1e-12
    )


def test_sim3_never_mirrors():
    points = np.random.default_rng(0).normal(size=(20, 3))
    found = fit_sim3(points, points * [1, 1, -1])
    assert np.linalg.det(found[:3, :3]) > 0


def test_undetermined_pairs_are_refused():
    line = np.outer(np.arange(5.0), [1, 2, 3])
    with pytest.raises(ValueError, match="line"):
        fit_sim3(line, line)
    with pytest.raises(ValueError, match="three"):
        fit_sim3(line[:2], line[:2])


def test_outliers_do_not_move_a_robust_alignment():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(100, 3))
    target = move(similarity(), points)
    target[:20] += rng.normal(scale=5, size=(20, 3))
    found = robust_sim3(points, target, method="points")
    np.testing.assert_allclose(found.matrix, similarity(), atol=1e-6)
    assert found.scale == pytest.approx(0.4)
    assert "100 SfM points" in found.describe()
    assert "no ICP" in found.describe()


def test_icp_removes_a_small_offset_and_says_so():
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:1:60j, 0:1:60j]
    surface = np.stack([x, y, 0.2 * np.sin(5 * x) * np.cos(4 * y)], axis=-1).reshape(-1, 3)
    box = np.concatenate([surface, surface[:, [2, 0, 1]]])
    cloud = box[rng.permutation(len(box))[:5000]] * 1.01 + [0.004, -0.003, 0.005]
    step = icp(cloud, box, (0.05, 0.03))
    exact = (cloud - [0.004, -0.003, 0.005]) / 1.01
    before = np.linalg.norm(cloud - exact, axis=1).mean()
    after = np.linalg.norm(step.apply(cloud) - exact, axis=1).mean()
    assert after < 0.2 * before
    assert step.scale == pytest.approx(1 / 1.01, rel=0.003)
    done = no_alignment().followed_by(step)
    assert "ICP with scale within 0.05, 0.03" in done.describe()
    assert len(done.to_dict()["icp"]) == 2


def test_icp_without_a_match_moves_nothing():
    step = icp(np.zeros((10, 3)) + 100, np.eye(3), (0.1,))
    np.testing.assert_array_equal(step.matrix, np.eye(4))
    assert step.icp[0]["fitness"] == 0


def test_no_alignment_says_so():
    assert no_alignment().describe() == "no alignment: the cloud is taken as it is; no ICP"
