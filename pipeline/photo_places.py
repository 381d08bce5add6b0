"""Where in the world a pixel of a photo as given lies."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from refdepth.errors import InputError
from refdepth.geometry.lens import undistorted_pixels
from refdepth.geometry.photo_grid import sample_depth
from refdepth.metric.distances import Place
from refdepth.metric.lengths import Pick
from refdepth.pipeline.results import Results
from refdepth.pipeline.stages.prepare import read_table
from refdepth.pipeline.views import input_photos
from refdepth.types.camera import invert_pose, transform

Array = NDArray[np.float64]


class PhotoPlaces:
    """Pixels of photos as places in the world."""

    def __init__(self, results: Results) -> None:
        self.results = results
        self.rows = {row.name: row for row in read_table(results.workspace)}
        self._photo_of = input_photos(results.workspace)
        self._agreed = frozenset(results.views("fuse"))
        self._refined = frozenset(results.views("refine"))

    def undistorted(self, name: str, xy: Array) -> Array:
        """Undistorted pixels (N, 2) of pixels of the prepared photo (N, 2)."""
        view = self.results.scene[name]
        photo = self._photo_of(view)
        return undistorted_pixels(view.camera, photo, xy * (photo.width / self.rows[name].width))

    def points(self, name: str, xy: Array) -> Array:
        """World points (N, 3) at undistorted pixels (N, 2) of a view: by the depth that views agree
        on, else by its own; NaN where both are unknown."""
        view = self.results.scene[name]
        out = np.full((len(xy), 3), np.nan)
        inside = view.camera.contains(xy)
        for known, load in (
            (self._refined, self.results.refined),
            (self._agreed, self.results.fused),
        ):
            if name in known and inside.any():
                depth = np.zeros(len(xy))
                depth[inside] = sample_depth(load(name).depth, xy[inside])
                local = view.camera.unproject(depth, xy)
                there = depth > 0
                out[there] = transform(invert_pose(view.cam_from_world), local[there])
        return out

    def place(self, pick: Pick) -> Place:
        """Where a picked pixel lies. Raises `InputError` where the photo is not known or not
        placed, where the pixel is outside it and where it has no depth."""
        name = self.results.names.meant(pick.photo)
        if name is None or name not in self.rows:
            some = self.results.names.own(self.results.scene.names[0])
            raise InputError(
                "is none of the photos, or several.",
                subject=pick.photo,
                action=f"They are called like {some}.",
            )
        if name not in self.results.scene:
            raise InputError(
                "was not placed by structure from motion.",
                subject=pick.photo,
                action="Pick the pixel in another photo.",
            )
        row, view = self.rows[name], self.results.scene[name]
        width, height = row.upright_size
        if not (0 <= pick.x < width and 0 <= pick.y < height):
            raise InputError(
                f"lies outside the photo, which is {width}x{height} upright.",
                subject=str(pick),
                action="Give pixels of the photo as given, turned upright, x before y.",
            )
        smaller = row.width / width
        xy = self.undistorted(name, np.array([[pick.x, pick.y]]) * smaller)
        point = self.points(name, xy)[0]
        if not np.isfinite(point).all():
            made = name in self._refined
            raise InputError(
                "has no depth there." if made else "has no refined depth yet.",
                subject=str(pick),
                action="Pick a pixel beside it or in another photo; `refdepth export --to depth"
                " --depth-as pictures` shows where depth is known."
                if made
                else "Run `refdepth reconstruct` to the end first.",
            )
        return Place(point=point, center=view.center, focal_px=view.camera.mean_focal_px / smaller)
