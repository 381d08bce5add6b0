"""Colours of photos evened for exposure and white balance, from pixels that show one place."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from refdepth.geometry.grid import WorkGrid
from refdepth.io.images import load_rgb
from refdepth.types.camera import relative_pose, transform
from refdepth.types.depth_map import DepthMap
from refdepth.types.scene import Scene, View

_SWATCH_PIXELS = 20_000
_SWATCHES = 64  # kept in memory, 240 kB each
_DARKEST, _BRIGHTEST = 10.0, 245.0  # of 255; beyond, a value says little of the exposure
_FEWEST = 50  # pixels in common, below which nothing is said of a pair
_ROUNDS = 5
_DOUBTFUL = 0.03  # pairs that deviate by more than this (in log colour) count less
_HOLD = 1e-3  # pull of all gains to 1, which settles their common factor, beside pairs' weight
_LARGEST = 2.0
_KNEE = 0.75 * 255  # brighter values give way, where a gain would take them beyond white


@dataclass(frozen=True, kw_only=True)
class ColourRatio:
    """How much brighter one view's photo shows what another view sees, too."""

    view: str
    source: str
    log_ratio: tuple[float, float, float]
    """Logarithm of the source's over the view's colour: medians of red, green and blue."""
    count: int
    """Pixels in common."""


class Swatches:
    """Small pictures of photos (h, w, 3), float32 in 0..255; the least recently used one leaves
    when there are many."""

    def __init__(
        self, scene: Scene, load: Callable[[str], NDArray[np.float32]] | None = None
    ) -> None:
        """`load` gives the small picture of a view (default: `make`)."""
        self._scene = scene
        self._load = load or self.make
        self._kept: OrderedDict[str, NDArray[np.float32]] = OrderedDict()

    def grid(self, view: View) -> WorkGrid:
        """Of the view's small picture."""
        return WorkGrid.for_photo(view.camera, max_pixels=_SWATCH_PIXELS)

    def __call__(self, name: str) -> NDArray[np.float32]:
        """The small picture of a view."""
        if name in self._kept:
            self._kept.move_to_end(name)
            return self._kept[name]
        found = self._kept[name] = self._load(name)
        if len(self._kept) > _SWATCHES:
            self._kept.popitem(last=False)
        return found

    def make(self, name: str) -> NDArray[np.float32]:
        """The same from the photo."""
        view = self._scene[name]
        return self.grid(view).shrink(load_rgb(view).astype(np.float32))


def compare_colours(
    view: View,
    depth: NDArray[np.float32],
    sources: Sequence[View],
    load: Callable[[str], DepthMap],
    swatches: Swatches,
    max_ratio: float,
) -> list[ColourRatio]:
    """The view's colours beside those of each source, where the source's depth is that of the
    view's `depth` (height, width; 0 left out) within `max_ratio`."""
    grid = swatches.grid(view)
    rows, columns = (
        np.minimum(np.arange(n) * grid.factor + grid.factor // 2, limit - 1)
        for n, limit in zip(grid.shape, depth.shape, strict=True)
    )
    sampled = depth[np.ix_(rows, columns)]
    known = sampled > 0
    own = swatches(view.name)[known]
    y, x = np.meshgrid(rows + 0.5, columns + 0.5, indexing="ij")
    points = view.camera.unproject(sampled[known], np.stack([x[known], y[known]], axis=-1))
    found = []
    for source in sources:
        xy, z = source.camera.project(
            transform(relative_pose(source.cam_from_world, view.cam_from_world), points)
        )
        inside = source.camera.contains(xy)
        column, row = xy[inside].astype(np.int64).T
        same = np.abs(load(source.name).depth[row, column] / z[inside] - 1) <= max_ratio
        theirs = swatches(source.name)[swatches.grid(source).cells(xy[inside][same])]
        ours = own[inside][same]
        fit = np.all([(c > _DARKEST) & (c < _BRIGHTEST) for c in (ours, theirs)], axis=(0, 2))
        if fit.sum() >= _FEWEST:
            red, green, blue = np.median(np.log(theirs[fit] / ours[fit]), axis=0).tolist()
            found.append(
                ColourRatio(
                    view=view.name,
                    source=source.name,
                    log_ratio=(red, green, blue),
                    count=int(fit.sum()),
                )
            )
    return found


def even_gains(
    names: Sequence[str], ratios: Iterable[ColourRatio]
) -> Mapping[str, NDArray[np.float64]]:
    """A factor (3,) for each view's red, green and blue that makes views show one place alike.

    Least squares on the logarithms over all pairs (as in Brown and Lowe 2007, section 6, there on
    differences), pairs that fit badly counting less. The factors' geometric mean is 1.
    """
    from scipy.sparse import coo_array, eye_array
    from scipy.sparse.linalg import splu

    pairs = list(ratios)
    gains = np.zeros((len(names), 3))
    if pairs:
        index = {name: i for i, name in enumerate(names)}
        a = np.array([index[pair.view] for pair in pairs])
        b = np.array([index[pair.source] for pair in pairs])
        wanted = np.array([pair.log_ratio for pair in pairs])
        count = np.array([float(pair.count) for pair in pairs])
        count /= count.mean()
        for _ in range(_ROUNDS):
            off = np.abs(gains[a] - gains[b] - wanted).max(axis=1)
            weight = count / np.maximum(1.0, off / _DOUBTFUL)
            entries = np.concatenate([weight, weight, -weight, -weight])
            at = np.concatenate([a, b, a, b]), np.concatenate([a, b, b, a])
            matrix = coo_array((entries, at), shape=(len(names),) * 2)
            right = np.zeros_like(gains)
            np.add.at(right, a, weight[:, None] * wanted)
            np.add.at(right, b, -weight[:, None] * wanted)
            gains = splu((matrix + _HOLD * eye_array(len(names))).tocsc()).solve(right)
    limit = np.log(_LARGEST)
    return dict(zip(names, np.exp(gains.clip(-limit, limit)), strict=True))


def evened(colors: NDArray[np.uint8], gain: NDArray[np.float64]) -> NDArray[np.float64]:
    """Colours (N, 3) times a view's `gain` (3,). What a gain would take beyond white is compressed
    smoothly into what lies below it, so that bright things keep their drawing."""
    bright = colors * gain
    room = np.maximum(255 * gain - _KNEE, 255 - _KNEE)  # between the knee and where white goes
    steep = room / (255 - _KNEE)
    share = np.maximum(bright - _KNEE, 0) / room
    return np.where(
        bright > _KNEE,
        _KNEE + (255 - _KNEE) * steep * share / (1 + (steep - 1) * share),
        bright,
    )
