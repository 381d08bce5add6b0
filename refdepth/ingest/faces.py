"""Pictures as rows of the table: a photo is one, a 360 degree panorama the six faces of a cube."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from refdepth.ingest.decoding import read_upright
from refdepth.ingest.names import face_path
from refdepth.ingest.panoramas import (
    cut_faces,
    cut_mask,
    face_focal_px,
    face_size,
    is_panorama,
    stated_projection,
)
from refdepth.ingest.photos import (
    PanoramaFace,
    PreparedPhoto,
    describe_photo,
    hash_pixels,
    write_photo,
)
from refdepth.ingest.saving import save_jpeg, save_png
from refdepth.ingest.settings import PrepareSettings


def prepare_picture(
    path: Path,
    destination: Path,
    settings: PrepareSettings,
    *,
    original: str,
    mask_folder: Path | None = None,
) -> list[PreparedPhoto]:
    """What `prepare_photo` makes of a photo; of a panorama its faces `destination`_FACE, which
    `prepare.max_size` limits one by one.

    Raises `InputError`, saying why, when the picture cannot be used.
    """
    given = read_upright(path, settings)
    stated = stated_projection(given.source)
    if not is_panorama(given.rgb, stated, given.hint, settings.panoramas):
        return [write_photo(given, destination, settings, original, mask_folder=mask_folder)]
    whole = describe_photo(given, original, destination.name + (".jpg" if given.lossy else ".png"))
    return write_faces(
        given.rgb,
        destination.parent,
        replace(whole, pixel_hash=hash_pixels(given.rgb)),
        settings,
        source=given.source if given.lossy else None,
        opaque=given.opaque,
        mask_folder=mask_folder,
    )


def write_faces(
    panorama: Image.Image,
    folder: Path,
    whole: PreparedPhoto,
    settings: PrepareSettings,
    *,
    source: Image.Image | None = None,
    opaque: Image.Image | None = None,
    mask_folder: Path | None = None,
) -> list[PreparedPhoto]:
    """Writes the faces of an upright RGB panorama, whose row as a photo were `whole`, into
    `folder`, as JPEG where it comes from the lossy picture `source`; returns their rows. What
    `opaque` says of its pixels becomes the faces' masks in `mask_folder`."""
    side = face_size(panorama.width, settings.max_size)
    name = Path(whole.name)
    rows: list[PreparedPhoto] = []
    for face, picture in cut_faces(panorama, side):
        called = f"{name.stem}_{face}{name.suffix}"
        if source is not None:
            save_jpeg(picture, folder / called, source, whole.orientation)
        else:
            save_png(picture, folder / called)
        mask_name = None
        if opaque is not None and mask_folder is not None:
            mask = cut_mask(np.asarray(opaque), face, side)
            if not mask.all():
                mask_name = f"{called}.png"
                save_png(Image.fromarray(mask), mask_folder / mask_name)
        rows.append(
            replace(
                whole,
                name=called,
                original=face_path(whole.original, face, name.suffix),
                width=side,
                height=side,
                stored_width=side,
                stored_height=side,
                orientation=1,
                focal_px=face_focal_px(side),
                camera_key="",
                # Of the panorama: skies are alike, and a face is missed where its twin goes.
                content_hash=f"{whole.content_hash}#{face}",
                pixel_hash=f"{whole.pixel_hash}#{face}#{side}",
                mask=mask_name,
                face=PanoramaFace(
                    panorama=whole.original,
                    face=face,
                    stored_width=whole.stored_width,
                    stored_height=whole.stored_height,
                    orientation=whole.orientation,
                ),
                warnings=() if rows else whole.warnings,
            )
        )
    return rows
