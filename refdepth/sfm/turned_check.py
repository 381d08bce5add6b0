"""Whether a given model belongs to photos as they are shown, or as their files store them: COLMAP
does not look at EXIF orientation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from refdepth.errors import InputError
from refdepth.ingest.decoding import turned_back, upright
from refdepth.ingest.photos import PreparedPhoto

STORED_ACTION = "The cameras belong to the photos as stored: set prepare.upright=false."
_LOOKED_AT = 9
"""Photos, spread over all that were turned."""
_LEAST_POINTS = 20
_CLEARLY = 0.7
"""Difference of colour as stored, over that as shown, from which a model is of the stored ones."""


def check_turned(model: Any, images: Path, photos: Sequence[PreparedPhoto]) -> None:
    """Raises `InputError` where the points of `model`, whose images are called and sized as the
    prepared `photos` in folder `images`, have the colours of these photos before they were turned
    upright. A half turn, a mirrored or a square picture does not show that by its size."""
    turned = [photo for photo in photos if photo.orientation != 1]
    rows = np.linspace(0, len(turned) - 1, min(len(turned), _LOOKED_AT)).round().astype(int)
    shown, stored = 0.0, 0.0
    for photo in [turned[row] for row in rows]:
        image = model.find_image_with_name(photo.name)
        seen = [] if image is None else [p for p in image.points2D if p.has_point3D()]
        if len(seen) < _LEAST_POINTS:
            continue
        column, row = np.floor([point.xy for point in seen]).astype(np.int64).T
        colours = np.array([model.point3D(point.point3D_id).color for point in seen], np.float64)
        if not np.ptp(colours):  # points without colours
            continue
        with Image.open(images / photo.name) as picture:
            pixels = [
                np.asarray(picture),
                np.asarray(upright(picture, turned_back(photo.orientation))),
            ]
        if pixels[0].shape != pixels[1].shape:
            continue
        height, width = pixels[0].shape[:2]
        at = row.clip(0, height - 1), column.clip(0, width - 1)
        shown += float(np.abs(pixels[0][at] - colours).mean())
        stored += float(np.abs(pixels[1][at] - colours).mean())
    if stored < _CLEARLY * shown:
        raise InputError(
            "the model's points have the colours of the photo as it is stored, not as it is shown.",
            subject=turned[0].original,
            action=STORED_ACTION,
        )
