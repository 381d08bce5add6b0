"""The loops of `cost_kernels` in tensor operations: on any device, and nothing waits for it.

Hypotheses are compared some at a time, source by source, so that a source's size is a plain number
and what is alive stays within a limit.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional

from refdepth.device_memory import in_smaller_pieces
from refdepth.matching.cost_kernels import LARGEST_COST, MIN_VARIANCE, MISSING_COST
from refdepth.matching.warp_kernels import NEAREST

Tensor = torch.Tensor

CHUNK_BYTES = 256 * 2**20
"""Memory for the hypotheses that are looked at together, beside their volume."""
ALIVE = 9
"""Numbers of four bytes a pixel and hypothesis that comparing one source needs at once."""


def describe_windows(
    gray: Tensor, usable: Tensor, side: int, support_gray: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The windows of a picture (H, W): their weights, which sum to 1, bilateral in the grey level
    (`support_gray` <= 0: equal), 0 outside the picture and, for pixels that are `usable` (H, W),
    where those around are not; the weighted mean and mean square (H, W) of the grey levels less the
    pixel's own.

    Weights (side * side, 2, H, W) are those of each place of the window, row by row, and the same
    times the grey level there less the pixel's own.
    """
    inside = _places(torch.ones_like(gray), side)
    inside = inside * (_places(usable.to(gray.dtype), side) + (~usable).to(gray.dtype)).clamp_(
        max=1
    )
    weights = gray.new_empty((side * side, 2, *gray.shape))
    share, less = weights.unflatten(0, (side, side)).unbind(2)
    torch.sub(_places(gray, side), gray, out=less)
    if support_gray > 0:
        torch.abs(less, out=share).mul_(-1 / support_gray).exp_().mul_(inside)
    else:
        share.copy_(inside)
    share.div_(share.sum(dim=(0, 1)))
    square = torch.zeros_like(gray)
    for i in range(side):
        for j in range(side):
            square.addcmul_(share[i, j], less[i, j].square())
    less.mul_(share)
    mean = less.sum(dim=(0, 1))
    return weights, mean, square


def cost_volume(
    gray: Tensor,
    weights: Tensor,
    mean: Tensor,
    variance: Tensor,
    depth: Tensor,
    factors: Tensor,
    A: Tensor,
    b: Tensor,
    images: Tensor,
    usable: Tensor,
    sizes: Sequence[tuple[int, int]],
    best_sources: int,
    *,
    chunk_bytes: int | None = None,
) -> Tensor:
    """1 - ZNCC in [0, 1.5] at depth * factors[d] (H, W, D), the mean of the `best_sources` of S
    sources, at most S: `cost_kernels.cost_volume`.

    `mean`, `variance` (H, W) and `weights`, as `describe_windows` made them, describe the windows
    of the reference, `gray` (H, W). A (S, 3, 3), b (S, 3): source pixel of (x, y) at z is
    A (x, y, 1) z + b. `images` and `usable` (S, Hs, Ws) hold the sources padded to the largest;
    `sizes` is each one's height and width. Beside the volume about `chunk_bytes` are needed, or
    what one hypothesis takes.
    """
    height, width = gray.shape
    volume = gray.new_empty((height, width, len(factors)))
    if chunk_bytes is None:
        chunk_bytes = in_smaller_pieces(CHUNK_BYTES)
    each = 4 * gray.numel() * (ALIVE + best_sources)
    at_once = max(1, chunk_bytes // max(each, 1))
    for first in range(0, len(factors), at_once):
        z = depth * factors[first : first + at_once, None, None]
        kept: list[Tensor] = []
        for s, size in enumerate(sizes):
            warped, seen = _warp(z, A[s], b[s], images[s], usable[s], size)
            cost = _compare(warped, seen, weights, mean, variance)
            for k, smaller in enumerate(kept):
                kept[k], cost = torch.minimum(smaller, cost), torch.maximum(smaller, cost)
            if len(kept) < best_sources:
                kept.append(cost)
            del warped, seen, cost  # or they would be alive beside the next source's
        total = kept[0]
        for more in kept[1:]:
            total += more
        volume[..., first : first + at_once] = total.div_(best_sources).permute(1, 2, 0)
        del z, kept, total
    return volume


def _warp(
    z: Tensor, A: Tensor, b: Tensor, image: Tensor, usable: Tensor, size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """A source as each pixel at depth `z` (N, H, W) shows it, bilinear, what lies outside being
    moved to its border; and where it is seen: ahead, inside, and the nearest pixel usable."""
    height, width = size
    y = torch.arange(z.shape[1], dtype=z.dtype, device=z.device)[:, None] + 0.5
    x = torch.arange(z.shape[2], dtype=z.dtype, device=z.device) + 0.5
    along = torch.addcmul(b[2], z, A[2, 0] * x + (A[2, 1] * y + A[2, 2]))
    seen = (z > 0) & (along > float(NEAREST) * z)
    along = torch.where(seen, along.reciprocal_(), 0)
    place, half = z.new_empty((*z.shape, 2)), z.new_full((), 0.5)
    for axis, length in enumerate((width, height)):
        at = torch.addcmul(b[axis], z, A[axis, 0] * x + (A[axis, 1] * y + A[axis, 2]))
        at.mul_(along)
        seen &= (at > 0.5) & (at < length - 0.5)
        # NaN is moved to the border as well.
        torch.where(at > 0.5, at, half, out=place[..., axis])
    del along, at
    place[..., 0].clamp_(max=width - 0.5)
    place[..., 1].clamp_(max=height - 0.5)
    pixel = place[..., 1].int().mul_(image.shape[1]).add_(place[..., 0].int())
    seen &= usable.flatten().index_select(0, pixel.flatten()).view_as(seen)
    del pixel
    place[..., 0].mul_(2 / width).sub_(1)
    place[..., 1].mul_(2 / height).sub_(1)
    warped = functional.grid_sample(
        image[None, None, :height, :width],
        place.flatten(0, 1)[None],
        padding_mode="border",
        align_corners=False,
    )
    return warped.view_as(z), seen


def _compare(
    warped: Tensor, seen: Tensor, weights: Tensor, mean: Tensor, variance: Tensor
) -> Tensor:
    """1 - ZNCC (N, H, W) of the reference's windows and those of warped pictures; the cost of
    missing where not `seen`."""
    height, width = mean.shape
    side = round(len(weights) ** 0.5)
    # Without a border of its own: weights are 0 there, and what is read has to be a number. Grey
    # levels count less that in the window's middle, as in the loops.
    padded = functional.pad(warped, (side // 2,) * 4)
    sums = warped.new_zeros((2, *warped.shape))
    square = torch.zeros_like(warped)
    value, weighted = torch.empty_like(warped), torch.empty_like(warped)
    for place, weight in enumerate(weights):
        i, j = divmod(place, side)
        window = slice(i, i + height), slice(j, j + width)
        torch.sub(padded[:, *window], warped, out=value)
        torch.mul(value, weight[0], out=weighted)
        sums.addcmul_(weight[:, None], value)
        square.addcmul_(weighted, value)
    del padded, value, weighted
    warped_mean, product = sums
    spread = square.addcmul_(warped_mean, warped_mean, value=-1).clamp_(min=MIN_VARIANCE)
    zncc = product.addcmul_(warped_mean, mean, value=-1).div_(spread.mul_(variance).sqrt_())
    return torch.where(seen, zncc.neg_().add_(1).clamp_(0, LARGEST_COST), MISSING_COST)


def _places(picture: Tensor, side: int) -> Tensor:
    """What each pixel of a picture (H, W) sees at each place of its window, as a view (side, side,
    H, W); 0 outside."""
    height, width = picture.shape
    padded = functional.pad(picture, (side // 2,) * 4)
    return padded.unfold(0, height, 1).unfold(1, width, 1)
