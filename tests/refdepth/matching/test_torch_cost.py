"""The cost volume as tensors: against the loops, windows compared one by one, and on a device
without numbers, where nothing can be read back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage

from refdepth.matching import cost_kernels, torch_cost
from refdepth.matching.cost_kernels import MIN_VARIANCE, MISSING_COST, TILE
from tests.support.tensor_memory import TensorMemory

Map = np.ndarray
MIB = 2**20


def picture(rng: np.random.Generator, shape: tuple[int, int]) -> Map:
    smooth = ndimage.gaussian_filter(rng.random(shape), 1.0)
    return ((smooth - smooth.min()) / max(np.ptp(smooth), 1e-9)).astype(np.float32)


@dataclass
class Case:
    """A reference, sources of their own sizes, with masks, and where hypotheses lie in them."""

    gray: Map
    depth: Map
    factors: Map
    A: Map
    b: Map
    images: Map
    usable: Map
    sizes: list[tuple[int, int]]
    side: int = 5
    support: float = 0.1
    best: int = 1

    @classmethod
    def of(
        cls, shape: tuple[int, int], sizes: list[tuple[int, int]], steps: int = 3, **how: Any
    ) -> Case:
        rng = np.random.default_rng(4)
        largest = np.max(sizes, axis=0).clip(2)
        images = np.full((len(sizes), *largest), 0.3, np.float32)
        usable = np.ones(images.shape, bool)
        A, b = np.empty((len(sizes), 3, 3), np.float32), np.empty((len(sizes), 3), np.float32)
        for i, (height, width) in enumerate(sizes):
            images[i, :height, :width] = picture(rng, (height, width))
            usable[i, :height, :width] = rng.random((height, width)) < 0.9
            scale = [width / shape[1], height / shape[0]]
            A[i] = [[scale[0], 0.02, -1], [-0.03, scale[1], 1], [4e-4, 2e-4, 1]]
            b[i] = rng.normal(0, [8, 3, 0.1])
        depth = 2 + 0.01 * np.arange(shape[1]) + 0.01 * rng.random(shape)
        factors = np.exp(np.linspace(-0.2, 0.2, steps)).astype(np.float32)
        gray = picture(rng, shape)
        return cls(gray, depth.astype(np.float32), factors, A, b, images, usable, sizes, **how)

    @property
    def mask(self) -> np.ndarray:
        """Of the reference: some blocks are left out."""
        y, x = np.indices(self.gray.shape)
        return (x // 6 + y // 4) % 5 > 0

    def by_loops(self) -> tuple[Map, Map, Map]:
        """Volume, mean and mean square."""
        height, width = self.gray.shape
        weights = np.zeros((height, -(-width // TILE), self.side, self.side * TILE), np.float32)
        mean, square = np.zeros_like(self.gray), np.zeros_like(self.gray)
        cost_kernels.describe_windows(self.gray, self.mask, self.support, weights, mean, square)
        volume = np.empty((height, width, len(self.factors)), np.float32)
        cost_kernels.cost_volume(
            self.gray,
            weights,
            mean,
            np.maximum(square - mean**2, MIN_VARIANCE),
            self.depth,
            self.factors,
            self.A,
            self.b,
            self.images.reshape(len(self.sizes), -1),
            self.usable.reshape(len(self.sizes), -1),
            np.array(self.sizes, np.int64),
            self.images.shape[2],
            self.best,
            (0,) * self.side,
            volume,
        )
        return volume, mean, square

    def by_tensors(self, device: str = "cpu", **how: int) -> tuple[torch.Tensor, ...]:
        parts = self.gray, self.depth, self.factors, self.A, self.b, self.images, self.usable
        gray, *on = [torch.from_numpy(part).to(device) for part in parts]
        mask = torch.from_numpy(self.mask).to(device)
        weights, mean, square = torch_cost.describe_windows(gray, mask, self.side, self.support)
        variance = (square - mean**2).clamp_min(MIN_VARIANCE)
        given = gray, weights, mean, variance, *on, self.sizes, self.best
        return torch_cost.cost_volume(*given, **how), mean, square

    def check(self, **how: int) -> Map:
        """The volume, the same both ways but for places on the very edge of what is seen."""
        found, mean, square = self.by_tensors(**how)
        volume, loops_mean, loops_square = self.by_loops()
        np.testing.assert_allclose(mean, loops_mean, atol=1e-6)
        np.testing.assert_allclose(square, loops_square, atol=1e-6)
        assert found.dtype == torch.float32
        assert found.is_contiguous()
        assert found.shape == volume.shape
        off = np.abs(found.numpy() - volume)
        assert np.mean(off > 1e-4) < 1e-3
        assert off.mean() < 1e-5
        return volume


@pytest.mark.parametrize(
    ("side", "support", "best"), [(3, 0.1, 1), (5, 0.1, 2), (5, 0.0, 3), (7, 0.1, 3)]
)
def test_agrees_with_the_loops(side: int, support: float, best: int) -> None:
    sizes = [(48, 70), (40, 60), (55, 66)]
    volume = Case.of((45, 70), sizes, side=side, support=support, best=best).check()
    assert 0.005 < np.mean(volume == np.float32(MISSING_COST)) < 0.7


@pytest.mark.parametrize("shape", [(45, 1), (1, 45), (1, 1), (2, 3)])
@pytest.mark.parametrize("sizes", [[(40, 50)], [(40, 50), (33, 60)]])
def test_narrow_pictures(shape: tuple[int, int], sizes: list[tuple[int, int]]) -> None:
    Case.of(shape, sizes, steps=1).check()


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1)])
def test_a_source_of_one_pixel_is_never_seen(size: tuple[int, int]) -> None:
    volume = Case.of((20, 30), [size]).check()
    assert np.all(volume == np.float32(MISSING_COST))


def test_a_masked_source_has_no_vote_and_the_others_keep_theirs() -> None:
    case = Case.of((30, 40), [(30, 40), (33, 44)], best=2)
    case.usable[0] = False
    volume = case.check()
    case.usable[1] = False
    assert np.all(case.check() == np.float32(MISSING_COST))
    assert volume.min() < MISSING_COST


def test_plain_windows_cost_as_the_loops_say() -> None:
    """Of either picture, or of both: those that are all plain do not correlate."""
    case = Case.of((30, 40), [(30, 40)])
    case.gray[:, :20] = 0.5
    case.images[:, :, 5:15] = 0.25
    found, loops = case.by_tensors()[0].numpy(), case.by_loops()[0]
    np.testing.assert_allclose(found, loops, atol=2e-4)
    plain = found[2:-2, 5:10]
    assert np.all((np.abs(plain - 1) < 1e-4) | (plain == np.float32(MISSING_COST)))


def test_points_behind_a_camera_and_no_depth_are_missing() -> None:
    """Rays of one half run backwards in the source; pixels of depth 0, below 0 and unknown."""
    case = Case.of((30, 40), [(30, 40), (25, 44)], best=1)
    case.A[0, 2], case.A[1, 2] = [0.1, 0, -2], [-0.1, 0, 2]
    case.depth[3], case.depth[4], case.depth[5], case.depth[6] = 0, -1, np.nan, np.inf
    volume = case.check()
    assert np.all(volume[3:7] == np.float32(MISSING_COST))
    case.b[:, 2] = -100
    assert np.all(case.check() == np.float32(MISSING_COST))


@pytest.mark.parametrize("chunk_bytes", [1, 150_000, 10**9])
def test_chunks_make_no_difference(chunk_bytes: int) -> None:
    case = Case.of((30, 40), [(30, 40), (28, 44)], steps=7, best=2)
    found, *_ = case.by_tensors(chunk_bytes=chunk_bytes)
    np.testing.assert_array_equal(found, case.by_tensors()[0])


def test_a_window_is_compared_as_written_out() -> None:
    """A shift by whole pixels: the source's windows are pieces of the picture itself."""
    rng = np.random.default_rng(0)
    gray, other = rng.random((2, 12, 14), dtype=np.float32)
    case = Case.of((12, 14), [(12, 14)], steps=1)
    case.gray, case.images[0], case.depth[:], case.factors[:] = gray, other, 1, 1
    case.A[0], case.b[0] = np.eye(3), (2, 1, 0)
    case.usable[:] = True
    found = case.by_tensors()[0][..., 0].numpy()
    y, x = 6, 5
    g, j = gray[4:9, 3:8].astype(float), other[5:10, 5:10].astype(float)
    w = np.exp(-np.abs(g - gray[y, x]) / 0.1)
    w /= w.sum()
    g, j = g - (w * g).sum(), j - (w * j).sum()
    zncc = (w * g * j).sum() / np.sqrt((w * g * g).sum() * (w * j * j).sum())
    np.testing.assert_allclose(found[y, x], np.clip(1 - zncc, 0, 1.5), atol=1e-4)
    # The centres of the outermost pixels are no longer inside.
    missing = np.ones(gray.shape, bool)
    missing[:-2, :-3] = False
    np.testing.assert_array_equal(found == np.float32(MISSING_COST), missing)


def test_memory_stays_within_the_limit() -> None:
    case = Case.of((60, 80), [(60, 80)] * 4, steps=21, best=3)
    limit = 2 * MIB
    with TensorMemory() as memory:
        volume, *_ = case.by_tensors(chunk_bytes=limit)
    assert memory.peak < 4 * volume.numel() + 4 * 50 * case.gray.size + limit + MIB


def test_nothing_is_read_back() -> None:
    case = Case.of((30, 40), [(30, 40), (25, 44)], side=3, best=2)
    assert case.by_tensors("meta")[0].shape == (30, 40, 3)
